package ledger

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jimu-ai/jimu"
	"github.com/jimu-ai/jimu/internal/store"
	"github.com/jimu-ai/jimu/internal/store/storetest"
)

// begin starts a ledger that the test ends itself.
func begin(tb testing.TB, s *store.Store) *Ledger {
	tb.Helper()
	l, err := Start(tb.Context(), Options{Book: Of(store.NewLedger(s)), Dir: s.Data(), Node: s.Node, Log: slog.New(slog.NewTextHandler(tb.Output(), nil))})
	if err != nil {
		tb.Fatalf("starting: %v", err)
	}
	return l
}

// pointOnce makes the checkpoints that are due, outside of the writer.
func (l *Ledger) pointOnce(ctx context.Context) error {
	b := &batch{node: l.node.Load()}
	b.points, b.prices = l.meters.changed(l)
	for i := range b.points {
		b.points[i].Node = b.node.id
	}
	if len(b.points) == 0 {
		return nil
	}
	return l.book.Update(ctx, func(tx Tx) error {
		for _, p := range b.prices {
			d, err := priceData(p)
			if err != nil {
				return err
			}
			if err := tx.AddPrice(ctx, d.version, d.model, d.data); err != nil {
				return err
			}
		}
		return tx.SaveCheckpoints(ctx, b.points)
	})
}

func (l *Ledger) pointNow(tb testing.TB) {
	tb.Helper()
	if err := l.pointOnce(context.Background()); err != nil {
		tb.Fatalf("checkpointing: %v", err)
	}
}

func TestACrashChargesWhatWasDelivered(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func() *store.Store) {
		t.Helper()
		s := open()
		p := flat(t)
		addBudget(t, s, "key1", 10_000)
		l := begin(t, s)
		mustGrant(t, l, alice, 10_000)
		hold := func(id string) *Hold {
			h, err := l.Hold(t.Context(), Order{Request: id, Account: alice, Budget: "key1", Want: 1000, Least: 1000})
			if err != nil {
				t.Fatal(err)
			}
			return h
		}
		streaming, finished, released, silent := hold("streaming"), hold("finished"), hold("released"), hold("silent")
		for _, h := range []*Hold{streaming, finished, released} {
			h.Meter(bill(p, 300))
		}
		l.pointNow(t)
		streaming.Meter(bill(p, 400)) // not checkpointed any more
		l.die()                       // from here on nothing is committed
		if got := mustSettle(t, finished, bill(p, 250)); got != 250 {
			t.Errorf("taken = %d", got)
		}
		released.Release()
		_ = silent

		l = begin(t, s)
		defer l.Close(context.Background()) //nolint:errcheck // checked below through the books
		if got := balance(t, l, alice); got != 10_000-300-250 {
			t.Errorf("balance = %d, want 9450: 300 at the checkpoint and 250 in the journal", got)
		}
		b, err := l.Balance(t.Context(), alice)
		if err != nil || b.Held != 0 {
			t.Errorf("held = %d, %v, want 0", b.Held, err)
		}
		var spent, held int64
		if err := s.Main.QueryRow(t.Context(), "SELECT spent, held FROM budgets").Scan(&spent, &held); err != nil || spent != 550 || held != 0 {
			t.Errorf("budget: spent %d, held %d, %v", spent, held, err)
		}
		mustVerify(t, l.book)
		if paths, err := l.journal.segments(); err != nil || len(paths) != 0 {
			t.Errorf("segments %v stay, %v", paths, err)
		}
	})
}

func TestTheJournalIsReplayedOnce(t *testing.T) {
	t.Parallel()
	s := storetest.Open(t, "")
	p := flat(t)
	l := begin(t, s)
	mustGrant(t, l, alice, 1000)
	mustSettle(t, mustHold(t, l, alice, 10), bill(p, 10))
	mustFlush(t, l)
	paths, err := l.journal.segments()
	if err != nil || len(paths) != 1 {
		t.Fatalf("segments = %v, %v", paths, err)
	}
	data, err := os.ReadFile(paths[0])
	if err != nil {
		t.Fatal(err)
	}
	for range 3 { // each time with the same journal
		l.die()
		if err := os.WriteFile(paths[0], data, 0o600); err != nil {
			t.Fatal(err)
		}
		l = begin(t, s)
		if got := balance(t, l, alice); got != 990 {
			t.Fatalf("balance = %d, want 990", got)
		}
	}
	mustVerify(t, l.book)
	if err := l.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if left, err := filepath.Glob(filepath.Join(s.Data(), "journal", "*")); err != nil || len(left) != 0 {
		t.Errorf("a clean end leaves %v, %v", left, err)
	}
	var n int64
	if err := s.Main.QueryRow(t.Context(), "SELECT COUNT(*) FROM nodes").Scan(&n); err != nil || n != 0 {
		t.Errorf("a clean end leaves %d runs, %v", n, err)
	}
}

func TestATornJournalIsReadUpToItsEnd(t *testing.T) {
	t.Parallel()
	s := storetest.Open(t, "")
	p := flat(t)
	l := begin(t, s)
	mustGrant(t, l, alice, 1000)
	hs := []*Hold{mustHold(t, l, alice, 100), mustHold(t, l, alice, 100)}
	l.die()
	for _, h := range hs {
		mustSettle(t, h, bill(p, 70))
	}
	paths, err := l.journal.segments()
	if err != nil || len(paths) != 1 {
		t.Fatalf("segments = %v, %v", paths, err)
	}
	info, err := os.Stat(paths[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(paths[0], info.Size()-3); err != nil {
		t.Fatal(err)
	}
	l = begin(t, s)
	if got := balance(t, l, alice); got != 930 {
		t.Errorf("balance = %d, want 930: the torn record is lost, the one before it not", got)
	}
	mustVerify(t, l.book)
	if err := l.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// A replica that was taken for dead finds that its memory is worth nothing:
// what it still charges comes out of what is free, and the rest is our loss.
func TestL9MemoryIsNoAuthority(t *testing.T) {
	t.Parallel()
	s := storetest.Open(t, "")
	p := flat(t)
	l := startOn(t, s)
	mustGrant(t, l, alice, 1000)
	covered, lost, metered := mustHold(t, l, alice, 300), mustHold(t, l, alice, 300), mustHold(t, l, alice, 100)
	metered.Meter(bill(p, 50))
	l.pointNow(t)
	nodes := l.settleAll(t)
	if nodes != 1 {
		t.Fatalf("%d runs were settled, want 1", nodes)
	}
	if a, err := l.book.Account(t.Context(), alice); err != nil || a.Held != 0 || a.Balance != 950 {
		t.Fatalf("account = %+v, %v", a, err)
	}
	if got := mustSettle(t, metered, bill(p, 80)); got != 80 {
		t.Errorf("taken = %d", got)
	}
	mustSettle(t, covered, bill(p, 200))
	if got := balance(t, l, alice); got != 750 {
		t.Errorf("balance = %d, want 750: 50 by the other replica, 200 out of what is free", got)
	}
	other := mustHold(t, l, alice, 700) // leaves 50
	mustSettle(t, lost, bill(p, 300))
	if got := balance(t, l, alice); got != 700 {
		t.Errorf("balance = %d, want 700", got)
	}
	if got := balance(t, l, jimu.AccountWriteOff); got != -250 {
		t.Errorf("written off = %d, want -250", got)
	}
	other.Release()
	mustHold(t, l, alice, 700).Release()
	if l.Stats().Fenced != 1 {
		t.Errorf("fenced %d times, want 1", l.Stats().Fenced)
	}
	mustVerify(t, l.book)
}

// settleAll settles every run in the books, as another replica would.
func (l *Ledger) settleAll(tb testing.TB) int {
	tb.Helper()
	var nodes []jimu.Node
	err := l.book.Update(context.Background(), func(tx Tx) (err error) {
		nodes, err = tx.Nodes(context.Background())
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	for _, n := range nodes {
		if err := l.settleDead(context.Background(), n, nil, nil); err != nil {
			tb.Fatal(err)
		}
	}
	return len(nodes)
}

func TestADeadReplicaIsSettledOnceByTwo(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func() *store.Store) {
		t.Helper()
		s := open()
		if !storetest.Replicas(s) {
			t.Skip("one process only")
		}
		p := flat(t)
		dead := begin(t, s)
		mustGrant(t, dead, alice, 10_000)
		for range 5 {
			mustHold(t, dead, alice, 100).Meter(bill(p, 60))
		}
		dead.pointNow(t)
		dead.die()
		ls := []*Ledger{startOn(t, open()), startOn(t, open())}
		node := dead.node.Load()
		var wg sync.WaitGroup
		errs := make([]error, len(ls))
		for i, l := range ls {
			wg.Go(func() {
				errs[i] = l.settleDead(t.Context(), jimu.Node{ID: node.id, Beat: node.beat}, nil, nil)
			})
		}
		wg.Wait()
		if (errs[0] == nil) == (errs[1] == nil) || (errs[0] != nil && !errors.Is(errs[0], errFenced)) || (errs[1] != nil && !errors.Is(errs[1], errFenced)) {
			t.Errorf("errors = %v: want one to do it, and the other to be too late", errs)
		}
		b, err := ls[0].Balance(t.Context(), alice)
		if err != nil || b != (jimu.Balance{Balance: 10_000 - 5*60}) {
			t.Errorf("balance = %+v, %v", b, err)
		}
		mustVerify(t, ls[0].book)
	})
}

// clock is a time that the test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// The life of a replica shows in its beat, whatever its clock says.
func TestOnlyAStillBeatIsDeath(t *testing.T) {
	t.Parallel()
	s := storetest.Open(t, "")
	l := startOn(t, s)
	var c clock
	c.now = time.Now()
	other := jimu.Node{ID: "other", Folder: "elsewhere", Beat: 7}
	if err := l.book.Update(t.Context(), func(tx Tx) error { return tx.AddNode(t.Context(), other) }); err != nil {
		t.Fatal(err)
	}
	w := &Ledger{book: l.book, now: c.Now, log: l.log, beats: map[string]seen{}} // reaps only
	w.node.Store(l.node.Load())
	has := func() bool {
		var n int64
		if err := s.Main.QueryRow(t.Context(), "SELECT COUNT(*) FROM nodes WHERE id = 'other'").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n == 1
	}
	for beat := int64(7); beat < 10; beat++ {
		w.reap(t.Context(), c.Now())
		c.add(deadAfter - time.Second)
		w.reap(t.Context(), c.Now())
		if !has() {
			t.Fatal("settled too early")
		}
		if err := l.book.Update(t.Context(), func(tx Tx) error {
			_, err := tx.Beat(t.Context(), "other", beat, beat+1)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		c.add(2 * time.Second)
	}
	w.reap(t.Context(), c.Now())
	c.add(deadAfter)
	w.reap(t.Context(), c.Now())
	if has() {
		t.Error("not settled after its beat stood still")
	}
}

// flaky is a book whose commits fail, before or after they took effect.
type flaky struct {
	Book
	mu     sync.Mutex
	before int // commits to fail that did nothing
	after  int // commits to fail that took effect
}

var errFlaky = errors.New("the connection broke")

func (f *flaky) Update(ctx context.Context, do func(tx Tx) error) error {
	f.mu.Lock()
	before, after := f.before > 0, f.after > 0
	if before {
		f.before--
	} else if after {
		f.after--
	}
	f.mu.Unlock()
	if before {
		return errFlaky
	}
	if err := f.Book.Update(ctx, do); err != nil {
		return err
	}
	if after {
		return errFlaky
	}
	return nil
}

func (f *flaky) fail(before, after int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before, f.after = before, after
}

func TestACommitOfUnknownOutcomeCountsOnce(t *testing.T) {
	t.Parallel()
	s := storetest.Open(t, "")
	f := &flaky{Book: Of(store.NewLedger(s))}
	l, err := Start(t.Context(), Options{Book: f, Dir: s.Data(), Node: s.Node})
	if err != nil {
		t.Fatal(err)
	}
	p := flat(t)
	for _, c := range []struct{ before, after int }{{1, 0}, {0, 1}, {2, 2}, {0, 3}} {
		was := balance(t, l, alice)
		f.fail(c.before, c.after)
		mustGrant(t, l, alice, 1000)
		f.fail(c.before, c.after)
		h := mustHold(t, l, alice, 500)
		f.fail(c.before, c.after)
		mustSettle(t, h, bill(p, 300))
		if got := balance(t, l, alice); got != was+700 {
			t.Errorf("balance = %d, want %d", got, was+700)
		}
		mustVerify(t, l.book)
	}
	if err := l.Close(t.Context()); err != nil {
		t.Error(err)
	}
	a, err := l.book.Account(t.Context(), alice)
	if err != nil || a.Held != 0 {
		t.Errorf("account = %+v, %v", a, err)
	}
}

// A journal that cannot be written makes the caller wait for the books.
func TestWithoutAJournalTheBooksAnswer(t *testing.T) {
	t.Parallel()
	s := storetest.Open(t, "")
	l := startOn(t, s)
	p := flat(t)
	mustGrant(t, l, alice, 1000)
	h := mustHold(t, l, alice, 100)
	l.journal.mu.Lock()
	l.journal.write = func(f *os.File, b []byte) (int, error) {
		n, _ := f.Write(b[:len(b)/2])
		return n, errors.New("no space left on device")
	}
	l.journal.mu.Unlock()
	if got := mustSettle(t, h, bill(p, 60)); got != 60 {
		t.Errorf("taken = %d", got)
	}
	if a, err := l.book.Account(t.Context(), alice); err != nil || a.Balance != 940 {
		t.Errorf("balance in the books = %d, %v, want 940", a.Balance, err)
	}
	l.journal.mu.Lock()
	l.journal.write = (*os.File).Write
	l.journal.mu.Unlock()
	mustSettle(t, mustHold(t, l, alice, 100), bill(p, 40))
	if got := balance(t, l, alice); got != 900 {
		t.Errorf("balance = %d, want 900", got)
	}
	mustVerify(t, l.book)
}

func TestADeadDatabaseGrantsNothing(t *testing.T) {
	t.Parallel()
	s := storetest.Open(t, "")
	c := clock{now: time.Now()}
	f := &flaky{Book: Of(store.NewLedger(s))}
	l, err := Start(t.Context(), Options{Book: f, Dir: s.Data(), Node: s.Node, Now: c.Now})
	if err != nil {
		t.Fatal(err)
	}
	mustGrant(t, l, alice, 1_000_000)
	p := flat(t)
	h := mustHold(t, l, alice, 100)
	f.fail(1<<30, 0)
	mustSettle(t, h, bill(p, 50)) // running requests end as ever
	for l.busy.Load() == 0 {      // until the writer tries
		time.Sleep(time.Millisecond) //nolint:forbidigo // nothing signals it
	}
	c.add(busyAfter + time.Second)
	_, err = l.Hold(t.Context(), Order{Request: "x", Account: alice, Want: 1})
	if code(err) != jimu.Overloaded || !strings.Contains(err.Error(), "database") {
		t.Errorf("a hold without a database: %v", err)
	}
	if l.Healthy() == nil {
		t.Error("healthy without a database")
	}
	f.fail(0, 0)
	if got := balance(t, l, alice); got != 999_950 {
		t.Errorf("balance = %d", got)
	}
	mustHold(t, l, alice, 100).Release()
	if err := l.Close(t.Context()); err != nil {
		t.Error(err)
	}
	mustVerify(t, l.book)
}
