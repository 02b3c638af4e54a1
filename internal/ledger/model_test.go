package ledger

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/jimu-ai/jimu"
	"github.com/jimu-ai/jimu/internal/store"
)

// machine drives one or two replicas at random and compares the books with a
// model of a few lines: what everybody has.
type machine struct {
	dir     string
	store   *store.Store
	price   *jimu.Price
	ledgers []*Ledger
	holds   []*modelHold
	ended   []*modelHold

	balance map[string]jimu.Credit
	lost    jimu.Credit // written off
	limit   jimu.Credit // of the budget
	spent   jimu.Credit
	n       int
}

type modelHold struct {
	*Hold
	at      int // replica
	id      string
	account string
	budget  string
	amount  jimu.Credit
	metered jimu.Credit
	pointed jimu.Credit // at least this much is checkpointed
	voided  bool        // others have settled its lease
	taken   jimu.Credit // once ended
}

const budgetID = "limited"

func newMachine(t *rapid.T, dir string) *machine {
	m := &machine{dir: dir, balance: map[string]jimu.Credit{alice: 0, bob: 0}, limit: 3000}
	var err error
	if m.store, err = store.Open(context.Background(), store.Options{Data: dir}); err != nil {
		t.Fatal(err)
	}
	if _, err := m.store.Main.Exec(context.Background(), "INSERT INTO budgets (id, cap, spent, held) VALUES (?, ?, 0, 0)", budgetID, int64(m.limit)); err != nil {
		t.Fatal(err)
	}
	m.price = &jimu.Price{Model: "m", Rates: jimu.Rates{In: 1_000_000, Out: 1_000_000}}
	if err := m.price.Seal(); err != nil {
		t.Fatal(err)
	}
	for range rapid.IntRange(1, 2).Draw(t, "replicas") {
		m.ledgers = append(m.ledgers, nil)
		m.boot(t, len(m.ledgers)-1)
	}
	return m
}

func (m *machine) boot(t *rapid.T, i int) {
	dir := filepath.Join(m.dir, fmt.Sprint("replica", i))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := Start(context.Background(), Options{Book: Of(store.NewLedger(m.store)), Dir: dir, Node: fmt.Sprint("folder", i)})
	if err != nil {
		t.Fatal(err)
	}
	m.ledgers[i] = l
}

func (m *machine) close(t *rapid.T) {
	for _, l := range m.ledgers {
		l.die()
	}
	if err := m.store.Close(); err != nil {
		t.Fatal(err)
	}
}

func (m *machine) flush(t *rapid.T) {
	for _, l := range m.ledgers {
		if err := l.Flush(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
}

func (m *machine) id() string {
	m.n++
	return fmt.Sprintf("r%06d", m.n)
}

// free is what the model says can still be held.
func (m *machine) free(account, budget string) jimu.Credit {
	free, left := m.balance[account], m.limit-m.spent
	for _, h := range m.holds {
		if h.voided {
			continue
		}
		if h.account == account {
			free -= h.amount
		}
		if h.budget != "" {
			left -= h.amount
		}
	}
	if budget != "" {
		free = min(free, left)
	}
	return free
}

func (m *machine) Grant(t *rapid.T) {
	account := rapid.SampledFrom([]string{alice, bob}).Draw(t, "account")
	amount := jimu.Credit(rapid.Int64Range(1, 20_000).Draw(t, "amount"))
	l := m.ledgers[rapid.IntRange(0, len(m.ledgers)-1).Draw(t, "replica")]
	ref := m.id()
	for range rapid.IntRange(1, 2).Draw(t, "times") {
		if _, err := l.Grant(context.Background(), account, amount, "model", ref); err != nil {
			t.Fatal(err)
		}
	}
	m.balance[account] += amount
}

func (m *machine) Hold(t *rapid.T) {
	h := &modelHold{
		id: m.id(), at: rapid.IntRange(0, len(m.ledgers)-1).Draw(t, "replica"),
		account: rapid.SampledFrom([]string{alice, bob}).Draw(t, "account"),
		budget:  rapid.SampledFrom([]string{"", "", budgetID}).Draw(t, "budget"),
	}
	want := jimu.Credit(rapid.Int64Range(1, 600).Draw(t, "want"))
	least := jimu.Credit(rapid.Int64Range(1, int64(want)).Draw(t, "least"))
	free := m.free(h.account, h.budget)
	var err error
	h.Hold, err = m.ledgers[h.at].Hold(context.Background(), Order{Request: h.id, Account: h.account, Budget: h.budget, Want: want, Least: least})
	if err != nil {
		if code(err) != jimu.NoCredit {
			t.Fatalf("hold: %v", err)
		}
		if free >= least && len(m.ledgers) == 1 {
			t.Fatalf("refused %d..%d of %d free: %v", least, want, free, err)
		}
		return
	}
	h.amount = h.Amount()
	if h.amount < least || h.amount > want || h.amount > free {
		t.Fatalf("held %d of %d..%d with %d free", h.amount, least, want, free)
	}
	m.holds = append(m.holds, h)
}

func (m *machine) pick(t *rapid.T) *modelHold {
	if len(m.holds) == 0 {
		t.Skip("no hold")
	}
	return m.holds[rapid.IntRange(0, len(m.holds)-1).Draw(t, "hold")]
}

func (m *machine) drop(h *modelHold) {
	for i, x := range m.holds {
		if x == h {
			m.holds = append(m.holds[:i:i], m.holds[i+1:]...)
		}
	}
	m.ended = append(m.ended, h)
}

func (m *machine) Extend(t *rapid.T) {
	h := m.pick(t)
	by := jimu.Credit(rapid.Int64Range(1, 300).Draw(t, "by"))
	free := m.free(h.account, h.budget)
	err := h.Extend(context.Background(), by)
	switch {
	case err == nil:
		if by > free && !h.voided {
			t.Fatalf("extended by %d of %d free", by, free)
		}
		h.amount += by
	case code(err) == jimu.NoCredit:
		if free >= by && len(m.ledgers) == 1 && !h.voided {
			t.Fatalf("not extended by %d of %d free: %v", by, free, err)
		}
	case !h.voided:
		t.Fatalf("extend: %v", err)
	}
	if h.Amount() != h.amount {
		t.Fatalf("the hold is %d, want %d", h.Amount(), h.amount)
	}
}

func (m *machine) Meter(t *rapid.T) {
	h := m.pick(t)
	h.metered += jimu.Credit(rapid.Int64Range(0, 200).Draw(t, "more"))
	h.Meter(m.bill(h.metered))
}

func (m *machine) bill(cost jimu.Credit) *jimu.Charge {
	return &jimu.Charge{Cost: cost, Model: "m", Price: m.price, Usage: jimu.Usage{InText: int64(cost)}, Began: time.Unix(1, 0)}
}

func (m *machine) Point(t *rapid.T) {
	for _, l := range m.ledgers {
		if err := l.pointOnce(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	for _, h := range m.holds {
		if !h.voided {
			h.pointed = h.metered
		}
	}
}

func (m *machine) Settle(t *rapid.T) {
	h := m.pick(t)
	cost := jimu.Credit(rapid.Int64Range(0, int64(h.amount)*5/4).Draw(t, "cost"))
	free := m.free(h.account, h.budget)
	m.drop(h)
	taken, err := h.Settle(m.bill(cost))
	if err != nil {
		t.Fatalf("settle: %v", err)
	}
	if taken < 0 || taken > cost || (taken < cost && taken < h.amount) || (!h.voided && taken > h.amount+max(0, free)) {
		t.Fatalf("took %d of a cost of %d and a hold of %d", taken, cost, h.amount)
	}
	h.taken = taken
	if h.voided {
		m.flush(t)
		m.read(t, h, h.pointed, max(h.metered, cost))
		return
	}
	m.charge(h, taken, cost-taken)
}

func (m *machine) charge(h *modelHold, taken, over jimu.Credit) {
	m.balance[h.account] -= taken
	m.lost += over
	if h.budget != "" {
		m.spent += taken
	}
}

// read takes from the books what a request was charged, where the model only
// knows bounds of it.
func (m *machine) read(t *rapid.T, h *modelHold, least, most jimu.Credit) {
	var sum jimu.Credit
	for _, kind := range []jimu.EntryKind{jimu.EntryUsage, jimu.EntryWriteOff} {
		es, err := m.ledgers[0].book.EntriesOf(context.Background(), kind, []string{h.id})
		if err != nil || len(es) > 1 {
			t.Fatalf("entries of %s: %v, %v", h.id, es, err)
		}
		for _, e := range es {
			sum += e.Amount
			if kind == jimu.EntryUsage {
				m.charge(h, e.Amount, 0)
			} else {
				m.charge(h, 0, e.Amount)
			}
		}
	}
	if sum < min(least, most) || sum > most {
		t.Fatalf("request %s was charged %d, want %d to %d", h.id, sum, least, most)
	}
}

func (m *machine) Again(t *rapid.T) {
	if len(m.ended) == 0 {
		t.Skip("nothing has ended")
	}
	h := m.ended[rapid.IntRange(0, len(m.ended)-1).Draw(t, "ended")]
	h.Release()
	if taken, err := h.Settle(m.bill(7)); err != nil || taken != h.taken {
		t.Fatalf("settled again: %d, %v, want %d", taken, err, h.taken)
	}
	// A request that others settled may be wholly written off: then there is no
	// entry of its own to refuse the repetition, and no request has its ID again.
	if rapid.Bool().Draw(t, "as a new hold") && h.taken > 0 && !h.voided {
		l := m.ledgers[h.at]
		if x, err := l.Hold(context.Background(), Order{Request: h.id, Account: h.account, Want: 1}); err == nil {
			if _, err := x.Settle(m.bill(1)); err != nil {
				t.Fatal(err)
			}
			m.flush(t)
		}
	}
}

func (m *machine) Release(t *rapid.T) {
	h := m.pick(t)
	m.drop(h)
	h.Release()
	if h.voided {
		m.flush(t)
		m.read(t, h, 0, h.metered)
	}
}

func (m *machine) Idle(t *rapid.T) {
	for _, l := range m.ledgers {
		l.idle(l.now().Add(2 * idleAfter))
	}
	m.flush(t)
}

// Crash ends a replica and starts it again. What ran is charged what was
// checkpointed, and never more than was delivered.
func (m *machine) Crash(t *rapid.T) {
	i := rapid.IntRange(0, len(m.ledgers)-1).Draw(t, "replica")
	m.ledgers[i].die()
	m.boot(t, i)
	for _, h := range append([]*modelHold{}, m.holds...) {
		if h.at != i {
			continue
		}
		m.drop(h)
		h.taken = 0
		h.mu.Lock()
		h.ended = true // its process is gone
		h.mu.Unlock()
		m.read(t, h, h.pointed, h.metered)
	}
}

// Fence lets a replica be taken for dead while it lives.
func (m *machine) Fence(t *rapid.T) {
	i := rapid.IntRange(0, len(m.ledgers)-1).Draw(t, "replica")
	l := m.ledgers[i]
	m.flush(t)
	n := l.node.Load()
	var beat int64
	if err := m.store.Main.QueryRow(context.Background(), "SELECT beat FROM nodes WHERE id = ?", n.id).Scan(&beat); err != nil {
		t.Fatal(err)
	}
	if err := l.settleDead(context.Background(), jimu.Node{ID: n.id, Beat: beat}, nil, nil); err != nil {
		t.Skip("it has moved on")
	}
	l.queue.flush() // it finds out with its next commit
	if _, err := l.Grant(context.Background(), bob, 1, "wakes the writer", m.id()); err != nil {
		t.Fatal(err)
	}
	m.balance[bob]++
	for _, h := range m.holds {
		if h.at == i {
			h.voided = true
		}
	}
}

// Check compares the books with the model and proves every invariant.
func (m *machine) Check(t *rapid.T) {
	m.flush(t)
	l := m.ledgers[0]
	want := map[string]jimu.Credit{jimu.AccountWriteOff: -m.lost}
	maps.Copy(want, m.balance)
	for _, h := range m.holds { // those that were settled by others are charged already
		if h.voided {
			for _, kind := range []jimu.EntryKind{jimu.EntryUsage, jimu.EntryWriteOff} {
				es, err := l.book.EntriesOf(context.Background(), kind, []string{h.id})
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range es {
					want[e.Owner] -= e.Amount
				}
			}
		}
	}
	for account, w := range want {
		if a, err := l.book.Account(context.Background(), account); err != nil || a.Balance != w {
			t.Fatalf("%s has %d, %v, want %d", account, a.Balance, err, w)
		}
	}
	if err := Verify(context.Background(), l.book, func(string, error) {}); err != nil {
		t.Fatal(err)
	}
}

// TestModel covers L1 to L6, L9 and L10 over random interleavings.
func TestModel(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		m := newMachine(rt, filepath.Join(base, strconv.Itoa(n)))
		defer m.close(rt)
		rt.Repeat(map[string]func(*rapid.T){
			"Grant": m.Grant, "Hold": m.Hold, "Hold2": m.Hold, "Hold3": m.Hold, "Extend": m.Extend, "Meter": m.Meter,
			"Point": m.Point, "Settle": m.Settle, "Settle2": m.Settle, "Again": m.Again, "Release": m.Release,
			"Idle": m.Idle, "Crash": m.Crash, "Fence": m.Fence, "": m.Check,
		})
	})
}
