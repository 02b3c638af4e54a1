// Package relay is the hot path: one request in, one upstream call out, and
// the bill. Read [Relay.answer]; each step is a file of its own.
//
// Who pays for what when a request is cut short is decided in settle.go.
package relay

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jimu-ai/jimu"
	"github.com/jimu-ai/jimu/internal/relay/wire"
)

// What the relay needs of the rest, and no more. internal/app hands these in.
type (
	// Gate knows who holds a key.
	Gate interface {
		// Admit returns who holds a key, or an Unauthorized or Forbidden error.
		Admit(key string) (*jimu.Caller, error)
	}
	// Router knows the upstreams and how they fare.
	Router interface {
		// Route appends the ways to serve a request to dst, best first. It
		// fails with NotFound, Forbidden, NoPrice or Unavailable.
		Route(dst []*jimu.Target, c *jimu.Caller, op jimu.Operation, model string) ([]*jimu.Target, error)
		// Report says how an attempt went: once for each that failed or began
		// to answer, and once more if an answer that had begun broke off.
		Report(t *jimu.Target, o jimu.Outcome)
		// Models lists what a caller may use, sorted by ID.
		Models(c *jimu.Caller) []jimu.Model
	}
	// Ledger sets credit aside while a request runs and books what it cost.
	Ledger interface {
		// Hold sets aside between o.Least and o.Want, or fails with NoCredit.
		Hold(ctx context.Context, o *Order) (Hold, error)
	}
	// Order says what a hold is for.
	Order struct {
		Request string
		Account string
		Budget  string // the key's spending limit, or ""
		Model   string
		Want    jimu.Credit // what the request likely costs at most
		Least   jimu.Credit // what is needed to begin it
		Price   *jimu.Price
		Began   time.Time
	}
	// Hold is credit set aside. Exactly one of Settle and Release is called,
	// once.
	Hold interface {
		Amount() jimu.Credit
		// Extend sets more aside. NoCredit means that there is no more.
		Extend(ctx context.Context, by jimu.Credit) error
		// Meter notes what has been delivered so far, for the time after a
		// crash. u is valid during the call only.
		Meter(cost jimu.Credit, u *jimu.Usage)
		// Settle books the charge and returns what was taken: at most Amount.
		Settle(c *jimu.Charge) (jimu.Credit, error)
		Release()
	}
	// Limiter bounds requests and tokens a minute, and requests at once.
	Limiter interface {
		// Admit fails with RateLimited. done is called once with the tokens used.
		Admit(ctx context.Context, c *jimu.Caller, tokens int64) (done func(used int64), err error)
	}
	// Recorder keeps a record of each request. It must not block.
	Recorder interface{ Record(r *jimu.Record) }
)

// Options configure a [Relay].
type Options struct {
	Gate     Gate
	Router   Router
	Ledger   Ledger
	Limiter  Limiter // nil is no limits
	Recorder Recorder
	Client   *wire.Client
	// DialOf returns the dial function of an upstream that is not reached
	// through the network, and nil for all others. May be nil.
	DialOf func(u *jimu.Upstream) wire.Dial
	Now    func() time.Time
	Log    *slog.Logger

	MaxBody       int64         // bytes of a request; 0 is 10 MiB
	MaxAnswer     int64         // bytes of an answer that is not streamed; 0 is 64 MiB
	MaxEvent      int           // bytes of an event of a stream; 0 is 16 MiB
	TypicalOutput int64         // tokens that a hold covers where nothing else bounds them; 0 is 4096
	MaxDuration   time.Duration // of an answer, once it has begun; 0 is 1 h
}

// Relay serves the model API. It is safe for concurrent use.
type Relay struct {
	o Options
	// background is the parent of what outlives the client's request.
	background context.Context //nolint:containedctx // a request that was hijacked has no context of its own
	endpoints  endpoints
	retries    budget
	watch      watcher
	count      counters

	mu      sync.Mutex
	running map[*job]struct{}
	closing bool
	idle    chan struct{} // closed when the last request ends while closing
}

// New makes a relay.
func New(o Options) *Relay {
	if o.MaxBody == 0 {
		o.MaxBody = 10 << 20
	}
	if o.MaxAnswer == 0 {
		o.MaxAnswer = 64 << 20
	}
	if o.MaxEvent == 0 {
		o.MaxEvent = 16 << 20
	}
	if o.TypicalOutput == 0 {
		o.TypicalOutput = 4096
	}
	if o.MaxDuration == 0 {
		o.MaxDuration = time.Hour
	}
	r := &Relay{
		o:          o,
		background: context.Background(), //nolint:forbidigo // the root of what outlives requests
		running:    make(map[*job]struct{}),
		idle:       make(chan struct{}),
	}
	r.endpoints.r = r
	return r
}

// job is one request.
type job struct {
	r        *Relay
	caller   *jimu.Caller
	call     jimu.Call
	rec      *jimu.Record
	began    time.Time // with a monotonic reading
	estimate int64     // of the input, in tokens
	price    *jimu.Price
	hold     Hold
	ceiling  jimu.Credit // no answer that the upstream may give costs more; 0 is unknown
	step     jimu.Credit // what a hold is extended by
	limited  func(int64)
	scope    atomic.Pointer[scope] // nil once it has ended

	target  *jimu.Target
	answer  *wire.Answer
	idle    time.Duration
	meter   jimu.Meter
	counted jimu.Usage // by us, so far
	split   splitter
	carry   []byte    // an event that is not whole
	whole   []byte    // an answer that is not a stream
	head    [6]string // values of headers for the client, in one place
	out     *[]byte
	fault   jimu.Fault // of an upstream that broke off

	accepted bool // an upstream has the whole request
	content  bool // something for the client came
	finished bool // the upstream marked the end
	eof      bool // the answer was read to its end
	settled  bool
	costs    bool // the client asked for the cost within the answer
	inside   bool // the request is from within the process
	detached bool // the request goes on in a goroutine of its own
	begun    bool // the client has got the head of an answer
	torn     bool // a panic ended the answer in the middle

	cut  atomic.Int32 // why the request is to end early
	live atomic.Pointer[wire.Answer]
}

// Why a request is to end early.
const (
	cutNone  int32 = iota
	cutGone        // the client went away
	cutDrain       // we are stopping
)

// front is where a request comes from and its answer goes to.
type front interface {
	// caller says who asks.
	caller() (*jimu.Caller, error)
	// body reads the request.
	body() ([]byte, error)
	// wholeAnswer sends an answer that is not a stream.
	wholeAnswer(j *job) error
	// stream begins a stream. It reports true if the stream may go on after
	// the front has returned.
	stream(j *job) (s sink, detach bool, err error)
	// done frees what is only needed until the upstream has answered.
	done()
}

// sink takes the events of a stream. b begins with room bytes of room for
// framing.
type sink interface {
	write(b []byte) error
	// finish sends the last bytes and marks the end of the stream.
	finish(b []byte, cost string) error
	// abort ends the connection in the middle, if it is still there.
	abort()
}

// ServeHTTP answers one model request.
func (r *Relay) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	j := r.job(operation(req.URL.Path), "")
	j.head = [...]string{j.rec.Request, "", "", "nosniff", "", ""}
	w.Header()["X-Request-Id"] = j.head[0:1:1]
	j.costs = req.Header.Get("X-Jimu-Usage") == "1"
	err := r.run(req.Context(), j, &httpFront{r: r, w: w, req: req})
	switch {
	case err != nil && !j.begun:
		r.WriteError(w, req, err)
	case j.torn:
		panic(http.ErrAbortHandler) // so that the client does not take it for the end
	}
}

// run answers a request and sees to it that it ends, whatever happens.
func (r *Relay) run(client context.Context, j *job, f front) (err error) {
	ctx := new(scope)
	ctx.begin(client)
	j.scope.Store(ctx)
	if err := r.enter(j); err != nil {
		j.stop()
		j.rec.State, j.rec.Code = jimu.StateRefused, jimu.ErrorOf(err).Code
		return err
	}
	defer func() {
		if p := recover(); p != nil {
			err = j.panicked(p)
			j.torn = j.begun && !j.detached
		}
		if !j.detached || err != nil {
			j.end(err)
		}
	}()
	return r.answer(ctx, j, f)
}

// answer is the life of a request.
func (r *Relay) answer(ctx context.Context, j *job, f front) error {
	defer f.done()
	// Admit: who asks?
	caller, err := f.caller()
	if err != nil {
		return err
	}
	j.admit(caller)
	// Open: what is asked? The body stays bytes.
	body, err := f.body()
	if err != nil {
		return err
	}
	if err := j.open(body); err != nil {
		return err
	}
	// Limit: requests and tokens a minute, requests at once.
	if err := j.limit(ctx); err != nil {
		return err
	}
	// Route: who could answer, best first?
	var room [8]*jimu.Target
	targets, err := r.o.Router.Route(room[:0], caller, j.call.Op, j.call.Model)
	if err != nil {
		return err
	}
	// Hold: set credit aside for what it likely costs.
	if err := j.reserve(ctx, targets); err != nil {
		return err
	}
	// Forward: ask until one upstream has something for the client.
	if err := j.forward(ctx, targets); err != nil {
		return err
	}
	f.done()
	j.call.Body, j.call.Fields = nil, nil
	// Relay, extend and settle: pass the answer on, and the bill.
	if j.whole != nil {
		return j.deliver(ctx, f)
	}
	return j.relay(ctx, f)
}

// job begins a request. Without an ID it gets one.
func (r *Relay) job(op jimu.Operation, id string) *job {
	now := r.o.Now()
	if id == "" {
		id = jimu.NewID(now)
	}
	rec := &struct {
		jimu.Record
		first [1]jimu.Attempt // most requests have one
	}{Record: jimu.Record{Request: id, At: now, Op: op}}
	rec.Attempts = rec.first[:0]
	return &job{r: r, began: now, call: jimu.Call{Op: op}, rec: &rec.Record}
}

func (j *job) admit(c *jimu.Caller) {
	j.caller = c
	j.rec.User, j.rec.Key = c.User, c.Key
}

func (j *job) open(body []byte) (err error) {
	j.estimate, err = open(&j.call, body)
	j.rec.Model, j.rec.Stream = j.call.Model, j.call.Stream
	if err == nil && j.call.Op != jimu.OpChat {
		j.call.Stream = false
	}
	return err
}

func (j *job) limit(ctx context.Context) (err error) {
	if !j.caller.Expires.IsZero() && !j.r.o.Now().Before(j.caller.Expires) {
		return jimu.Errorf(jimu.Unauthorized, "this key has expired: make another one")
	}
	if !j.caller.May(j.call.Model) {
		return &jimu.Error{Code: jimu.Forbidden, Text: "this key may not use the model " + j.call.Model, Param: "model"}
	}
	if j.r.o.Limiter == nil {
		return nil
	}
	j.limited, err = j.r.o.Limiter.Admit(ctx, j.caller, j.estimate+j.call.MaxTokens*j.call.N)
	return err
}

// operation returns what a path asks for.
func operation(path string) jimu.Operation {
	const suffix = "/embeddings"
	if len(path) >= len(suffix) && path[len(path)-len(suffix):] == suffix {
		return jimu.OpEmbeddings
	}
	return jimu.OpChat
}

// end closes the books of a request. It is called exactly once.
func (j *job) end(err error) {
	if j.answer != nil {
		j.answer.Close() // before the context's end, which would end its connection too
	}
	j.stop()
	j.free()
	if j.hold != nil && !j.settled {
		j.bill(err)
	}
	if j.limited != nil {
		j.limited(j.rec.Usage.In() + j.rec.Usage.Out())
	}
	j.close(err)
	j.r.leave(j)
}

// stop ends the request's context, and lets go of it.
func (j *job) stop() {
	if s := j.scope.Swap(nil); s != nil {
		s.close()
	}
}

// close fills in the record and hands it over.
func (j *job) close(err error) {
	rec := j.rec
	rec.Took = j.r.o.Now().Sub(j.began)
	if rec.State == "" {
		rec.State = jimu.StateOK
	}
	if err != nil {
		rec.Code = jimu.ErrorOf(err).Code
		switch {
		case j.cut.Load() == cutGone:
			rec.State = jimu.StateCancelled
		case rec.State == jimu.StateEnded:
		case j.target == nil:
			rec.State = jimu.StateRefused
		default:
			rec.State = jimu.StateFailed
		}
		if rec.Code == jimu.Internal {
			j.r.o.Log.Error("relay failed", "request", rec.Request, "error", err)
		}
	}
	j.r.count.done(rec)
	if j.caller != nil {
		j.r.o.Recorder.Record(rec)
	}
}
