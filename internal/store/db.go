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
	values sync.Map  // [2]int{rows, cols} → string
	spare  sync.Pool // *[]any
}

// text is a statement as the database reads it, and, on SQLite, prepared once
// it has shown to be used again. The drivers of the other databases do that
// themselves.
type text struct {
	sql  string
	uses atomic.Int32
	w, r atomic.Pointer[sql.Stmt]
}

// What is remembered of statements is bounded: most texts are constants of the
// program, but some are built. To MySQL, which gets inserts of any number of
// rows, a long text is not worth remembering.
const (
	maxTexts  = 1000
	longMySQL = 2048
)

// Tries of a transaction that loses against others.
const (
	maxTries  = 20
	firstWait = 2 * time.Millisecond
	maxWait   = 500 * time.Millisecond
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
	if d.known.Load() >= maxTexts || (d.dialect == MySQL && len(q) > longMySQL) {
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

// statement is a text to run: prepared, or not.
type statement interface {
	ExecContext(ctx context.Context, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, args ...any) *sql.Row
}

// unprepared is a text to run on a pool or in a transaction.
type unprepared struct {
	on interface {
		ExecContext(ctx context.Context, q string, args ...any) (sql.Result, error)
		QueryContext(ctx context.Context, q string, args ...any) (*sql.Rows, error)
		QueryRowContext(ctx context.Context, q string, args ...any) *sql.Row
	}
	text string
}

func (u unprepared) ExecContext(ctx context.Context, args ...any) (sql.Result, error) {
	return u.on.ExecContext(ctx, u.text, args...)
}

func (u unprepared) QueryContext(ctx context.Context, args ...any) (*sql.Rows, error) {
	return u.on.QueryContext(ctx, u.text, args...)
}

func (u unprepared) QueryRowContext(ctx context.Context, args ...any) *sql.Row {
	return u.on.QueryRowContext(ctx, u.text, args...)
}

// prepare prepares the text for the pool at its second use and keeps it in at.
// It must not run inside a transaction, which has SQLite's only writing
// connection.
func (d *DB) prepare(ctx context.Context, pool *sql.DB, t *text, at *atomic.Pointer[sql.Stmt]) {
	if at.Load() != nil || d.dialect != SQLite || t.uses.Add(1) < 2 || d.known.Load() >= maxTexts {
		return
	}
	s, err := pool.PrepareContext(ctx, t.sql)
	if err != nil {
		return // running the text shows the error
	}
	if !at.CompareAndSwap(nil, s) {
		_ = s.Close() //nolint:sqlclosecheck // another one was first; s is kept otherwise
	}
}

// reading returns the statement to read with.
func (d *DB) reading(ctx context.Context, q string) (statement, error) {
	t, err := d.text(q)
	if err != nil {
		return unprepared{d.r, q}, err
	}
	d.prepare(ctx, d.r, t, &t.r)
	if s := t.r.Load(); s != nil {
		return s, nil
	}
	return unprepared{d.r, t.sql}, nil
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
	s, err := d.reading(ctx, q)
	if err != nil {
		return nil, err
	}
	return s.QueryContext(ctx, args...)
}

// QueryRow reads at most one row. [sql.ErrNoRows] comes from its Scan.
func (d *DB) QueryRow(ctx context.Context, q string, args ...any) *sql.Row {
	s, _ := d.reading(ctx, q) // a macro that does not exist is refused by the database
	return s.QueryRowContext(ctx, args...)
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

// statement returns the statement to run in this transaction.
func (tx *Tx) statement(ctx context.Context, q string) (statement, error) {
	t, err := tx.db.text(q)
	if err != nil {
		return unprepared{tx.tx, q}, err
	}
	if s := t.w.Load(); s != nil {
		return tx.tx.StmtContext(ctx, s), nil
	}
	if tx.db.dialect == SQLite {
		tx.seen = append(tx.seen, t)
	}
	return unprepared{tx.tx, t.sql}, nil
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
	s, err := tx.statement(ctx, q)
	if err != nil {
		return 0, err
	}
	res, err := s.ExecContext(ctx, args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// Query reads rows. They are closed before the transaction runs the same text
// again.
func (tx *Tx) Query(ctx context.Context, q string, args ...any) (*sql.Rows, error) {
	ctx = tx.inside(ctx)
	s, err := tx.statement(ctx, q)
	if err != nil {
		return nil, err
	}
	return s.QueryContext(ctx, args...)
}

// QueryRow reads at most one row. [sql.ErrNoRows] comes from its Scan.
func (tx *Tx) QueryRow(ctx context.Context, q string, args ...any) *sql.Row {
	ctx = tx.inside(ctx)
	s, _ := tx.statement(ctx, q) // a macro that does not exist is refused by the database
	return s.QueryRowContext(ctx, args...)
}
