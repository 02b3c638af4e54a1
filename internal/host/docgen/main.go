// Command docgen gathers the comments of the structs that may be configured:
// those of the root package, bricks and providers with JSON tags. The brick
// host embeds its output, for comments are not in a binary.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"strings"
)

const module = "github.com/jimu-ai/jimu"

func main() {
	root := flag.String("root", ".", "folder of the module")
	out := flag.String("out", "", "file to write")
	flag.Parse()
	b, err := generate(*root)
	if err == nil {
		err = os.WriteFile(*out, b, 0o644) //nolint:gosec // a source file, for all to read
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "docgen:", err)
		os.Exit(1) //nolint:forbidigo // this is a main package
	}
}

// generate returns the comments as JSON: by "package path.Type", then by field
// ("" is the struct's own).
func generate(root string) ([]byte, error) {
	docs := map[string]map[string]string{}
	for _, pattern := range []string{"*.go", "bricks/*/*.go", "providers/*/*.go"} {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			return nil, fmt.Errorf("listing source files: %w", err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			tree, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
			if err != nil {
				return nil, fmt.Errorf("parsing %s: %w", file, err)
			}
			rel, err := filepath.Rel(root, filepath.Dir(file))
			if err != nil {
				return nil, fmt.Errorf("placing %s: %w", file, err)
			}
			gather(docs, path.Join(module, filepath.ToSlash(rel)), tree)
		}
	}
	b, err := json.MarshalIndent(docs, "", "  ")
	return append(b, '\n'), err
}

func gather(docs map[string]map[string]string, pkg string, tree *ast.File) {
	for _, decl := range tree.Decls {
		gen, ok := decl.(*ast.GenDecl)
		if !ok || gen.Tok != token.TYPE {
			continue
		}
		for _, spec := range gen.Specs {
			ts, ok := spec.(*ast.TypeSpec)
			if !ok {
				continue
			}
			st, ok := ts.Type.(*ast.StructType)
			if !ok {
				continue
			}
			doc := ts.Doc
			if doc == nil {
				doc = gen.Doc
			}
			if m := fields(st); m != nil {
				m[""] = text(doc)
				docs[pkg+"."+ts.Name.Name] = m
			}
		}
	}
}

// fields returns the comments of a struct's tagged fields, or nil if the
// struct is not one to configure: it has neither tagged nor embedded fields.
func fields(st *ast.StructType) map[string]string {
	m, found := map[string]string{}, false
	for _, f := range st.Fields.List {
		tagged := f.Tag != nil && strings.Contains(f.Tag.Value, `json:"`)
		found = found || tagged || len(f.Names) == 0
		for _, n := range f.Names {
			doc := f.Doc
			if doc == nil {
				doc = f.Comment
			}
			if t := text(doc); tagged && t != "" {
				m[n.Name] = t
			}
		}
	}
	if !found {
		return nil
	}
	return m
}

func text(g *ast.CommentGroup) string {
	return strings.Join(strings.Fields(g.Text()), " ")
}
