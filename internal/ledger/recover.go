package ledger

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/jimu-ai/jimu"
)

// chunk is how many charges or leases one transaction of a recovery settles.
const chunk = 256

// recover settles what earlier runs of this data folder left. The lock on the
// folder proves that they are dead. It may be cut off anywhere and run again:
// each step is a transaction, and each charge is booked once.
func (l *Ledger) recover(ctx context.Context) error {
	paths, err := l.journal.segments()
	if err != nil {
		return err
	}
	byNode := map[string][]record{}
	prices := map[string]priceRecord{}
	for _, path := range paths {
		if err := l.readSegment(ctx, path, byNode, prices); err != nil {
			return err
		}
	}
	var nodes []jimu.Node
	err = l.book.Update(ctx, func(tx Tx) (err error) {
		nodes, err = tx.Nodes(ctx)
		return err
	})
	if err != nil {
		return fmt.Errorf("reading the replicas: %w", err)
	}
	for _, n := range nodes {
		if n.Folder != l.folder {
			continue
		}
		if err := l.settleDead(ctx, n, byNode[n.ID], prices); err != nil {
			return err
		}
		delete(byNode, n.ID)
	}
	for _, rs := range byNode { // their leases have been settled already
		d := dead{l: l, prices: prices}
		if err := d.charges(ctx, rs); err != nil {
			return err
		}
	}
	for _, path := range paths {
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("removing a segment of the journal: %w", err)
		}
	}
	return nil
}

func (l *Ledger) readSegment(ctx context.Context, path string, byNode map[string][]record, prices map[string]priceRecord) error {
	data, err := os.ReadFile(path) //nolint:gosec // a file of our own folder
	if err != nil {
		return fmt.Errorf("reading the journal: %w", err)
	}
	records, ps, err := parseSegment(data)
	if errors.Is(err, errTorn) {
		l.log.WarnContext(ctx, "the journal ends in the middle of a record, as after a power cut", "segment", path)
	} else if err != nil {
		return fmt.Errorf("reading %s: %w", path, err)
	}
	for _, r := range records {
		byNode[r.node] = append(byNode[r.node], r)
	}
	for _, p := range ps {
		prices[p.version] = p
	}
	return nil
}

// dead is a run that has ended without settling.
type dead struct {
	l      *Ledger
	node   jimu.Node // no ID: its leases are gone
	prices map[string]priceRecord
}

// settleDead books what a dead run's journal and checkpoints say, returns its
// leases, and removes it. Another replica that does the same at the same time
// makes one of them fail with errFenced.
func (l *Ledger) settleDead(ctx context.Context, n jimu.Node, records []record, prices map[string]priceRecord) error {
	d := dead{l: l, node: n, prices: prices}
	if err := d.charges(ctx, records); err != nil {
		return err
	}
	for more := true; more; {
		err := d.update(ctx, func(tx Tx) error {
			points, err := tx.Checkpoints(ctx, n.ID, chunk)
			if err != nil {
				return fmt.Errorf("reading checkpoints: %w", err)
			}
			more = len(points) == chunk
			return d.book(ctx, tx, recordsOf(points))
		})
		if err != nil {
			return err
		}
	}
	for more := true; more; {
		err := d.update(ctx, func(tx Tx) (err error) {
			more, err = d.leases(ctx, tx)
			return err
		})
		if err != nil {
			return err
		}
	}
	l.counters.recovered.Add(1)
	return l.book.Update(ctx, func(tx Tx) error {
		ok, err := tx.RemoveNode(ctx, d.node.ID, d.node.Beat)
		if err == nil && !ok {
			err = errFenced
		}
		return err
	})
}

// charges books records of the journal.
func (d *dead) charges(ctx context.Context, records []record) error {
	for len(records) > 0 {
		part := records[:min(len(records), chunk)]
		if err := d.update(ctx, func(tx Tx) error { return d.book(ctx, tx, part) }); err != nil {
			return err
		}
		records = records[len(part):]
	}
	return nil
}

// update runs one transaction of the recovery, as the only one that settles
// this run.
func (d *dead) update(ctx context.Context, f func(tx Tx) error) error {
	err := d.l.book.Update(ctx, func(tx Tx) error {
		if d.node.ID != "" {
			ok, err := tx.Beat(ctx, d.node.ID, d.node.Beat, d.node.Beat+1)
			if err != nil {
				return fmt.Errorf("claiming a dead replica: %w", err)
			}
			if !ok {
				return errFenced
			}
		}
		return f(tx)
	})
	if err == nil {
		d.node.Beat++
	}
	return err
}

func recordsOf(points []jimu.Checkpoint) []record {
	out := make([]record, len(points))
	for i, p := range points {
		out[i] = record{
			node: p.Node, request: p.Request, account: p.Account, budget: p.Budget,
			taken: p.Amount, over: p.Over, price: p.Price, detail: p.Detail, at: p.At,
		}
	}
	return out
}

// book charges what is not charged yet, out of the dead run's leases first.
func (d *dead) book(ctx context.Context, tx Tx, records []record) error {
	if len(records) == 0 {
		return nil
	}
	accounts, budgets := names{}, names{}
	accounts.add(jimu.AccountWriteOff)
	requests := make([]string, 0, len(records))
	for i := range records {
		accounts.add(records[i].account)
		budgets.add(records[i].budget)
		requests = append(requests, records[i].request)
	}
	k, err := openBooks(ctx, tx, accounts, nil, budgets)
	if err != nil {
		return err
	}
	if err := k.readKnown(ctx, requests); err != nil {
		return err
	}
	for i := range records {
		r := &records[i]
		if k.known[r.request] {
			continue
		}
		if err := d.free(ctx, k, jimu.LeaseAccount, r.account, r.taken); err != nil {
			return err
		}
		if err := d.free(ctx, k, jimu.LeaseBudget, r.budget, r.taken); err != nil {
			return err
		}
		if err := k.pay(r); err != nil {
			return err
		}
		if p, ok := d.prices[r.price]; ok {
			k.prices[r.price] = p
		}
	}
	if err := k.save(ctx); err != nil {
		return err
	}
	if err := tx.RemoveCheckpoints(ctx, requests); err != nil {
		return fmt.Errorf("removing checkpoints: %w", err)
	}
	return nil
}

// free releases out of the dead run's lease what a charge took from it, as far
// as it is there.
func (d *dead) free(ctx context.Context, k *books, scope jimu.LeaseScope, subject string, amount jimu.Credit) error {
	if d.node.ID == "" || subject == "" || amount == 0 {
		return nil
	}
	row, ok, err := k.tx.LeaseOf(ctx, d.node.ID, scope, subject)
	if err != nil {
		return fmt.Errorf("reading a lease: %w", err)
	}
	amount = min(amount, row.Amount)
	if !ok || amount == 0 {
		return nil
	}
	if ok, err = k.tx.ChangeLease(ctx, row, -amount); err == nil && !ok {
		err = fmt.Errorf("%w: a lease changed under its lock", errChanged)
	}
	if err != nil {
		return fmt.Errorf("saving a lease: %w", err)
	}
	return k.hold(scope, subject, -amount)
}

// leases returns a chunk of the dead run's leases. It reports whether there
// may be more.
func (d *dead) leases(ctx context.Context, tx Tx) (more bool, err error) {
	rows, err := tx.Leases(ctx, d.node.ID, chunk)
	if err != nil {
		return false, fmt.Errorf("reading leases: %w", err)
	}
	accounts, budgets := names{}, names{}
	for _, r := range rows {
		if r.Scope == jimu.LeaseBudget {
			budgets.add(r.Subject)
		} else {
			accounts.add(r.Subject)
		}
	}
	k, err := openBooks(ctx, tx, accounts, nil, budgets)
	if err != nil {
		return false, err
	}
	for _, r := range rows {
		if err := k.hold(r.Scope, r.Subject, -r.Amount); err != nil {
			return false, err
		}
		ok, err := tx.RemoveLease(ctx, r)
		if err == nil && !ok {
			err = fmt.Errorf("%w: a lease changed under its lock", errChanged)
		}
		if err != nil {
			return false, fmt.Errorf("returning a lease: %w", err)
		}
	}
	return len(rows) == chunk, k.save(ctx)
}

// exit ends this run in the books, if it has left nothing there.
func (l *Ledger) exit(ctx context.Context) error {
	n := l.node.Load()
	return l.book.Update(ctx, func(tx Tx) error {
		leases, err := tx.Leases(ctx, n.id, 1)
		if err != nil {
			return err
		}
		points, err := tx.Checkpoints(ctx, n.id, 1)
		if err != nil {
			return err
		}
		if len(leases)+len(points) > 0 {
			return nil // the next start settles it
		}
		_, err = tx.RemoveNode(ctx, n.id, n.beat)
		return err
	})
}
