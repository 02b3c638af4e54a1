// Package arch checks the shape of the tree: which package may import which,
// and that adding a brick is one folder and one line.
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
	"slices"
	"strings"
	"testing"
)

const mod = "github.com/jimu-ai/jimu"

// rules says what a package of ours may import of ours, by the longest prefix
// of its path ("" is the root). "std" allows the standard library only. A
// folder without a row fails until it gets one.
var rules = map[string][]string{
	"":                  {"std"},
	"brickkit":          {"", "brickkit"},
	"bricks":            {"", "brickkit"},
	"providers":         {"", "brickkit"},
	"internal":          {""},
	"internal/relay":    {"", "internal/relay/wire"},
	"internal/app":      {"", "brickkit", "internal", "web"},
	"internal/store":    {""},
	"cmd/jimu":          {"", "internal/app", "bricks", "providers"},
	"client":            {"std"},
	"web":               {"std"},
	"bench":             {"internal/mock"},
	"arch":              {},
	"examples":          {"client"},
	"internal/host/gen": {"", "bricks", "providers", "internal/host"},
}

// test helpers may know the package that they help to test.
var helpers = map[string]string{
	"internal/store/storetest": "internal/store",
	"internal/cache/cachetest": "internal/cache",
}

type pkg struct {
	ImportPath, Dir string
	Imports         []string
	GoFiles         []string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Dir,Imports,GoFiles", mod+"/...")
	out, err := cmd.Output()
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

// rel is a package's path inside the module; the root's is "".
func rel(path string) string { return strings.TrimPrefix(strings.TrimPrefix(path, mod), "/") }

func ours(path string) bool { return path == mod || strings.HasPrefix(path, mod+"/") }

func within(path, folder string) bool { return path == folder || strings.HasPrefix(path, folder+"/") }

// block returns the building block a path is in ("bricks/alipay"), if any.
func block(path string) string {
	parts := strings.Split(path, "/")
	if len(parts) < 2 || (parts[0] != "bricks" && parts[0] != "providers") {
		return ""
	}
	return parts[0] + "/" + parts[1]
}

func rowOf(path string) ([]string, bool) {
	for p := path; ; {
		if row, ok := rules[p]; ok && (p != "" || path == "") {
			return row, true
		}
		i := strings.LastIndex(p, "/")
		if i < 0 {
			return nil, false
		}
		p = p[:i]
	}
}

func why(from, to string) string {
	row, ok := rowOf(rel(from))
	switch {
	case !ok:
		return "the folder has no row in arch_test.go"
	case !ours(to):
		if slices.Contains(row, "std") && strings.Contains(strings.Split(to, "/")[0], ".") {
			return "it imports the standard library only"
		}
		return ""
	}
	f, target := rel(from), rel(to)
	if tested, ok := helpers[f]; ok && tested == target {
		return ""
	}
	if within(target, f) || (block(f) != "" && block(f) == block(target)) {
		return ""
	}
	for _, allowed := range row {
		if allowed == target || (allowed != "" && within(target, allowed)) {
			return ""
		}
	}
	return "the direction of imports forbids it"
}

func TestImports(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		if _, ok := rowOf(rel(p.ImportPath)); !ok {
			t.Errorf("%s has no row in arch_test.go", p.ImportPath)
		}
		for _, to := range p.Imports {
			if w := why(p.ImportPath, to); w != "" {
				t.Errorf("%s imports %s: %s", p.ImportPath, to, w)
			}
		}
	}
}

// The test above can fail: each of these is refused.
func TestImportsRefuses(t *testing.T) {
	t.Parallel()
	for _, v := range [][2]string{
		{mod, "go.yaml.in/yaml/v3"},
		{mod, mod + "/internal/relay"},
		{mod + "/providers/openai", mod + "/internal/relay"},
		{mod + "/providers/openai", mod + "/providers/gemini"},
		{mod + "/internal/relay", mod + "/internal/ledger"},
		{mod + "/internal/relay", mod + "/providers/openai"},
		{mod + "/internal/app", mod + "/providers/openai"},
		{mod + "/cmd/jimu", mod + "/internal/relay"},
		{mod + "/client", mod},
		{mod + "/utils", mod},
	} {
		if why(v[0], v[1]) == "" {
			t.Errorf("%s may import %s", v[0], v[1])
		}
	}
}

// Folder names say what is inside.
func TestFolderNames(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		parts := strings.Split(rel(p.ImportPath), "/")
		if len(parts) > 4 {
			t.Errorf("%s is more than four levels deep", p.ImportPath)
		}
		for _, part := range parts {
			if slices.Contains([]string{"common", "util", "utils", "helper", "helpers", "types", "models", "service", "controller", "dto", "misc"}, part) {
				t.Errorf("%s: the name %q says nothing of what is inside", p.ImportPath, part)
			}
		}
	}
}

// An init function may hold one statement: the registration.
func TestInitsOnlyRegister(t *testing.T) {
	t.Parallel()
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
				if block(rel(p.ImportPath)) == "" || len(fn.Body.List) != 1 {
					t.Errorf("%s: init may only register a brick", file)
				}
			}
		}
	}
}

// Every package says what it is for.
func TestPackageComments(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		found := len(p.GoFiles) == 0
		for _, f := range p.GoFiles {
			tree, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, f), nil, parser.PackageClauseOnly|parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			found = found || tree.Doc != nil
		}
		if !found {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
	}
}

// Every block is linked into the stock build, by one line.
func TestEveryBlockIsLinked(t *testing.T) {
	t.Parallel()
	linked := map[string]bool{}
	ps := packages(t)
	for _, p := range ps {
		if rel(p.ImportPath) == "cmd/jimu" {
			for _, to := range p.Imports {
				linked[block(rel(to))] = true
			}
		}
	}
	for _, p := range ps {
		if b := block(rel(p.ImportPath)); b != "" && !linked[b] {
			t.Errorf("%s is not in cmd/jimu/bricks.go", b)
		}
	}
}
