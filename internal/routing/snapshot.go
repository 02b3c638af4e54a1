package routing

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jimu-ai/jimu"
)

// snapshot is one state of the configuration. It never changes; the health
// that it points to does.
type snapshot struct {
	callers   map[jimu.KeyHash]*jimu.Caller
	routes    map[string]*route
	names     []string // of the routes, sorted
	upstreams []*upstream
	health    map[id]*health
	targets   map[made]*jimu.Target
}

// made names a target by what it is made of, so that the next snapshot can use
// it again: what others keep for a target stays of use.
type made struct {
	provider    jimu.Provider
	key         int
	model, name string
}

// route is how a model is served. A model that is there but cannot be sold has
// no groups.
type route struct {
	price  *jimu.Price
	vendor string
	demo   bool // only the demo upstream serves it
	sticky bool // cached input is cheaper
	groups []group
}

// group holds the upstreams of one priority.
type group struct {
	priority int
	choices  []choice
	total    uint64 // sum of the weights
}

// choice is one upstream of a group with its keys.
type choice struct {
	up    *upstream
	upto  uint64 // sum of the weights up to here, this one's included
	slots []slot
}

// slot is one key of an upstream for one model.
type slot struct {
	target *jimu.Target
	health *health
}

// upstream is a configured upstream.
type upstream struct {
	provider jimu.Provider
	conf     *jimu.Upstream
	free     bool
	keys     []jimu.Secret
	ends     []map[jimu.Operation]jimu.Endpoint // by key
	models   []string                           // public names, sorted
	names    map[string]string                  // at the upstream, by public name
	slots    []slot
}

// id names a target by what it is, so that its health outlives a snapshot in
// which it is unchanged, and ends with one in which its key or address is not.
type id struct{ upstream, base, key, model string }

func identity(t *jimu.Target) id {
	return id{t.Upstream.Name, t.Upstream.BaseURL, keyAt(t.Upstream, t.Key).Reveal(), t.Name}
}

// keysOf lists the keys of an upstream. One without keys has one empty key.
func keysOf(u *jimu.Upstream) []jimu.Secret {
	if u.Key.IsZero() {
		if len(u.Keys) == 0 {
			return []jimu.Secret{{}}
		}
		return u.Keys
	}
	return append([]jimu.Secret{u.Key}, u.Keys...)
}

// keyAt is keysOf(u)[i], without making the list.
func keyAt(u *jimu.Upstream, i int) jimu.Secret {
	if !u.Key.IsZero() {
		if i == 0 {
			return u.Key
		}
		i--
	}
	if i < 0 || i >= len(u.Keys) {
		return jimu.Secret{}
	}
	return u.Keys[i]
}

// ParseModel reads an entry of an upstream's models, "name" or
// "name=name-at-the-upstream".
func ParseModel(s string) (public, name string) {
	public, name, ok := strings.Cut(s, "=")
	if !ok {
		return s, s
	}
	return public, name
}

// Set builds a snapshot and puts it in force. On an error the old one stays.
func (r *Router) Set(in Inputs) error {
	b := builder{in: &in, old: r.snap.Load(), vendors: make(map[string]map[string]jimu.Vendor)}
	s := &snapshot{
		callers: make(map[jimu.KeyHash]*jimu.Caller, len(in.Keys)),
		routes:  make(map[string]*route),
		health:  make(map[id]*health),
		targets: make(map[made]*jimu.Target),
	}
	b.s = s
	for i := range in.Keys {
		s.callers[in.Keys[i].Hash] = &in.Keys[i].Caller
	}
	b.inherit()
	seen := make(map[string]bool, len(in.Upstreams))
	for _, p := range in.Upstreams {
		if name := p.Upstream().Name; seen[name] {
			return jimu.Errorf(jimu.Conflict, "two upstreams are named %q; names must differ", name)
		}
		seen[p.Upstream().Name] = true
		if err := b.add(p); err != nil {
			return err
		}
	}
	if err := b.serveAll(); err != nil {
		return err
	}
	for _, rt := range s.routes {
		rt.finish()
	}
	s.names = slices.Sorted(maps.Keys(s.routes))
	r.snap.Store(s)
	return nil
}

// builder makes a snapshot out of inputs and the snapshot before.
type builder struct {
	in      *Inputs
	s, old  *snapshot
	vendors map[string]map[string]jimu.Vendor // by brick, by ID
	keys    map[id]*keyState                  // model is ""
	absent  map[id]*modelState                // key is ""
}

func (b *builder) vendor(p jimu.Provider) jimu.Vendor {
	brick := p.BrickInfo().ID
	rows, ok := b.vendors[brick]
	if !ok {
		rows = make(map[string]jimu.Vendor)
		for _, v := range p.Vendors() {
			rows[v.ID] = v
		}
		b.vendors[brick] = rows
	}
	return rows[p.Upstream().Vendor]
}

// add adds an upstream and its models.
func (b *builder) add(p jimu.Provider) error {
	conf := p.Upstream()
	u := &upstream{provider: p, conf: conf, keys: keysOf(conf), free: b.vendor(p).Free}
	for _, key := range u.keys {
		ends := make(map[jimu.Operation]jimu.Endpoint, 2)
		for _, op := range [...]jimu.Operation{jimu.OpChat, jimu.OpEmbeddings, jimu.OpModels} {
			if e, ok := p.Endpoint(op, key); ok {
				ends[op] = e
			}
		}
		u.ends = append(u.ends, ends)
	}
	b.s.upstreams = append(b.s.upstreams, u)
	u.names = make(map[string]string, len(conf.Models))
	for _, m := range conf.Models {
		public, name := ParseModel(m)
		if public == "" || name == "" {
			return jimu.Errorf(jimu.Invalid, "upstream %s: %q is not a model: write name, or name=name-at-the-upstream", conf.Name, m)
		}
		u.names[public] = name
	}
	if len(conf.Models) == 0 {
		for _, m := range b.in.Learned[conf.Name] {
			u.names[m] = m
		}
	}
	u.models = slices.Sorted(maps.Keys(u.names))
	return nil
}

// serveAll makes the routes. A model has one price, whoever serves it: that of
// its public name, or else that of its name at the first upstream that has one.
func (b *builder) serveAll() error {
	find := b.in.Price
	if find == nil {
		find = func(string) *jimu.Price { return nil }
	}
	for _, u := range b.s.upstreams {
		for _, public := range u.models {
			rt := b.s.routes[public]
			if rt == nil {
				rt = &route{price: find(public)}
				b.s.routes[public] = rt
			}
			if rt.price == nil {
				rt.price = find(u.names[public])
			}
		}
	}
	for _, u := range b.s.upstreams {
		for _, public := range u.models {
			if err := b.serve(u, public, u.names[public]); err != nil {
				return err
			}
		}
	}
	return nil
}

// serve adds an upstream to the route of a model.
func (b *builder) serve(u *upstream, model, name string) error {
	rt := b.s.routes[model]
	price := rt.price
	if price == nil {
		if b.in.Unpriced != "free" && !u.free {
			return nil
		}
		price = &jimu.Price{Model: model}
		if err := price.Seal(); err != nil {
			return fmt.Errorf("pricing %s: %w", model, err)
		}
	}
	c := choice{up: u}
	for i := range u.keys {
		m := made{u.provider, i, model, name}
		t := b.old.targets[m]
		if t == nil || !same(t.Price, price) {
			t = &jimu.Target{
				Upstream: u.conf, Provider: u.provider, Key: i, Model: model, Name: name, Price: price, Endpoints: u.ends[i],
			}
		}
		b.s.targets[m] = t
		c.slots = append(c.slots, slot{t, b.healthOf(identity(t))})
	}
	u.slots = append(u.slots, c.slots...)
	i, ok := slices.BinarySearchFunc(rt.groups, u.conf.Priority, func(g group, p int) int { return p - g.priority })
	if !ok {
		rt.groups = slices.Insert(rt.groups, i, group{priority: u.conf.Priority})
	}
	rt.groups[i].choices = append(rt.groups[i].choices, c)
	return nil
}

// same reports whether two prices of a model charge and allow the same.
func same(a, b *jimu.Price) bool {
	return a.Version() == b.Version() && a.Context == b.Context && a.MaxOutput == b.MaxOutput && slices.Equal(a.Abilities, b.Abilities)
}

// inherit takes over what is known of keys and models.
func (b *builder) inherit() {
	b.keys = make(map[id]*keyState)
	b.absent = make(map[id]*modelState)
	for i, h := range b.old.health {
		b.keys[i.ofKey()], b.absent[i.ofModel()] = h.key, h.model
	}
}

// ofKey names the state that the models of a key share, ofModel the one that
// the keys share of a model.
func (i id) ofKey() id   { i.model = ""; return i }
func (i id) ofModel() id { i.key = ""; return i }

// healthOf finds or makes the health of a target.
func (b *builder) healthOf(i id) *health {
	if h := b.s.health[i]; h != nil {
		return h // two public names of one model
	}
	h := b.old.health[i]
	if h == nil {
		key, model := b.keys[i.ofKey()], b.absent[i.ofModel()]
		if key == nil {
			key = new(keyState)
		}
		if model == nil {
			model = new(modelState)
		}
		h = &health{key: key, model: model}
	}
	b.keys[i.ofKey()], b.absent[i.ofModel()] = h.key, h.model
	b.s.health[i] = h
	return h
}

// finish computes what follows from the choices.
func (rt *route) finish() {
	rt.demo = len(rt.groups) > 0
	for i := range rt.groups {
		g := &rt.groups[i]
		for j := range g.choices {
			c := &g.choices[j]
			g.total += weight(c.up.conf)
			c.upto = g.total
			rt.demo = rt.demo && c.up.conf.Vendor == "demo"
		}
	}
	if len(rt.groups) == 0 {
		return
	}
	first := rt.groups[0].choices[0].slots[0].target
	rt.price, rt.vendor = first.Price, first.Upstream.Vendor
	rt.sticky = rt.price.InCached != nil && *rt.price.InCached < rt.price.In
}

// weight is an upstream's share; none given is 1.
func weight(u *jimu.Upstream) uint64 {
	const most = 1 << 20
	return uint64(min(max(u.Weight, 1), most))
}

// unknown is the error for a model that is not there, with names near it.
func (s *snapshot) unknown(c *jimu.Caller, model string) error {
	const most, looked = 3, 2000 // names told, names compared
	type near struct {
		name string
		far  int
	}
	var all []near
	for _, name := range s.names[:min(len(s.names), looked)] {
		if !c.May(name) || len(s.routes[name].groups) == 0 {
			continue
		}
		if far := distance(model, name); far <= 1+max(len(model), len(name))/3 {
			all = append(all, near{name, far})
		}
	}
	slices.SortStableFunc(all, func(a, b near) int { return a.far - b.far })
	if len(all) == 0 {
		return jimu.Errorf(jimu.NotFound, "there is no model %s; GET /v1/models lists those there are", shorten(model))
	}
	var names []string
	for _, n := range all[:min(len(all), most)] {
		names = append(names, n.name)
	}
	return jimu.Errorf(jimu.NotFound, "there is no model %s; did you mean %s?", shorten(model), strings.Join(names, ", "))
}

const longestName = 64

func shorten(s string) string {
	if len(s) <= longestName {
		return s
	}
	return strings.ToValidUTF8(s[:longestName], "") + "..."
}

// distance is the number of bytes to change, add or drop to turn a into b. It
// gives up on what is longer than a name.
func distance(a, b string) int {
	if len(a) > longestName || len(b) > longestName {
		return 2 * longestName
	}
	var rowBuf [longestName + 1]int
	row := rowBuf[:len(b)+1]
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		left, diagonal := i+1, row[0]
		row[0] = left
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, left, row[j+1])
			}
			diagonal, row[j+1], left = row[j+1], cost, cost
		}
	}
	return row[len(b)]
}

// never is a moment that does not come.
const never = int64(1<<63 - 1)

func at(nanos int64) time.Time { return time.Unix(0, nanos).UTC() }
