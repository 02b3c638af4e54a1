package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/bits"
	"strings"
)

// What one statement inserts at most: more gains nothing, and makes its text
// and its prepared form large.
const (
	maxRows   = 512
	maxBulk   = 64 // rows, on SQLite: a longer program is no faster, but larger
	maxValues = 8192
)

// Values writes "(?, ?), (?, ?)": so many rows of so many columns.
func (d *DB) Values(rows, cols int) string {
	at := [2]int{rows, cols}
	if v, ok := d.values.Load(at); ok {
		if s, ok := v.(string); ok {
			return s
		}
	}
	row := "(" + strings.Repeat("?, ", cols-1) + "?)"
	s := strings.Repeat(row+", ", rows-1) + row
	if rows&(rows-1) == 0 { // those that Insert uses
		d.values.Store(at, s)
	}
	return s
}

// Insert adds many rows, which args holds one after the other, cols values
// each. The statement has {values} where they go:
//
//	INSERT INTO t (a, b) VALUES {values}
//
// It runs as few statements as pay off, each of a size that recurs, so that
// they stay prepared. It returns how many rows were matched.
func (tx *Tx) Insert(ctx context.Context, q string, cols int, args []any) (int64, error) {
	if cols < 1 || len(args)%cols != 0 {
		return 0, fmt.Errorf("%d values do not make rows of %d", len(args), cols)
	}
	head, tail, ok := strings.Cut(q, "{values}")
	if !ok {
		return 0, fmt.Errorf("the statement has no {values}: %q", q)
	}
	most := floorPower(max(1, min(maxRows, maxValues/cols)))
	if tx.db.dialect == SQLite && len(args) > 0 {
		return tx.insertBulk(ctx, &bulk{head: head, tail: tail, cols: cols, args: args, most: min(most, maxBulk)})
	}
	var total int64
	for len(args) > 0 {
		rows := min(len(args)/cols, most)
		if tx.db.dialect != MySQL { // it is sent as plain text there: any size will do
			rows = floorPower(rows)
		}
		n, err := tx.Exec(ctx, head+tx.db.Values(rows, cols)+tail, args[:rows*cols]...)
		if err != nil {
			return total, err
		}
		total += n
		args = args[rows*cols:]
	}
	return total, nil
}

// takeArgs returns an empty list for the values of [Tx.Insert]. giveArgs takes
// it back.
func (d *DB) takeArgs() []any {
	if v, ok := d.spare.Get().(*[]any); ok {
		return *v
	}
	return nil
}

func (d *DB) giveArgs(args []any) {
	clear(args) // what they held can be freed
	args = args[:0]
	d.spare.Put(&args)
}

// floorPower is the largest power of two that is not above n, which is not
// below 1.
func floorPower(n int) int { return 1 << (bits.Len(uint(n)) - 1) }

// Bump counts a change up, in the transaction that makes it, so that every
// replica that polls [DB.Revision] sees it.
func (tx *Tx) Bump(ctx context.Context, name string) error {
	_, err := tx.Exec(ctx, "INSERT INTO revisions (name, rev) VALUES (?, 1) {upsert (name)} rev = revisions.rev + 1", name)
	return err
}

// Revision is how often something has changed; 0 is never.
func (d *DB) Revision(ctx context.Context, name string) (int64, error) {
	var rev int64
	err := d.QueryRow(ctx, "SELECT rev FROM revisions WHERE name = ?", name).Scan(&rev)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return rev, err
}
