package chat

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/jimu-ai/jimu"
)

// kind is what a piece of text is.
type kind uint8

const (
	kindReasoning kind = iota
	kindAnswer
)

func (k kind) String() string { return [...]string{"reasoning", "text"}[k] }

// run is a stretch of the log of one kind.
type run struct {
	kind kind
	end  int64
}

// log is the text of a turn in the order it came, reasoning and answer alike.
// An offset is a number of bytes of it; pieces are added whole, so that each
// end is the end of a character. Readers keep nothing but their offset: one
// that is slow costs no memory and holds nobody up.
type log struct {
	mu      sync.Mutex
	text    []byte
	runs    []run
	final   *jimu.Turn    // how it ended
	changed chan struct{} // closed at the next change, if somebody waits
}

// runCost is what a run weighs beside its text, in bytes.
const runCost = 16

// add appends a piece. It reports false where the log is full.
func (l *log) add(k kind, s string) bool {
	if s == "" {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.text)+len(s)+runCost*len(l.runs) > maxAnswer {
		return false
	}
	l.text = append(l.text, s...)
	end := int64(len(l.text))
	if n := len(l.runs); n > 0 && l.runs[n-1].kind == k {
		l.runs[n-1].end = end
	} else {
		l.runs = append(l.runs, run{k, end})
	}
	l.wake()
	return true
}

func (l *log) end(t *jimu.Turn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.final = t
	l.wake()
}

func (l *log) wake() {
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

// ended returns the turn as it ended, or nil.
func (l *log) ended() *jimu.Turn {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.final
}

func (l *log) size() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return int64(len(l.text))
}

// texts returns the text of each kind, and the lengths of the runs.
func (l *log) texts() (reasoning, answer string, runs []int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var by [2]strings.Builder
	at := int64(0)
	for _, r := range l.runs {
		if len(runs)%2 != int(r.kind) {
			runs = append(runs, 0)
		}
		runs = append(runs, r.end-at)
		_, _ = by[r.kind].Write(l.text[at:r.end]) // a builder never fails
		at = r.end
	}
	return by[kindReasoning].String(), by[kindAnswer].String(), runs
}

// logOf makes the log of a turn that was stored.
func logOf(t *jimu.Turn) *log {
	l := new(log)
	rest := [2]string{t.Reasoning, t.Answer}
	for i, n := range t.Runs {
		k := i % 2
		n = min(max(n, 0), int64(len(rest[k])))
		l.add(kind(k), rest[k][:n])
		rest[k] = rest[k][n:]
	}
	l.add(kindReasoning, rest[kindReasoning]) // all of it, where no runs are stored
	l.add(kindAnswer, rest[kindAnswer])
	if t.State != jimu.TurnRunning {
		l.final = t
	}
	return l
}

// piece is what a reader gets of the log.
type piece struct {
	kind  kind
	text  string
	end   int64
	last  bool            // nothing follows it yet
	final *jimu.Turn      // how the turn ended
	more  <-chan struct{} // closed when there is more, where there is nothing
}

// after returns the text after an offset, up to the end of its run.
func (l *log) after(at int64) piece {
	l.mu.Lock()
	defer l.mu.Unlock()
	size := int64(len(l.text))
	at = min(max(at, 0), size)
	if at == size {
		p := piece{end: at, last: true, final: l.final}
		if l.final == nil {
			if l.changed == nil {
				l.changed = make(chan struct{})
			}
			p.more = l.changed
		}
		return p
	}
	for at > 0 && !utf8.RuneStart(l.text[at]) {
		at-- // within a character: all of it again
	}
	i, _ := slices.BinarySearchFunc(l.runs, at+1, func(r run, at int64) int { return int(r.end - at) })
	r := l.runs[i]
	return piece{kind: r.kind, text: string(l.text[at:r.end]), end: r.end, last: r.end == size, final: l.final}
}

// Event is one event for a reader.
type Event struct {
	ID   int64  // the offset after it
	Kind string // "text", "reasoning" or "done"
	Data []byte // JSON: {"text": …}, or the turn
}

// Reader follows a turn.
type Reader struct {
	log   *log
	at    int64
	known int64     // what there was at the start; it goes at once
	next  time.Time // when the next live event may go
	now   func() time.Time
	fetch func(ctx context.Context) (*log, error) // reads a turn of another process again; nil for ours
	over  bool
}

// pace is the shortest time between two live events: more would only cost
// both sides work.
const pace = 25 * time.Millisecond

// fetchPeriod is how often a turn that another process runs is read.
const fetchPeriod = savePeriod / 2

// Attach follows a turn from an offset: what came after it at once, then what
// comes.
func (s *Service) Attach(ctx context.Context, user, id string, after int64) (*Reader, error) {
	r := &Reader{at: after, now: s.o.Now}
	if l := s.live(user, id); l != nil {
		r.log, r.known = l.log, l.log.size()
		return r, nil
	}
	fetch := func(ctx context.Context) (*log, error) {
		t, err := s.Turn(ctx, user, id)
		if err != nil {
			return nil, err
		}
		return logOf(t), nil
	}
	l, err := fetch(ctx)
	if err != nil {
		return nil, err
	}
	r.log, r.known = l, l.size()
	if l.final == nil {
		r.fetch = fetch
	}
	return r, nil
}

// Next waits for the next event. After the last one, done, it returns [io.EOF].
func (r *Reader) Next(ctx context.Context) (Event, error) {
	for !r.over {
		p := r.log.after(r.at)
		if p.text == "" {
			if p.final != nil {
				r.over = true
				return event(p.end, "done", p.final)
			}
			if err := r.wait(ctx, p.more); err != nil {
				return Event{}, err
			}
			continue
		}
		if wait := r.next.Sub(r.now()); r.at >= r.known && p.last && p.final == nil && wait > 0 {
			if err := sleep(ctx, wait); err != nil {
				return Event{}, err
			}
			continue
		}
		r.at, r.next = p.end, r.now().Add(pace)
		return event(p.end, p.kind.String(), struct {
			Text string `json:"text"`
		}{p.text})
	}
	return Event{}, io.EOF
}

// wait returns when there may be more.
func (r *Reader) wait(ctx context.Context, more <-chan struct{}) error {
	if r.fetch == nil {
		select {
		case <-more:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err := sleep(ctx, fetchPeriod); err != nil {
		return err
	}
	l, err := r.fetch(ctx)
	if err != nil {
		return fmt.Errorf("reading the turn again: %w", err)
	}
	r.log = l
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func event(id int64, kind string, v any) (Event, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return Event{}, fmt.Errorf("encoding an event: %w", err)
	}
	return Event{ID: id, Kind: kind, Data: bytes.TrimRight(b.Bytes(), "\n")}, nil
}
