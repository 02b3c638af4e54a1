package storetest

import (
	"database/sql"
	"errors"
	"fmt"
	"math"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/jimu-ai/jimu/internal/store"
)

func TestRevisions(t *testing.T) {
	t.Parallel()
	Each(t, func(t *testing.T, open func() *store.Store) {
		s, ctx := open(), t.Context()
		if rev, err := s.Main.Revision(ctx, "routing"); err != nil || rev != 0 {
			t.Fatalf("before: %d, %v", rev, err)
		}
		for range 3 {
			if err := s.Main.Tx(ctx, func(tx *store.Tx) error { return tx.Bump(ctx, "routing") }); err != nil {
				t.Fatal(err)
			}
		}
		undone := errors.New("undone")
		err := s.Main.Tx(ctx, func(tx *store.Tx) error { return errors.Join(tx.Bump(ctx, "routing"), undone) })
		if !errors.Is(err, undone) {
			t.Fatal(err)
		}
		if rev, err := s.Main.Revision(ctx, "routing"); err != nil || rev != 3 {
			t.Fatalf("after: %d, %v", rev, err)
		}
	})
}

func TestValues(t *testing.T) {
	t.Parallel()
	Each(t, func(t *testing.T, open func() *store.Store) {
		s, ctx := open(), t.Context()
		ddl := s.Main.Dialect()
		if _, err := s.Main.Exec(ctx, map[store.Dialect]string{
			store.SQLite:   "CREATE TABLE t (id TEXT PRIMARY KEY, n INTEGER, b BLOB) STRICT",
			store.MySQL:    "CREATE TABLE t (id VARCHAR(64) PRIMARY KEY, n BIGINT, b LONGBLOB) DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin",
			store.Postgres: "CREATE TABLE t (id TEXT PRIMARY KEY, n BIGINT, b BYTEA)",
		}[ddl]); err != nil {
			t.Fatal(err)
		}
		type row struct {
			ID string
			N  sql.NullInt64
			B  []byte
		}
		rows := []row{
			{"Case", sql.NullInt64{Int64: math.MaxInt64, Valid: true}, []byte{0, 1, '\'', '\\', 255}},
			{"case", sql.NullInt64{Int64: math.MinInt64, Valid: true}, []byte("积木")},
			{"it's ? {x} \\ 积木 🧱 é", sql.NullInt64{}, nil},
		}
		for _, want := range rows {
			if n, err := s.Main.Exec(ctx, "INSERT INTO t (id, n, b) VALUES (?, ?, ?)", want.ID, want.N, want.B); err != nil || n != 1 {
				t.Fatalf("%q: %d, %v", want.ID, n, err)
			}
			var got row
			if err := s.Main.QueryRow(ctx, "SELECT id, n, b FROM t WHERE id = ?", want.ID).Scan(&got.ID, &got.N, &got.B); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		}
		_, err := s.Main.Exec(ctx, "INSERT INTO t (id) VALUES (?)", "case")
		if !store.IsDuplicate(err) {
			t.Errorf("a duplicate is not recognised: %v", err)
		}
		if n, err := s.Main.Exec(ctx, "UPDATE t SET n = ? WHERE id = ?", int64(math.MinInt64), "case"); err != nil || n != 1 {
			t.Errorf("an update that changes nothing matched %d rows, want 1 (%v)", n, err)
		}
		if n, err := s.Main.Exec(ctx, "UPDATE t SET n = CASE id WHEN 'Case' THEN CAST(? AS {int}) ELSE n END WHERE n >= ?", int64(5), int64(math.MaxInt64)); err != nil || n != 1 {
			t.Errorf("CASE: %d, %v", n, err)
		}
		var most int64
		if err := s.Main.QueryRow(ctx, "SELECT {greatest}(n, 7) FROM t WHERE id = 'Case'").Scan(&most); err != nil || most != 7 {
			t.Errorf("greatest: %d, %v", most, err)
		}
	})
}

func TestInsertManyAndUpsert(t *testing.T) {
	t.Parallel()
	Each(t, func(t *testing.T, open func() *store.Store) {
		s, ctx := open(), t.Context()
		const rows = 1300
		for round := range int64(3) { // prepared at the third
			args := make([]any, 0, 2*rows)
			for i := range int64(rows) {
				args = append(args, fmt.Sprintf("r%04d", i), i)
			}
			err := s.Main.Tx(ctx, func(tx *store.Tx) error {
				_, err := tx.Insert(ctx, "INSERT INTO revisions (name, rev) VALUES {values} {upsert (name)} rev = revisions.rev + {new rev}", 2, args)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			var n, sum int64
			if err := s.Main.QueryRow(ctx, "SELECT COUNT(*), SUM(rev) FROM revisions").Scan(&n, &sum); err != nil {
				t.Fatal(err)
			}
			if want := (round + 1) * rows * (rows - 1) / 2; n != rows || sum != want {
				t.Fatalf("round %d: %d rows, sum %d, want %d, %d", round, n, sum, rows, want)
			}
		}
		if _, err := s.Main.Exec(ctx, store.Upsert("revisions", []string{"name"}, []string{"rev"}), "r0001", 77); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Main.Exec(ctx, "INSERT INTO revisions (name, rev) VALUES (?, ?) {ignore (name)}", "r0001", 78); err != nil {
			t.Fatal(err)
		}
		if rev, err := s.Main.Revision(ctx, "r0001"); err != nil || rev != 77 {
			t.Fatalf("%d, %v", rev, err)
		}
	})
}

// TestTxIsolation counts up from many sides at once: no count may be lost,
// and who loses a race runs again.
func TestTxIsolation(t *testing.T) {
	t.Parallel()
	Each(t, func(t *testing.T, open func() *store.Store) {
		stores := []*store.Store{open()}
		if Replicas(stores[0]) {
			stores = append(stores, open())
		}
		ctx := t.Context()
		if _, err := stores[0].Main.Exec(ctx, "INSERT INTO revisions (name, rev) VALUES (?, 0), (?, 0)", "a", "b"); err != nil {
			t.Fatal(err)
		}
		const workers, rounds = 6, 8
		var wg sync.WaitGroup
		for w := range workers {
			wg.Go(func() {
				names := []string{"a", "b"} // half of them lock in the other order: deadlocks
				if w%2 == 1 {
					names = []string{"b", "a"}
				}
				for range rounds {
					err := stores[w%len(stores)].Main.Tx(ctx, func(tx *store.Tx) error {
						for _, name := range names {
							var rev int64
							if err := tx.QueryRow(ctx, "SELECT rev FROM revisions WHERE name = ? {for update}", name).Scan(&rev); err != nil {
								return err
							}
							if _, err := tx.Exec(ctx, "UPDATE revisions SET rev = ? WHERE name = ?", rev+1, name); err != nil {
								return err
							}
						}
						return nil
					})
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		for _, name := range []string{"a", "b"} {
			if rev, err := stores[0].Main.Revision(ctx, name); err != nil || rev != workers*rounds {
				t.Errorf("%s: %d, want %d (%v)", name, rev, workers*rounds, err)
			}
		}
	})
}

func TestPanicRollsBack(t *testing.T) {
	t.Parallel()
	Each(t, func(t *testing.T, open func() *store.Store) {
		s, ctx := open(), t.Context()
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic was swallowed")
				}
			}()
			_ = s.Main.Tx(ctx, func(tx *store.Tx) error {
				if err := tx.Bump(ctx, "routing"); err != nil {
					t.Error(err)
				}
				panic("now")
			})
		}()
		if rev, err := s.Main.Revision(ctx, "routing"); err != nil || rev != 0 {
			t.Fatalf("%d, %v", rev, err)
		}
	})
}
