package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// DB runs statements on one database. Texts use "?" placeholders and the
// macros of dialect.go on every database.
type DB struct {
	dialect  Dialect
	w, r     *sql.DB // the same pool, but for SQLite: there w is one connection and r only reads
	file     string  // SQLite's
	readOnly bool

	texts  sync.Map // statement as given → *text
	known  atomic.Int32
	values sync.Map // [2]int{rows, cols} → string
}

// text is a statement as the database reads it, and, on SQLite, prepared once
// it has shown to be used again. The drivers of the other databases do that
// themselves.
type text struct {
	sql  string
	uses atomic.Int32
	w, r atomic.Pointer[sql.Stmt]
}

// maxTexts bounds what is remembered of statements; texts are constants of
// the program, but one that builds them must not fill the memory.
const maxTexts = 1000

// Tries of a transaction that loses against others.
const (
	maxTries  = 10
	firstWait = 2 * time.Millisecond
	maxWait   = 200 * time.Millisecond
)

var errReadOnly = errors.New("the store is open for reading only")

// Dialect is which database this is.
func (d *DB) Dialect() Dialect { return d.dialect }

// Ping reports whether the database answers.
func (d *DB) Ping(ctx context.Context) error {
	var one int64
	return d.r.QueryRowContext(ctx, "SELECT 1").Scan(&one)
}

func (d *DB) close() error {
	d.texts.Range(func(_, v any) bool {
		if t, ok := v.(*text); ok {
			for _, s := range []*sql.Stmt{t.w.Swap(nil), t.r.Swap(nil)} {
				if s != nil {
					_ = s.Close() // its connection is closed below
				}
			}
		}
		return true
	})
	var errs []error
	if d.r != nil && d.r != d.w {
		errs = append(errs, d.r.Close())
	}
	if d.w != nil {
		errs = append(errs, d.w.Close())
	}
	return errors.Join(errs...)
}

// text returns the statement as the database reads it.
func (d *DB) text(q string) (*text, error) {
	if v, ok := d.texts.Load(q); ok {
		if t, ok := v.(*text); ok {
			return t, nil
		}
	}
	s, err := d.dialect.rebind(q)
	if err != nil {
		return nil, err
	}
	t := &text{sql: s}
	if d.known.Load() >= maxTexts {
		return t, nil
	}
	v, loaded := d.texts.LoadOrStore(q, t)
	if !loaded {
		d.known.Add(1)
	}
	if t, ok := v.(*text); ok {
		return t, nil
	}
	return t, nil
}

// prepare keeps the statement prepared in at, if it is worth it. It must not
// run inside a transaction, which has SQLite's only writing connection.
func (d *DB) prepare(ctx context.Context, pool *sql.DB, t *text, at *atomic.Pointer[sql.Stmt]) *sql.Stmt {
	if s := at.Load(); s != nil || d.dialect != SQLite || t.uses.Add(1) < 2 {
		return s
	}
	s, err := pool.PrepareContext(ctx, t.sql)
	if err != nil {
		return nil // running the text shows the error
	}
	if !at.CompareAndSwap(nil, s) {
		_ = s.Close() // another one was first
	}
	return at.Load()
}

// Exec runs one statement as a transaction of its own and returns how many
// rows it matched.
func (d *DB) Exec(ctx context.Context, q string, args ...any) (rows int64, err error) {
	err = d.Tx(ctx, func(tx *Tx) (err error) {
		rows, err = tx.Exec(ctx, q, args...)
		return err
	})
	return rows, err
}

// Query reads rows. The caller closes them.
func (d *DB) Query(ctx context.Context, q string, args ...any) (*sql.Rows, error) {
	t, err := d.text(q)
	if err != nil {
		return nil, err
	}
	if s := d.prepare(ctx, d.r, t, &t.r); s != nil {
		return s.QueryContext(ctx, args...)
	}
	return d.r.QueryContext(ctx, t.sql, args...)
}

// QueryRow reads at most one row. [sql.ErrNoRows] comes from its Scan.
func (d *DB) QueryRow(ctx context.Context, q string, args ...any) *sql.Row {
	t, err := d.text(q)
	if err != nil {
		return d.r.QueryRowContext(ctx, q, args...) // the database refuses the macro
	}
	if s := d.prepare(ctx, d.r, t, &t.r); s != nil {
		return s.QueryRowContext(ctx, args...)
	}
	return d.r.QueryRowContext(ctx, t.sql, args...)
}

// Tx runs f in a transaction that writes, and commits if f returns no error.
// Where the transaction loses against another one it is rolled back and f
// runs again, so f must set what it returns anew each time and do nothing
// outside of the transaction.
func (d *DB) Tx(ctx context.Context, f func(tx *Tx) error) error {
	if d.readOnly {
		return errReadOnly
	}
	for try := 1; ; try++ {
		err := d.once(ctx, f)
		if err == nil || !isTransient(err) || try == maxTries {
			return err
		}
		if pause(ctx, try) != nil {
			return err
		}
	}
}

func (d *DB) once(ctx context.Context, f func(tx *Tx) error) (err error) {
	var tx Tx
	defer func() {
		for _, t := range tx.seen { // prepare for the next time, now that the connection is free
			d.prepare(ctx, d.w, t, &t.w)
		}
	}()
	sqlTx, err := d.w.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("beginning a transaction: %w", err)
	}
	defer func() { _ = sqlTx.Rollback() }() // nothing after a commit; undoes a panic too
	tx.db, tx.tx = d, sqlTx
	if err := f(&tx); err != nil {
		return err
	}
	if err := sqlTx.Commit(); err != nil {
		return fmt.Errorf("committing: %w", err)
	}
	return nil
}

// pause waits a little longer at each try, and not in step with others.
func pause(ctx context.Context, try int) error {
	wait := min(firstWait<<try, maxWait)
	timer := time.NewTimer(wait/2 + rand.N(wait)) //nolint:gosec // spreads load, guards nothing
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Tx is a transaction that writes. It is for one goroutine, and ends with the
// function it was given to.
type Tx struct {
	db   *DB
	tx   *sql.Tx
	seen []*text
}

// Dialect is which database this is.
func (tx *Tx) Dialect() Dialect { return tx.db.dialect }

// stmt returns the statement prepared for this transaction, if it is.
func (tx *Tx) stmt(ctx context.Context, t *text) *sql.Stmt {
	if s := t.w.Load(); s != nil {
		return tx.tx.StmtContext(ctx, s)
	}
	if tx.db.dialect == SQLite {
		tx.seen = append(tx.seen, t)
	}
	return nil
}

// inside is the context of one statement. On SQLite it cannot be cancelled:
// watching for it costs a goroutine for each statement, and all of them are
// short. The transaction as a whole still ends with its context.
func (tx *Tx) inside(ctx context.Context) context.Context {
	if tx.db.dialect == SQLite {
		return context.WithoutCancel(ctx)
	}
	return ctx
}

// Exec runs a statement and returns how many rows it matched.
func (tx *Tx) Exec(ctx context.Context, q string, args ...any) (rows int64, err error) {
	ctx = tx.inside(ctx)
	t, err := tx.db.text(q)
	if err != nil {
		return 0, err
	}
	var res sql.Result
	if s := tx.stmt(ctx, t); s != nil {
		res, err = s.ExecContext(ctx, args...)
	} else {
		res, err = tx.tx.ExecContext(ctx, t.sql, args...)
	}
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// Query reads rows. They are closed before the transaction runs the same text
// again.
func (tx *Tx) Query(ctx context.Context, q string, args ...any) (*sql.Rows, error) {
	ctx = tx.inside(ctx)
	t, err := tx.db.text(q)
	if err != nil {
		return nil, err
	}
	if s := tx.stmt(ctx, t); s != nil {
		return s.QueryContext(ctx, args...)
	}
	return tx.tx.QueryContext(ctx, t.sql, args...)
}

// QueryRow reads at most one row. [sql.ErrNoRows] comes from its Scan.
func (tx *Tx) QueryRow(ctx context.Context, q string, args ...any) *sql.Row {
	ctx = tx.inside(ctx)
	t, err := tx.db.text(q)
	if err != nil {
		return tx.tx.QueryRowContext(ctx, q, args...) // the database refuses the macro
	}
	if s := tx.stmt(ctx, t); s != nil {
		return s.QueryRowContext(ctx, args...)
	}
	return tx.tx.QueryRowContext(ctx, t.sql, args...)
}
