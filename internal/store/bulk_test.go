package store_test

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/jimu-ai/jimu"
	"github.com/jimu-ai/jimu/internal/store"
	"github.com/jimu-ai/jimu/internal/store/storetest"
)

// A bulk that breaks a constraint in one of its statements leaves nothing, and
// its statements work again.
func TestInsertThatFails(t *testing.T) {
	t.Parallel()
	for name, fresh := range databases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, ctx := storetest.Open(t, fresh(t)), t.Context()
			const rows = 200
			names := make([]string, 0, rows)
			for i := range rows {
				names = append(names, fmt.Sprintf("r%04d", i))
			}
			insert := func() error {
				return s.Main.Tx(ctx, func(tx *store.Tx) error { return insertNames(ctx, tx, names) })
			}
			for range 3 { // the statements are prepared, and run again
				names[rows-1] = names[0]
				if err := insert(); !store.IsDuplicate(err) {
					t.Fatalf("a duplicate is not recognised: %v", err)
				}
				names[rows-1] = "last"
				if err := insert(); err != nil {
					t.Fatal(err)
				}
				if n, err := s.Main.Exec(ctx, "DELETE FROM revisions"); err != nil || n != rows {
					t.Fatalf("%d rows were there, want %d (%v)", n, rows, err)
				}
			}
		})
	}
}

// All that database/sql takes as a value, Insert takes.
func TestInsertValues(t *testing.T) {
	t.Parallel()
	for name, fresh := range databases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, ctx := storetest.Open(t, fresh(t)), t.Context()
			insert := func(ctx context.Context, args ...any) error {
				return s.Main.Tx(ctx, func(tx *store.Tx) error {
					_, err := tx.Insert(ctx, "INSERT INTO revisions (name, rev) VALUES {values}", 2, args)
					return err
				})
			}
			if err := insert(ctx, jimu.Code("named"), 1, "credit", jimu.Credit(2), "it's ? {x}", int64(3)); err != nil {
				t.Fatal(err)
			}
			for name, want := range map[string]int64{"named": 1, "credit": 2, "it's ? {x}": 3} {
				if rev, err := s.Main.Revision(ctx, name); err != nil || rev != want {
					t.Errorf("%s: %d, %v, want %d", name, rev, err, want)
				}
			}
			if err := insert(ctx, "nothing", nil); err == nil {
				t.Error("a NULL is refused by the column, and was not by Insert")
			}
			if err := insert(ctx, "odd"); err == nil {
				t.Error("half a row was taken")
			}
			if err := insert(ctx, "struct", struct{}{}); err == nil {
				t.Error("a value of no database type was taken")
			}
		})
	}
}

// A count that is added to the usage must be written too.
func TestDetailHasEveryCount(t *testing.T) {
	t.Parallel()
	r := jimu.Record{Request: "r"}
	for i, v := range reflect.ValueOf(&r.Usage).Elem().Fields() {
		switch {
		case v.Kind() == reflect.Bool:
			reflect.ValueOf(&r.Usage).Elem().FieldByIndex(i.Index).SetBool(true)
		default:
			reflect.ValueOf(&r.Usage).Elem().FieldByIndex(i.Index).SetInt(int64(i.Index[0] + 1))
		}
	}
	got, _, err := store.DetailOf(&r)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(r.Usage, got.Usage); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

func FuzzDetail(f *testing.F) {
	f.Add("chat", "主 upstream", "m@a", "0123", int64(1), int64(2), true)
	f.Add("", "a\"b\\c\n\x00\x1f\x7f<>&\u2028", "\xff\xfe", "积", int64(-1), int64(0), false)
	f.Fuzz(func(t *testing.T, op, upstream, name, price string, first, n int64, flag bool) {
		r := jimu.Record{
			Request: "r", Op: jimu.Operation(op), Upstream: upstream, Price: price, Stream: flag, Quarantined: !flag,
			First: time.Duration(first).Truncate(time.Microsecond), Usage: jimu.Usage{InText: n, Estimated: flag},
			Attempts: []jimu.Attempt{{Upstream: upstream, Key: 3, Name: name, Status: 200}},
		}
		got, a, err := store.DetailOf(&r)
		if err != nil {
			t.Fatal(err)
		}
		if got.First != r.First || got.Usage != r.Usage || got.Stream != flag || got.Quarantined == flag {
			t.Errorf("wrote %+v, read %+v", r, got)
		}
		for in, out := range map[string]string{upstream: got.Upstream, name: a.Name} {
			if ok := utf8.ValidString(in) && !strings.ContainsRune(in, 0) && utf8.RuneCountInString(in) <= 190; ok && in != out {
				t.Errorf("wrote %q, read %q", in, out)
			}
		}
	})
}
