//nolint:gosec // whoever runs it names the files, and all addresses are of the loopback
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

// bench is a run.
type bench struct {
	s          *settings
	self       string
	dir        string
	targetCore string
	mockAddr   string
	mock       *process
	gateway    *gateway
	names      []string
	targets    []*target
	results    map[string]*result
	sent       int // requests that Jimu answered
	missed     int // targets that were not reached
}

// result is what was measured of a target.
type result struct {
	rate, cpu, p50, p99 []int64 // closed loop, one of each round: requests a second, µs per request, µs, µs
	openP50, openP99    []int64 // µs
	lagP50, lagP99      []int64 // µs
	eventCPU            []int64 // ns per event
	idle, busy          int64   // KiB
	held, peak          int64   // KiB, once the streams have settled, and at most
	heldCores           int64   // thousandths of a core
	first               []int64 // µs from start to first answer
}

func newBench(ctx context.Context, s *settings) (*bench, error) {
	b := &bench{s: s, results: make(map[string]*result)}
	var err error
	if b.self, err = os.Executable(); err != nil {
		return nil, fmt.Errorf("finding the program: %w", err)
	}
	if b.dir, err = os.MkdirTemp("", "jimu-bench-"); err != nil {
		return nil, fmt.Errorf("making a folder: %w", err)
	}
	if os.Getenv(pinned) == "1" { //nolint:forbidigo // said by ourselves
		b.targetCore = targetCore
	}
	if b.mockAddr, err = freeAddress(ctx); err != nil {
		return nil, err
	}
	if b.mock, err = start(ctx, b.dir, "", "mock", b.self, "mock", b.mockAddr); err != nil {
		return nil, err
	}
	return b, b.mock.ready(ctx, &load{b.mockAddr, request(b.mockAddr, plain, "x", benchKey, false)})
}

func (b *bench) close() error {
	var err error
	for _, t := range b.targets {
		err = errors.Join(err, t.stop())
	}
	err = errors.Join(err, b.mock.stop())
	if b.s.keep {
		fmt.Println("kept", b.dir)
		return err
	}
	return errors.Join(err, os.RemoveAll(b.dir))
}

func (b *bench) run(ctx context.Context) error {
	if err := b.startAll(ctx); err != nil {
		return err
	}
	if err := b.loads(ctx); err != nil {
		return err
	}
	if err := b.memories(ctx); err != nil {
		return err
	}
	if b.gateway == nil {
		b.report()
		return nil
	}
	if err := b.startTimes(ctx); err != nil {
		return err
	}
	b.report()
	b.goals()
	if err := b.books(ctx, b.sent); err != nil {
		return err
	}
	if b.missed > 0 {
		return fmt.Errorf("%d targets were missed", b.missed)
	}
	return nil
}

// loads measures all targets in turns.
func (b *bench) loads(ctx context.Context) error {
	for round := range b.s.rounds {
		fmt.Fprintf(os.Stderr, "round %d of %d\n", round+1, b.s.rounds)
		steps := []func(context.Context, *target, *result, int) error{b.closed, b.open, b.events}
		if b.s.quick && round > 0 {
			steps = steps[:1]
		}
		for _, step := range steps {
			for i := range b.targets { // each round begins with another target
				t := b.targets[(i+round)%len(b.targets)]
				if err := step(ctx, t, b.results[t.name], round); err != nil {
					return b.blame(t, err)
				}
			}
		}
	}
	return nil
}

// memories measures what each target holds, one at a time.
func (b *bench) memories(ctx context.Context) error {
	fmt.Fprintln(os.Stderr, "held streams")
	for i, t := range b.targets {
		if t.name == direct {
			continue
		}
		if err := t.stop(); err != nil {
			return err
		}
		next, err := b.memory(ctx, t)
		if err != nil {
			return b.blame(t, err)
		}
		b.targets[i] = next
	}
	return nil
}

func (b *bench) blame(t *target, err error) error {
	for _, p := range t.procs {
		err = p.fail(err)
	}
	return fmt.Errorf("measuring %s: %w", t.name, err)
}

func (b *bench) startAll(ctx context.Context) error {
	for _, name := range b.s.wanted() {
		t, err := b.startTarget(ctx, name)
		if errors.Is(err, errNoNginx) {
			fmt.Fprintln(os.Stderr, "bench: without", name+":", err)
			continue
		}
		if err != nil {
			return fmt.Errorf("starting %s: %w", name, err)
		}
		b.count(t, 1)
		b.names = append(b.names, name)
		b.targets = append(b.targets, t)
		b.results[name] = &result{}
	}
	return nil
}

// count keeps how many requests Jimu answered.
func (b *bench) count(t *target, n int) {
	if t.name == jimu {
		b.sent += n
	}
}

// used runs a load and returns the CPU time that the target used meanwhile.
func (t *target) used(f func() (*sample, error)) (*sample, time.Duration, error) {
	total := func() (sum time.Duration, err error) {
		for _, p := range t.procs {
			d, err := p.cpu()
			if err != nil {
				return 0, err
			}
			sum += d
		}
		return sum, nil
	}
	before, err := total()
	if err != nil {
		return nil, 0, err
	}
	s, err := f()
	if err != nil {
		return nil, 0, err
	}
	after, err := total()
	return s, after - before, err
}

func (b *bench) closed(ctx context.Context, t *target, r *result, round int) error {
	l := t.loads[plain]
	warm, err := l.closed(ctx, closedConns, b.s.closed/5)
	if err != nil {
		return err
	}
	b.count(t, warm.count)
	profiled := make(chan error, 1)
	if t.name == jimu && round == 0 {
		go func() { profiled <- b.profiles(ctx, "closed", b.s.closed) }()
	} else {
		profiled <- nil
	}
	s, cpu, err := t.used(func() (*sample, error) { return l.closed(ctx, closedConns, b.s.closed) })
	if err = errors.Join(err, <-profiled); err != nil {
		return err
	}
	b.count(t, s.count)
	r.rate = append(r.rate, int64(s.rate()))
	r.cpu = append(r.cpu, int64(cpu/time.Nanosecond)/int64(max(s.count, 1))) // ns per request
	r.p50 = append(r.p50, s.at(500).Microseconds())
	r.p99 = append(r.p99, s.at(990).Microseconds())
	for _, p := range t.procs {
		kib, err := p.rss()
		if err != nil {
			return err
		}
		if round == 0 {
			r.busy += kib
		}
	}
	return nil
}

func (b *bench) open(ctx context.Context, t *target, r *result, _ int) error {
	s, err := t.loads[plain].open(ctx, openConns, openRate, b.s.open)
	if err != nil {
		return err
	}
	b.count(t, s.count)
	r.openP50 = append(r.openP50, s.at(500).Microseconds())
	r.openP99 = append(r.openP99, s.at(990).Microseconds())
	return nil
}

func (b *bench) events(ctx context.Context, t *target, r *result, round int) error {
	opened := make(chan struct{})
	profiled := make(chan error, 1)
	if t.name == jimu && round == 0 {
		go func() { profiled <- b.profiles(ctx, "events", 2*time.Second) }()
	} else {
		profiled <- nil
	}
	s, cpu, err := t.used(func() (*sample, error) {
		return t.loads[fast].hold(ctx, eventCount, b.s.events/4, opened)
	})
	if err = errors.Join(err, <-profiled); err != nil {
		return err
	}
	b.count(t, eventCount)
	r.lagP50 = append(r.lagP50, s.at(500).Microseconds())
	r.lagP99 = append(r.lagP99, s.at(990).Microseconds())
	r.eventCPU = append(r.eventCPU, int64(cpu)/int64(max(s.count, 1)))
	return nil
}

// memory starts a target again and measures what it holds: idle, and with
// streams.
func (b *bench) memory(ctx context.Context, old *target) (*target, error) {
	t, err := old.fresh(ctx)
	if err != nil {
		return old, err
	}
	b.count(t, 1)
	r := b.results[t.name]
	warm, err := t.loads[plain].open(ctx, 4, 100, 500*time.Millisecond)
	if err != nil {
		return t, err
	}
	b.count(t, warm.count)
	<-time.After(time.Second)
	if r.idle, err = t.rss(); err != nil {
		return t, err
	}
	opened := make(chan struct{})
	held := make(chan error, 1)
	go func() {
		_, err := t.loads[slow].hold(ctx, heldCount, b.s.held/3, opened)
		held <- err
	}()
	select {
	case <-opened:
	case err := <-held:
		return t, errors.Join(err, errors.New("the streams ended before all had begun"))
	}
	if t.name == jimu {
		if err := b.profiles(ctx, "held", time.Second); err != nil {
			return t, err
		}
	}
	began := time.Now()
	_, cpu, err := t.used(func() (*sample, error) { return &sample{}, t.watch(r) })
	r.heldCores = int64(cpu) * 1000 / int64(time.Since(began))
	if err := errors.Join(err, <-held); err != nil {
		return t, err
	}
	b.count(t, heldCount)
	return t, nil
}

// watch looks at the memory while streams are held: what opening them has left
// behind counts for the peak only.
func (t *target) watch(r *result) error {
	const settle, looks = 15, 25
	var sizes []int64
	for range looks {
		<-time.After(100 * time.Millisecond)
		kib, err := t.rss()
		if err != nil {
			return err
		}
		sizes = append(sizes, kib)
	}
	r.held, r.peak = median(sizes[settle:]), slices.Max(sizes)
	return nil
}

func (t *target) rss() (int64, error) {
	var sum int64
	for _, p := range t.procs {
		kib, err := p.rss()
		if err != nil {
			return 0, err
		}
		sum += kib
	}
	return sum, nil
}

// startTimes measures from the start of Jimu to its first answer, and leaves
// it stopped.
func (b *bench) startTimes(ctx context.Context) error {
	i := slices.IndexFunc(b.targets, func(t *target) bool { return t.name == jimu })
	old := b.targets[i]
	b.targets = slices.Delete(b.targets, i, i+1)
	if err := old.stop(); err != nil {
		return err
	}
	for range 5 {
		began := time.Now()
		t, err := old.fresh(ctx)
		if err != nil {
			return err
		}
		r := b.results[jimu]
		r.first = append(r.first, time.Since(began).Microseconds())
		b.count(t, 1)
		if err := t.stop(); err != nil {
			return err
		}
	}
	return nil
}

func median(v []int64) int64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}
