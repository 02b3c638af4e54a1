package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
)

// bulk is the rows of one INSERT into SQLite. It goes through database/sql as
// one argument, and bulkConn runs it: binding thousands of values one by one
// through database/sql costs as much as writing them.
type bulk struct {
	head, tail string // of the statement, around its values
	cols       int
	args       []any
	most       int // rows of a statement
}

// insertBulk runs a bulk in this transaction.
func (tx *Tx) insertBulk(ctx context.Context, b *bulk) (int64, error) {
	res, err := tx.tx.ExecContext(tx.inside(ctx), b.head, b)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// bulkConns makes SQLite's connections understand a [bulk].
type bulkConns struct{ driver.Connector }

// Connect implements [driver.Connector].
func (c bulkConns) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	s, ok := conn.(sqliteConn)
	if !ok {
		return nil, errors.Join(errors.New("the SQLite driver lacks what is needed of it"), conn.Close())
	}
	return &bulkConn{sqliteConn: s, ready: map[bulkKey]bulkStmt{}}, nil
}

// sqliteConn is all that a connection of the driver can do.
type sqliteConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.Pinger
	driver.QueryerContext
	driver.SessionResetter
	driver.Validator
}

// bulkConn is a connection that keeps the statements of bulks. Package sql
// uses it from one goroutine at a time.
type bulkConn struct {
	sqliteConn
	ready map[bulkKey]bulkStmt
	args  []driver.NamedValue
}

// bulkKey says which statement: its texts are constants of the program.
type bulkKey struct {
	head, tail string
	rows       int
}

type bulkStmt interface {
	driver.Stmt
	driver.StmtExecContext
}

// CheckNamedValue implements [driver.NamedValueChecker]: it lets a bulk pass,
// and leaves the rest to package sql.
func (c *bulkConn) CheckNamedValue(v *driver.NamedValue) error {
	if _, ok := v.Value.(*bulk); ok {
		return nil
	}
	return driver.ErrSkip
}

// ExecContext implements [driver.ExecerContext].
func (c *bulkConn) ExecContext(ctx context.Context, q string, args []driver.NamedValue) (driver.Result, error) {
	if len(args) == 1 {
		if b, ok := args[0].Value.(*bulk); ok {
			n, err := c.insert(ctx, b)
			return driver.RowsAffected(n), err
		}
	}
	return c.sqliteConn.ExecContext(ctx, q, args)
}

// Close implements [driver.Conn].
func (c *bulkConn) Close() error {
	var errs []error
	for _, s := range c.ready {
		errs = append(errs, s.Close())
	}
	clear(c.ready)
	return errors.Join(append(errs, c.sqliteConn.Close())...)
}

// insert runs a bulk in statements of sizes that recur, so that they stay
// prepared, and returns how many rows were matched.
func (c *bulkConn) insert(ctx context.Context, b *bulk) (total int64, err error) {
	defer func() {
		for i := range c.args { // what they held can be freed
			c.args[i].Value = nil
		}
	}()
	for left := b.args; len(left) > 0; {
		rows := floorPower(min(len(left)/b.cols, b.most))
		s, err := c.statement(ctx, b, rows)
		if err != nil {
			return total, err
		}
		n := rows * b.cols
		for len(c.args) < n {
			c.args = append(c.args, driver.NamedValue{Ordinal: len(c.args) + 1})
		}
		for i, v := range left[:n] {
			switch v.(type) {
			case int64, string, []byte:
			default:
				if v, err = driver.DefaultParameterConverter.ConvertValue(v); err != nil {
					return total, err
				}
			}
			c.args[i].Value = v
		}
		res, err := s.ExecContext(ctx, c.args[:n])
		if err != nil {
			return total, err
		}
		done, err := res.RowsAffected()
		if err != nil {
			return total, err
		}
		total += done
		left = left[n:]
	}
	return total, nil
}

// statement prepares, once, the statement for so many rows.
func (c *bulkConn) statement(ctx context.Context, b *bulk, rows int) (bulkStmt, error) {
	at := bulkKey{b.head, b.tail, rows}
	if s, ok := c.ready[at]; ok {
		return s, nil
	}
	row := "(" + strings.Repeat("?, ", b.cols-1) + "?)"
	q, err := SQLite.rebind(b.head + strings.Repeat(row+", ", rows-1) + row + b.tail)
	if err != nil {
		return nil, err
	}
	prepared, err := c.PrepareContext(ctx, q)
	if err != nil {
		return nil, err
	}
	s, ok := prepared.(bulkStmt)
	if !ok {
		return nil, errors.Join(fmt.Errorf("the SQLite driver cannot run %q", b.head), prepared.Close())
	}
	c.ready[at] = s
	return s, nil
}
