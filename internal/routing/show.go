package routing

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/jimu-ai/jimu"
)

// Models lists what a caller may use, by ID. Models that cannot be sold are
// not in it.
func (r *Router) Models(c *jimu.Caller) []jimu.Model {
	s := r.snap.Load()
	out := make([]jimu.Model, 0, len(s.names))
	for _, name := range s.names {
		if rt := s.routes[name]; len(rt.groups) > 0 && c.May(name) {
			out = append(out, jimu.Model{ID: name, Price: rt.price, Vendor: rt.vendor, Demo: rt.demo})
		}
	}
	return out
}

// The states of a key in [KeyHealth].
const (
	StateOK       = "ok"
	StateResting  = "resting"  // at its limit
	StateOpen     = "open"     // failing; put aside for a while
	StateDisabled = "disabled" // refused by the upstream; until it is changed or tested
)

// UpstreamHealth is how an upstream does.
type UpstreamHealth struct {
	Name     string        `json:"name"`
	Vendor   string        `json:"vendor"`
	Priority int           `json:"priority"`
	Weight   int           `json:"weight"`
	Models   []string      `json:"models"`
	Keys     []KeyHealth   `json:"keys"`
	Latency  time.Duration `json:"latency"` // to the first event, of its models that were asked; 0 is unknown
}

// KeyHealth is how a key of an upstream does.
type KeyHealth struct {
	Index int       `json:"index"`
	State string    `json:"state"`
	Until time.Time `json:"until,omitzero"`
	Why   string    `json:"why,omitempty"`
}

// Health tells how each upstream does, in the order of the configuration.
func (r *Router) Health() []UpstreamHealth {
	s, now := r.snap.Load(), r.o.Now().UnixNano()
	out := make([]UpstreamHealth, 0, len(s.upstreams))
	for _, u := range s.upstreams {
		h := UpstreamHealth{
			Name: u.conf.Name, Vendor: u.conf.Vendor, Priority: u.conf.Priority, Weight: max(u.conf.Weight, 1),
			Models: slices.Clone(u.models), Keys: make([]KeyHealth, len(u.keys)),
		}
		for i := range h.Keys {
			h.Keys[i] = KeyHealth{Index: i, State: StateOK}
		}
		var sum, n int64
		for _, sl := range u.slots {
			if l := sl.health.latency.Load(); l > 0 {
				sum, n = sum+l, n+1
			}
			h.Keys[sl.target.Key].worsen(sl, now)
		}
		if n > 0 {
			h.Latency = time.Duration(sum / n)
		}
		out = append(out, h)
	}
	return out
}

// worsen takes in the state of one of the key's models.
func (k *KeyHealth) worsen(s slot, now int64) {
	state, why, until := s.state(now)
	rank := []string{StateOK, StateResting, StateOpen, StateDisabled}
	if slices.Index(rank, state) <= slices.Index(rank, k.State) {
		return
	}
	k.State, k.Why = state, why
	if until != never {
		k.Until = at(until)
	}
}

// state describes a target.
func (s slot) state(now int64) (state, why string, until int64) {
	h := s.health
	if h.key.off.Load() {
		return StateDisabled, "the upstream refused the key or its balance is empty", never
	}
	if t := h.model.absent.Load(); t > now {
		return StateOpen, "the upstream does not have the model " + s.target.Name, t
	}
	if t := h.open.Load(); t > now {
		return StateOpen, "it failed too often with the model " + s.target.Name, t
	}
	if t := h.resting.Load(); t > now {
		return StateResting, "the upstream asked for fewer requests of the model " + s.target.Name, t
	}
	if h.open.Load() != 0 {
		return StateOK, "on trial after failures", now
	}
	return StateOK, "", 0
}

// Reset forgets what is held against an upstream: after its balance was filled
// up, or a test of it went well. It reports whether the upstream is there.
func (r *Router) Reset(upstream string) bool {
	for _, u := range r.snap.Load().upstreams {
		if u.conf.Name != upstream {
			continue
		}
		for _, s := range u.slots {
			s.health.reset()
		}
		return true
	}
	return false
}

// Explain tells, line by line, how a caller's request for a model is routed.
func (r *Router) Explain(c *jimu.Caller, model string) []string {
	s, now := r.snap.Load(), r.o.Now().UnixNano()
	rt, err := s.find(c, model)
	if err != nil {
		return []string{err.Error()}
	}
	lines := []string{fmt.Sprintf("%s: price %s per million tokens in, %s out (version %s)", model, rt.price.In, rt.price.Out, rt.price.Version())}
	if rt.sticky {
		lines = append(lines, "cached input is cheaper: an account stays with an upstream for ten minutes")
	}
	for i := range rt.groups {
		g := &rt.groups[i]
		lines = append(lines, "priority "+strconv.Itoa(g.priority)+":")
		for j := range g.choices {
			for _, sl := range g.choices[j].slots {
				lines = append(lines, "  "+sl.explain(weight(g.choices[j].up.conf), g.total, now))
			}
		}
	}
	return lines
}

func (s slot) explain(weight, total uint64, now int64) string {
	const percent = 100
	t := s.target
	line := fmt.Sprintf("%s (%s) key %d as %s, weight %d of %d (%d%%)",
		t.Upstream.Name, t.Upstream.Vendor, t.Key, t.Name, weight, total, weight*percent/total)
	if l := s.health.latency.Load(); l > 0 {
		line += ", first event after " + time.Duration(l).Round(time.Millisecond).String()
	}
	state, why, until := s.state(now)
	if why != "" {
		line += ", " + state + ": " + why
	}
	if until > now && until != never {
		line += " until " + at(until).Format(time.RFC3339)
	}
	return line
}

// ParseModels reads an upstream's answer to GET /models: the names of its
// models, sorted.
func ParseModels(body []byte) ([]string, error) {
	var list struct {
		Data []struct {
			ID string `json:"id"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, fmt.Errorf("decoding the list of models: %w", err)
	}
	const most, longest = 10_000, 256
	var out []string
	for _, m := range list.Data {
		if m.ID != "" && len(m.ID) <= longest && len(out) < most {
			out = append(out, m.ID)
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}
