package outbound_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// forbidden are the ways out of the process that the standard library offers.
var forbidden = map[string][]string{
	"net": {
		"Dial", "DialTimeout", "DialTCP", "DialUDP", "DialIP", "DialUnix", "Dialer",
	},
	"net/http": {
		"Get", "Head", "Post", "PostForm", "DefaultClient", "DefaultTransport", "Client", "Transport", "ProxyFromEnvironment",
	},
	"crypto/tls": {"Dial", "DialWithDialer", "Dialer"},
	"net/rpc":    {"Dial", "DialHTTP", "DialHTTPPath"},
	"net/smtp":   {"Dial", "SendMail"},
}

// allowed may connect by themselves, each for its reason.
var allowed = map[string]string{
	"brickkit/outbound/":      "it is the way out",
	"bench/":                  "it measures, and is no part of the product",
	"internal/store/":         "database drivers connect to the operator's own database",
	"client/":                 "the SDK runs in other people's programs",
	"internal/app/control.go": "it speaks to a running server over a socket in the data folder",
}

// Nothing of ours leaves the process but through this package.
func TestOnlyWayOut(t *testing.T) {
	t.Parallel()
	root := filepath.Join("..", "..")
	files := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel := filepath.ToSlash(strings.TrimPrefix(path, root+string(filepath.Separator)))
		if d.IsDir() {
			if path != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "node_modules" || d.Name() == "testdata") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || exempt(rel) {
			return nil
		}
		files++
		for _, use := range uses(t, path) {
			t.Errorf("%s uses %s: connect through brickkit/outbound", rel, use)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 20 {
		t.Errorf("only %d files were looked at", files)
	}
}

func exempt(rel string) bool {
	for path := range allowed {
		if strings.HasPrefix(rel, path) {
			return true
		}
	}
	return false
}

// uses lists the forbidden names that a file uses.
func uses(t *testing.T, path string) (found []string) {
	t.Helper()
	tree, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]string{} // the name in the file → the package
	for _, imp := range tree.Imports {
		pkg := strings.Trim(imp.Path.Value, `"`)
		if _, ok := forbidden[pkg]; !ok {
			continue
		}
		name := pkg[strings.LastIndexByte(pkg, '/')+1:]
		if imp.Name != nil {
			name = imp.Name.Name
		}
		if name == "." {
			found = append(found, pkg+" with a dot")
		}
		names[name] = pkg
	}
	ast.Inspect(tree, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if x, ok := sel.X.(*ast.Ident); ok && slices.Contains(forbidden[names[x.Name]], sel.Sel.Name) {
			found = append(found, x.Name+"."+sel.Sel.Name)
		}
		return true
	})
	return found
}

// The test itself can fail.
func TestUses(t *testing.T) {
	t.Parallel()
	if got := uses(t, "outbound.go"); !slices.Contains(got, "net.Dialer") {
		t.Errorf("net.Dialer was not found: %v", got)
	}
	if got := uses(t, "client.go"); !slices.Contains(got, "http.Transport") {
		t.Errorf("http.Transport was not found: %v", got)
	}
}
