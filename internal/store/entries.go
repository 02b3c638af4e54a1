package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/jimu-ai/jimu"
)

// isTriggerThere reports whether MySQL refused a trigger because it exists.
func isTriggerThere(err error) bool {
	e, ok := errors.AsType[*mysql.MySQLError](err)
	return ok && (e.Number == 1359 || e.Number == 1235)
}

const entryCols = "owner, seq, debit, credit, amount, balance_after, kind, ref, made_at, reason, price, budget, detail, hash"

// plainCols are the columns of a charge that counts against no budget; the
// others have the table's defaults.
const plainCols = "owner, seq, debit, amount, balance_after, ref, made_at, price, detail, hash"

// AddEntries adds entries. A second one of a kind and ref is refused; see
// [Ledger.IsDuplicate].
func (t *LedgerTx) AddEntries(ctx context.Context, es []jimu.Entry) error {
	const nPlain, nAll = 10, 14
	plain := t.tx.db.takeArgs()
	defer func() { t.tx.db.giveArgs(plain) }()
	var all []any
	for i := range es {
		e := &es[i]
		if e.Kind == jimu.EntryUsage && e.Credit == jimu.AccountSales && e.Budget == "" && e.Reason == "" {
			plain = append(plain, e.Owner, e.Seq, e.Debit, int64(e.Amount), int64(e.After), e.Ref, e.At.UnixMicro(), e.Price, e.Detail, e.Hash)
			continue
		}
		all = append(all, e.Owner, e.Seq, e.Debit, e.Credit, int64(e.Amount), int64(e.After), string(e.Kind), e.Ref,
			e.At.UnixMicro(), e.Reason, e.Price, e.Budget, e.Detail, e.Hash)
	}
	if _, err := t.tx.Insert(ctx, "INSERT INTO entries ("+plainCols+") VALUES {values}", nPlain, plain); err != nil {
		return err
	}
	_, err := t.tx.Insert(ctx, "INSERT INTO entries ("+entryCols+") VALUES {values}", nAll, all)
	return err
}

func scanEntry(rows *sql.Rows) (jimu.Entry, error) {
	var e jimu.Entry
	var at int64
	err := rows.Scan(&e.Owner, &e.Seq, &e.Debit, &e.Credit, &e.Amount, &e.After, &e.Kind, &e.Ref, &at, &e.Reason, &e.Price, &e.Budget, &e.Detail, &e.Hash)
	e.At = time.UnixMicro(at).UTC()
	return e, err
}

// EntriesOf reads the entries of a kind with these refs, those that exist.
func (t *LedgerTx) EntriesOf(ctx context.Context, kind jimu.EntryKind, refs []string) ([]jimu.Entry, error) {
	return entriesOf(ctx, t.tx.Query, kind, refs)
}

// EntriesOf reads the entries of a kind with these refs, those that exist.
func (l *Ledger) EntriesOf(ctx context.Context, kind jimu.EntryKind, refs []string) ([]jimu.Entry, error) {
	return entriesOf(ctx, l.db.Query, kind, refs)
}

type query func(ctx context.Context, q string, args ...any) (*sql.Rows, error)

func entriesOf(ctx context.Context, query query, kind jimu.EntryKind, refs []string) ([]jimu.Entry, error) {
	var out []jimu.Entry
	err := each(refs, func(part []string) error {
		list, args := in([]any{string(kind)}, part)
		rows, err := query(ctx, "SELECT "+entryCols+" FROM entries WHERE kind = ? AND ref IN "+list, args...)
		return scanAll(rows, err, func(rows *sql.Rows) error {
			e, err := scanEntry(rows)
			out = append(out, e)
			return err
		})
	})
	return out, err
}

// Account reads an account. One that does not exist has nothing.
func (l *Ledger) Account(ctx context.Context, id string) (jimu.Account, error) {
	a, err := scanAccount(l.db.QueryRow(ctx, "SELECT "+accountCols+" FROM accounts WHERE id = ?", id))
	if errors.Is(err, sql.ErrNoRows) {
		return jimu.Account{ID: id}, nil
	}
	return a, err
}

// Statement reads entries of an account, the newest first, from before a place
// on it; 0 is from the newest.
func (l *Ledger) Statement(ctx context.Context, owner string, before int64, limit int) ([]jimu.Entry, error) {
	if before <= 0 {
		before = 1<<63 - 1
	}
	return l.entries(ctx, "WHERE owner = ? AND seq < ? ORDER BY seq DESC LIMIT ?", owner, before, limit)
}

// EntriesAfter reads entries of an account in their order, from after a place.
func (l *Ledger) EntriesAfter(ctx context.Context, owner string, after int64, limit int) ([]jimu.Entry, error) {
	return l.entries(ctx, "WHERE owner = ? AND seq > ? ORDER BY seq LIMIT ?", owner, after, limit)
}

func (l *Ledger) entries(ctx context.Context, where string, args ...any) ([]jimu.Entry, error) {
	var out []jimu.Entry
	rows, err := l.db.Query(ctx, "SELECT "+entryCols+" FROM entries "+where, args...)
	err = scanAll(rows, err, func(rows *sql.Rows) error {
		e, err := scanEntry(rows)
		out = append(out, e)
		return err
	})
	return out, err
}

// AccountsAfter reads accounts in the order of their IDs, from after one.
func (l *Ledger) AccountsAfter(ctx context.Context, id string, limit int) ([]jimu.Account, error) {
	var out []jimu.Account
	rows, err := l.db.Query(ctx, "SELECT "+accountCols+" FROM accounts WHERE id > ? ORDER BY id LIMIT ?", id, limit)
	err = scanAll(rows, err, func(rows *sql.Rows) error {
		a, err := scanAccount(rows)
		out = append(out, a)
		return err
	})
	return out, err
}

// Price reads a price that was charged, as JSON. It reports false if it is not
// kept.
func (l *Ledger) Price(ctx context.Context, version string) (string, bool, error) {
	var data string
	err := l.db.QueryRow(ctx, "SELECT data FROM prices WHERE version = ?", version).Scan(&data)
	if errors.Is(err, sql.ErrNoRows) {
		return "", false, nil
	}
	return data, err == nil, err
}

// Audit runs one check of the books: a query that returns a row, of one text,
// for each thing that is wrong. Each check is one statement, so that it sees
// one state of the books. It returns up to ten findings.
func (l *Ledger) Audit(ctx context.Context, check string) ([]string, error) {
	q, ok := audits[check]
	if !ok {
		return nil, errors.New("there is no check " + check)
	}
	var out []string
	rows, err := l.db.Query(ctx, q+" LIMIT 10")
	err = scanAll(rows, err, func(rows *sql.Rows) error {
		var s string
		err := rows.Scan(&s)
		out = append(out, s)
		return err
	})
	return out, err
}

// The checks of [Ledger.Audit]. "full" ones read every entry.
const (
	AuditSum         = "sum"          // all balances sum to zero
	AuditHeld        = "held"         // what is held of an account is the sum of its leases
	AuditBudgetHeld  = "budget held"  // the same of a budget
	AuditCovered     = "covered"      // nobody but us is below zero, or has more held than there is
	AuditLast        = "last"         // the last entry of an account says its balance and hash
	AuditBalance     = "balance"      // full: a balance is the sum of its entries
	AuditBudgetSpent = "budget spent" // full: what is spent of a budget is the sum of its entries
	AuditOrphans     = "orphans"      // leases and checkpoints belong to a run
	AuditSettled     = "settled"      // no request has both a checkpoint and a charge
	AuditUnique      = "unique"       // full: a kind and ref has one entry
)

var audits = map[string]string{ //nolint:gochecknoglobals // a constant table
	AuditSum: "SELECT 'all balances' FROM (SELECT SUM(balance) AS s FROM accounts) x WHERE x.s <> 0",
	AuditHeld: `SELECT a.id FROM accounts a
		LEFT JOIN (SELECT subject, SUM(amount) AS s FROM leases WHERE scope = 'account' GROUP BY subject) x ON x.subject = a.id
		WHERE a.held <> COALESCE(x.s, 0)
		UNION ALL SELECT subject FROM leases WHERE scope = 'account' AND amount > 0 AND NOT EXISTS (SELECT 1 FROM accounts WHERE id = subject)`,
	AuditBudgetHeld: `SELECT b.id FROM budgets b
		LEFT JOIN (SELECT subject, SUM(amount) AS s FROM leases WHERE scope = 'budget' GROUP BY subject) x ON x.subject = b.id
		WHERE b.held <> COALESCE(x.s, 0)`,
	AuditCovered: `SELECT id FROM accounts WHERE held < 0 OR (is_system = 0 AND balance < held)
		UNION ALL SELECT id FROM budgets WHERE held < 0 OR spent < 0 OR cap - spent < held`,
	AuditLast: `SELECT a.id FROM accounts a LEFT JOIN entries e ON e.owner = a.id AND e.seq = a.seq
		WHERE a.seq > 0 AND (e.seq IS NULL OR e.hash <> a.head OR (a.is_system = 0 AND e.balance_after <> a.balance))
		UNION ALL SELECT a.id FROM accounts a WHERE a.seq = 0 AND a.is_system = 0 AND a.balance <> 0`,
	AuditBalance: `SELECT a.id FROM accounts a
		LEFT JOIN (SELECT y.account, SUM(y.amount) AS s FROM
			(SELECT credit AS account, amount FROM entries UNION ALL SELECT debit AS account, -amount FROM entries) y GROUP BY y.account) x ON x.account = a.id
		WHERE a.balance <> COALESCE(x.s, 0)`,
	AuditBudgetSpent: `SELECT b.id FROM budgets b
		LEFT JOIN (SELECT budget, SUM(amount) AS s FROM entries WHERE budget <> '' GROUP BY budget) x ON x.budget = b.id
		WHERE b.spent <> COALESCE(x.s, 0)`,
	AuditOrphans: `SELECT subject FROM leases l WHERE amount > 0 AND NOT EXISTS (SELECT 1 FROM nodes WHERE id = l.node)
		UNION ALL SELECT request FROM checkpoints c WHERE NOT EXISTS (SELECT 1 FROM nodes WHERE id = c.node)`,
	AuditSettled: "SELECT request FROM checkpoints c WHERE EXISTS (SELECT 1 FROM entries WHERE kind = 'usage' AND ref = c.request)",
	AuditUnique:  "SELECT ref FROM entries GROUP BY kind, ref HAVING COUNT(*) > 1",
}
