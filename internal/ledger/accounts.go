package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jimu-ai/jimu"
)

// errChanged says that the books are not as the transaction has just read
// them, or that they do not hold what they must. Nothing of it is kept.
var errChanged = errors.New("the books are not as they must be")

// books is one transaction's view of the accounts and budgets that it locked.
type books struct {
	tx        Tx
	accounts  map[string]*page
	budgets   map[string]*limit
	entries   []jimu.Entry
	prices    map[string]priceRecord
	sales     jimu.Credit
	promotion jimu.Credit
	known     map[string]bool // requests that are charged already
	buf       []byte
}

type page struct{ was, is jimu.Account }

type limit struct{ was, is jimu.Budget }

// names is a set of names to lock.
type names map[string]bool

func (n names) add(s string) {
	if s != "" {
		n[s] = true
	}
}

// expect makes room for entries.
func (k *books) expect(n int) { k.entries = make([]jimu.Entry, 0, n) }

// openBooks locks accounts, which are opened if they are missing, wanted
// accounts, which are not, and budgets.
func openBooks(ctx context.Context, tx Tx, accounts, wanted, budgets names) (*books, error) {
	k := &books{tx: tx, accounts: map[string]*page{}, budgets: map[string]*limit{}, prices: map[string]priceRecord{}}
	all := maps.Clone(accounts)
	maps.Copy(all, wanted)
	ids := slices.Sorted(maps.Keys(all))
	if err := k.lockAccounts(ctx, ids); err != nil {
		return nil, err
	}
	opened := false
	for _, id := range ids {
		if k.accounts[id] != nil || !accounts[id] {
			continue
		}
		if err := tx.AddAccount(ctx, id, isSystem(id)); err != nil {
			return nil, fmt.Errorf("opening an account: %w", err)
		}
		opened = true
	}
	if opened { // again all of them, so that locks are taken in one order
		if err := k.lockAccounts(ctx, ids); err != nil {
			return nil, err
		}
	}
	if len(budgets) == 0 {
		return k, nil
	}
	bs, err := tx.Budgets(ctx, slices.Sorted(maps.Keys(budgets)))
	if err != nil {
		return nil, fmt.Errorf("reading budgets: %w", err)
	}
	for _, b := range bs {
		k.budgets[b.ID] = &limit{b, b}
	}
	return k, nil
}

func (k *books) lockAccounts(ctx context.Context, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	as, err := k.tx.Accounts(ctx, ids)
	if err != nil {
		return fmt.Errorf("reading accounts: %w", err)
	}
	for _, a := range as {
		k.accounts[a.ID] = &page{a, a}
	}
	return nil
}

func isSystem(id string) bool {
	return id == jimu.AccountSales || id == jimu.AccountPromotion || id == jimu.AccountWriteOff
}

// readKnown finds which of the requests have been charged.
func (k *books) readKnown(ctx context.Context, requests []string) error {
	k.known = map[string]bool{}
	if len(requests) == 0 {
		return nil
	}
	for _, kind := range [...]jimu.EntryKind{jimu.EntryUsage, jimu.EntryWriteOff} {
		es, err := k.tx.EntriesOf(ctx, kind, requests)
		if err != nil {
			return fmt.Errorf("looking for charges: %w", err)
		}
		for i := range es {
			k.known[es[i].Ref] = true
		}
	}
	return nil
}

// hold changes what is held of an account or a budget. What is released must
// have been held, and what is held must be free.
func (k *books) hold(scope jimu.LeaseScope, subject string, by jimu.Credit) error {
	if scope == jimu.LeaseBudget {
		b := k.budgets[subject]
		if b == nil && by < 0 {
			return nil // a limit that was removed holds nothing
		}
		if b == nil || b.is.Held+by < 0 || by > b.is.Free() {
			return fmt.Errorf("%w: budget %s cannot hold %s more", errChanged, subject, by)
		}
		b.is.Held += by
		return nil
	}
	a := k.accounts[subject]
	if a == nil || a.is.Held+by < 0 || by > a.is.Free() {
		return fmt.Errorf("%w: account %s cannot hold %s more", errChanged, subject, by)
	}
	a.is.Held += by
	return nil
}

// free is what can be leased of an account or a budget.
func (k *books) free(scope jimu.LeaseScope, subject string) jimu.Credit {
	if scope == jimu.LeaseBudget {
		if b := k.budgets[subject]; b != nil {
			return max(0, b.is.Free())
		}
		return 0
	}
	if a := k.accounts[subject]; a != nil {
		return max(0, a.is.Free())
	}
	return 0
}

// pay charges an account: what was taken, out of what is free, and as a loss
// of ours what was delivered beyond that. It charges each request once.
func (k *books) pay(r *record) error {
	if k.known[r.request] {
		return nil
	}
	if k.known != nil {
		k.known[r.request] = true
	}
	taken, over := r.taken, r.over
	room := k.free(jimu.LeaseAccount, r.account)
	if k.budgets[r.budget] != nil {
		room = min(room, k.free(jimu.LeaseBudget, r.budget))
	}
	if taken > room {
		over += taken - room
		taken = room
	}
	var err error
	if k.sales, err = k.sales.Add(taken + over); err != nil {
		return fmt.Errorf("summing sales: %w", err)
	}
	if taken > 0 {
		a := k.accounts[r.account]
		a.is.Balance -= taken
		if b := k.budgets[r.budget]; b != nil {
			b.is.Spent += taken
		}
		k.post(a, &jimu.Entry{
			Debit: r.account, Credit: jimu.AccountSales, Amount: taken, Kind: jimu.EntryUsage, Ref: r.request,
			At: r.at, Price: r.price, Budget: r.budget, Detail: r.detail,
		})
	}
	if over > 0 {
		a := k.accounts[jimu.AccountWriteOff]
		if a.is.Balance, err = a.is.Balance.Sub(over); err != nil {
			return fmt.Errorf("summing what is written off: %w", err)
		}
		k.post(a, &jimu.Entry{
			Debit: jimu.AccountWriteOff, Credit: jimu.AccountSales, Amount: over, Kind: jimu.EntryWriteOff, Ref: r.request,
			At: r.at, Reason: r.account, Price: r.price, Detail: r.detail,
		})
	}
	return nil
}

// give grants credit. The balance must not outgrow an int64, nor may all that
// was ever granted.
func (k *books) give(account string, amount jimu.Credit, reason, ref string, at time.Time) (jimu.Entry, error) {
	a, from := k.accounts[account], k.accounts[jimu.AccountPromotion]
	sum, err := a.is.Balance.Add(amount)
	if err == nil {
		_, err = (from.is.Balance + k.promotion).Sub(amount)
	}
	if err != nil {
		return jimu.Entry{}, &jimu.Error{Code: jimu.Invalid, Text: "the account cannot take so much credit: " + err.Error(), Err: err}
	}
	k.promotion -= amount
	a.is.Balance = sum
	e := &jimu.Entry{
		Debit: jimu.AccountPromotion, Credit: account, Amount: amount, Kind: jimu.EntryGrant, Ref: ref, At: at, Reason: reason,
	}
	k.post(a, e)
	return *e, nil
}

// post puts an entry on its owner's statement.
func (k *books) post(owner *page, e *jimu.Entry) {
	owner.is.Seq++
	e.Owner, e.Seq, e.After = owner.is.ID, owner.is.Seq, owner.is.Balance
	k.buf, e.Hash = hashEntry(k.buf, owner.is.Head, e)
	owner.is.Head = e.Hash
	k.entries = append(k.entries, *e)
}

// save writes what has changed. Accounts of ours that every replica moves go
// last, to hold their locks for the shortest time.
func (k *books) save(ctx context.Context) error {
	for _, v := range slices.Sorted(maps.Keys(k.prices)) {
		p := k.prices[v]
		if err := k.tx.AddPrice(ctx, p.version, p.model, p.data); err != nil {
			return fmt.Errorf("keeping a price: %w", err)
		}
	}
	if len(k.entries) > 0 {
		if err := k.tx.AddEntries(ctx, k.entries); err != nil {
			return fmt.Errorf("adding entries: %w", err)
		}
	}
	if err := k.saveRows(ctx); err != nil {
		return err
	}
	for _, m := range [...]struct {
		account string
		by      jimu.Credit
	}{{jimu.AccountPromotion, k.promotion}, {jimu.AccountSales, k.sales}} {
		if m.by == 0 {
			continue
		}
		ok, err := k.tx.Move(ctx, m.account, m.by)
		if err != nil {
			return fmt.Errorf("saving an account: %w", err)
		}
		if !ok {
			return fmt.Errorf("%w: account %s cannot take %s", errChanged, m.account, m.by)
		}
	}
	return nil
}

func (k *books) saveRows(ctx context.Context) error {
	for _, id := range slices.Sorted(maps.Keys(k.accounts)) {
		p := k.accounts[id]
		if p.is.Balance == p.was.Balance && p.is.Held == p.was.Held && p.is.Seq == p.was.Seq {
			continue
		}
		ok, err := k.tx.SaveAccount(ctx, &p.was, &p.is)
		if err != nil {
			return fmt.Errorf("saving an account: %w", err)
		}
		if !ok {
			return fmt.Errorf("%w: account %s has changed under its lock", errChanged, id)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(k.budgets)) {
		b := k.budgets[id]
		if b.is == b.was {
			continue
		}
		ok, err := k.tx.SaveBudget(ctx, &b.was, &b.is)
		if err != nil {
			return fmt.Errorf("saving a budget: %w", err)
		}
		if !ok {
			return fmt.Errorf("%w: budget %s has changed under its lock", errChanged, id)
		}
	}
	return nil
}

// priceData is a price as it is kept with the charges made by it.
func priceData(p *jimu.Price) (priceRecord, error) {
	data, err := json.Marshal(p)
	if err != nil {
		return priceRecord{}, fmt.Errorf("encoding the price of %s: %w", p.Model, err)
	}
	return priceRecord{p.Version(), p.Model, string(data)}, nil
}
