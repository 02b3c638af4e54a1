package relay

import (
	"context"

	"github.com/jimu-ai/jimu"
)

// Do answers a request from within the process, by the same steps as one over
// HTTP. request is its ID. on gets the data of each event of a stream, without
// the marker of its end, or the whole answer at once; an error from it ends
// the request as if the client had gone. The record is of use even with an
// error.
func (r *Relay) Do(ctx context.Context, caller *jimu.Caller, op jimu.Operation, request string, body []byte, on func(data []byte) error) (*jimu.Record, error) {
	j := r.job(op, request)
	j.inside = true
	err := r.run(ctx, j, &insideFront{who: caller, bytes: body, on: on})
	return j.rec, err
}

// insideFront is a request from within the process.
type insideFront struct {
	who   *jimu.Caller
	bytes []byte
	on    func(data []byte) error
	split splitter
}

func (f *insideFront) caller() (*jimu.Caller, error) { return f.who, nil }
func (f *insideFront) body() ([]byte, error)         { return f.bytes, nil }
func (f *insideFront) done()                         {}
func (f *insideFront) abort()                        {}

func (f *insideFront) wholeAnswer(j *job) error { return f.on(j.whole) }

func (f *insideFront) stream(*job) (sink, bool, error) { return f, false, nil }

func (f *insideFront) write(b []byte) error {
	b = b[room:]
	for len(b) > 0 {
		n := f.split.next(b)
		if n == 0 {
			n = len(b) // the last event
			f.split = splitter{}
		}
		var scratch []byte
		if d, ok := data(b[:n], &scratch); ok && string(d) != "[DONE]" {
			if err := f.on(d); err != nil {
				return err
			}
		}
		b = b[n:]
	}
	return nil
}

func (f *insideFront) finish(b []byte, _ string) error { return f.write(b) }
