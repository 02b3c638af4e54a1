package host

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"

	"github.com/jimu-ai/jimu"
)

// Entry is the configuration of one instance.
type Entry struct {
	Brick string // the brick's ID; "" for an upstream, whose vendor decides
	Name  string // "main" if empty
	Raw   json.RawMessage
	Where func(path string) string // says where a part is written; may be nil
}

// defaultName is the name of an instance that has none.
const defaultName = "main"

// made is an entry on its way to an instance.
type made struct {
	entry Entry
	id    string // the brick's ID
	value jimu.Brick
	sum   [32]byte
}

// build makes the instances of the entries, or takes them from old where
// nothing changed. Every mistake in writing is found before anything starts.
func (h *Host) build(ctx context.Context, entries []Entry, old []*live) ([]*live, error) {
	all := make([]*made, 0, len(entries))
	var errs []error
	seen := map[[2]string]bool{}
	for _, e := range entries {
		e.Name = cmp.Or(e.Name, defaultName)
		m, err := h.prepare(e)
		if at := [2]string{e.Brick, e.Name}; err == nil && seen[at] {
			err = m.fault(problem{"", "this name is there twice; give each a name of its own"})
		} else {
			seen[at] = true
		}
		all, errs = append(all, m), append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	var list, fresh []*live
	for _, m := range all {
		if i := slices.IndexFunc(old, m.same); i >= 0 {
			list = append(list, old[i])
			continue
		}
		l := &live{Instance: Instance{Brick: m.id, Name: m.entry.Name, Value: m.value}, sum: m.sum}
		list, fresh = append(list, l), append(fresh, l)
		if err := h.start(ctx, m); err != nil {
			return nil, errors.Join(err, closeAll(fresh))
		}
	}
	return list, nil
}

func (m *made) same(l *live) bool {
	return l.Brick == m.id && l.Name == m.entry.Name && l.sum == m.sum
}

// title is what messages call the instance.
func (m *made) title() string {
	if m.entry.Brick == "" {
		return "upstream " + m.entry.Name
	}
	if m.entry.Name == defaultName {
		return "brick " + m.entry.Brick
	}
	return "brick " + m.entry.Brick + " " + m.entry.Name
}

// fault makes an error of problems: one line each, with where it is.
func (m *made) fault(ps ...problem) error {
	errs := make([]error, len(ps))
	for i, p := range ps {
		errs[i] = jimu.Errorf(jimu.Invalid, "%s%s: %s", m.where(p.path), m.title(), p.text)
	}
	return errors.Join(errs...)
}

func (m *made) where(path string) string {
	if m.entry.Where == nil {
		return ""
	}
	return m.entry.Where(path) + ": "
}

// prepare makes an empty brick and fills it.
func (h *Host) prepare(e Entry) (*made, error) {
	m := &made{entry: e, id: e.Brick}
	if e.Brick == "" {
		id, p := h.providerOf(e.Raw)
		if p.text != "" {
			return m, m.fault(p)
		}
		m.id = id
	}
	var err error
	if m.value, err = h.o.Registry.New(m.id); err != nil {
		near := jimu.Nearest(m.id, h.o.Registry.IDs())
		text := jimu.ErrorOf(err).Text
		if near != "" {
			text += fmt.Sprintf("; did you mean %q?", near)
		}
		return m, m.fault(problem{"", text})
	}
	if _, isProvider := m.value.(jimu.Provider); isProvider && e.Brick != "" {
		return m, m.fault(problem{"", "it speaks to upstreams; write its instances in the list upstreams"})
	}
	v := reflect.ValueOf(m.value)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		return m, m.fault(problem{"", fmt.Sprintf("the brick is a %T, not a pointer to a struct", m.value)})
	}
	var f filler
	f.instance(e, v.Elem())
	hash := sha256.New()
	put := func(s string) {
		_ = binary.Write(hash, binary.LittleEndian, uint64(len(s))) // a hash never fails
		_, _ = io.WriteString(hash, s)
	}
	put(string(e.Raw))
	h.resolveAll(&f, "", v.Elem(), put)
	hash.Sum(m.sum[:0])
	return m, m.fault(f.problems...)
}

// instance fills the whole brick. The name is the host's: it is given to a
// brick that has a field for it, and is no key of one that has not.
func (f *filler) instance(e Entry, v reflect.Value) {
	raw := e.Raw
	if len(raw) == 0 {
		raw = json.RawMessage("{}")
	}
	members, ok := f.members("", raw)
	if !ok {
		return
	}
	delete(members, "name")
	for _, fd := range fieldsOf(v.Type()) {
		if fd.key == "name" {
			name, err := json.Marshal(e.Name)
			if err == nil {
				members["name"] = name
			}
		}
	}
	f.fields("", members, v)
}

// providerOf finds the provider that knows an upstream's vendor.
func (h *Host) providerOf(raw json.RawMessage) (string, problem) {
	byVendor := vendors(h.o.Registry)
	known := slices.Sorted(maps.Keys(byVendor))
	var up struct {
		Vendor string `json:"vendor"`
	}
	if err := json.Unmarshal(raw, &up); err != nil {
		return "", problem{"vendor", "vendor must be a text" + meant("", known)}
	}
	if up.Vendor == "" {
		return "", problem{"", "vendor is missing" + meant("", known)}
	}
	id, ok := byVendor[up.Vendor]
	if !ok {
		return "", problem{"vendor", fmt.Sprintf("unknown vendor %q%s", up.Vendor, meant(up.Vendor, known))}
	}
	return id, problem{}
}

// vendors tells which provider knows a vendor.
func vendors(reg *jimu.Registry) map[string]string {
	out := map[string]string{}
	for _, id := range reg.IDs() {
		b, err := reg.New(id)
		if err != nil {
			continue // it was listed just now
		}
		p, ok := b.(jimu.Provider)
		if !ok {
			continue
		}
		for _, v := range p.Vendors() {
			if out[v.ID] == "" {
				out[v.ID] = id
			}
		}
	}
	return out
}

// start provisions and validates a filled brick.
func (h *Host) start(ctx context.Context, m *made) error {
	if p, ok := m.value.(jimu.Provisioner); ok {
		host := jimu.Host{Log: h.o.Log.With("brick", m.id, "instance", m.entry.Name), Name: m.entry.Name, Now: h.o.Now}
		if err := p.Provision(ctx, host); err != nil {
			return fmt.Errorf("%s%s: %w", m.where(""), m.title(), err)
		}
	}
	if v, ok := m.value.(jimu.Validator); ok {
		if err := v.Validate(); err != nil {
			return fmt.Errorf("%s%s: %w", m.where(""), m.title(), err)
		}
	}
	return nil
}

// closeAll closes instances, last made first.
func closeAll(list []*live) error {
	var errs []error
	for _, l := range slices.Backward(list) {
		if c, ok := l.Value.(io.Closer); ok {
			if err := c.Close(); err != nil {
				errs = append(errs, fmt.Errorf("closing brick %s %s: %w", l.Brick, l.Name, err))
			}
		}
	}
	return errors.Join(errs...)
}
