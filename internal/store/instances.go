package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jimu-ai/jimu"
)

// Instance is a brick or an upstream that was configured at run time.
type Instance struct {
	Kind    string // "upstream", or the brick's ID
	Name    string
	Config  json.RawMessage
	Created time.Time
	Updated time.Time
}

// Instances keeps what was configured at run time, each configuration sealed
// as a whole, since any field may be a secret.
type Instances struct {
	db     *DB
	sealer Sealer
	now    func() time.Time
}

// NewInstances keeps instances in a store.
func NewInstances(s *Store, sealer Sealer) *Instances {
	return &Instances{db: s.Main, sealer: sealer, now: s.now}
}

// place is what a configuration is sealed for. A kind holds no zero byte.
func place(kind, name string) string { return kind + "\x00" + name }

// Put keeps an instance, new or changed.
func (i *Instances) Put(ctx context.Context, kind, name string, config json.RawMessage) error {
	sealed, err := i.sealer.Seal("instances", "sealed", place(kind, name), config)
	if err != nil {
		return fmt.Errorf("sealing %s %s: %w", kind, name, err)
	}
	now := micros(i.now())
	return i.db.Tx(ctx, func(tx *Tx) error {
		if _, err := tx.Exec(ctx, `INSERT INTO instances (kind, name, sealed, created_at, updated_at) VALUES (?, ?, ?, ?, ?)
			{upsert (kind, name)} sealed = {new sealed}, updated_at = {new updated_at}`, kind, name, sealed, now, now); err != nil {
			return err
		}
		return tx.Bump(ctx, routing)
	})
}

// Delete removes an instance. If there is none it is [jimu.NotFound].
func (i *Instances) Delete(ctx context.Context, kind, name string) error {
	return i.db.Tx(ctx, func(tx *Tx) error {
		n, err := tx.Exec(ctx, "DELETE FROM instances WHERE kind = ? AND name = ?", kind, name)
		if err != nil {
			return err
		}
		if n == 0 {
			return noInstance(kind, name)
		}
		return tx.Bump(ctx, routing)
	})
}

func noInstance(kind, name string) error {
	return jimu.Errorf(jimu.NotFound, "there is no %s %s", kind, name)
}

const instanceColumns = "kind, name, sealed, created_at, updated_at"

// Get finds an instance.
func (i *Instances) Get(ctx context.Context, kind, name string) (Instance, error) {
	in, err := i.scan(i.db.QueryRow(ctx, "SELECT "+instanceColumns+" FROM instances WHERE kind = ? AND name = ?", kind, name))
	if errors.Is(err, sql.ErrNoRows) {
		return in, noInstance(kind, name)
	}
	return in, err
}

// List lists the instances of a kind by name.
func (i *Instances) List(ctx context.Context, kind string) ([]Instance, error) {
	var out []Instance
	rows, err := i.db.Query(ctx, "SELECT "+instanceColumns+" FROM instances WHERE kind = ? ORDER BY name", kind)
	err = scanAll(rows, err, func(rows *sql.Rows) error {
		in, err := i.scan(rows)
		out = append(out, in)
		return err
	})
	return out, err
}

func (i *Instances) scan(r row) (Instance, error) {
	var in Instance
	var sealed []byte
	var created, updated int64
	if err := r.Scan(&in.Kind, &in.Name, &sealed, &created, &updated); err != nil {
		return in, err
	}
	in.Created, in.Updated = fromMicros(created), fromMicros(updated)
	config, err := i.sealer.Open("instances", "sealed", place(in.Kind, in.Name), sealed)
	if err != nil {
		return in, fmt.Errorf("opening the configuration of %s %s: %w", in.Kind, in.Name, err)
	}
	in.Config = config
	return in, nil
}
