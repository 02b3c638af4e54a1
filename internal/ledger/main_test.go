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
	if dir := env(childEnv); dir != "" {
		fmt.Fprintln(os.Stderr, child(dir))
		return
	}
	flag.Parse()
	n, err := strconv.Atoi(env(roundsEnv))
	if err != nil {
		n = 0
	}
	explicit := false
	flag.Visit(func(f *flag.Flag) { explicit = explicit || f.Name == "rapid.checks" })
	if !explicit {
		_ = flag.Set("rapid.checks", strconv.Itoa(max(30, n))) // a case is some 30 steps with a real database
	}
	goleak.VerifyTestMain(m)
}

// env reads what a test run is told from outside.
func env(name string) string { return os.Getenv(name) } //nolint:forbidigo // the only way to tell tests

const roundsEnv = "JIMU_TEST_ROUNDS"

// rounds is how often a heavy test repeats itself.
func rounds(tb testing.TB, def int) int {
	tb.Helper()
	n, err := strconv.Atoi(env(roundsEnv))
	if err != nil || n < 1 {
		return def
	}
	return n
}

// patience is far longer than any commit takes on a busy machine.
const patience = 15 * time.Second

const alice, bob = "user:alice", "user:bob"

// flat is a price of 1 nano-credit a token.
func flat(tb testing.TB) *jimu.Price {
	tb.Helper()
	p := &jimu.Price{Model: "m", Rates: jimu.Rates{In: 1_000_000, Out: 1_000_000}}
	if err := p.Seal(); err != nil {
		tb.Fatal(err)
	}
	return p
}

// bill is a charge of a cost by the flat price.
func bill(p *jimu.Price, cost jimu.Credit) *jimu.Charge {
	return &jimu.Charge{Cost: cost, Model: p.Model, Price: p, Usage: jimu.Usage{OutText: int64(cost)}, Began: time.Unix(1_700_000_000, 0)}
}

func startOn(tb testing.TB, s *store.Store) *Ledger {
	tb.Helper()
	l, err := Start(tb.Context(), Options{Book: Of(store.NewLedger(s)), Dir: s.Data(), Node: s.Node, Log: slog.New(slog.NewTextHandler(tb.Output(), nil))})
	if err != nil {
		tb.Fatalf("starting: %v", err)
	}
	tb.Cleanup(func() {
		wait := patience
		if tb.Failed() {
			wait = 0 // nothing will end well
		}
		ctx, cancel := context.WithTimeout(context.Background(), wait)
		defer cancel()
		if err := l.Close(ctx); err != nil {
			tb.Errorf("closing: %v", err)
		}
	})
	return l
}

func start(tb testing.TB) *Ledger {
	tb.Helper()
	return startOn(tb, storetest.Open(tb, ""))
}

func mustGrant(tb testing.TB, l *Ledger, account string, amount jimu.Credit) {
	tb.Helper()
	if _, err := l.Grant(tb.Context(), account, amount, "test", jimu.NewID(time.Now())); err != nil {
		tb.Fatalf("granting: %v", err)
	}
}

func mustHold(tb testing.TB, l *Ledger, account string, want jimu.Credit) *Hold {
	tb.Helper()
	h, err := l.Hold(tb.Context(), Order{Request: jimu.NewID(time.Now()), Account: account, Want: want, Least: want})
	if err != nil {
		tb.Fatalf("holding %s: %v", want, err)
	}
	return h
}

func mustSettle(tb testing.TB, h *Hold, c *jimu.Charge) jimu.Credit {
	tb.Helper()
	taken, err := h.Settle(c)
	if err != nil {
		tb.Fatalf("settling: %v", err)
	}
	return taken
}

func mustFlush(tb testing.TB, l *Ledger) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	if err := l.Flush(ctx); err != nil {
		tb.Fatalf("flushing: %v", err)
	}
}

// mustVerify proves every invariant.
func mustVerify(tb testing.TB, r Reader) {
	tb.Helper()
	if err := Verify(context.Background(), r, func(line string, err error) {
		if err != nil {
			tb.Errorf("%s: %v", line, err)
		}
	}); err != nil {
		tb.Fatalf("verifying: %v", err)
	}
}

func balance(tb testing.TB, l *Ledger, account string) jimu.Credit {
	tb.Helper()
	mustFlush(tb, l)
	b, err := l.Balance(tb.Context(), account)
	if err != nil {
		tb.Fatalf("balance: %v", err)
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
