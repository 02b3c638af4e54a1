package routing

import (
	"math/bits"
	"slices"
	"sort"
	"time"

	"github.com/jimu-ai/jimu"
)

// pick chooses the targets of one request.
type pick struct {
	now  int64
	op   jimu.Operation
	seed uint64 // of the choice of upstreams
	turn uint64 // of the choice of keys
	from int    // dst[from:] are this request's targets
	dst  []*jimu.Target

	soonest int64 // when the first of those left out may serve again; 0 is unknown
	limited bool  // one of those left out was at the upstream's limit
	able    bool  // one of those left out can do the operation
}

// random returns the next number of a sequence (SplitMix64).
func random(seed *uint64) uint64 {
	*seed += 0x9e3779b97f4a7c15
	z := *seed
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// below returns the next number of a sequence, from 0 to n-1.
func below(seed *uint64, n int) int {
	high, _ := bits.Mul64(random(seed), uint64(n)) //nolint:gosec // a length
	return int(high)                               //nolint:gosec // below n
}

// stickTo is the seed of an account's choices: the same for ten minutes, which
// is about as long as upstreams keep a prompt in their cache. Accounts change
// at different times.
func stickTo(account, model string, now int64) uint64 {
	const prime = 1099511628211 // FNV-1a
	h := uint64(14695981039346656037)
	for i := range len(account) {
		h = (h ^ uint64(account[i])) * prime
	}
	for i := range len(model) {
		h = (h ^ uint64(model[i])) * prime
	}
	const spell = uint64(10 * time.Minute)
	return h + (uint64(now)+h%spell)/spell //nolint:gosec // after 1970
}

// group appends the targets of one priority: a first choice by weight, then
// others, the quickest first.
func (p *pick) group(g *group) {
	start, room := len(p.dst), MaxTargets-(len(p.dst)-p.from)
	var took [MaxTargets]int // indexes of the choices taken
	var quick [MaxTargets]int64
	n := 0
	add := func(i int, first bool) {
		if n == room || slices.Contains(took[:n], i) {
			return
		}
		s := p.key(&g.choices[i], first)
		if s == nil {
			return
		}
		took[n], quick[n] = i, s.health.latency.Load()
		p.dst = append(p.dst, s.target)
		n++
	}
	p.probe(g, add)
	seed := p.seed
	for range 2 * MaxTargets {
		if n == room || n == len(g.choices) {
			break
		}
		at, _ := bits.Mul64(random(&seed), g.total)
		add(sort.Search(len(g.choices), func(i int) bool { return g.choices[i].upto > at }), false)
	}
	if n == 0 || len(g.choices) <= 2*MaxTargets {
		p.rest(g, &n, room, add) // luck missed some, or most are out
	}
	byLatency(p.dst[start:start+n], quick[:n])
	p.otherKeys(g, took[:n], room-n)
}

// probe gives a broken upstream whose time is over its one trial request, in
// front of all others, so that it is sure to be made.
func (p *pick) probe(g *group, add func(i int, first bool)) {
	if len(p.dst) > p.from || len(g.choices) > 2*MaxTargets {
		return
	}
	for i := range g.choices {
		for j := range g.choices[i].slots {
			if g.choices[i].slots[j].health.half(p.now) {
				add(i, true)
			}
			if len(p.dst) > p.from {
				return
			}
		}
	}
}

// rest tries all choices in turn, from a random one on.
func (p *pick) rest(g *group, n *int, room int, add func(i int, first bool)) {
	off := below(&p.turn, len(g.choices))
	for i := range g.choices {
		if *n == room {
			return
		}
		add((off+i)%len(g.choices), false)
	}
}

// key chooses one of an upstream's keys, in turn; nil if all are out.
func (p *pick) key(c *choice, first bool) *slot {
	off := 0
	if len(c.slots) > 1 {
		off = below(&p.turn, len(c.slots))
	}
	for i := range c.slots {
		s := &c.slots[(off+i)%len(c.slots)]
		if first && !s.health.half(p.now) {
			continue
		}
		if p.usable(s) {
			return s
		}
	}
	return nil
}

// usable reports whether a target can be asked now, and notes why not. A
// broken one whose time is over is asked by one request at a time, unless it is
// behind another and so unlikely to be asked at all.
func (p *pick) usable(s *slot) bool {
	if _, ok := s.target.Endpoints[p.op]; !ok {
		return false
	}
	p.able = true
	until, limited := s.health.until(p.now, len(p.dst) > p.from)
	if until == 0 {
		return true
	}
	p.limited = p.limited || limited
	if until != never && (p.soonest == 0 || until < p.soonest) {
		p.soonest = until
	}
	return false
}

// otherKeys appends further keys of the upstreams that were chosen.
func (p *pick) otherKeys(g *group, took []int, room int) {
	for _, i := range took {
		c := &g.choices[i]
		for j := 0; j < len(c.slots) && room > 0; j++ {
			s := &c.slots[j]
			if !slices.Contains(p.dst[p.from:], s.target) && p.usable(s) {
				p.dst = append(p.dst, s.target)
				room--
			}
		}
	}
}

// byLatency sorts all targets but the first, the quickest first. Those without
// a figure stay where they are, in front.
func byLatency(ts []*jimu.Target, quick []int64) {
	for i := 2; i < len(ts); i++ {
		for j := i; j > 1 && quick[j] < quick[j-1]; j-- {
			ts[j], ts[j-1] = ts[j-1], ts[j]
			quick[j], quick[j-1] = quick[j-1], quick[j]
		}
	}
}

// nobody is the error where nothing is left to ask.
func (p *pick) nobody(model string) error {
	if !p.able {
		return jimu.Errorf(jimu.Invalid, "the model %s does not do %s", model, p.op)
	}
	e := jimu.Errorf(jimu.Unavailable, "no upstream of the model %s can answer, and none will by itself; the operator sees why with: jimu route", model)
	if p.soonest == 0 {
		return e
	}
	const whole = time.Second
	e.RetryAfter = max(whole, (time.Duration(p.soonest-p.now) + whole - 1).Truncate(whole))
	e.Text = "no upstream of the model " + model + " can answer now; try again in " + e.RetryAfter.String()
	if p.limited {
		e.Code = jimu.RateLimited
		e.Text = "all upstreams of the model " + model + " are at their limits; try again in " + e.RetryAfter.String()
	}
	return e
}
