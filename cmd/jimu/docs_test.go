package main

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	root "github.com/jimu-ai/jimu"
	"github.com/jimu-ai/jimu/internal/host"
)

var updateDocs = flag.Bool("update-docs", false, "write docs/bricks anew")

// The pages below docs/bricks are made of the bricks of the stock build. To
// write them anew:
//
//	go generate ./internal/host && go test ./cmd/jimu -run TestBrickDocs -update-docs
func TestBrickDocs(t *testing.T) {
	t.Parallel()
	const dir = "../../docs/bricks"
	want := map[string]string{}
	for _, id := range root.Bricks.IDs() {
		doc, err := host.Docs(root.Bricks, id)
		if err != nil {
			t.Fatal(err)
		}
		want[id+".md"] = doc.Markdown()
		if *updateDocs {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, id+".md"), []byte(doc.Markdown()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		for _, f := range doc.Fields {
			if f.Text == "" {
				t.Errorf("brick %s: the field of %s has no comment", id, f.Key)
			}
		}
	}
	for name, text := range want {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != text {
			t.Errorf("docs/bricks/%s is stale (%v); run: go test ./cmd/jimu -run TestBrickDocs -update-docs", name, err)
		}
	}
	there, err := filepath.Glob(filepath.Join(dir, "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range there {
		if _, ok := want[filepath.Base(path)]; !ok {
			t.Errorf("%s is of a brick that is not there; remove it", path)
		}
	}
}
