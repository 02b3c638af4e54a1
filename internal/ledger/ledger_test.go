package ledger

import (
	"context"
	"errors"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/jimu-ai/jimu"
	"github.com/jimu-ai/jimu/internal/store"
	"github.com/jimu-ai/jimu/internal/store/storetest"
)

func TestL1Conserved(t *testing.T) {
	t.Parallel()
	l := start(t)
	p := flat(t)
	mustGrant(t, l, alice, 10_000)
	mustGrant(t, l, bob, 5_000)
	if got := mustSettle(t, mustHold(t, l, alice, 500), bill(p, 123)); got != 123 {
		t.Errorf("taken = %d, want 123", got)
	}
	if got := mustSettle(t, mustHold(t, l, bob, 100), bill(p, 100)); got != 100 {
		t.Errorf("taken = %d, want 100", got)
	}
	want := map[string]jimu.Credit{
		alice: 9_877, bob: 4_900, jimu.AccountSales: 223, jimu.AccountPromotion: -15_000, jimu.AccountWriteOff: 0,
	}
	for account, w := range want {
		if got := balance(t, l, account); got != w {
			t.Errorf("%s has %d, want %d", account, got, w)
		}
	}
	mustVerify(t, l.book)
}

func TestStatement(t *testing.T) {
	t.Parallel()
	l := start(t)
	p := flat(t)
	mustGrant(t, l, alice, 10_000)
	c := bill(p, 300)
	c.Usage = jimu.Usage{InText: 100, InCached: 50, OutText: 150, Estimated: true}
	c.Model = `odd "model" 模`
	mustSettle(t, mustHold(t, l, alice, 500), c)
	mustFlush(t, l)
	es, err := l.Statement(t.Context(), alice, 0, 10)
	if err != nil {
		t.Fatal(err)
	}
	if len(es) != 2 || es[0].Seq != 2 || es[1].Kind != jimu.EntryGrant || es[1].Reason != "test" {
		t.Fatalf("statement = %+v", es)
	}
	e := es[0]
	if e.Amount != 300 || e.After != 9_700 || e.Kind != jimu.EntryUsage || e.Price != p.Version() || e.Model != c.Model || !e.Began.Equal(c.Began) {
		t.Errorf("entry = %+v", e)
	}
	if diff := cmp.Diff(&c.Usage, e.Usage); diff != "" {
		t.Errorf("usage (-want +got):\n%s", diff)
	}
}

func TestStatementGoesOn(t *testing.T) {
	t.Parallel()
	l := start(t)
	for range 5 {
		mustGrant(t, l, alice, 1)
	}
	es, err := l.Statement(t.Context(), alice, 4, 2)
	if err != nil || len(es) != 2 || es[0].Seq != 3 || es[1].Seq != 2 {
		t.Errorf("statement before 4 = %+v, %v", es, err)
	}
}

func TestL2HeldIsLeased(t *testing.T) {
	t.Parallel()
	l := start(t)
	mustGrant(t, l, alice, 1_000_000)
	h := mustHold(t, l, alice, 1000)
	mustVerify(t, l.book)
	a, err := l.book.Account(t.Context(), alice)
	if err != nil || a.Held < 1000 || a.Held > 100_000 {
		t.Errorf("held in the books = %d, %v: want the hold and a small slice", a.Held, err)
	}
	if b, err := l.Balance(t.Context(), alice); err != nil || b.Held != 1000 {
		t.Errorf("held = %d, %v, want 1000", b.Held, err)
	}
	h.Release()
	h.Release()
	l.idle(l.now().Add(2 * idleAfter))
	mustFlush(t, l)
	a, err = l.book.Account(t.Context(), alice)
	if err != nil || a.Held != 0 {
		t.Errorf("held after it was idle = %d, %v, want 0", a.Held, err)
	}
	l.idle(l.now().Add(2 * idleAfter))
	mustFlush(t, l)
	if n := l.Stats().Slices; n != 0 {
		l.idle(l.now().Add(2 * idleAfter))
		if n = l.Stats().Slices; n != 0 {
			t.Errorf("%d slices stay in memory", n)
		}
	}
	mustVerify(t, l.book)
}

// parallel makes n requests at once on replicas, each of a hold and price of
// 100, and returns how many were answered.
func parallel(t *testing.T, n int, budget string, ls ...*Ledger) int64 {
	t.Helper()
	p := flat(t)
	var answered atomic.Int64
	var wg sync.WaitGroup
	begin := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-begin
			l := ls[i%len(ls)]
			h, err := l.Hold(t.Context(), Order{Request: jimu.NewID(time.Now()), Account: alice, Budget: budget, Want: 100, Least: 100})
			if code(err) == jimu.NoCredit {
				return
			}
			if err != nil {
				t.Errorf("holding: %v", err)
				return
			}
			defer h.Release()
			if taken, err := h.Settle(bill(p, 100)); err != nil || taken != 100 {
				t.Errorf("settling: %d, %v", taken, err)
			}
			answered.Add(1)
		})
	}
	close(begin)
	wg.Wait()
	for _, l := range ls {
		mustFlush(t, l)
	}
	return answered.Load()
}

func TestL3NeverOverdrawn(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func() *store.Store) {
		t.Helper()
		s := open()
		ls := []*Ledger{startOn(t, s)}
		for round := range rounds(t, 3) {
			mustGrant(t, ls[0], alice, 1000)
			if got := parallel(t, 200, "", ls...); got != 10 {
				t.Fatalf("round %d: %d of 200 requests were answered by %d replicas, want exactly 10", round, got, len(ls))
			}
			if got := balance(t, ls[0], alice); got != 0 {
				t.Fatalf("%d are left, want 0", got)
			}
			if round == 0 && storetest.Replicas(s) {
				ls = append(ls, startOn(t, open()))
			}
		}
		mustVerify(t, ls[0].book)
	})
}

func addBudget(tb testing.TB, s *store.Store, id string, limit jimu.Credit) {
	tb.Helper()
	if _, err := s.Main.Exec(tb.Context(), "INSERT INTO budgets (id, cap, spent, held) VALUES (?, ?, 0, 0)", id, int64(limit)); err != nil {
		tb.Fatal(err)
	}
}

func TestL3NeverAboveTheKeysLimit(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func() *store.Store) {
		t.Helper()
		s := open()
		ls := []*Ledger{startOn(t, s)}
		if storetest.Replicas(s) {
			ls = append(ls, startOn(t, open()))
		}
		mustGrant(t, ls[0], alice, 1_000_000)
		addBudget(t, s, "key1", 1000)
		if got := parallel(t, 200, "key1", ls...); got != 10 {
			t.Errorf("%d requests were answered, want exactly 10", got)
		}
		var spent, held int64
		if err := s.Main.QueryRow(t.Context(), "SELECT spent, held FROM budgets WHERE id = 'key1'").Scan(&spent, &held); err != nil || spent != 1000 {
			t.Errorf("spent = %d, held = %d, %v", spent, held, err)
		}
		_, err := ls[0].Hold(t.Context(), Order{Request: "r", Account: alice, Budget: "key1", Want: 1, Least: 1})
		if code(err) != jimu.NoCredit || !strings.Contains(err.Error(), "limit of this key") {
			t.Errorf("error = %v", err)
		}
		mustVerify(t, ls[0].book)
	})
}

func TestHoldTakesWhatThereIs(t *testing.T) {
	t.Parallel()
	l := start(t)
	mustGrant(t, l, alice, 70)
	h, err := l.Hold(t.Context(), Order{Request: "a", Account: alice, Want: 100, Least: 50})
	if err != nil || h.Amount() != 70 {
		t.Fatalf("hold = %v, %v, want 70", h, err)
	}
	_, err = l.Hold(t.Context(), Order{Request: "b", Account: alice, Want: 100, Least: 1})
	if code(err) != jimu.NoCredit || !strings.Contains(err.Error(), "add credit") {
		t.Errorf("error = %v, want one that says to add credit", err)
	}
	if err := h.Extend(t.Context(), 1); code(err) != jimu.NoCredit {
		t.Errorf("extending = %v, want no credit", err)
	}
	mustGrant(t, l, alice, 1000)
	if err := h.Extend(t.Context(), 30); err != nil || h.Amount() != 100 {
		t.Errorf("extending = %v, amount %d, want 100", err, h.Amount())
	}
	if got := mustSettle(t, h, bill(flat(t), 100)); got != 100 {
		t.Errorf("taken = %d, want 100", got)
	}
	if err := h.Extend(t.Context(), 1); code(err) != jimu.Overloaded {
		t.Errorf("extending after the end = %v", err)
	}
	if got := balance(t, l, alice); got != 970 {
		t.Errorf("balance = %d, want 970", got)
	}
	mustVerify(t, l.book)
}

func TestUnknownAccount(t *testing.T) {
	t.Parallel()
	l := start(t)
	_, err := l.Hold(t.Context(), Order{Request: "a", Account: "user:nobody", Want: 1})
	if code(err) != jimu.NoCredit {
		t.Errorf("error = %v, want no credit", err)
	}
	h, err := l.Hold(t.Context(), Order{Request: "b", Account: "user:nobody"})
	if err != nil {
		t.Fatalf("a hold of nothing: %v", err)
	}
	mustSettle(t, h, &jimu.Charge{})
	if b, err := l.Balance(t.Context(), "user:nobody"); err != nil || b != (jimu.Balance{}) {
		t.Errorf("balance = %+v, %v", b, err)
	}
	mustVerify(t, l.book)
}

func TestOverloadedWhenTheCallerGivesUp(t *testing.T) {
	t.Parallel()
	l := start(t)
	mustGrant(t, l, alice, 1000)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s := l.use(jimu.LeaseAccount, alice)
	s.mu.Lock()
	s.queued = true // the writer does not see it
	s.mu.Unlock()
	_, err := l.Hold(ctx, Order{Request: "a", Account: alice, Want: 10})
	if code(err) != jimu.Overloaded || !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v", err)
	}
	s.mu.Lock()
	s.queued = false
	s.mu.Unlock()
	l.unuse(s)
	mustHold(t, l, alice, 1000).Release()
}

func TestL5OneCauseOneEffect(t *testing.T) {
	t.Parallel()
	l := start(t)
	p := flat(t)
	first, err := l.Grant(t.Context(), alice, 1000, "welcome", "g1")
	if err != nil {
		t.Fatal(err)
	}
	again, err := l.Grant(t.Context(), alice, 1000, "welcome", "g1")
	if err != nil || again.Seq != first.Seq || again.After != first.After {
		t.Errorf("the grant again = %+v, %v, want %+v", again, err, first)
	}
	if _, err := l.Grant(t.Context(), alice, 2000, "welcome", "g1"); code(err) != jimu.Conflict {
		t.Errorf("another grant with the same reference: %v", err)
	}
	for range 3 { // in one batch and in several
		for range 2 {
			h, err := l.Hold(t.Context(), Order{Request: "r1", Account: alice, Want: 100, Least: 100})
			if err != nil {
				t.Fatal(err)
			}
			mustSettle(t, h, bill(p, 60))
		}
		mustFlush(t, l)
	}
	if got := balance(t, l, alice); got != 940 {
		t.Errorf("balance = %d, want 940: the request is charged once", got)
	}
	mustVerify(t, l.book)
}

func TestL6AHoldEndsOnce(t *testing.T) {
	t.Parallel()
	l := start(t)
	p := flat(t)
	mustGrant(t, l, alice, 1000)
	h := mustHold(t, l, alice, 100)
	if _, err := h.Settle(bill(p, -5)); err == nil {
		t.Error("a negative charge was taken")
	}
	if _, err := h.Settle(&jimu.Charge{Cost: 5}); err == nil {
		t.Error("a charge without a price was taken")
	}
	for range 3 {
		if got := mustSettle(t, h, bill(p, 60)); got != 60 {
			t.Errorf("taken = %d, want 60", got)
		}
		h.Release()
	}
	if got := balance(t, l, alice); got != 940 {
		t.Errorf("balance = %d, want 940", got)
	}
	h = mustHold(t, l, alice, 100)
	h.Release()
	if got := mustSettle(t, h, bill(p, 60)); got != 0 {
		t.Errorf("taken after the release = %d, want 0", got)
	}
	if got := balance(t, l, alice); got != 940 {
		t.Errorf("balance = %d, want 940", got)
	}
	mustHold(t, l, alice, 940).Release() // nothing was lost, nothing came from nowhere
	mustVerify(t, l.book)
}

func TestBeyondTheHoldIsWrittenOff(t *testing.T) {
	t.Parallel()
	l := start(t)
	p := flat(t)
	mustGrant(t, l, alice, 100)
	h := mustHold(t, l, alice, 100)
	if got := mustSettle(t, h, bill(p, 130)); got != 100 {
		t.Errorf("taken = %d, want 100", got)
	}
	if got := balance(t, l, alice); got != 0 {
		t.Errorf("balance = %d, want 0", got)
	}
	if got := balance(t, l, jimu.AccountWriteOff); got != -30 {
		t.Errorf("written off = %d, want -30", got)
	}
	if got := balance(t, l, jimu.AccountSales); got != 130 {
		t.Errorf("sales = %d, want 130", got)
	}
	mustVerify(t, l.book)
}

func TestL8AGrantIsDurableWhenItReturns(t *testing.T) {
	t.Parallel()
	l := start(t)
	mustGrant(t, l, alice, 100)
	a, err := l.book.Account(t.Context(), alice) // read on another connection
	if err != nil || a.Balance != 100 {
		t.Errorf("balance in the books = %d, %v, want 100", a.Balance, err)
	}
}

func TestL10ABillCannotExceedItsPrice(t *testing.T) {
	t.Parallel()
	l := start(t)
	p := flat(t)
	mustGrant(t, l, alice, 1000)
	c := bill(p, 50)
	c.Cost = 60
	if got := mustSettle(t, mustHold(t, l, alice, 100), c); got != 50 {
		t.Errorf("taken = %d, want what the price says: 50", got)
	}
	c = bill(p, 50)
	c.Cost = 40 // quarantined, or charged in part
	if got := mustSettle(t, mustHold(t, l, alice, 100), c); got != 40 {
		t.Errorf("taken = %d, want 40", got)
	}
	c = bill(p, 50)
	c.Usage.OutText, c.Cost = -1, 30 // no usage at all
	if got := mustSettle(t, mustHold(t, l, alice, 100), c); got != 30 {
		t.Errorf("taken = %d, want 30", got)
	}
	mustFlush(t, l)
	mustVerify(t, l.book)
}

func TestL11EveryBillIsExact(t *testing.T) {
	t.Parallel()
	l := start(t)
	p := flat(t)
	const most = 2000
	mustGrant(t, l, alice, most*(most+1))
	for cost := jimu.Credit(1); cost <= most; cost++ {
		if got := mustSettle(t, mustHold(t, l, alice, cost), bill(p, cost)); got != cost {
			t.Fatalf("taken = %d, want %d", got, cost)
		}
	}
	if got := balance(t, l, alice); got != most*(most+1)/2 {
		t.Errorf("balance = %d, want %d", got, most*(most+1)/2)
	}
	mustVerify(t, l.book)
}

func TestL11NothingWraps(t *testing.T) {
	t.Parallel()
	l := start(t)
	p := flat(t)
	mustGrant(t, l, alice, math.MaxInt64)
	for _, account := range []string{alice, bob} {
		if _, err := l.Grant(t.Context(), account, math.MaxInt64, "more", jimu.NewID(time.Now())); code(err) != jimu.Invalid || !errors.Is(err, jimu.ErrOverflow) {
			t.Errorf("a grant to %s that does not fit: %v", account, err)
		}
	}
	for _, amount := range []jimu.Credit{0, -1, math.MinInt64} {
		if _, err := l.Grant(t.Context(), bob, amount, "x", "x"); code(err) != jimu.Invalid {
			t.Errorf("a grant of %d: %v", amount, err)
		}
	}
	var hs []*Hold
	for _, want := range []jimu.Credit{math.MaxInt64 / 2, math.MaxInt64 / 2, 1} {
		hs = append(hs, mustHold(t, l, alice, want))
	}
	if _, err := l.Hold(t.Context(), Order{Request: "x", Account: alice, Want: math.MaxInt64, Least: 1}); code(err) != jimu.NoCredit {
		t.Errorf("a hold beyond the balance: %v", err)
	}
	if err := hs[0].Extend(t.Context(), math.MaxInt64); code(err) != jimu.NoCredit {
		t.Errorf("extending beyond the balance: %v", err)
	}
	if _, err := l.Hold(t.Context(), Order{Request: "x", Account: alice, Want: math.MinInt64}); code(err) != jimu.Internal {
		t.Errorf("a negative hold: %v", err)
	}
	c := bill(p, 1)
	c.Cost = math.MaxInt64
	if _, err := hs[0].Settle(c); err == nil {
		t.Error("an absurd bill was taken")
	}
	mustSettle(t, hs[0], bill(p, 1000))
	for _, h := range hs {
		h.Release()
	}
	if got := balance(t, l, alice); got != math.MaxInt64-1000 {
		t.Errorf("balance = %d", got)
	}
	mustVerify(t, l.book)
}

// A request ends while others have its lease: it is charged once, and the
// books stay whole.
func TestNoCheckpointAfterOthersSettled(t *testing.T) {
	t.Parallel()
	l := start(t)
	p := flat(t)
	mustGrant(t, l, alice, 1000)
	h := mustHold(t, l, alice, 100)
	h.Meter(bill(p, 20))
	l.pointNow(t)
	l.settleAll(t)
	mustGrant(t, l, bob, 1) // it finds out
	h.Meter(bill(p, 30))
	l.pointNow(t)
	mustVerify(t, l.book)
	h.Release()
	if got := balance(t, l, alice); got != 980 {
		t.Errorf("balance = %d, want 980", got)
	}
	mustVerify(t, l.book)
}

// A hold of nothing can still cost something: that is ours to bear, also when
// it comes back from the journal.
func TestACostWithoutAHold(t *testing.T) {
	t.Parallel()
	s := storetest.Open(t, "")
	l := begin(t, s)
	h, err := l.Hold(t.Context(), Order{Request: "free"})
	if err != nil {
		t.Fatal(err)
	}
	l.die()
	if got := mustSettle(t, h, bill(flat(t), 10)); got != 0 {
		t.Errorf("taken = %d, want 0", got)
	}
	l = startOn(t, s)
	if got := balance(t, l, jimu.AccountWriteOff); got != -10 {
		t.Errorf("written off = %d, want -10", got)
	}
	mustVerify(t, l.book)
}
