package store

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"
)

// ErrClosed says that a writer was used after it was closed.
var ErrClosed = errors.New("the writer is closed")

// WriterOptions tune a [Writer]; zero values mean the defaults.
type WriterOptions struct {
	Name  string // for the log
	Queue int    // most rows that wait; 0 is 65536
	Batch int    // most rows of one transaction; 0 is 1000
	// Linger is how long the first row waits for company; 0 is 20 ms.
	Linger time.Duration
	Log    *slog.Logger
}

// Writer writes rows in batches: whatever came while the last batch was being
// committed. It is for rows that may be late, or, in the worst case, lost
// (usage, attempts): Put never waits, and when the database cannot keep up the
// oldest rows that wait are dropped and counted.
type Writer[T any] struct {
	db    *DB
	flush func(ctx context.Context, tx *Tx, batch []T) error
	o     WriterOptions

	mu      sync.Mutex
	queue   []T           // what waits
	taken   int64         // rows that were put and are no longer in queue or in hand
	put     int64         // rows that were put
	dropped int64         // rows that were lost
	changed chan struct{} // closed and replaced when taken grows
	closed  bool

	wake   chan struct{} // something waits
	hurry  chan struct{} // somebody waits for it
	ended  chan struct{}
	cancel context.CancelFunc
}

// NewWriter starts a writer. Flush writes a batch in the transaction it is
// given, and may be run again with the same rows. The caller closes the
// writer; ctx gives it values only.
func NewWriter[T any](ctx context.Context, db *DB, flush func(ctx context.Context, tx *Tx, batch []T) error, o WriterOptions) *Writer[T] {
	if o.Queue <= 0 {
		o.Queue = 1 << 16
	}
	if o.Batch <= 0 {
		o.Batch = 1000
	}
	if o.Linger <= 0 {
		o.Linger = 20 * time.Millisecond
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx)) //nolint:gosec // Close calls cancel
	w := &Writer[T]{
		db: db, flush: flush, o: o, cancel: cancel, changed: make(chan struct{}),
		wake: make(chan struct{}, 1), hurry: make(chan struct{}, 1), ended: make(chan struct{}),
	}
	go w.run(ctx)
	return w
}

// Put hands a row over. It never waits for the database.
func (w *Writer[T]) Put(row T) {
	w.mu.Lock()
	w.put++
	if w.closed {
		w.done(1, 1)
	} else {
		if len(w.queue) >= w.o.Queue {
			var none T
			w.queue[0] = none // so that it can be freed
			w.queue = w.queue[1:]
			w.done(1, 1)
		}
		w.queue = append(w.queue, row)
	}
	w.mu.Unlock()
	signal(w.wake)
}

// done counts rows as dealt with, some of them lost. The caller has the lock.
func (w *Writer[T]) done(rows, lost int64) {
	w.taken += rows
	w.dropped += lost
	close(w.changed)
	w.changed = make(chan struct{})
}

// Dropped is how many rows were lost.
func (w *Writer[T]) Dropped() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dropped
}

// Flush waits until every row put so far is committed, or lost.
func (w *Writer[T]) Flush(ctx context.Context) error {
	w.mu.Lock()
	until := w.put
	w.mu.Unlock()
	for {
		w.mu.Lock()
		taken, changed := w.taken, w.changed
		w.mu.Unlock()
		if taken >= until {
			return nil
		}
		signal(w.hurry)
		signal(w.wake)
		select {
		case <-changed:
		case <-w.ended:
			return ErrClosed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Close writes what waits, for as long as ctx allows, and stops.
func (w *Writer[T]) Close(ctx context.Context) error {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	err := w.Flush(ctx)
	w.cancel()
	<-w.ended
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := int64(len(w.queue)); n > 0 {
		w.queue = nil
		w.done(n, n)
	}
	return err
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (w *Writer[T]) run(ctx context.Context) {
	defer close(w.ended)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-w.wake:
		case <-ctx.Done():
			return
		}
		timer.Reset(w.o.Linger)
		select {
		case <-timer.C:
		case <-w.hurry:
		case <-ctx.Done():
			return
		}
		for batch := w.next(); len(batch) > 0; batch = w.next() {
			lost := w.write(ctx, batch)
			w.mu.Lock()
			w.done(int64(len(batch)), lost)
			w.mu.Unlock()
			if ctx.Err() != nil {
				return
			}
		}
	}
}

// next takes the next batch out of the queue.
func (w *Writer[T]) next() []T {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := min(len(w.queue), w.o.Batch)
	batch := w.queue[:n:n]
	w.queue = w.queue[n:]
	if len(w.queue) == 0 {
		w.queue = nil // lets the array go
	}
	return batch
}

// Waits between tries while the database does not answer.
const (
	firstRetry = 100 * time.Millisecond
	maxRetry   = 5 * time.Second
)

// write commits a batch and returns how many of its rows are lost. While the
// database is away it tries again; when the database is there and refuses the
// batch, the rows go one by one, so that one bad row does not take the others
// with it.
func (w *Writer[T]) write(ctx context.Context, batch []T) (lost int64) {
	for wait := firstRetry; ; wait = min(2*wait, maxRetry) {
		err := w.commit(ctx, batch)
		switch {
		case err == nil:
			return 0
		case ctx.Err() != nil:
			return int64(len(batch))
		case w.db.Ping(ctx) == nil:
			return w.writeEach(ctx, batch)
		}
		w.o.Log.WarnContext(ctx, "rows wait for the database", "writer", w.o.Name, "rows", len(batch), "error", err)
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

func (w *Writer[T]) writeEach(ctx context.Context, batch []T) (lost int64) {
	var last error
	for i := range batch {
		if err := w.commit(ctx, batch[i:i+1]); err != nil {
			lost++
			last = err
		}
	}
	if last != nil {
		w.o.Log.ErrorContext(ctx, "rows refused by the database", "writer", w.o.Name, "rows", lost, "error", last)
	}
	return lost
}

func (w *Writer[T]) commit(ctx context.Context, batch []T) error {
	return w.db.Tx(ctx, func(tx *Tx) error { return w.flush(ctx, tx, batch) })
}
