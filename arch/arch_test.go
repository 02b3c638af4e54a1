// Package arch checks which package may import which.
package arch

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const mod = "github.com/jimu-ai/jimu"

type pkg struct {
	ImportPath, Dir string
	Imports         []string
	GoFiles         []string
	Standard        bool
}

func packages(t *testing.T) []pkg {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Dir,Imports,GoFiles", mod+"/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	var ps []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return ps
		} else if err != nil {
			t.Fatal(err)
		}
		ps = append(ps, p)
	}
}

// block returns the building block a path is in ("bricks/alipay"), if any.
func block(path string) string {
	rel := strings.TrimPrefix(path, mod+"/")
	top, rest, _ := strings.Cut(rel, "/")
	if (top != "bricks" && top != "providers") || rest == "" {
		return ""
	}
	name, _, _ := strings.Cut(rest, "/")
	return top + "/" + name
}

func allowed(from, to string) string {
	ours := to == mod || strings.HasPrefix(to, mod+"/")
	switch {
	case from == mod:
		if strings.Contains(strings.Split(to, "/")[0], ".") {
			return "the root package imports the standard library only"
		}
	case !ours:
	case block(from) != "":
		if to != mod && block(to) != block(from) && !strings.HasPrefix(to, mod+"/brickkit") {
			return "a block imports the root package and brickkit, nothing else of ours"
		}
	case strings.HasPrefix(from, mod+"/internal/") && block(to) != "":
		return "the core knows interfaces, not blocks"
	}
	return ""
}

func TestImports(t *testing.T) {
	for _, p := range packages(t) {
		for _, to := range p.Imports {
			if why := allowed(p.ImportPath, to); why != "" {
				t.Errorf("%s imports %s: %s", p.ImportPath, to, why)
			}
		}
	}
}

// An init function may hold one statement: the registration.
func TestInitsOnlyRegister(t *testing.T) {
	for _, p := range packages(t) {
		for _, f := range p.GoFiles {
			file := filepath.Join(p.Dir, f)
			tree, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range tree.Decls {
				fn, ok := d.(*ast.FuncDecl)
				if !ok || fn.Name.Name != "init" || fn.Recv != nil {
					continue
				}
				if block(p.ImportPath) == "" || len(fn.Body.List) != 1 {
					t.Errorf("%s: init may only register a brick", file)
				}
			}
		}
	}
}

// Every block is linked into the stock build, by one line.
func TestEveryBlockIsLinked(t *testing.T) {
	linked := map[string]bool{}
	ps := packages(t)
	for _, p := range ps {
		if p.ImportPath == mod+"/cmd/jimu" {
			for _, to := range p.Imports {
				linked[block(to)] = true
			}
		}
	}
	for _, p := range ps {
		if b := block(p.ImportPath); b != "" && !linked[b] {
			t.Errorf("%s is not in cmd/jimu/bricks.go", b)
		}
	}
}
