package store_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jimu-ai/jimu"
	"github.com/jimu-ai/jimu/internal/store"
	"github.com/jimu-ai/jimu/internal/store/storetest"
)

// load writes rows, a and b always equal, until stop is called.
func load(t *testing.T, s *store.Store) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			err := s.Main.Tx(ctx, func(tx *store.Tx) error { return errors.Join(tx.Bump(ctx, "a"), tx.Bump(ctx, "b")) })
			if err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		}
	})
	return func() { cancel(); wg.Wait() }
}

func revision(t *testing.T, s *store.Store, name string) int64 {
	t.Helper()
	rev, err := s.Main.Revision(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

// TestBackupUnderLoad backs up while rows are written, as the command line
// does it, and restores: the copy must be whole and of one moment.
func TestBackupUnderLoad(t *testing.T) {
	t.Parallel()
	s := storetest.Open(t, "")
	if err := s.Main.Tx(t.Context(), func(tx *store.Tx) error { return tx.Bump(t.Context(), "c") }); err != nil {
		t.Fatal(err)
	}
	stop := load(t, s)
	dir := t.TempDir()
	file := filepath.Join(dir, "backup.tar")
	if err := open(t, store.Options{Data: s.Data(), ReadOnly: true}).Backup(t.Context(), file); err != nil {
		t.Fatal(err)
	}
	stop()
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v (%v)", info.Mode(), err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("the folder has %v (%v)", left, err)
	}
	if err := s.Backup(t.Context(), file); codeOf(err) != jimu.Conflict {
		t.Errorf("a file is overwritten: %v", err)
	}

	data := filepath.Join(t.TempDir(), "new")
	if err := store.Restore(t.Context(), file, data); err != nil {
		t.Fatal(err)
	}
	if left, err := filepath.Glob(filepath.Join(data, ".*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %q (%v)", left, err)
	}
	restored := open(t, store.Options{Data: data})
	a, b, c := revision(t, restored, "a"), revision(t, restored, "b"), revision(t, restored, "c")
	if a != b || c != 1 || a > revision(t, s, "a") {
		t.Errorf("the copy is of no one moment: %d %d %d", a, b, c)
	}
	if restored.Node == s.Node {
		t.Error("two data folders have the same node ID")
	}
}

func TestRestoreRefuses(t *testing.T) {
	t.Parallel()
	s := storetest.Open(t, "")
	good := filepath.Join(t.TempDir(), "good.tar")
	if err := s.Backup(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	changed := func(f func(b []byte) []byte) string {
		file := filepath.Join(t.TempDir(), "x.tar")
		if err := os.WriteFile(file, f(bytes.Clone(b)), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	for name, c := range map[string]struct {
		file string
		text string
	}{
		"missing":     {filepath.Join(t.TempDir(), "none"), "opening the backup"},
		"no backup":   {changed(func([]byte) []byte { return []byte(strings.Repeat("x", 4096)) }), "not a backup"},
		"cut":         {changed(func(b []byte) []byte { return b[:len(b)/2] }), "damaged"},
		"changed":     {changed(func(b []byte) []byte { b[len(b)/2] ^= 1; return b }), "damaged"},
		"newer":       {changed(func(b []byte) []byte { return bytes.Replace(b, []byte(`"main": `), []byte(`"main":9`), 1) }), "newer jimu"},
		"other files": {changed(func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("history.db"), []byte("../..//.db")) }), "damaged"},
		"format":      {changed(func(b []byte) []byte { return bytes.Replace(b, []byte(`"format": 1`), []byte(`"format": 7`), 1) }), "format 7"},
	} {
		data := t.TempDir()
		err := store.Restore(t.Context(), c.file, data)
		if err == nil || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v", name, err)
		}
		left, err := os.ReadDir(data)
		if err != nil || slices.ContainsFunc(left, func(f os.DirEntry) bool { return f.Name() != "lock" }) {
			t.Errorf("%s: left behind %v (%v)", name, left, err)
		}
	}
	data := t.TempDir()
	if err := os.WriteFile(filepath.Join(data, "anything"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := store.Restore(t.Context(), good, data); codeOf(err) != jimu.Conflict || !strings.Contains(err.Error(), "anything") {
		t.Errorf("a folder that is not empty: %v", err)
	}
}

func TestBackupOfServers(t *testing.T) {
	t.Parallel()
	for name, fresh := range databases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := storetest.Open(t, fresh(t))
			if !storetest.Replicas(s) {
				return
			}
			err := s.Backup(t.Context(), filepath.Join(t.TempDir(), "x"))
			if codeOf(err) != jimu.Invalid || !strings.Contains(err.Error(), "dump") {
				t.Error(err)
			}
		})
	}
}
