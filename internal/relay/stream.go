package relay

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strconv"
	"sync"
	"time"

	"github.com/jimu-ai/jimu"
)

// deliver sends an answer that is not a stream, after its bill.
func (j *job) deliver(ctx context.Context, f front) error {
	if ctx.Err() != nil && j.cut.Load() == cutNone { // its upstream was read on without it
		err := j.gone()
		j.bill(err)
		return err
	}
	j.bill(nil)
	j.begun = true
	if j.costs {
		j.whole = appendCost(nil, j.whole, j.rec.Cost)
	}
	return f.wholeAnswer(j)
}

// relay passes a stream on. On a plain HTTP/1.1 connection it goes on in a
// small goroutine, so that the server's own memory for the request is free.
func (j *job) relay(ctx context.Context, f front) error {
	s, detach, err := f.stream(j)
	if err != nil {
		return j.gone()
	}
	j.begun = true
	if detach {
		j.detached = true
		j.handOver()
		j.stop()
		go j.runDetached(s)
		return nil
	}
	stop := context.AfterFunc(ctx, j.clientGone)
	defer stop()
	j.handOver()
	return j.pump(s)
}

// handOver lets go of the client's context: from now on only cutShort ends
// the upstream's answer early.
func (j *job) handOver() {
	j.live.Store(j.answer)
	j.answer.Detach()
	if why := j.cut.Load(); why != cutNone {
		j.cutShort(why)
	}
}

func (j *job) runDetached(s sink) {
	var err error
	defer func() {
		if p := recover(); p != nil {
			err = j.panicked(p)
			s.abort()
		}
		j.end(err)
	}()
	err = j.pump(s)
}

func (j *job) clientGone() { j.cutShort(cutGone) }

// cutShort ends the request early. It may be called by any goroutine.
func (j *job) cutShort(why int32) {
	j.cut.CompareAndSwap(cutNone, why)
	j.stop()
	a := j.live.Load()
	switch {
	case a == nil:
	case why == cutGone && j.target.Upstream.Disconnect == "drain":
		a.Limit(time.Now().Add(drainTime))
	default:
		a.Abort()
	}
}

// pump passes a stream on, read by read, until it ends. What one read brought
// is one write. It holds no buffer while it waits.
func (j *job) pump(s sink) error {
	for {
		if j.fault.Kind != jimu.FaultNone {
			return j.brokeOff(s)
		}
		if err := j.progress(); err != nil && !j.eof {
			j.rec.State = jimu.StateEnded
			return j.breakOff(s, err)
		}
		if j.eof && !j.finished && !j.meter.Stated && !j.answer.Whole() {
			j.fault = jimu.Fault{Kind: jimu.FaultIncomplete}
			return j.brokeOff(s)
		}
		if j.finished || j.eof {
			j.bill(nil) // before the last byte leaves
		}
		if j.eof {
			return j.finish(s)
		}
		j.flush(s)
		if err := j.more(); err != nil {
			return j.cutOff(s, err)
		}
	}
}

// more waits for more of the stream and looks at it.
func (j *job) more() error {
	p, err := j.answer.Burst(j.idle)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	j.eof = err != nil
	_, failed, err := j.feed(p)
	if err != nil {
		return err
	}
	if failed != nil {
		j.fault = *failed
	}
	return nil
}

// flush sends what is ready to the client.
func (j *job) flush(s sink) {
	if j.out != nil && len(*j.out) > room && j.cut.Load() != cutGone {
		if err := s.write(*j.out); err != nil {
			j.clientGone()
		}
	}
	j.free()
}

// finish ends a stream that is complete.
func (j *job) finish(s sink) error {
	defer j.free()
	if j.cut.Load() == cutGone {
		s.abort()
		return j.gone()
	}
	if j.out == nil {
		j.out = takeOut()
	}
	if err := s.finish(*j.out, j.rec.Cost.String()); err != nil {
		return j.gone()
	}
	return nil
}

// cutOff ends a stream that could not be read on.
func (j *job) cutOff(s sink, err error) error {
	switch {
	case j.cut.Load() == cutGone:
		err := j.gone()
		j.bill(err)
		s.abort()
		return err
	case j.cut.Load() == cutDrain:
		return j.breakOff(s, errDraining())
	case j.finished:
		return j.finish(s) // all that matters had come
	}
	j.fault = broken(err)
	return j.brokeOff(s)
}

// brokeOff ends a stream that its upstream broke off.
func (j *job) brokeOff(s sink) error {
	j.rec.Attempts[len(j.rec.Attempts)-1].Fault = j.fault.Kind
	j.r.o.Router.Report(j.target, jimu.Outcome{Fault: j.fault})
	e := &jimu.Error{Code: jimu.Unavailable, Text: "the upstream broke off the answer"}
	if text := scrub(j.fault.Text, j.target); text != "" && j.fault.Status != 0 {
		e.Text += ": " + text
	}
	return j.breakOff(s, e)
}

// breakOff ends a stream with an error event, after its bill.
func (j *job) breakOff(s sink, err error) error {
	defer j.free()
	j.bill(err)
	if j.cut.Load() == cutGone {
		s.abort()
		return err
	}
	if j.out == nil {
		j.out = takeOut()
	}
	if !j.inside {
		*j.out = append(*j.out, "data: "...)
		*j.out = append(*j.out, errorBody(err)...)
		*j.out = append(*j.out, "\n\n"...)
	}
	_ = s.finish(*j.out, j.rec.Cost.String()) // the client's going now changes nothing
	return err
}

var errEvent = errors.New("an event of the stream is too large")

// feed looks at bytes of a stream, and appends what the client is to see of
// them to j.out. It stops at an error of the upstream.
func (j *job) feed(p []byte) (signal jimu.Signal, failed *jimu.Fault, err error) {
	b := p
	if len(j.carry) > 0 {
		j.carry = append(j.carry, p...)
		b = j.carry
	}
	if j.out == nil {
		j.out = takeOut()
	}
	for {
		n := j.split.next(b)
		if n == 0 {
			if !j.eof || len(b) == 0 {
				break
			}
			n, j.split = len(b), splitter{} // the last event, without its blank line
		}
		s, f := j.event(b[:n])
		signal |= s
		if f != nil {
			return signal, f, nil
		}
		b = b[n:]
	}
	switch {
	case len(b) == 0:
		j.carry = nil
	case len(b) > j.r.o.MaxEvent:
		return signal, nil, errEvent
	default:
		j.carry = append(j.carry[:0], b...)
	}
	return signal, nil, nil
}

// event looks at one event.
func (j *job) event(b []byte) (signal jimu.Signal, failed *jimu.Fault) {
	var scratch []byte
	d, ok := data(b, &scratch)
	if ok {
		signal = j.target.Provider.Read(d, &j.meter)
	}
	if signal&jimu.SignalError != 0 {
		f := classified(j.target, j.answer.Status(), nil, d)
		return signal, &f
	}
	j.finished = j.finished || signal&jimu.SignalDone != 0
	switch {
	case signal&jimu.SignalUsage != 0 && j.costs:
		*j.out = appendCost(*j.out, b, j.costNow())
	case signal&(jimu.SignalUsage|jimu.SignalContent|jimu.SignalDone) == jimu.SignalUsage && !j.call.IncludeUsage:
		// We asked for it, the client did not.
	default:
		*j.out = append(*j.out, b...)
	}
	return signal, nil
}

// costNow is what the request costs if the usage stated last is final.
func (j *job) costNow() jimu.Credit {
	cost := j.spent()
	if u := j.meter.Usage; j.believable(&u) {
		cost = j.priced(&u)
	}
	return min(cost, j.hold.Amount())
}

// appendCost appends b with a member "jimu" at the end of its last object.
func appendCost(dst, b []byte, cost jimu.Credit) []byte {
	end := bytes.LastIndexByte(b, '}')
	if end < 0 {
		return append(dst, b...)
	}
	dst = append(dst, b[:end]...)
	if before := bytes.TrimRight(b[:end], " \t\r\n"); len(before) > 0 && before[len(before)-1] != '{' {
		dst = append(dst, ',')
	}
	dst = append(dst, `"jimu":{"cost":`...)
	dst = strconv.AppendQuote(dst, cost.String())
	dst = append(dst, '}')
	return append(dst, b[end:]...)
}

// room is left before the bytes for the size of a chunk: eight hexadecimal
// digits and CR LF.
const room = 10

// keepBuffer bounds the buffers that are kept for others, and maxSpare how many.
const (
	keepBuffer = 32 << 10
	maxSpare   = 128
)

// spare keeps a few buffers for the next one who needs one. A sync.Pool would
// keep as many as were ever in use at once, for two collections of garbage.
type spare struct {
	mu   sync.Mutex
	bufs []*[]byte
}

var buffers spare //nolint:gochecknoglobals // a pool has to be shared to be one

func takeBuffer() *[]byte {
	buffers.mu.Lock()
	defer buffers.mu.Unlock()
	n := len(buffers.bufs)
	if n == 0 {
		b := make([]byte, 0, 2048)
		return &b
	}
	b := buffers.bufs[n-1]
	buffers.bufs = buffers.bufs[:n-1]
	return b
}

func giveBuffer(b *[]byte) {
	if cap(*b) > keepBuffer {
		return
	}
	*b = (*b)[:0]
	buffers.mu.Lock()
	if len(buffers.bufs) < maxSpare {
		buffers.bufs = append(buffers.bufs, b)
	}
	buffers.mu.Unlock()
}

// takeOut returns a buffer for events, with room for framing.
func takeOut() *[]byte {
	b := takeBuffer()
	*b = append((*b)[:0], "0000000000"...)
	return b
}

// free gives the buffer for events back.
func (j *job) free() {
	if j.out != nil {
		giveBuffer(j.out)
		j.out = nil
	}
}
