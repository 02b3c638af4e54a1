package store_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jimu-ai/jimu/internal/store"
	"github.com/jimu-ai/jimu/internal/store/storetest"
)

func insertNames(ctx context.Context, tx *store.Tx, batch []string) error {
	args := make([]any, 0, 2*len(batch))
	for _, name := range batch {
		args = append(args, name, int64(1))
	}
	_, err := tx.Insert(ctx, "INSERT INTO revisions (name, rev) VALUES {values}", 2, args)
	return err
}

func TestWriter(t *testing.T) {
	t.Parallel()
	for name, fresh := range databases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, ctx := storetest.Open(t, fresh(t)), t.Context()
			var batches atomic.Int64
			w := store.NewWriter(ctx, s.Main, func(ctx context.Context, tx *store.Tx, batch []string) error {
				batches.Add(1)
				return insertNames(ctx, tx, batch)
			}, store.WriterOptions{Batch: 300, Linger: time.Hour})
			const rows = 1000
			for i := range rows {
				w.Put(fmt.Sprintf("w%04d", i))
			}
			if err := w.Flush(ctx); err != nil {
				t.Fatal(err)
			}
			if n := batches.Load(); n != 4 {
				t.Errorf("%d rows went in %d batches, want 4", rows, n)
			}
			w.Put("bad") // breaks the unique key, and its batch
			w.Put("bad")
			w.Put("good")
			if err := w.Close(ctx); err != nil {
				t.Fatal(err)
			}
			if n := w.Dropped(); n != 1 {
				t.Errorf("%d rows were lost, want 1", n)
			}
			w.Put("late")
			if n := w.Dropped(); n != 2 {
				t.Errorf("a row put after the end is not counted as lost: %d", n)
			}
			var n int64
			if err := s.Main.QueryRow(ctx, "SELECT COUNT(*) FROM revisions WHERE name LIKE 'w%' OR name IN ('bad', 'good')").Scan(&n); err != nil || n != rows+2 {
				t.Errorf("%d rows, want %d (%v)", n, rows+2, err)
			}
		})
	}
}

func TestWriterDropsTheOldest(t *testing.T) {
	t.Parallel()
	s := storetest.Open(t, "")
	began, proceed := make(chan struct{}), make(chan struct{})
	var written []int
	w := store.NewWriter(t.Context(), s.History, func(_ context.Context, _ *store.Tx, batch []int) error {
		if batch[0] == 0 {
			close(began)
			<-proceed
		}
		written = append(written, batch...)
		return nil
	}, store.WriterOptions{Queue: 3, Linger: time.Nanosecond})
	w.Put(0)
	<-began
	for i := 1; i <= 5; i++ { // none of these waits
		w.Put(i)
	}
	close(proceed)
	if err := w.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if want := []int{0, 3, 4, 5}; !slices.Equal(written, want) || w.Dropped() != 2 {
		t.Errorf("wrote %v and lost %d, want %v and 2", written, w.Dropped(), want)
	}
}

func TestWriterWithoutDatabase(t *testing.T) {
	t.Parallel()
	s, err := store.Open(t.Context(), store.Options{Data: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	w := store.NewWriter(t.Context(), s.Main, insertNames, store.WriterOptions{})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	w.Put("a")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := w.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a writer that cannot write closes with %v", err)
	}
	if w.Dropped() != 1 {
		t.Errorf("%d rows are counted as lost", w.Dropped())
	}
}
