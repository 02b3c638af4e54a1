package jimu

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"
)

// Brick is a building block. Its concrete type is a pointer to a struct that
// holds its configuration in exported fields (JSON tags, field comments as
// documentation) and, through the interfaces it implements besides (Provider,
// ...), says what it can be used for.
//
// Life of a brick: New, decode (unknown keys are refused), Provision,
// Validate, use, Close. Close is called after a failed Provision too.
type Brick interface {
	BrickInfo() BrickInfo
}

// BrickInfo names a brick and makes an empty one.
type BrickInfo struct {
	ID  string // folder, config key, log attribute and docs page share this name
	New func() Brick
}

// Provisioner is implemented by bricks that prepare themselves once their
// configuration is filled in. It must not start serving.
type Provisioner interface {
	Provision(ctx context.Context, h Host) error
}

// Validator is implemented by bricks whose configuration can be wrong.
type Validator interface{ Validate() error }

// Host is all that a brick may reach of the platform.
type Host struct {
	Log  *slog.Logger // carries the brick's ID and the instance's name
	Name string       // the instance's name
	Now  func() time.Time
}

// Registry holds the bricks linked into a binary.
type Registry struct{ infos map[string]BrickInfo }

// Register adds a brick. It panics on a missing or repeated ID: both are
// mistakes of the build, found at start.
func (r *Registry) Register(b Brick) {
	info := b.BrickInfo()
	if info.ID == "" || info.New == nil {
		panic(fmt.Sprintf("jimu: %T: incomplete brick info", b))
	}
	if _, dup := r.infos[info.ID]; dup {
		panic("jimu: brick registered twice: " + info.ID)
	}
	if r.infos == nil {
		r.infos = make(map[string]BrickInfo)
	}
	r.infos[info.ID] = info
}

// IDs lists what is registered, sorted.
func (r *Registry) IDs() []string { return slices.Sorted(maps.Keys(r.infos)) }

// New makes an empty brick of an ID.
func (r *Registry) New(id string) (Brick, error) {
	info, ok := r.infos[id]
	if !ok {
		return nil, Errorf(Invalid, "brick %s is not in this build, which has %v", id, r.IDs())
	}
	return info.New(), nil
}

// Bricks is what init functions register into. Nothing else writes to it.
var Bricks = new(Registry)
