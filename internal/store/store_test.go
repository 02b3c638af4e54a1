package store_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/jimu-ai/jimu"
	"github.com/jimu-ai/jimu/internal/store"
)

func open(t *testing.T, o store.Options) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func codeOf(err error) jimu.Code {
	if e, ok := errors.AsType[*jimu.Error](err); ok {
		return e.Code
	}
	return ""
}

func TestDataFolderBelongsToOne(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "deep", "data")
	first, err := store.Open(t.Context(), store.Options{Data: data})
	if err != nil {
		t.Fatal(err)
	}
	_, err = store.Open(t.Context(), store.Options{Data: data})
	if codeOf(err) != jimu.Conflict || !strings.Contains(err.Error(), fmt.Sprintf("process %d", os.Getpid())) || !strings.Contains(err.Error(), "--data") {
		t.Errorf("a second process is told %v", err)
	}
	if err := store.Restore(t.Context(), "x", data); codeOf(err) != jimu.Conflict {
		t.Errorf("a restore into a folder in use: %v", err)
	}
	node := first.Node
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	again := open(t, store.Options{Data: data})
	if again.Node != node || len(node) != jimu.IDLen {
		t.Errorf("the node was %q and is %q", node, again.Node)
	}
	for _, f := range []string{"", "lock", "node", "jimu.db", "history.db"} {
		info, err := os.Stat(filepath.Join(data, f))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%q has mode %v: others may read it", f, info.Mode())
		}
	}
}

func TestReadOnly(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	if _, err := store.Open(t.Context(), store.Options{Data: data, ReadOnly: true}); codeOf(err) != jimu.NotFound {
		t.Errorf("nothing there: %v", err)
	}
	s := open(t, store.Options{Data: data})
	if err := s.Main.Tx(t.Context(), func(tx *store.Tx) error { return tx.Bump(t.Context(), "routing") }); err != nil {
		t.Fatal(err)
	}
	beside := open(t, store.Options{Data: data, ReadOnly: true})
	if rev, err := beside.Main.Revision(t.Context(), "routing"); err != nil || rev != 1 {
		t.Errorf("%d, %v", rev, err)
	}
	if _, err := beside.Main.Exec(t.Context(), "DELETE FROM revisions"); err == nil {
		t.Error("it writes")
	}
}

func TestReadersCannotWrite(t *testing.T) {
	t.Parallel()
	s := open(t, store.Options{Data: t.TempDir()})
	var n int64
	err := s.Main.QueryRow(t.Context(), "INSERT INTO revisions (name, rev) VALUES ('x', 1) RETURNING rev").Scan(&n)
	if err == nil || !strings.Contains(err.Error(), "readonly") {
		t.Errorf("a query wrote: %v", err)
	}
}

func TestWrongAddresses(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"oracle://x", "mysql://", "mysql://host", "mysql://host/db?timeout=x", "postgres://host:port/", "x"} {
		_, err := store.Open(t.Context(), store.Options{Data: t.TempDir(), Database: address})
		if codeOf(err) != jimu.Invalid {
			t.Errorf("%q: %v", address, err)
		}
	}
	const secret = "hunter2secret"
	for _, address := range []string{"mysql://u:" + secret + "@127.0.0.1:1/db", "postgres://u:" + secret + "@127.0.0.1:1/db"} {
		_, err := store.Open(t.Context(), store.Options{Data: t.TempDir(), Database: address})
		if err == nil || strings.Contains(err.Error(), secret) || !strings.Contains(err.Error(), "is it running") {
			t.Errorf("a database that is not there: %v", err)
		}
	}
}

func TestTxRunsAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, testTxRunsAgain) // with a clock that does not wait
}

func testTxRunsAgain(t *testing.T) {
	t.Helper()
	s := open(t, store.Options{Data: t.TempDir()})
	tries := 0
	err := s.Main.Tx(t.Context(), func(tx *store.Tx) error {
		if err := tx.Bump(t.Context(), "routing"); err != nil {
			return err
		}
		if tries++; tries < 4 {
			return fmt.Errorf("updating: %w", store.Deadlock())
		}
		return nil
	})
	rev, revErr := s.Main.Revision(t.Context(), "routing")
	if err != nil || revErr != nil || tries != 4 || rev != 1 {
		t.Errorf("%v after %d tries, revision %d (%v)", err, tries, rev, revErr)
	}
	ctx, cancel := context.WithCancel(t.Context())
	tries = 0
	err = s.Main.Tx(ctx, func(*store.Tx) error {
		tries++
		cancel()
		return store.Deadlock()
	})
	if !store.IsTransient(err) || tries != 1 {
		t.Errorf("%v after %d tries of somebody who has gone", err, tries)
	}
	tries = 0
	err = s.Main.Tx(t.Context(), func(*store.Tx) error { tries++; return store.Deadlock() })
	if !store.IsTransient(err) || tries < 5 {
		t.Errorf("%v after %d tries", err, tries)
	}
}

func TestRebind(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ in, sqlite, mysql, postgres string }{
		{"SELECT ? , '?', '{x}', '''?' FROM t WHERE a=?", "SELECT ? , '?', '{x}', '''?' FROM t WHERE a=?", "SELECT ? , '?', '{x}', '''?' FROM t WHERE a=?", "SELECT $1 , '?', '{x}', '''?' FROM t WHERE a=$2"},
		{"x {for update}", "x ", "x FOR UPDATE", "x FOR UPDATE"},
		{"x {for update skip locked}", "x ", "x FOR UPDATE SKIP LOCKED", "x FOR UPDATE SKIP LOCKED"},
		{"CAST(? AS {int}) CAST(? AS {text})", "CAST(? AS INTEGER) CAST(? AS TEXT)", "CAST(? AS SIGNED) CAST(? AS CHAR)", "CAST($1 AS BIGINT) CAST($2 AS TEXT)"},
		{"{upsert (a, b)} c = {new c}", "ON CONFLICT (a, b) DO UPDATE SET c = excluded.c", "ON DUPLICATE KEY UPDATE c = VALUES(c)", "ON CONFLICT (a, b) DO UPDATE SET c = excluded.c"},
		{"{ignore (a, b)}", "ON CONFLICT (a, b) DO NOTHING", "ON DUPLICATE KEY UPDATE a = a", "ON CONFLICT (a, b) DO NOTHING"},
		{"{greatest}(a, 1) {least}(a, 1)", "MAX(a, 1) MIN(a, 1)", "GREATEST(a, 1) LEAST(a, 1)", "GREATEST(a, 1) LEAST(a, 1)"},
	} {
		for d, want := range map[store.Dialect]string{store.SQLite: c.sqlite, store.MySQL: c.mysql, store.Postgres: c.postgres} {
			if got, err := d.Rebind(c.in); err != nil || got != want {
				t.Errorf("%s: %q became %q (%v), want %q", d, c.in, got, err, want)
			}
		}
	}
	for _, bad := range []string{"{", "{x}", "{for}", "{new}", "{upsert}", "{int x}", "'"} {
		if got, err := store.SQLite.Rebind(bad); err == nil {
			t.Errorf("%q became %q", bad, got)
		}
	}
}

func FuzzStatements(f *testing.F) {
	f.Add("CREATE TABLE t (\n a {int}, -- x\n--mysql: b {text},\n c {blob}) {table}\n--;\nSELECT '?{'")
	f.Fuzz(func(t *testing.T, file string) {
		for _, d := range []store.Dialect{store.SQLite, store.MySQL, store.Postgres} {
			ss, err := store.Statements(file, d)
			if err != nil {
				continue
			}
			for _, s := range ss {
				if strings.Contains(s, "\n--;\n") {
					t.Errorf("not split: %q", s)
				}
			}
		}
	})
}
