package ledger

import (
	"context"
	"sync"
	"time"

	"github.com/jimu-ai/jimu"
)

// Order asks for credit to be set aside for a request.
type Order struct {
	Request string // its ID; charged once, whatever happens
	Account string // who pays
	Budget  string // the key's spending limit, or ""
	Want    jimu.Credit
	Least   jimu.Credit // refused if less than this can be had
}

// Hold is credit set aside for one request. It ends with Settle or Release.
type Hold struct {
	l       *Ledger
	order   Order
	account *slice // nil if nothing is held
	budget  *slice // nil if the key has no limit

	mu     sync.Mutex
	amount jimu.Credit
	run    int64 // of the account's slice
	budRun int64 // of the budget's slice
	ended  bool
	taken  jimu.Credit // once ended

	note    *jimu.Charge // what is delivered so far, if anything is
	changed bool         // since the last checkpoint
	saved   bool         // there is, or may be, a checkpoint
}

// Hold sets credit aside: as much of what is wanted as the account and the
// budget afford, and at least the least. In the steady state it does not wait
// for the disk. The error is a [jimu.Error] for the caller: NoCredit, or
// Overloaded if ctx ends first or the ledger has stopped granting.
func (l *Ledger) Hold(ctx context.Context, o Order) (*Hold, error) {
	defer crash()
	if err := l.ready(); err != nil {
		return nil, err
	}
	if o.Want < 0 || o.Request == "" || (o.Want > 0 && o.Account == "") {
		return nil, jimu.Errorf(jimu.Internal, "a hold needs a request, an account and an amount that is not negative")
	}
	h := &Hold{l: l, order: o}
	if o.Want == 0 {
		return h, nil
	}
	least := min(max(1, o.Least), o.Want)
	h.account = l.use(jimu.LeaseAccount, o.Account)
	got, run, err := l.acquire(ctx, h.account, o.Want, least)
	if err != nil {
		l.unuse(h.account)
		return nil, l.refused(err)
	}
	h.amount, h.run = got, run
	if o.Budget == "" {
		l.counters.holds.Add(1)
		return h, nil
	}
	h.budget = l.use(jimu.LeaseBudget, o.Budget)
	got, h.budRun, err = l.acquire(ctx, h.budget, h.amount, min(least, h.amount))
	if err != nil {
		l.unuse(h.budget)
		h.budget = nil
		h.Release()
		return nil, l.refused(err)
	}
	l.giveBack(h.account, h.run, h.amount-got)
	h.amount = got
	l.counters.holds.Add(1)
	return h, nil
}

func (l *Ledger) refused(err error) error {
	l.counters.refused.Add(1)
	return err
}

// acquire takes credit out of a slice, waiting for a top-up if it must.
func (l *Ledger) acquire(ctx context.Context, s *slice, want, least jimu.Credit) (got jimu.Credit, run int64, err error) {
	now := l.now()
	s.mu.Lock()
	s.used, s.unit = now, want
	if !l.stale(now) && s.take(want) {
		run = s.run
		if s.wantsRefill() {
			l.queue.look(s, false)
		}
		s.mu.Unlock()
		return want, run, nil
	}
	w := &waiter{want: want, least: least, done: make(chan struct{})}
	s.waiters = append(s.waiters, w)
	l.queue.look(s, true)
	s.mu.Unlock()
	select {
	case <-w.done:
	case <-ctx.Done():
		if s.leave(w) {
			return 0, 0, &jimu.Error{Code: jimu.Overloaded, Text: "the books did not answer in time; try again", RetryAfter: time.Second, Err: ctx.Err()}
		}
		<-w.done
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return w.got, w.run, w.err
}

// giveBack returns credit of a hold that was not used.
func (l *Ledger) giveBack(s *slice, run int64, amount jimu.Credit) {
	if s == nil || amount == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.run != run {
		return // the lease it was part of has been settled by others
	}
	s.give(amount)
	if s.back > 0 || len(s.waiters) > 0 {
		l.queue.look(s, len(s.waiters) > 0)
	}
}

// Amount is how much is held.
func (h *Hold) Amount() jimu.Credit {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.amount
}

// Extend adds to the hold: all of by, or nothing and an error as of
// [Ledger.Hold].
func (h *Hold) Extend(ctx context.Context, by jimu.Credit) error {
	defer crash()
	if err := h.l.ready(); err != nil {
		return err
	}
	if h.account == nil || by < 0 {
		return jimu.Errorf(jimu.Internal, "nothing is held for request %s", h.order.Request)
	}
	if by == 0 {
		return nil
	}
	_, run, err := h.l.acquire(ctx, h.account, by, by)
	if err != nil {
		return err
	}
	var budRun int64
	if h.budget != nil {
		if _, budRun, err = h.l.acquire(ctx, h.budget, by, by); err != nil {
			h.l.giveBack(h.account, run, by)
			return err
		}
	}
	h.mu.Lock()
	sum, err := h.amount.Add(by)
	if err == nil && !h.ended && run == h.run && (h.budget == nil || budRun == h.budRun) {
		h.amount = sum
		h.mu.Unlock()
		return nil
	}
	h.mu.Unlock()
	h.l.giveBack(h.account, run, by)
	h.l.giveBack(h.budget, budRun, by)
	return jimu.Errorf(jimu.Overloaded, "the hold of request %s cannot be extended any more", h.order.Request)
}

// Meter notes what has been delivered so far, as the bill that it would be. If
// the process dies, that is what is charged. c is copied.
func (h *Hold) Meter(c *jimu.Charge) {
	defer crash()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended || c.Price == nil {
		return
	}
	h.changed = true
	if h.note != nil {
		*h.note = *c
		return
	}
	note := *c
	h.note = &note
	h.l.meters.add(h)
}

// Release ends the hold without a charge. After Settle, and the second time,
// it does nothing.
func (h *Hold) Release() {
	defer crash()
	h.mu.Lock()
	if h.ended {
		h.mu.Unlock()
		return
	}
	h.ended = true
	h.mu.Unlock()
	if _, err := h.finish(&jimu.Charge{Request: h.order.Request}, false); err != nil {
		h.l.log.Error("the end of a hold is not in the journal", "request", h.order.Request, "error", err)
	}
}

// Settle charges what the request cost and gives the rest of the hold back. It
// returns what is taken from the account: at most the hold, and what the
// account has at hand beyond it. What was delivered beyond that is written
// off. When it returns, the charge survives the death of the process. A second
// call changes nothing and returns the first one's result.
func (h *Hold) Settle(c *jimu.Charge) (taken jimu.Credit, err error) {
	defer crash()
	h.mu.Lock()
	if h.ended {
		defer h.mu.Unlock()
		return h.taken, nil
	}
	bill := *c
	bill.Request = h.order.Request
	capped, err := h.l.check(&bill)
	if err != nil {
		h.mu.Unlock()
		return 0, err
	}
	h.ended = true
	h.mu.Unlock()
	return h.finish(&bill, capped)
}

// maxBill is far above what any request costs. It keeps sums of bills from
// reaching the end of an int64.
const maxBill = 1e6 * jimu.OneCredit

// check makes sure that a bill can be proved. It reports whether the bill is
// below what its price says of its usage.
func (l *Ledger) check(c *jimu.Charge) (capped bool, err error) {
	if c.Cost == 0 {
		return false, nil
	}
	if c.Cost < 0 || c.Cost > maxBill || c.Price == nil || c.Price.Version() == "" {
		return false, jimu.Errorf(jimu.Internal, "request %s: a charge of %s needs a price, and must be between 0 and %s", c.Request, c.Cost, maxBill)
	}
	full, err := c.Price.Cost(&c.Usage, c.Began)
	if err != nil {
		return true, nil //nolint:nilerr // a usage that cannot be true: what the relay made of it stands
	}
	if c.Cost > full {
		l.log.Error("charge above its price: cut down", "request", c.Request, "cost", c.Cost.String(), "full", full.String())
		c.Cost = full
	}
	return c.Cost < full, nil
}

// grow takes out of the slices' memory what a bill exceeds its hold by, as far
// as it is there.
func (h *Hold) grow(by jimu.Credit) jimu.Credit {
	if h.account == nil || by <= 0 {
		return 0
	}
	got := h.account.spare(by, h.run)
	if h.budget != nil {
		b := h.budget.spare(got, h.budRun)
		h.l.giveBack(h.account, h.run, got-b)
		got = b
	}
	return got
}

// spare takes up to an amount that nobody waits for.
func (s *slice) spare(most jimu.Credit, run int64) jimu.Credit {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.run != run || len(s.waiters) > 0 {
		return 0
	}
	got := min(most, s.free)
	s.free -= got
	return got
}

// finish books the end of a hold. Only one caller gets here.
func (h *Hold) finish(bill *jimu.Charge, capped bool) (jimu.Credit, error) {
	l := h.l
	h.mu.Lock()
	amount, metered := h.amount, h.note != nil
	h.mu.Unlock()
	if bill.Cost > amount {
		amount += h.grow(bill.Cost - amount)
	}
	taken := min(bill.Cost, amount)
	h.mu.Lock()
	h.taken = taken
	saved := h.saved
	h.mu.Unlock()
	if metered {
		l.meters.remove(h)
	}
	c := &charge{
		record: record{
			request: h.order.Request, account: h.order.Account, budget: h.order.Budget,
			taken: taken, over: bill.Cost - taken, at: l.now(),
		},
		slice: h.account, run: h.run, limit: h.budget, limitRun: h.budRun, saved: saved,
	}
	var err error
	if bill.Cost > 0 || saved {
		err = l.journalize(c, bill, capped)
	}
	l.settle(c, amount-taken)
	if err != nil {
		err = l.await(c, err)
	}
	return taken, err
}

// journalize puts the charge into the journal.
func (l *Ledger) journalize(c *charge, bill *jimu.Charge, capped bool) (err error) {
	c.booked = true
	if bill.Cost > 0 {
		c.price, c.by = bill.Price.Version(), bill.Price
		c.detail = string(appendDetail(make([]byte, 0, 256), bill, capped))
	}
	c.node = l.node.Load().id
	c.segment, err = l.journal.append(&c.record, func() (priceRecord, error) { return priceData(bill.Price) })
	if err != nil {
		l.counters.journalFailed.Add(1)
		c.done = make(chan struct{})
	}
	return err
}

// await is for a charge that the journal could not take: it must be in the
// books before anybody is told.
func (l *Ledger) await(c *charge, cause error) error {
	timer := time.NewTimer(journalPatience)
	defer timer.Stop()
	select {
	case <-c.done:
		return nil
	case <-timer.C:
		return cause
	}
}

// settle hands a charge to the writer and the rest of its hold back.
func (l *Ledger) settle(c *charge, rest jimu.Credit) {
	s, b := c.slice, c.limit
	if s == nil {
		if c.booked {
			l.queue.charge(c)
		}
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if b != nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		c.limitBack = b.end(c.limitRun, rest)
	}
	c.back = s.end(c.run, rest)
	if c.booked || c.back > 0 || c.limitBack > 0 {
		l.queue.charge(c)
	}
	for _, x := range [...]*slice{s, b} {
		if x != nil && len(x.waiters) > 0 {
			l.queue.look(x, true)
		}
	}
}

// end is the end of a hold's use of a slice. It returns what is to go back to
// the books together with the charge.
func (s *slice) end(run int64, rest jimu.Credit) (back jimu.Credit) {
	s.refs--
	if s.run != run {
		return 0
	}
	if s.low {
		return rest
	}
	s.free += rest
	return 0
}

const journalPatience = 5 * time.Second

// meters are the holds whose requests deliver piece by piece.
type meters struct {
	mu sync.Mutex
	m  map[*Hold]struct{}
}

func (m *meters) add(h *Hold) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.m == nil {
		m.m = make(map[*Hold]struct{})
	}
	m.m[h] = struct{}{}
}

func (m *meters) remove(h *Hold) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.m, h)
}

// changed lists what has changed since the last time, as checkpoints.
func (m *meters) changed(l *Ledger) ([]jimu.Checkpoint, map[string]*jimu.Price) {
	m.mu.Lock()
	holds := make([]*Hold, 0, len(m.m))
	for h := range m.m {
		holds = append(holds, h)
	}
	m.mu.Unlock()
	var out []jimu.Checkpoint
	prices := map[string]*jimu.Price{}
	for _, h := range holds {
		if c, price, ok := h.checkpoint(l); ok {
			out = append(out, c)
			prices[c.Price] = price
		}
	}
	return out, prices
}

// checkpoint is what the request owes so far, and by which price, if that has
// changed.
func (h *Hold) checkpoint(l *Ledger) (jimu.Checkpoint, *jimu.Price, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.account == nil || h.run != l.node.Load().run {
		return jimu.Checkpoint{}, nil, false // those who settled its lease have charged what it owed
	}
	if h.ended || !h.changed || h.note.Cost <= 0 {
		return jimu.Checkpoint{}, nil, false
	}
	h.changed = false
	bill := *h.note
	bill.Request = h.order.Request
	capped, err := l.check(&bill)
	if err != nil || bill.Cost == 0 {
		return jimu.Checkpoint{}, nil, false
	}
	h.saved = true
	amount := min(bill.Cost, h.amount)
	return jimu.Checkpoint{
		Request: h.order.Request, Account: h.order.Account, Budget: h.order.Budget,
		Amount: amount, Over: bill.Cost - amount, Price: bill.Price.Version(),
		Detail: string(appendDetail(nil, &bill, capped)), At: l.now(),
	}, bill.Price, true
}
