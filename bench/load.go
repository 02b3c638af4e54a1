package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// sample is what a load measured.
type sample struct {
	count  int
	took   time.Duration
	delays []time.Duration // sorted
}

func (s *sample) rate() int {
	if s.took <= 0 {
		return 0
	}
	return int(time.Duration(s.count) * time.Second / s.took)
}

// at returns the delay that so many of a thousand are within.
func (s *sample) at(perMille int) time.Duration {
	if len(s.delays) == 0 {
		return 0
	}
	return s.delays[min(len(s.delays)*perMille/1000, len(s.delays)-1)]
}

// load is what is sent, and to where.
type load struct {
	addr    string
	request []byte
}

// collect runs a worker for each connection and joins what they measured.
func (l *load) collect(ctx context.Context, conns int, worker func(c *conn, keep func(time.Duration)) error) (*sample, error) {
	var (
		mu  sync.Mutex
		all sync.WaitGroup
		out sample
		bad error
	)
	began := time.Now()
	for range conns {
		all.Go(func() {
			delays := make([]time.Duration, 0, 1024)
			c, err := dial(ctx, l.addr)
			if err == nil {
				err = errors.Join(worker(c, func(d time.Duration) { delays = append(delays, d) }), c.Close())
			}
			mu.Lock()
			defer mu.Unlock()
			out.delays = append(out.delays, delays...)
			if err != nil && bad == nil {
				bad = fmt.Errorf("load on %s: %w", l.addr, err)
			}
		})
	}
	all.Wait()
	out.took = time.Since(began)
	out.count = len(out.delays)
	slices.Sort(out.delays)
	return &out, bad
}

// closed keeps so many requests running for a time: each is sent when the one
// before it was answered.
func (l *load) closed(ctx context.Context, conns int, d time.Duration) (*sample, error) {
	end := time.Now().Add(d)
	return l.collect(ctx, conns, func(c *conn, keep func(time.Duration)) error {
		for now := time.Now(); now.Before(end) && ctx.Err() == nil; {
			if err := c.do(l.request, nil); err != nil {
				return err
			}
			done := time.Now()
			keep(done.Sub(now))
			now = done
		}
		return nil
	})
}

// open sends at a fixed rate, whatever the answers take. A delay counts from
// when the request was due, so that a stall is felt by all it held up.
func (l *load) open(ctx context.Context, conns, rate int, d time.Duration) (*sample, error) {
	var next atomic.Int64
	total := int64(rate) * int64(d) / int64(time.Second)
	began := time.Now().Add(50 * time.Millisecond)
	return l.collect(ctx, conns, func(c *conn, keep func(time.Duration)) error {
		for ctx.Err() == nil {
			i := next.Add(1) - 1
			if i >= total {
				return nil
			}
			due := began.Add(time.Duration(i) * time.Second / time.Duration(rate))
			if wait := time.Until(due); wait > 0 {
				<-time.After(wait)
			}
			if err := c.do(l.request, nil); err != nil {
				return err
			}
			keep(time.Since(due))
		}
		return nil
	})
}

// hold opens so many streams over a second and keeps them to their end. The
// delays are of each stamped event, from when the mock wrote it. opened is
// closed when all have begun.
func (l *load) hold(ctx context.Context, count int, ramp time.Duration, opened chan<- struct{}) (*sample, error) {
	var started, running atomic.Int64
	began := time.Now()
	return l.collect(ctx, count, func(c *conn, keep func(time.Duration)) error {
		due := began.Add(ramp * time.Duration(started.Add(1)) / time.Duration(count))
		<-time.After(time.Until(due))
		first := true
		events := 0
		err := c.do(l.request, func(line []byte) {
			if !bytes.HasPrefix(line, []byte("data: {")) {
				return
			}
			if events++; first {
				first = false
				if running.Add(1) == int64(count) {
					close(opened)
				}
			}
			if d, ok := sinceSent(line); ok {
				keep(d)
			}
		})
		if err == nil && events == 0 {
			return errors.New("a stream without an event")
		}
		return err
	})
}

// sinceSent returns how long ago the mock upstream wrote an event.
func sinceSent(line []byte) (time.Duration, bool) {
	const member = `"sent":`
	i := bytes.LastIndex(line, []byte(member))
	if i < 0 {
		return 0, false
	}
	digits, _, _ := bytes.Cut(line[i+len(member):], []byte("}"))
	at, err := strconv.ParseInt(string(digits), 10, 64)
	if err != nil {
		return 0, false
	}
	return time.Since(time.Unix(0, at)), true
}
