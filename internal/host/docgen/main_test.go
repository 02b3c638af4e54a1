package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

// The embedded comments are those of the source.
func TestFresh(t *testing.T) {
	t.Parallel()
	want, err := generate("../../..")
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../docs_gen.json")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("internal/host/docs_gen.json is stale; run: go generate ./internal/host")
	}
	if !strings.Contains(string(want), "Key is the API key at the vendor.") {
		t.Error("the comments of the root package are missing")
	}
}
