package ledger

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jimu-ai/jimu"
	"github.com/jimu-ai/jimu/internal/store"
)

const childEnv = "JIMU_LEDGER_CHILD"

// child works on a data folder until it is killed, and says on standard output
// what it delivers ("D request cost", before the ledger hears of it), and what
// the ledger has acknowledged ("G account amount ref", "S request cost").
func child(dir string) error {
	ctx := context.Background()
	s, err := store.Open(ctx, store.Options{Data: dir})
	if err != nil {
		return err
	}
	l, err := Start(ctx, Options{Book: Of(store.NewLedger(s)), Dir: dir, Node: s.Node, pointEvery: time.Millisecond})
	if err != nil {
		return err
	}
	price := &jimu.Price{Model: "m", Rates: jimu.Rates{In: 1_000_000, Out: 1_000_000}}
	if err := price.Seal(); err != nil {
		return err
	}
	w := worker{l: l, price: price}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() { w.run(ctx, fmt.Sprint("user:", i%3)) })
	}
	wg.Go(func() {
		for range time.Tick(5 * time.Millisecond) {
			if err := l.Flush(ctx); err != nil {
				panic(err)
			}
		}
	})
	wg.Wait()
	return nil
}

type worker struct {
	l     *Ledger
	price *jimu.Price
}

func say(format string, args ...any) {
	if _, err := os.Stdout.WriteString(fmt.Sprintf(format, args...) + "\n"); err != nil {
		panic(err)
	}
}

func (w *worker) run(ctx context.Context, account string) {
	for {
		h, err := w.l.Hold(ctx, Order{Request: jimu.NewID(time.Now()), Account: account, Want: 1000, Least: 200})
		if code(err) == jimu.NoCredit {
			ref := jimu.NewID(time.Now())
			amount := jimu.Credit(rand.IntN(20_000) + 1)
			if _, err := w.l.Grant(ctx, account, amount, "kill", ref); err != nil {
				panic(err)
			}
			say("G %s %d %s", account, amount, ref)
			continue
		}
		if err != nil {
			panic(err)
		}
		w.serve(h)
	}
}

// serve is a request that delivers in pieces.
func (w *worker) serve(h *Hold) {
	defer h.Release()
	var cost jimu.Credit
	c := &jimu.Charge{Model: "m", Price: w.price, Began: time.Now()}
	for range rand.IntN(6) {
		cost += jimu.Credit(rand.IntN(300))
		say("D %s %d", h.order.Request, cost)
		c.Cost, c.Usage.OutText = cost, int64(cost)
		h.Meter(c)
	}
	if rand.IntN(10) == 0 || cost == 0 {
		return // failed: nothing is charged
	}
	if _, err := h.Settle(c); err != nil {
		panic(err)
	}
	say("S %s %d", h.order.Request, cost)
}

// said is what children have said.
type said struct {
	delivered map[string]jimu.Credit
	settled   map[string]jimu.Credit
	granted   map[string]jimu.Credit // by ref
}

func (s *said) read(t *testing.T, out []byte) {
	t.Helper()
	sc := bufio.NewScanner(bytes.NewReader(out))
	for sc.Scan() {
		var id, account string
		var n jimu.Credit
		line := sc.Text()
		switch {
		case strings.HasPrefix(line, "D "):
			if _, err := fmt.Sscanf(line, "D %s %d", &id, &n); err == nil {
				s.delivered[id] = n
			}
		case strings.HasPrefix(line, "S "):
			if _, err := fmt.Sscanf(line, "S %s %d", &id, &n); err == nil {
				s.settled[id] = n
			}
		case strings.HasPrefix(line, "G "):
			if _, err := fmt.Sscanf(line, "G %s %d %s", &account, &n, &id); err == nil && len(id) == jimu.IDLen {
				s.granted[id] = n
			}
		default:
			t.Fatalf("the child said %q", line)
		}
	}
}

// check compares the books with what was said.
func (s *said) check(t *testing.T, r Reader) {
	t.Helper()
	charged := map[string]jimu.Credit{}
	granted := map[string]jimu.Credit{}
	for _, account := range []string{"user:0", "user:1", "user:2", jimu.AccountWriteOff} {
		var after int64
		for {
			es, err := r.EntriesAfter(context.Background(), account, after, 1000)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range es {
				if e.Kind == jimu.EntryGrant {
					granted[e.Ref] = e.Amount
				} else {
					charged[e.Ref] += e.Amount
				}
				after = e.Seq
			}
			if len(es) == 0 {
				break
			}
		}
	}
	for ref, n := range s.granted {
		if granted[ref] != n {
			t.Errorf("L8: the acknowledged grant %s of %d is in the books with %d", ref, n, granted[ref])
		}
	}
	for id, n := range s.settled {
		if charged[id] != n {
			t.Errorf("the acknowledged charge of %s, %d, is in the books with %d", id, n, charged[id])
		}
	}
	for id, n := range charged {
		if n > s.delivered[id] {
			t.Errorf("request %s was charged %d, and %d were delivered", id, n, s.delivered[id])
		}
	}
}

// TestKill kills the process at random moments.
func TestKill(t *testing.T) {
	t.Parallel()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	base := t.TempDir()
	var s *said
	dir := ""
	acknowledged := 0
	for round := range rounds(t, 15) {
		if round%25 == 0 {
			dir = filepath.Join(base, strconv.Itoa(round))
			s = &said{map[string]jimu.Credit{}, map[string]jimu.Credit{}, map[string]jimu.Credit{}}
		}
		s.read(t, killed(t, exe, dir))
		st, err := store.Open(t.Context(), store.Options{Data: dir})
		if err != nil {
			t.Fatal(err)
		}
		l := begin(t, st)
		s.check(t, l.book)
		mustVerify(t, l.book)
		if a, err := l.book.Audit(t.Context(), "held"); err != nil || len(a) > 0 {
			t.Errorf("held: %v, %v", a, err)
		}
		var leases int64
		if err := st.Main.QueryRow(t.Context(), "SELECT COUNT(*) FROM leases").Scan(&leases); err != nil || leases > 0 {
			t.Errorf("%d leases stay, %v", leases, err)
		}
		if err := l.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if err := st.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Fatalf("after round %d", round)
		}
		acknowledged = max(acknowledged, len(s.settled))
	}
	if acknowledged == 0 {
		t.Error("nothing was ever settled: the test shows nothing")
	}
	t.Logf("%d settled, %d granted, %d delivered in the last folder", len(s.settled), len(s.granted), len(s.delivered))
}

// killed runs a child, kills it at a random moment, and returns what it said.
func killed(t *testing.T, exe, dir string) []byte {
	t.Helper()
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), childEnv+"="+dir)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(time.Duration(40+rand.IntN(300))*time.Millisecond, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	data, err := io.ReadAll(out)
	if err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	if stderr.Len() > 0 {
		t.Fatalf("the child failed:\n%s", stderr.String())
	}
	return data
}
