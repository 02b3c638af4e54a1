package relay

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jimu-ai/jimu"
	"github.com/jimu-ai/jimu/internal/relay/wire"
)

const (
	// maxTries bounds the attempts at one request.
	maxTries = 3
	// maxErrorBody bounds what is read of an answer that is an error.
	maxErrorBody = 64 << 10

	defaultHeaderTimeout = 60 * time.Second
	defaultIdleTimeout   = 90 * time.Second
	// drainTime is how long an upstream is read after its client has gone,
	// with the policy "drain".
	drainTime = 10 * time.Second
	// pause is the wait before the same upstream is asked again.
	pause = 100 * time.Millisecond
)

// forward asks one upstream after another until one has something for the
// client. Nothing has been sent to the client by then.
func (j *job) forward(ctx context.Context, targets []*jimu.Target) error {
	j.r.retries.request()
	next := 0
	for try := 0; ; try++ {
		t := targets[min(next, len(targets)-1)]
		fault := j.attempt(ctx, t)
		if fault.Kind == jimu.FaultNone {
			return nil
		}
		if err := j.final(&fault); err != nil {
			return err
		}
		next++
		again := next >= len(targets)
		if again && fault.Kind != jimu.FaultRetry {
			return j.unavailable(&fault)
		}
		if try+1 >= maxTries || !j.r.retries.retry(j.r.o.Now()) {
			return j.unavailable(&fault)
		}
		if again && !sleep(ctx, pause) {
			return j.gone()
		}
		j.r.count.retries.Add(1)
	}
}

// final returns the error that ends a request after a fault that no other
// upstream can help with, or nil.
func (j *job) final(f *jimu.Fault) error {
	switch f.Kind {
	case jimu.FaultCancelled:
		if j.cut.Load() == cutDrain {
			return errDraining()
		}
		return j.gone()
	case jimu.FaultClient:
		return j.refusal(f, jimu.Invalid)
	case jimu.FaultContent:
		return j.refusal(f, jimu.Blocked)
	}
	return nil
}

func (j *job) gone() error {
	j.cut.CompareAndSwap(cutNone, cutGone)
	return &jimu.Error{Code: jimu.Unavailable, Text: "the client went away"}
}

func (j *job) unavailable(f *jimu.Fault) error {
	e := &jimu.Error{Code: jimu.Unavailable, Text: "no upstream answered: try again", RetryAfter: f.For}
	switch f.Kind {
	case jimu.FaultModel:
		e.Text = "no upstream has this model at the moment"
	case jimu.FaultCool: // what the router says while the upstreams rest
		e.Code, e.Text = jimu.RateLimited, "every upstream of this model is at its limit: try again later"
		e.RetryAfter = max(f.For, time.Second)
	}
	if text := scrub(f.Text, j.target); text != "" {
		e.Err = errors.New(text)
	}
	return e
}

// sleep waits. It reports false if ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// attempt asks one upstream, and reports how it went.
func (j *job) attempt(ctx context.Context, t *jimu.Target) jimu.Fault {
	began := j.r.o.Now()
	j.target, j.meter, j.split, j.accepted = t, jimu.Meter{}, splitter{}, false
	j.finished, j.eof, j.carry, j.whole = false, false, nil, nil
	fault := j.ask(ctx, t)
	now := j.r.o.Now()
	took := now.Sub(began)
	if fault.Kind != jimu.FaultNone {
		if j.answer != nil {
			j.answer.Close()
			j.answer = nil
		}
		j.free()
		if ctx.Err() != nil {
			fault.Kind = jimu.FaultCancelled
		}
	} else {
		j.rec.Upstream = t.Upstream.Name
		j.rec.First = now.Sub(j.began)
	}
	j.rec.Attempts = append(j.rec.Attempts, jimu.Attempt{
		Upstream: t.Upstream.Name, Key: t.Key, Name: t.Name,
		Fault: fault.Kind, Status: fault.Status, Code: fault.Code, Took: took,
	})
	outcome := jimu.Outcome{Fault: fault}
	if fault.Kind == jimu.FaultNone {
		outcome.FirstByte = took
	}
	j.r.o.Router.Report(t, outcome)
	return fault
}

// ask sends the request and reads the answer up to the first thing for the
// client.
func (j *job) ask(ctx context.Context, t *jimu.Target) jimu.Fault {
	e, err := j.r.endpoints.of(t, j.call.Op)
	if err != nil {
		return jimu.Fault{Kind: jimu.FaultOther, Text: err.Error()}
	}
	buf := takeBuffer()
	defer giveBuffer(buf)
	*buf = e.Begin((*buf)[:0])
	if *buf, err = t.Provider.Rewrite(*buf, &j.call, t.Name); err != nil {
		return jimu.Fault{Kind: jimu.FaultOther, Text: err.Error()}
	}
	j.idle = t.Upstream.IdleTimeout.Or(defaultIdleTimeout)
	upstream, stop := j.outlive(ctx, t)
	defer stop()
	j.accepted = true // unless it is known that it was not sent
	j.answer, err = e.Do(upstream, e.Finish(*buf), t.Upstream.HeaderTimeout.Or(defaultHeaderTimeout))
	if err != nil {
		j.accepted = !errors.Is(err, wire.ErrNotSent)
		return broken(err)
	}
	j.answer.Within(j.r.o.MaxDuration)
	status := j.answer.Status()
	switch {
	case status < 200 || status > 299:
		j.accepted = false
		return j.classify(t, status)
	case strings.HasPrefix(j.answer.ContentType(), "text/event-stream"):
		return j.gate()
	}
	return j.readWhole(t)
}

// outlive returns the context of an upstream request. It ends with the
// client's, or, with the policy "drain", some time later.
func (j *job) outlive(ctx context.Context, t *jimu.Target) (context.Context, func()) {
	if t.Upstream.Disconnect != "drain" {
		return ctx, func() {}
	}
	long, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(drainTime, cancel) })
	return long, func() {
		stop()
		if j.answer != nil {
			j.answer.Detach()
		}
		cancel()
	}
}

// broken classifies a failure of the connection.
func broken(err error) jimu.Fault {
	f := jimu.Fault{Kind: jimu.FaultTransport, Text: err.Error()}
	var ne net.Error
	switch {
	case errors.As(err, &ne) && ne.Timeout():
		f.Kind = jimu.FaultTimeout
	case errors.Is(err, io.ErrUnexpectedEOF):
		f.Kind = jimu.FaultIncomplete
	case errors.Is(err, wire.ErrAnswer):
		f.Kind = jimu.FaultOther
	}
	return f
}

// classify asks the provider what an answer with an error status means.
func (j *job) classify(t *jimu.Target, status int) jimu.Fault {
	var body []byte
	for len(body) < maxErrorBody {
		p, err := j.answer.Burst(j.idle)
		body = append(body, p[:min(len(p), maxErrorBody-len(body))]...)
		if err != nil {
			break
		}
	}
	return classified(t, status, j.answer.Header(), body)
}

func classified(t *jimu.Target, status int, header http.Header, body []byte) jimu.Fault {
	f := t.Provider.Classify(status, header, body)
	if f.Status == 0 {
		f.Status = status
	}
	if f.Kind == jimu.FaultNone {
		f.Kind = jimu.FaultOther
	}
	return f
}

// gate reads a stream until something for the client is there.
func (j *job) gate() jimu.Fault {
	j.out = takeOut()
	for {
		p, err := j.answer.Burst(j.idle)
		if err != nil && !errors.Is(err, io.EOF) {
			return broken(err)
		}
		j.eof = err != nil
		signal, failed, ferr := j.feed(p)
		switch {
		case ferr != nil:
			return jimu.Fault{Kind: jimu.FaultOther, Text: ferr.Error()}
		case signal&jimu.SignalContent != 0 || (signal&jimu.SignalDone != 0 && j.meter.Stated):
			j.content = true
			if failed != nil {
				j.fault = *failed
			}
			return jimu.Fault{}
		case failed != nil:
			return *failed
		case j.eof || signal&jimu.SignalDone != 0:
			return jimu.Fault{Kind: jimu.FaultIncomplete, Text: "the stream ended without any content"}
		case len(*j.out) > j.r.o.MaxEvent:
			return jimu.Fault{Kind: jimu.FaultOther, Text: "the stream sends on without any content"}
		}
	}
}

// readWhole reads an answer that is not a stream.
func (j *job) readWhole(t *jimu.Target) jimu.Fault {
	var body []byte
	for {
		p, err := j.answer.Burst(j.idle)
		if err != nil && !errors.Is(err, io.EOF) {
			return broken(err)
		}
		if int64(len(body)+len(p)) > j.r.o.MaxAnswer {
			return jimu.Fault{Kind: jimu.FaultOther, Text: "the answer is too large"}
		}
		switch {
		case err != nil && body == nil:
			j.whole = p // as it lies in the connection's buffer
		case err != nil:
			j.whole = append(body, p...)
		default:
			if n := j.answer.Length(); body == nil && n > 0 && n <= j.r.o.MaxAnswer {
				body = make([]byte, 0, n)
			}
			body = append(body, p...)
		}
		if err != nil {
			break
		}
	}
	j.eof = true
	signal := t.Provider.Read(j.whole, &j.meter)
	if signal&jimu.SignalError != 0 {
		f := classified(t, j.answer.Status(), nil, j.whole)
		j.whole = nil
		return f
	}
	if len(j.whole) == 0 {
		j.whole = nil
		return jimu.Fault{Kind: jimu.FaultIncomplete, Text: "the answer is empty"}
	}
	j.content, j.finished = true, true
	return jimu.Fault{}
}

// endpoints keeps the prepared head of requests to each target.
type endpoints struct {
	r *Relay
	m sync.Map // *jimu.Target → *prepared
	n atomic.Int64
}

// prepared are the endpoints of a target.
type prepared struct{ chat, embeddings *wire.Endpoint }

// maxEndpoints bounds how many targets of past configurations are kept.
const maxEndpoints = 4096

func (p *prepared) of(op jimu.Operation) *wire.Endpoint {
	if op == jimu.OpEmbeddings {
		return p.embeddings
	}
	return p.chat
}

func (e *endpoints) of(t *jimu.Target, op jimu.Operation) (*wire.Endpoint, error) {
	v, ok := e.m.Load(t)
	if !ok {
		p, err := e.prepare(t)
		if err != nil {
			return nil, err
		}
		if e.n.Add(1) > maxEndpoints {
			e.m.Clear()
			e.n.Store(1)
		}
		e.m.Store(t, p)
		v = p
	}
	p, _ := v.(*prepared)
	if ep := p.of(op); ep != nil {
		return ep, nil
	}
	return nil, errors.New("the upstream cannot do this")
}

func (e *endpoints) prepare(t *jimu.Target) (*prepared, error) {
	var dial wire.Dial
	if e.r.o.DialOf != nil {
		dial = e.r.o.DialOf(t.Upstream)
	}
	p := new(prepared)
	for op, into := range map[jimu.Operation]**wire.Endpoint{jimu.OpChat: &p.chat, jimu.OpEmbeddings: &p.embeddings} {
		at, ok := t.Endpoints[op]
		if !ok {
			continue
		}
		method := at.Method
		if method == "" {
			method = http.MethodPost
		}
		ep, err := e.r.o.Client.Endpoint(method, at.URL, at.Header, t.Upstream.Name, dial)
		if err != nil {
			return nil, err
		}
		*into = ep
	}
	return p, nil
}

// budget bounds retries to a tenth of the requests, and ten a second more.
type budget struct {
	mu    sync.Mutex
	milli int64 // thousandths of retries that are left
	at    time.Time
}

const maxMilliRetries = 100_000

func (b *budget) request() {
	b.mu.Lock()
	b.milli = min(b.milli+100, maxMilliRetries)
	b.mu.Unlock()
}

func (b *budget) retry(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	since := now.Sub(b.at)
	if b.at.IsZero() || since > time.Second {
		since = time.Second
	}
	if since > 0 {
		b.milli = min(b.milli+10*since.Milliseconds(), maxMilliRetries)
	}
	b.at = now
	if b.milli < 1000 {
		return false
	}
	b.milli -= 1000
	return true
}
