package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jimu-ai/jimu"
)

// Ledger holds the books: accounts, entries, leases, budgets, checkpoints and
// the prices that were charged. It keeps no rule of money but what the tables'
// own constraints say; the rules are package ledger's.
type Ledger struct{ db *DB }

// NewLedger returns the books of a store.
func NewLedger(s *Store) *Ledger { return &Ledger{db: s.Main} }

// LedgerTx is a transaction on the books.
type LedgerTx struct{ tx *Tx }

// Update runs f in one transaction. f may run more than once; see [DB.Tx].
func (l *Ledger) Update(ctx context.Context, f func(tx *LedgerTx) error) error {
	return l.db.Tx(ctx, func(tx *Tx) error { return f(&LedgerTx{tx}) })
}

// IsDuplicate reports whether an update failed because an entry of its kind
// and ref, or another row, exists.
func (l *Ledger) IsDuplicate(err error) bool { return IsDuplicate(err) }

// Protect makes the triggers that refuse to change an entry, where the
// migrations do not: on MySQL they need a right that a database user may lack,
// and TiDB has none. The error then says what is missing; entries are still
// chained by their hashes, so that a change shows.
func (l *Ledger) Protect(ctx context.Context) error {
	if l.db.dialect != MySQL {
		return nil
	}
	for _, on := range [...]string{"UPDATE", "DELETE"} {
		name := "entries_no_" + strings.ToLower(on)
		var n int64
		err := l.db.QueryRow(ctx, "SELECT COUNT(*) FROM information_schema.triggers WHERE trigger_schema = DATABASE() AND trigger_name = ?", name).Scan(&n)
		if err != nil {
			return fmt.Errorf("looking for the trigger %s: %w", name, err)
		}
		if n > 0 {
			continue
		}
		_, err = l.db.w.ExecContext(ctx, "CREATE TRIGGER "+name+" BEFORE "+on+
			" ON entries FOR EACH ROW SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'entries are only added'")
		if err != nil && !isDoneAlready(err) && !isTriggerThere(err) {
			return fmt.Errorf("making the trigger %s: %w", name, err)
		}
	}
	return nil
}

const maxIn = 500

// in writes "(?, ?, …)" for as many values as there are, rounded up to a
// power of two so that few texts recur, and appends the values to args, the
// last one repeated.
func in(args []any, values []string) (string, []any) {
	n := 1
	for n < len(values) {
		n *= 2
	}
	for i := range n {
		args = append(args, values[min(i, len(values)-1)])
	}
	return "(" + strings.Repeat(", ?", n)[2:] + ")", args
}

// each calls f with at most maxIn values at a time.
func each(values []string, f func(part []string) error) error {
	for len(values) > 0 {
		n := min(len(values), maxIn)
		if err := f(values[:n]); err != nil {
			return err
		}
		values = values[n:]
	}
	return nil
}

// scanAll calls f for each row and closes the rows.
func scanAll(rows *sql.Rows, err error, f func(rows *sql.Rows) error) error {
	if err != nil {
		return err
	}
	for rows.Next() {
		if err := f(rows); err != nil {
			return errors.Join(err, rows.Close())
		}
	}
	return errors.Join(rows.Err(), rows.Close())
}

const accountCols = "id, is_system, balance, held, seq, head"

func scanAccount(rows interface{ Scan(dest ...any) error }) (jimu.Account, error) {
	var a jimu.Account
	var system int64
	err := rows.Scan(&a.ID, &system, &a.Balance, &a.Held, &a.Seq, &a.Head)
	a.System = system == 1
	return a, err
}

// Accounts reads and locks accounts. Those that do not exist are left out.
// The IDs must be sorted, so that no two replicas wait for each other.
func (t *LedgerTx) Accounts(ctx context.Context, ids []string) ([]jimu.Account, error) {
	var out []jimu.Account
	err := each(ids, func(part []string) error {
		list, args := in(nil, part)
		rows, err := t.tx.Query(ctx, "SELECT "+accountCols+" FROM accounts WHERE id IN "+list+" ORDER BY id {for update}", args...)
		return scanAll(rows, err, func(rows *sql.Rows) error {
			a, err := scanAccount(rows)
			out = append(out, a)
			return err
		})
	})
	return out, err
}

// AddAccount opens an account, unless it exists.
func (t *LedgerTx) AddAccount(ctx context.Context, id string, system bool) error {
	var n int64
	if system {
		n = 1
	}
	_, err := t.tx.Exec(ctx, "INSERT INTO accounts ("+accountCols+") VALUES (?, ?, 0, 0, 0, ?) {ignore (id)}", id, n, []byte{})
	return err
}

// SaveAccount changes an account that is as it was read. It reports false if
// it is not.
func (t *LedgerTx) SaveAccount(ctx context.Context, was, is *jimu.Account) (bool, error) {
	n, err := t.tx.Exec(ctx, "UPDATE accounts SET balance = ?, held = ?, seq = ?, head = ? WHERE id = ? AND balance = ? AND held = ? AND seq = ?",
		int64(is.Balance), int64(is.Held), is.Seq, is.Head, was.ID, int64(was.Balance), int64(was.Held), was.Seq)
	return n == 1, err
}

// Move adds to the balance of a system account. It reports false if there is
// no such account, or the sum does not fit.
func (t *LedgerTx) Move(ctx context.Context, id string, by jimu.Credit) (bool, error) {
	const most = 1<<63 - 1
	limit, op := most-int64(by), "<="
	if by < 0 {
		limit, op = -most-int64(by), ">="
	}
	n, err := t.tx.Exec(ctx, "UPDATE accounts SET balance = balance + ? WHERE id = ? AND is_system = 1 AND balance "+op+" ?", int64(by), id, limit)
	return n == 1, err
}

// Budgets reads and locks budgets. Those that do not exist are left out. The
// IDs must be sorted.
func (t *LedgerTx) Budgets(ctx context.Context, ids []string) ([]jimu.Budget, error) {
	var out []jimu.Budget
	err := each(ids, func(part []string) error {
		list, args := in(nil, part)
		rows, err := t.tx.Query(ctx, "SELECT id, cap, spent, held FROM budgets WHERE id IN "+list+" ORDER BY id {for update}", args...)
		return scanAll(rows, err, func(rows *sql.Rows) error {
			var b jimu.Budget
			err := rows.Scan(&b.ID, &b.Cap, &b.Spent, &b.Held)
			out = append(out, b)
			return err
		})
	})
	return out, err
}

// SaveBudget changes what is spent and held of a budget that is as it was
// read. It reports false if it is not.
func (t *LedgerTx) SaveBudget(ctx context.Context, was, is *jimu.Budget) (bool, error) {
	n, err := t.tx.Exec(ctx, "UPDATE budgets SET spent = ?, held = ? WHERE id = ? AND cap = ? AND spent = ? AND held = ?",
		int64(is.Spent), int64(is.Held), was.ID, int64(was.Cap), int64(was.Spent), int64(was.Held))
	return n == 1, err
}

// AddNode enters a run of a replica.
func (t *LedgerTx) AddNode(ctx context.Context, n jimu.Node) error {
	_, err := t.tx.Exec(ctx, "INSERT INTO nodes (id, folder, beat) VALUES (?, ?, ?)", n.ID, n.Folder, n.Beat)
	return err
}

// Beat moves a run's beat on. It reports false if the beat was another one.
func (t *LedgerTx) Beat(ctx context.Context, id string, from, to int64) (bool, error) {
	n, err := t.tx.Exec(ctx, "UPDATE nodes SET beat = ? WHERE id = ? AND beat = ?", to, id, from)
	return n == 1, err
}

// RemoveNode removes a run with this beat. It reports false if there is none.
func (t *LedgerTx) RemoveNode(ctx context.Context, id string, beat int64) (bool, error) {
	n, err := t.tx.Exec(ctx, "DELETE FROM nodes WHERE id = ? AND beat = ?", id, beat)
	return n == 1, err
}

// Nodes lists the runs.
func (t *LedgerTx) Nodes(ctx context.Context) ([]jimu.Node, error) {
	var out []jimu.Node
	rows, err := t.tx.Query(ctx, "SELECT id, folder, beat FROM nodes ORDER BY id")
	err = scanAll(rows, err, func(rows *sql.Rows) error {
		var n jimu.Node
		err := rows.Scan(&n.ID, &n.Folder, &n.Beat)
		out = append(out, n)
		return err
	})
	return out, err
}

// AddLease enters a lease.
func (t *LedgerTx) AddLease(ctx context.Context, l jimu.Lease) error {
	_, err := t.tx.Exec(ctx, "INSERT INTO leases (node, scope, subject, amount) VALUES (?, ?, ?, ?)", l.Node, string(l.Scope), l.Subject, int64(l.Amount))
	return err
}

// ChangeLease adds to the amount of a lease, whose own Amount is not read. It
// reports false if there is none, or not enough in it.
func (t *LedgerTx) ChangeLease(ctx context.Context, l jimu.Lease, by jimu.Credit) (bool, error) {
	n, err := t.tx.Exec(ctx, "UPDATE leases SET amount = amount + ? WHERE node = ? AND scope = ? AND subject = ? AND amount >= ?",
		int64(by), l.Node, string(l.Scope), l.Subject, max(0, -int64(by)))
	return n == 1, err
}

// RemoveLease removes a lease of this amount. It reports false if there is none.
func (t *LedgerTx) RemoveLease(ctx context.Context, l jimu.Lease) (bool, error) {
	n, err := t.tx.Exec(ctx, "DELETE FROM leases WHERE node = ? AND scope = ? AND subject = ? AND amount = ?", l.Node, string(l.Scope), l.Subject, int64(l.Amount))
	return n == 1, err
}

// Leases reads up to a number of leases of a run.
func (t *LedgerTx) Leases(ctx context.Context, node string, limit int) ([]jimu.Lease, error) {
	var out []jimu.Lease
	rows, err := t.tx.Query(ctx, "SELECT node, scope, subject, amount FROM leases WHERE node = ? ORDER BY scope, subject LIMIT ? {for update}", node, limit)
	err = scanAll(rows, err, func(rows *sql.Rows) error {
		var l jimu.Lease
		err := rows.Scan(&l.Node, &l.Scope, &l.Subject, &l.Amount)
		out = append(out, l)
		return err
	})
	return out, err
}

// LeaseOf reads one lease. It reports false if there is none.
func (t *LedgerTx) LeaseOf(ctx context.Context, node string, scope jimu.LeaseScope, subject string) (jimu.Lease, bool, error) {
	l := jimu.Lease{Node: node, Scope: scope, Subject: subject}
	err := t.tx.QueryRow(ctx, "SELECT amount FROM leases WHERE node = ? AND scope = ? AND subject = ? {for update}", node, string(scope), subject).Scan(&l.Amount)
	if errors.Is(err, sql.ErrNoRows) {
		return l, false, nil
	}
	return l, err == nil, err
}

// SaveCheckpoints writes or replaces what requests owe so far.
func (t *LedgerTx) SaveCheckpoints(ctx context.Context, cs []jimu.Checkpoint) error {
	const cols = 9
	args := make([]any, 0, cols*len(cs))
	for i := range cs {
		c := &cs[i]
		args = append(args, c.Request, c.Node, c.Account, c.Budget, int64(c.Amount), int64(c.Over), c.Price, c.Detail, c.At.UnixMicro())
	}
	_, err := t.tx.Insert(ctx, `INSERT INTO checkpoints (request, node, account, budget, amount, beyond, price, detail, made_at) VALUES {values}
		{upsert (request)} node = {new node}, amount = {new amount}, beyond = {new beyond}, price = {new price}, detail = {new detail}, made_at = {new made_at}`, cols, args)
	return err
}

// RemoveCheckpoints removes the checkpoints of requests, if they have one.
func (t *LedgerTx) RemoveCheckpoints(ctx context.Context, requests []string) error {
	return each(requests, func(part []string) error {
		list, args := in(nil, part)
		_, err := t.tx.Exec(ctx, "DELETE FROM checkpoints WHERE request IN "+list, args...)
		return err
	})
}

// Checkpoints reads up to a number of a run's checkpoints.
func (t *LedgerTx) Checkpoints(ctx context.Context, node string, limit int) ([]jimu.Checkpoint, error) {
	var out []jimu.Checkpoint
	rows, err := t.tx.Query(ctx, `SELECT request, node, account, budget, amount, beyond, price, detail, made_at
		FROM checkpoints WHERE node = ? ORDER BY request LIMIT ?`, node, limit)
	err = scanAll(rows, err, func(rows *sql.Rows) error {
		var c jimu.Checkpoint
		var at int64
		err := rows.Scan(&c.Request, &c.Node, &c.Account, &c.Budget, &c.Amount, &c.Over, &c.Price, &c.Detail, &at)
		c.At = time.UnixMicro(at).UTC()
		out = append(out, c)
		return err
	})
	return out, err
}

// AddPrice keeps a price that is charged, as JSON, unless it is kept already.
func (t *LedgerTx) AddPrice(ctx context.Context, version, model, data string) error {
	_, err := t.tx.Exec(ctx, "INSERT INTO prices (version, model, data) VALUES (?, ?, ?) {ignore (version)}", version, model, data)
	return err
}
