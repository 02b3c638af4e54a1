package store

import (
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jimu-ai/jimu"
)

// Settings keeps small values of the site by name.
type Settings struct {
	db  *DB
	now func() time.Time
}

// NewSettings keeps settings in a store.
func NewSettings(s *Store) *Settings { return &Settings{db: s.Main, now: s.now} }

// Get decodes a setting into v. It reports false, and leaves v alone, where
// there is none.
func (s *Settings) Get(ctx context.Context, name string, v any) (bool, error) {
	var value string
	err := s.db.QueryRow(ctx, "SELECT value FROM settings WHERE name = ?", name).Scan(&value)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := json.Unmarshal([]byte(value), v); err != nil {
		return false, fmt.Errorf("decoding setting %s: %w", name, err)
	}
	return true, nil
}

// Set keeps a setting and counts the revision "settings" up.
func (s *Settings) Set(ctx context.Context, name string, v any) error {
	value, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encoding setting %s: %w", name, err)
	}
	return s.db.Tx(ctx, func(tx *Tx) error {
		if _, err := tx.Exec(ctx, Upsert("settings", []string{"name"}, []string{"value", "updated_at"}), name, string(value), micros(s.now())); err != nil {
			return err
		}
		return tx.Bump(ctx, "settings")
	})
}

// Delete removes a setting. It is no error if there is none.
func (s *Settings) Delete(ctx context.Context, name string) error {
	return s.db.Tx(ctx, func(tx *Tx) error {
		if _, err := tx.Exec(ctx, "DELETE FROM settings WHERE name = ?", name); err != nil {
			return err
		}
		return tx.Bump(ctx, "settings")
	})
}

// Sealer encrypts values for the place where they are kept: what was sealed
// for one place does not open in another.
type Sealer interface {
	Seal(table, column, row string, plain []byte) ([]byte, error)
	Open(table, column, row string, sealed []byte) ([]byte, error)
}

const canary = "master_key_canary"

// CheckMasterKey proves that the sealer has the master key that this database
// is sealed with, by opening a value that the first start sealed. A wrong key
// must be found before anything is sealed with it.
func (s *Settings) CheckMasterKey(ctx context.Context, sealer Sealer) error {
	text := "jimu"
	fresh, err := sealer.Seal("settings", "value", canary, []byte(text))
	if err != nil {
		return err
	}
	value, err := json.Marshal(base64.StdEncoding.EncodeToString(fresh))
	if err != nil {
		return err
	}
	if _, err := s.db.Exec(ctx, "INSERT INTO settings (name, value, updated_at) VALUES (?, ?, ?) {ignore (name)}", canary, string(value), micros(s.now())); err != nil {
		return err
	}
	var kept []byte
	if _, err := s.Get(ctx, canary, &kept); err != nil {
		return err
	}
	plain, err := sealer.Open("settings", "value", canary, kept)
	if err != nil || string(plain) != text {
		return &jimu.Error{
			Code: jimu.Conflict, Err: err,
			Text: "the master key is not the one that this database was sealed with: give master_key the key file of the first start (a backup does not contain it)",
		}
	}
	return nil
}
