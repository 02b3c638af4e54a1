package ledger

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/jimu-ai/jimu"
)

// BreachError says that an invariant does not hold: the books are wrong.
type BreachError struct {
	Invariant string // L1 to L11
	What      string
}

func (b *BreachError) Error() string { return b.Invariant + " is broken: " + b.What }

// check is one statement's worth of proof. The names are those of the book's
// audits.
type check struct{ invariant, audit, says string }

// The checks. The fast ones do not read every entry.
var (
	fastChecks = []check{ //nolint:gochecknoglobals // a constant table
		{"L1", "sum", "all balances sum to zero"},
		{"L2", "held", "what accounts have held is what is leased"},
		{"L2", "budget held", "what spending limits have held is what is leased"},
		{"L3", "covered", "nobody is overdrawn"},
		{"L4", "last", "each account agrees with its last entry"},
		{"L6", "orphans", "each lease and checkpoint belongs to a replica"},
		{"L6", "settled", "no request is both settled and running"},
	}
	fullChecks = []check{ //nolint:gochecknoglobals // a constant table
		{"L1", "balance", "each balance is the sum of its entries"},
		{"L3", "budget spent", "what is spent of each limit is the sum of its entries"},
		{"L5", "unique", "each kind and reference has one entry"},
	}
)

// run does a check.
func (c *check) run(ctx context.Context, r Reader) error {
	found, err := r.Audit(ctx, c.audit)
	if err != nil {
		return fmt.Errorf("checking that %s: %w", c.says, err)
	}
	if len(found) > 0 {
		return &BreachError{c.invariant, "not true that " + c.says + ": " + strings.Join(found, ", ")}
	}
	return nil
}

func verifyFast(ctx context.Context, r Reader) error {
	for i := range fastChecks {
		if err := fastChecks[i].run(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

// Verify proves every invariant that the books can show, beside a running
// ledger or without one. It reports one line for each, with the breach if it
// does not hold, and returns the first breach, or why it could not go on.
func Verify(ctx context.Context, r Reader, report func(line string, err error)) error {
	var first error
	note := func(line string, err error) error {
		var b *BreachError
		if err != nil && !errors.As(err, &b) {
			return err
		}
		if first == nil {
			first = err
		}
		report(line, err)
		return nil
	}
	for _, c := range append(append([]check{}, fastChecks...), fullChecks...) {
		if err := note(c.invariant+" "+c.says, c.run(ctx, r)); err != nil {
			return err
		}
	}
	w := walk{r: r, found: map[string]error{}, prices: map[string]*jimu.Price{}}
	if err := w.accounts(ctx); err != nil {
		return err
	}
	for _, c := range [...]struct{ invariant, says string }{
		{"L4", fmt.Sprintf("the chain of all %d entries is unbroken", w.entries)},
		{"L10", fmt.Sprintf("all %d charges are what their frozen prices say", w.charges)},
		{"L11", "each balance follows from the one before it, without a wrap"},
	} {
		if err := note(c.invariant+" "+c.says, w.found[c.invariant]); err != nil {
			return err
		}
	}
	return first
}

// walk reads every entry, in the order of its statement.
type walk struct {
	r                Reader
	found            map[string]error // the first breach of each invariant
	prices           map[string]*jimu.Price
	entries, charges int64
	buf              []byte
}

const walkPage = 500

func (w *walk) breach(invariant, format string, args ...any) {
	if w.found[invariant] == nil {
		w.found[invariant] = &BreachError{invariant, fmt.Sprintf(format, args...)}
	}
}

func (w *walk) accounts(ctx context.Context) error {
	for after := ""; ; {
		as, err := w.r.AccountsAfter(ctx, after, walkPage)
		if err != nil {
			return fmt.Errorf("reading accounts: %w", err)
		}
		for i := range as {
			if err := w.statement(ctx, &as[i]); err != nil {
				return err
			}
			after = as[i].ID
		}
		if len(as) < walkPage {
			return nil
		}
	}
}

// statement follows an account's entries up to what was its last one when the
// account was read; later ones are after that.
func (w *walk) statement(ctx context.Context, a *jimu.Account) error {
	var seq int64
	var balance jimu.Credit
	var head []byte
	for seq < a.Seq {
		es, err := w.r.EntriesAfter(ctx, a.ID, seq, walkPage)
		if err != nil {
			return fmt.Errorf("reading the entries of %s: %w", a.ID, err)
		}
		if len(es) == 0 {
			w.breach("L4", "entry %d of %s is missing", seq+1, a.ID)
			return nil
		}
		if int64(len(es)) > a.Seq-seq {
			es = es[:a.Seq-seq]
		}
		for i := range es {
			e := &es[i]
			seq++
			balance = w.entry(e, a.ID, seq, balance, head)
			head = e.Hash
			if e.Seq != seq {
				return nil // reported
			}
		}
		if err := w.bills(ctx, es); err != nil {
			return err
		}
	}
	if !bytes.Equal(head, a.Head) {
		w.breach("L4", "the last entry of %s is not the one that the account names", a.ID)
	}
	if !a.System && balance != a.Balance {
		w.breach("L11", "%s has %s, and its entries make %s", a.ID, a.Balance, balance)
	}
	return nil
}

// entry checks one entry against the one before it and returns the balance
// after it.
func (w *walk) entry(e *jimu.Entry, owner string, seq int64, balance jimu.Credit, head []byte) jimu.Credit {
	w.entries++
	if e.Seq != seq {
		w.breach("L4", "entry %d of %s is missing", seq, owner)
		return balance
	}
	var sum []byte
	w.buf, sum = hashEntry(w.buf, head, e)
	if !bytes.Equal(sum, e.Hash) {
		w.breach("L4", "entry %d of %s, or one before it, has been changed", seq, owner)
	}
	by := e.Amount
	if e.Debit == owner {
		by = -by
	}
	next, err := balance.Add(by)
	if err != nil || e.Amount <= 0 || e.After != next || (e.Debit == owner) == (e.Credit == owner) {
		w.breach("L11", "entry %d of %s: %s and %s make %s", seq, owner, balance, by, e.After)
	}
	return e.After
}

// bills proves the charges among a page of entries.
func (w *walk) bills(ctx context.Context, es []jimu.Entry) error {
	var missing [2][]string // write-offs of usages, usages of write-offs
	for i := range es {
		switch es[i].Kind {
		case jimu.EntryUsage:
			missing[0] = append(missing[0], es[i].Ref)
		case jimu.EntryWriteOff:
			missing[1] = append(missing[1], es[i].Ref)
		case jimu.EntryGrant:
		}
	}
	other := map[string]jimu.Credit{}
	for i, kind := range [...]jimu.EntryKind{jimu.EntryWriteOff, jimu.EntryUsage} {
		if len(missing[i]) == 0 {
			continue
		}
		more, err := w.r.EntriesOf(ctx, kind, missing[i])
		if err != nil {
			return fmt.Errorf("reading entries: %w", err)
		}
		for _, e := range more {
			other[e.Ref] = e.Amount
		}
	}
	for i := range es {
		if es[i].Kind == jimu.EntryGrant {
			continue
		}
		w.charges++
		if err := w.bill(ctx, &es[i], other[es[i].Ref]); err != nil {
			return err
		}
	}
	return nil
}

// bill computes a charge again. other is the part of it that is in the other
// entry: written off, or taken.
func (w *walk) bill(ctx context.Context, e *jimu.Entry, other jimu.Credit) error {
	d, err := readDetail(e)
	if err != nil {
		w.breach("L10", "%v", err)
		return nil
	}
	price, err := w.price(ctx, e.Price)
	if err != nil {
		return err
	}
	if price == nil {
		w.breach("L10", "request %s was charged by price %q, which is not kept", e.Ref, e.Price)
		return nil
	}
	full, err := price.Cost(&d.Usage, time.UnixMicro(d.Began))
	cost := full
	switch {
	case err != nil && d.Cost == nil:
		w.breach("L10", "request %s has a usage that cannot be priced", e.Ref)
		return nil
	case d.Cost != nil:
		cost = jimu.Credit(*d.Cost)
		if err == nil && cost >= full {
			w.breach("L10", "request %s says it was charged in part, and was not", e.Ref)
		}
	}
	if sum, err := e.Amount.Add(other); err != nil || sum != cost {
		w.breach("L10", "request %s was charged %s and %s, and costs %s", e.Ref, e.Amount, other, cost)
	}
	return nil
}

// price reads a price that was charged. It is nil if it is not kept, or is not
// the one its version names.
func (w *walk) price(ctx context.Context, version string) (*jimu.Price, error) {
	if p, ok := w.prices[version]; ok {
		return p, nil
	}
	data, ok, err := w.r.Price(ctx, version)
	if err != nil {
		return nil, fmt.Errorf("reading a price: %w", err)
	}
	if !ok {
		return nil, nil //nolint:nilnil // not kept; the caller reports it
	}
	p := new(jimu.Price)
	if json.Unmarshal([]byte(data), p) != nil || p.Seal() != nil || p.Version() != version {
		p = nil
	}
	w.prices[version] = p
	return p, nil
}

// Verify proves the books; see the function [Verify]. A breach stops the
// granting of credit, and a proof without one starts it again.
func (l *Ledger) Verify(ctx context.Context, report func(line string, err error)) error {
	err := Verify(ctx, l.book, report)
	if err == nil {
		l.breach.Store(nil)
		return nil
	}
	if other := l.broken(err); other != nil {
		return other
	}
	return err
}

// watch checks the books at once and every hour, and proves them every day.
func (l *Ledger) watch(ctx context.Context, checked chan<- struct{}) {
	l.checkBooks(ctx, false)
	close(checked)
	timer := time.NewTimer(rand.N(fastEvery)) //nolint:gosec // keeps replicas out of step
	defer timer.Stop()
	for n := 1; ; n++ {
		select {
		case <-l.stop:
			return
		case <-timer.C:
			timer.Reset(fastEvery)
		}
		l.checkBooks(ctx, n%fullEvery == 0)
	}
}

func (l *Ledger) checkBooks(ctx context.Context, full bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // ends with the check or the ledger
		select {
		case <-l.stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	var err error
	if full {
		err = l.Verify(ctx, func(string, error) {})
	} else if err = verifyFast(ctx, l.book); err != nil {
		err = l.broken(err)
	}
	if _, known := errors.AsType[*BreachError](err); err != nil && !known && ctx.Err() == nil {
		l.log.WarnContext(ctx, "the books could not be checked", "error", err)
	}
}
