package store_test

import (
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/jimu-ai/jimu"
	"github.com/jimu-ai/jimu/internal/store"
	"github.com/jimu-ai/jimu/internal/store/storetest"
)

// databases makes a fresh database of each kind and returns its address.
func databases() map[string]func(t *testing.T) string {
	return map[string]func(t *testing.T) string{
		"sqlite":   func(*testing.T) string { return "" },
		"mysql":    func(t *testing.T) string { t.Helper(); return storetest.Fresh(t, "JIMU_TEST_MYSQL") },
		"postgres": func(t *testing.T) string { t.Helper(); return storetest.Fresh(t, "JIMU_TEST_POSTGRES") },
	}
}

// upTo is the embedded migrations with at most n of each line.
func upTo(t *testing.T, n int) fs.FS {
	t.Helper()
	out := fstest.MapFS{}
	for _, line := range []string{"main", "history"} {
		files, err := fs.Glob(store.Migrations(), "migrations/"+line+"/*.sql")
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(files)
		for _, f := range files[:min(n, len(files))] {
			b, err := fs.ReadFile(store.Migrations(), f)
			if err != nil {
				t.Fatal(err)
			}
			out[f] = &fstest.MapFile{Data: b}
		}
	}
	return out
}

func files(texts ...string) fstest.MapFS {
	out := fstest.MapFS{}
	for i, text := range texts {
		out[path.Join("migrations/main", fmt.Sprintf("%03d_x.sql", i+1))] = &fstest.MapFile{Data: []byte(text)}
	}
	return out
}

// schema describes the tables and indexes of a store.
func schema(t *testing.T, s *store.Store) []string {
	t.Helper()
	queries := map[store.Dialect][]string{
		store.SQLite: {"SELECT type || ' ' || name || ' ' || COALESCE(sql, '') FROM sqlite_schema"},
		store.MySQL: {
			"SELECT CONCAT_WS(' ', table_name, column_name, ordinal_position, column_type, is_nullable, collation_name) FROM information_schema.columns WHERE table_schema = DATABASE()",
			"SELECT CONCAT_WS(' ', table_name, index_name, seq_in_index, column_name, non_unique) FROM information_schema.statistics WHERE table_schema = DATABASE()",
		},
		store.Postgres: {
			"SELECT CONCAT_WS(' ', table_name, column_name, ordinal_position, data_type, is_nullable, collation_name) FROM information_schema.columns WHERE table_schema = current_schema()",
			"SELECT indexdef FROM pg_indexes WHERE schemaname = current_schema()",
		},
	}[s.Main.Dialect()]
	var out []string
	for _, db := range slices.Compact([]*store.DB{s.Main, s.History}) {
		for _, q := range queries {
			out = append(out, strings1(t, db, q)...)
		}
	}
	slices.Sort(out)
	return out
}

func strings1(t *testing.T, db *store.DB, q string) (out []string) {
	t.Helper()
	rows, err := db.Query(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close() //nolint:errcheck // Err below says whether all was read
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			t.Fatal(err)
		}
		out = append(out, s)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// run opens a store, does something with it, and closes it.
func run(t *testing.T, o store.Options, f func(s *store.Store)) {
	t.Helper()
	s, err := store.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if f != nil {
		f(s)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestUpgradedIsFresh(t *testing.T) {
	t.Parallel()
	for name, fresh := range databases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var want []string
			run(t, store.Options{Data: t.TempDir(), Database: fresh(t)}, func(s *store.Store) { want = schema(t, s) })
			if len(want) < 5 {
				t.Fatalf("the schema is not read: %q", want)
			}
			all, err := fs.Glob(store.Migrations(), "migrations/main/*.sql")
			if err != nil {
				t.Fatal(err)
			}
			o := store.Options{Data: t.TempDir(), Database: fresh(t)}
			for n := 1; n <= len(all); n++ {
				run(t, o.WithMigrations(upTo(t, n)), nil)
			}
			run(t, o, func(s *store.Store) {
				if diff := cmp.Diff(want, schema(t, s)); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

func TestRefusedDatabases(t *testing.T) {
	t.Parallel()
	for name, fresh := range databases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const one, two = "CREATE TABLE a (id {id} NOT NULL PRIMARY KEY) {table}", "CREATE TABLE b (id {id} NOT NULL PRIMARY KEY) {table}"
			o := store.Options{Data: t.TempDir(), Database: fresh(t)}
			run(t, o.WithMigrations(files(one, two)), nil)
			for name, c := range map[string]struct {
				o    store.Options
				text string
			}{
				"newer":            {o.WithMigrations(files(one)), "newer jimu"},
				"changed":          {o.WithMigrations(files(one, two+" ")), "not the one"},
				"older, read only": {store.Options{Data: o.Data, Database: o.Database, ReadOnly: true}.WithMigrations(files(one, two, one)), "older jimu"},
			} {
				s, err := store.Open(t.Context(), c.o)
				if codeOf(err) != jimu.Conflict || !strings.Contains(err.Error(), c.text) {
					t.Errorf("%s: %v", name, err)
				}
				if err == nil {
					_ = s.Close()
				}
			}
			run(t, o.WithMigrations(files(one, two)), nil) // it is as it was
		})
	}
}

// TestMigrationDiesHalfWay stops a migration at each of its statements, in
// the worst place: after the change, before its record. The next start must
// end at the same schema.
func TestMigrationDiesHalfWay(t *testing.T) {
	t.Parallel()
	statements := []string{
		"CREATE TABLE a (id {id} NOT NULL PRIMARY KEY, n {int}) {table}",
		"CREATE INDEX a_n ON a (n)",
		"INSERT INTO a (id, n) VALUES ('x', 1)",
		"ALTER TABLE a ADD COLUMN m {int}",
		"DROP INDEX a_n\n--mysql: ON a",
	}
	file := strings.Join(statements, "\n--;\n")
	for name, fresh := range databases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var want []string
			run(t, store.Options{Data: t.TempDir(), Database: fresh(t)}.WithMigrations(files(file)), func(s *store.Store) { want = schema(t, s) })
			for died := range len(statements) + 1 {
				address := fresh(t)
				o := store.Options{Data: t.TempDir(), Database: address}
				kill(t, o, file, statements, died)
				run(t, o.WithMigrations(files(file)), func(s *store.Store) {
					if diff := cmp.Diff(want, schema(t, s)); diff != "" {
						t.Errorf("died after %d: %s", died, diff)
					}
					if got := strings1(t, s.Main, "SELECT id FROM a"); len(got) != 1 {
						t.Errorf("died after %d: rows %q", died, got)
					}
				})
			}
		})
	}
}

// kill leaves a database as the death of the process in a migration leaves
// it. Where it is one transaction that is: as if it had never been begun.
func kill(t *testing.T, o store.Options, file string, statements []string, died int) {
	t.Helper()
	if !strings.HasPrefix(o.Database, "mysql") {
		broken := strings.Join(append(slices.Clone(statements[:died]), "BROKEN"), "\n--;\n")
		s, err := store.Open(t.Context(), o.WithMigrations(files(broken)))
		if err == nil {
			_ = s.Close()
			t.Fatal("a broken migration succeeds")
		}
		return
	}
	run(t, o.WithMigrations(files(file)), func(s *store.Store) { // undo all, then do so many again
		exec := func(q string, args ...any) {
			if _, err := s.Main.Exec(t.Context(), q, args...); err != nil {
				t.Fatal(err)
			}
		}
		exec("DROP TABLE a")
		done, isDDL := died, died > 0 && !strings.HasPrefix(statements[max(0, died-1)], "INSERT")
		if isDDL {
			done-- // it is in effect and not recorded; an INSERT commits with its record
		}
		exec("UPDATE schema_migrations SET done = ?, finished_at = 0", done)
		ready, err := store.Statements(file, store.MySQL)
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range ready[:died] {
			exec(q)
		}
	})
}

func TestReplicasMigrateOnce(t *testing.T) {
	t.Parallel()
	for name, fresh := range databases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := fresh(t)
			if address == "" {
				t.Skip("SQLite has no replicas")
			}
			var wg sync.WaitGroup
			for range 4 {
				o := store.Options{Data: t.TempDir(), Database: address}
				wg.Go(func() {
					s, err := store.Open(t.Context(), o)
					if err != nil {
						t.Error(err)
						return
					}
					if err := s.Close(); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
		})
	}
}

func TestCopyBeforeMigration(t *testing.T) {
	t.Parallel()
	const table = "CREATE TABLE t%d (id {id} NOT NULL PRIMARY KEY) {table}"
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	o := store.Options{Data: t.TempDir(), Now: func() time.Time { now = now.Add(time.Second); return now }}
	var texts []string
	for n := range 6 {
		texts = append(texts, fmt.Sprintf(table, n))
		run(t, o.WithMigrations(files(texts...)), nil)
	}
	copies, err := filepath.Glob(filepath.Join(o.Data, "backup", "jimu-*.db"))
	if err != nil || len(copies) != 3 {
		t.Fatalf("copies: %q, %v", copies, err)
	}
	slices.Sort(copies)
	last, err := sql.Open("sqlite", copies[2])
	if err != nil {
		t.Fatal(err)
	}
	var tables int
	err = last.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM sqlite_schema WHERE name LIKE 't_'").Scan(&tables)
	if err := errors.Join(err, last.Close()); err != nil || tables != 5 {
		t.Errorf("the last copy has %d tables, want 5 (%v)", tables, err)
	}
}
