package ledger

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/jimu-ai/jimu"
	"github.com/jimu-ai/jimu/internal/store"
	"github.com/jimu-ai/jimu/internal/store/storetest"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		fmt.Fprintln(os.Stderr, child(dir))
		return
	}
	flag.Parse()
	n, err := strconv.Atoi(os.Getenv(roundsEnv))
	if err != nil {
		n = 0
	}
	explicit := false
	flag.Visit(func(f *flag.Flag) { explicit = explicit || f.Name == "rapid.checks" })
	if !explicit {
		_ = flag.Set("rapid.checks", strconv.Itoa(max(30, 4*n))) // a case is some 30 steps with a real database
	}
	goleak.VerifyTestMain(m)
}

const roundsEnv = "JIMU_TEST_ROUNDS"

// rounds is how often a heavy test repeats itself.
func rounds(t testing.TB, def int) int {
	t.Helper()
	n, err := strconv.Atoi(os.Getenv(roundsEnv))
	if err != nil || n < 1 {
		return def
	}
	return n
}

const alice, bob = "user:alice", "user:bob"

// flat is a price of 1 nano-credit a token.
func flat(t testing.TB) *jimu.Price {
	t.Helper()
	p := &jimu.Price{Model: "m", Rates: jimu.Rates{In: 1_000_000, Out: 1_000_000}}
	if err := p.Seal(); err != nil {
		t.Fatal(err)
	}
	return p
}

// bill is a charge of a cost by the flat price.
func bill(p *jimu.Price, cost jimu.Credit) *jimu.Charge {
	return &jimu.Charge{Cost: cost, Model: p.Model, Price: p, Usage: jimu.Usage{OutText: int64(cost)}, Began: time.Unix(1_700_000_000, 0)}
}

func startOn(t testing.TB, s *store.Store) *Ledger {
	t.Helper()
	l, err := Start(t.Context(), Options{Book: Of(store.NewLedger(s)), Dir: s.Data(), Node: s.Node, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatalf("starting: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := l.Close(ctx); err != nil {
			t.Errorf("closing: %v", err)
		}
	})
	return l
}

func start(t testing.TB) *Ledger {
	t.Helper()
	return startOn(t, storetest.Open(t, ""))
}

func mustGrant(t testing.TB, l *Ledger, account string, amount jimu.Credit) {
	t.Helper()
	if _, err := l.Grant(t.Context(), account, amount, "test", jimu.NewID(time.Now())); err != nil {
		t.Fatalf("granting: %v", err)
	}
}

func mustHold(t testing.TB, l *Ledger, account string, want jimu.Credit) *Hold {
	t.Helper()
	h, err := l.Hold(t.Context(), Order{Request: jimu.NewID(time.Now()), Account: account, Want: want, Least: want})
	if err != nil {
		t.Fatalf("holding %s: %v", want, err)
	}
	return h
}

func mustSettle(t testing.TB, h *Hold, c *jimu.Charge) jimu.Credit {
	t.Helper()
	taken, err := h.Settle(c)
	if err != nil {
		t.Fatalf("settling: %v", err)
	}
	return taken
}

func mustFlush(t testing.TB, l *Ledger) {
	t.Helper()
	if err := l.Flush(t.Context()); err != nil {
		t.Fatalf("flushing: %v", err)
	}
}

// mustVerify proves every invariant.
func mustVerify(t testing.TB, r Reader) {
	t.Helper()
	if err := Verify(context.Background(), r, func(line string, err error) {
		if err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}); err != nil {
		t.Fatalf("verifying: %v", err)
	}
}

func balance(t testing.TB, l *Ledger, account string) jimu.Credit {
	t.Helper()
	mustFlush(t, l)
	b, err := l.Balance(t.Context(), account)
	if err != nil {
		t.Fatalf("balance: %v", err)
	}
	return b.Balance
}

// stop ends a ledger as the death of the process would: nothing more is
// committed or returned.
func (l *Ledger) die() {
	l.closing.Store(true)
	l.cancel()
	close(l.stop)
	l.wg.Wait()
	l.journal.mu.Lock()
	defer l.journal.mu.Unlock()
	if l.journal.cur != nil {
		_ = l.journal.cur.file.Close()
	}
}

func code(err error) jimu.Code {
	if err == nil {
		return ""
	}
	return jimu.ErrorOf(err).Code
}
