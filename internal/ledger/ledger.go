// Package ledger keeps everybody's credit. Requests hold credit before they
// run and settle what they cost; grants add to it.
//
// A hold is taken from memory, out of a lease: a part of the account that this
// process has set aside durably (slice.go). Settled charges are appended to a
// journal before anybody hears of them (journal.go), and one writer puts
// whatever has come while the last commit ran into the books, in one
// transaction (queue.go, batch.go, accounts.go). A run that died is settled by
// the next one, or by another replica (recover.go). verify.go proves that the
// books are right; the L numbers are those of docs/ledger.md.
package ledger

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jimu-ai/jimu"
)

// Options are what a ledger needs.
type Options struct {
	Book Book
	// Dir is the data folder, where the journal is. It belongs to this process.
	Dir string
	// Node is the data folder's own ID, the same at every start.
	Node string
	Now  func() time.Time
	Log  *slog.Logger

	pointEvery time.Duration // tests want more checkpoints
}

// Ledger is everybody's credit, as one process deals with it. It is safe for
// use by many goroutines.
type Ledger struct {
	book    Book
	folder  string
	now     func() time.Time
	log     *slog.Logger
	journal *journal
	queue   queue
	meters  meters

	mu     sync.Mutex
	run    int64 // counts our runs, as others see them
	slices map[leaseKey]*slice

	node    atomic.Pointer[node]
	lastOK  atomic.Int64 // wall clock of the last commit, ns
	busy    atomic.Int64 // wall clock of when the running commit began, or 0
	closing atomic.Bool
	breach  atomic.Pointer[breach]
	kept    map[string]bool // prices in the books; the writer's own
	beats   map[string]seen // of other replicas; the writer's own

	pointEvery time.Duration
	counters   counters
	cancel     context.CancelFunc
	stop       chan struct{}
	wg         sync.WaitGroup
}

// node is one run of this process, as the books know it.
type node struct {
	id   string
	run  int64
	beat int64 // of the last commit; the writer's own
}

type breach struct{ err error }

type leaseKey struct {
	scope   jimu.LeaseScope
	subject string
}

// Timing. A run whose beat stands still for deadAfter is settled by others; it
// stops giving from memory well before.
const (
	gatherFor  = 4 * time.Millisecond // the wait for more charges to share a commit
	tickEvery  = 500 * time.Millisecond
	pointEvery = 1500 * time.Millisecond
	beatEvery  = 10 * time.Second
	idleAfter  = time.Second
	staleAfter = 40 * time.Second
	deadAfter  = 60 * time.Second
	busyAfter  = 5 * time.Second
	firstCheck = 50 * time.Millisecond // how long Start waits for it
	fastEvery  = time.Hour
	fullEvery  = 24 // of the above
	maxQueue   = 1 << 16
)

// Start settles what an earlier run left, checks the books, and begins. A
// breach found then does not fail Start: it stops the granting of credit, see
// [Ledger.Healthy]. Close ends the ledger; the end of ctx does not.
func Start(ctx context.Context, o Options) (*Ledger, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	l := &Ledger{
		book: o.Book, folder: o.Node, now: o.Now, log: o.Log,
		slices: map[leaseKey]*slice{}, kept: map[string]bool{}, beats: map[string]seen{},
		stop: make(chan struct{}), pointEvery: cmp.Or(o.pointEvery, pointEvery),
	}
	l.queue.wake, l.queue.hurry = make(chan struct{}, 1), make(chan struct{}, 1)
	var err error
	if l.journal, err = openJournal(filepath.Join(o.Dir, "journal")); err != nil {
		return nil, err
	}
	if err := l.book.Protect(ctx); err != nil {
		l.log.WarnContext(ctx, "entries are not protected by triggers; a change would still show", "error", err)
	}
	if err := l.recover(ctx); errors.Is(err, errChanged) {
		_ = l.broken(&BreachError{Invariant: "L2", What: err.Error()})
	} else if err != nil {
		return nil, fmt.Errorf("settling what the last run left: %w", err)
	}
	if err := l.enter(ctx); err != nil {
		return nil, err
	}
	ctx, l.cancel = context.WithCancel(context.WithoutCancel(ctx))
	l.wg.Go(func() { l.write(ctx) })
	checked := make(chan struct{})
	l.wg.Go(func() { l.watch(ctx, checked) })
	wait := time.NewTimer(firstCheck)
	defer wait.Stop()
	select {
	case <-checked:
	case <-wait.C: // large books are checked while the first requests run
	}
	return l, nil
}

// enter begins a run in the books.
func (l *Ledger) enter(ctx context.Context) error {
	n := &node{id: jimu.NewID(l.now())}
	err := l.book.Update(ctx, func(tx Tx) error {
		for _, id := range [...]string{jimu.AccountPromotion, jimu.AccountSales, jimu.AccountWriteOff} {
			if err := tx.AddAccount(ctx, id, true); err != nil {
				return err
			}
		}
		return tx.AddNode(ctx, jimu.Node{ID: n.id, Folder: l.folder})
	})
	if err != nil {
		return fmt.Errorf("entering this run in the books: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.run++
	n.run = l.run
	for _, s := range l.slices {
		s.mu.Lock()
		s.run, s.free, s.back, s.low, s.refill, s.open = n.run, 0, 0, false, false, false
		s.mu.Unlock()
	}
	l.node.Store(n)
	l.lastOK.Store(l.now().UnixNano())
	return nil
}

// crash stops the process when the code of money panics: it must not run on,
// and a server that recovers panics of its requests would let it.
func crash() {
	if r := recover(); r != nil {
		go panic(r)
		select {}
	}
}

// broken notes a breach of an invariant, after which no credit is granted. It
// returns the error if it is not one.
func (l *Ledger) broken(err error) error {
	b, ok := errors.AsType[*BreachError](err)
	if !ok {
		return err
	}
	if l.breach.Swap(&breach{b}) == nil {
		l.log.Error("the books are wrong: no more credit is granted", "invariant", b.Invariant, "error", b.Error())
	}
	return nil
}

// Healthy returns nil, or why no credit is granted.
func (l *Ledger) Healthy() error {
	if b := l.breach.Load(); b != nil {
		return b.err
	}
	if l.stuck(l.now()) {
		return errors.New("the database does not take commits")
	}
	return nil
}

func (l *Ledger) stuck(now time.Time) bool {
	since := l.busy.Load()
	return since != 0 && now.UnixNano()-since > int64(busyAfter)
}

// stale reports whether others may soon take this run for dead.
func (l *Ledger) stale(now time.Time) bool {
	return now.UnixNano()-l.lastOK.Load() > int64(staleAfter)
}

// ready returns why no hold is given, if none is.
func (l *Ledger) ready() error {
	switch {
	case l.closing.Load():
		return &jimu.Error{Code: jimu.Overloaded, Text: "the server is about to stop; try again", RetryAfter: time.Second}
	case l.breach.Load() != nil:
		return &jimu.Error{Code: jimu.Overloaded, Text: "the books are being checked, and no credit is granted until that is done; the operator has been told", RetryAfter: time.Minute, Err: l.breach.Load().err}
	case l.stuck(l.now()):
		return &jimu.Error{Code: jimu.Overloaded, Text: "the database does not answer; try again", RetryAfter: 5 * time.Second}
	case l.queue.waiting.Load() > maxQueue:
		return &jimu.Error{Code: jimu.Overloaded, Text: "too many bills are waiting to be booked; try again", RetryAfter: time.Second}
	}
	return nil
}

// use returns the slice of an account or budget for one request.
func (l *Ledger) use(scope jimu.LeaseScope, subject string) *slice {
	at := leaseKey{scope, subject}
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.slices[at]
	if s == nil {
		s = &slice{scope: scope, subject: subject, run: l.run}
		l.slices[at] = s
	}
	s.mu.Lock()
	s.refs++
	s.mu.Unlock()
	return s
}

func (l *Ledger) unuse(s *slice) {
	s.mu.Lock()
	s.refs--
	s.mu.Unlock()
}

// maxRef is how long a ref and a reason may be.
const (
	maxRef    = 180
	maxReason = 1000
)

// Grant gives an account credit, and returns when that is durable. The same
// ref again returns the first entry.
func (l *Ledger) Grant(ctx context.Context, account string, amount jimu.Credit, reason, ref string) (jimu.Entry, error) {
	switch {
	case amount <= 0:
		return jimu.Entry{}, jimu.Errorf(jimu.Invalid, "the amount must be above 0")
	case strings.TrimSpace(reason) == "" || len(reason) > maxReason:
		return jimu.Entry{}, jimu.Errorf(jimu.Invalid, "a grant needs a reason, of at most %d bytes", maxReason)
	case ref == "" || len(ref) > maxRef || account == "" || len(account) > maxRef || isSystem(account):
		return jimu.Entry{}, jimu.Errorf(jimu.Invalid, "a grant needs a reference, and the account of a user")
	case l.closing.Load():
		return jimu.Entry{}, jimu.Errorf(jimu.Overloaded, "the server is about to stop; try again")
	}
	if b := l.breach.Load(); b != nil {
		return jimu.Entry{}, l.ready()
	}
	g := &grant{account: account, amount: amount, reason: reason, ref: ref, at: l.now(), done: make(chan struct{})}
	l.queue.grant(g)
	select {
	case <-g.done:
		return g.entry, g.err
	case <-ctx.Done():
		return jimu.Entry{}, &jimu.Error{Code: jimu.Overloaded, Text: "the grant is not confirmed yet: ask again with the same reference", Err: ctx.Err()}
	}
}

// Balance reads what an account has, and what is set aside for requests. What
// is merely leased by this process, and free, is not counted as set aside.
func (l *Ledger) Balance(ctx context.Context, account string) (jimu.Balance, error) {
	a, err := l.book.Account(ctx, account)
	if err != nil {
		return jimu.Balance{}, fmt.Errorf("reading the balance: %w", err)
	}
	l.mu.Lock()
	s := l.slices[leaseKey{jimu.LeaseAccount, account}]
	l.mu.Unlock()
	if s != nil {
		s.mu.Lock()
		a.Held = max(0, a.Held-s.free-s.back)
		s.mu.Unlock()
	}
	return jimu.Balance{Balance: a.Balance, Held: a.Held}, nil
}

const maxStatement = 1000

// Statement reads an account's entries, the newest first, from before a place
// on it; 0 is from the newest.
func (l *Ledger) Statement(ctx context.Context, account string, before int64, limit int) ([]jimu.Entry, error) {
	es, err := l.book.Statement(ctx, account, before, min(max(1, limit), maxStatement))
	if err != nil {
		return nil, fmt.Errorf("reading the statement: %w", err)
	}
	for i := range es {
		if _, err := readDetail(&es[i]); err != nil {
			return nil, err
		}
	}
	return es, nil
}

// Flush returns when everything that was settled before is in the books.
func (l *Ledger) Flush(ctx context.Context) error {
	select {
	case <-l.queue.flush():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close gives the leases back, commits what is settled, and ends the ledger.
// It is called when no request uses it any more. What cannot be committed
// before ctx ends stays in the journal for the next start.
func (l *Ledger) Close(ctx context.Context) error {
	if l.closing.Swap(true) {
		return nil
	}
	l.mu.Lock()
	for _, s := range l.slices {
		s.mu.Lock()
		s.back += s.free
		s.free, s.target = 0, 0
		l.queue.look(s, false)
		s.mu.Unlock()
	}
	l.mu.Unlock()
	err := l.Flush(ctx)
	close(l.stop)
	if err != nil {
		l.cancel() // the writer is in the middle of a commit that does not end
	}
	l.wg.Wait()
	l.cancel()
	if err == nil {
		err = l.exit(ctx)
	}
	l.journal.close()
	if err != nil {
		return fmt.Errorf("closing the ledger: %w", err)
	}
	return nil
}
