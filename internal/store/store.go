// Package store keeps Jimu's state in SQLite, MySQL or PostgreSQL: one schema
// and one SQL text for the three, through a small shim of macros. This file
// opens it; db.go runs statements, dialect.go says what differs, migrate.go
// brings the schema up to date, and each other file holds the queries of one
// aggregate.
package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jimu-ai/jimu"
)

// Options say where the state is.
type Options struct {
	// Data is the data folder. It is made if it is missing, and belongs to one
	// process at a time.
	Data string
	// Database is the address of a MySQL (mysql://user:password@host:port/name)
	// or PostgreSQL (postgres://…) database. Empty means SQLite files in Data.
	Database string
	Log      *slog.Logger
	Now      func() time.Time
	// ReadOnly opens an existing store beside the process that owns it:
	// nothing is locked, migrated or written.
	ReadOnly bool

	migrations fs.FS // in tests; nil means the embedded ones
}

// Store is the state of the product.
type Store struct {
	// Main holds what must never be lost: money, identity, configuration.
	Main *DB
	// History holds what grows: usage, attempts, conversations. With SQLite it
	// is a file of its own with cheaper commits; with the other databases it
	// is Main.
	History *DB
	// Node is this data folder's own ID, the same at every start.
	Node string

	data string
	now  func() time.Time
	lock *folderLock
}

// Open prepares the data folder, takes it for this process alone, connects
// and migrates. The caller closes the store.
func Open(ctx context.Context, o Options) (*Store, error) {
	o = o.withDefaults()
	s := &Store{data: o.Data, now: o.Now}
	if err := s.open(ctx, o); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (o Options) withDefaults() Options {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Data == "" {
		o.Data = "data"
	}
	if o.migrations == nil {
		o.migrations = migrationFiles
	}
	return o
}

func (s *Store) open(ctx context.Context, o Options) error {
	if !o.ReadOnly {
		if err := s.own(o); err != nil {
			return err
		}
	}
	if err := s.connect(ctx, o); err != nil {
		return err
	}
	for _, line := range s.lines() {
		m := migrator{line: line, fsys: o.migrations, log: o.Log, now: o.Now, data: o.Data, readOnly: o.ReadOnly}
		if err := m.run(ctx); err != nil {
			return err
		}
	}
	return nil
}

// own makes the data folder and takes it for this process.
func (s *Store) own(o Options) error {
	if err := os.MkdirAll(o.Data, 0o700); err != nil {
		return fmt.Errorf("making the data folder: %w", err)
	}
	lock, err := lockFolder(o.Data)
	if err != nil {
		return err
	}
	s.lock = lock
	s.Node, err = nodeID(o.Data, o.Now())
	return err
}

func (s *Store) connect(ctx context.Context, o Options) (err error) {
	switch {
	case o.Database == "":
		return s.connectSQLite(ctx, o)
	case strings.HasPrefix(o.Database, "mysql://"):
		s.Main, err = openMySQL(o.Database)
	case strings.HasPrefix(o.Database, "postgres://"), strings.HasPrefix(o.Database, "postgresql://"):
		s.Main, err = openPostgres(o.Database)
	default:
		return jimu.Errorf(jimu.Invalid, "the database address is not understood: leave it empty for SQLite, or begin it with mysql:// or postgres://")
	}
	if err != nil {
		return err
	}
	s.Main.readOnly = o.ReadOnly
	s.History = s.Main
	if err := s.Main.Ping(ctx); err != nil {
		return fmt.Errorf("reaching the %s database (is it running, and are its address, user and password right?): %w", s.Main.dialect, err)
	}
	return nil
}

func (s *Store) connectSQLite(ctx context.Context, o Options) (err error) {
	if o.ReadOnly {
		if _, err := os.Stat(filepath.Join(o.Data, mainFile)); err != nil {
			return jimu.Errorf(jimu.NotFound, "there is no database in %s: start the server once, or name another data folder", o.Data)
		}
	}
	if s.Main, err = openSQLite(ctx, filepath.Join(o.Data, mainFile), true, o.ReadOnly); err != nil {
		return err
	}
	s.History, err = openSQLite(ctx, filepath.Join(o.Data, historyFile), false, o.ReadOnly)
	return err
}

// lines pairs each line of migrations with its database.
func (s *Store) lines() []line {
	return []line{{"main", s.Main}, {"history", s.History}}
}

// Close ends every connection and gives the data folder free.
func (s *Store) Close() error {
	var errs []error
	if s.History != nil && s.History != s.Main {
		errs = append(errs, s.History.close())
	}
	if s.Main != nil {
		errs = append(errs, s.Main.close())
	}
	return errors.Join(append(errs, s.lock.release())...)
}

// Ping reports whether the databases answer.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.Main.Ping(ctx); err != nil || s.History == s.Main {
		return err
	}
	return s.History.Ping(ctx)
}

// Data is the data folder.
func (s *Store) Data() string { return s.data }

// nodeID reads the folder's ID, or makes it.
func nodeID(data string, now time.Time) (string, error) {
	file := filepath.Join(data, "node")
	b, err := os.ReadFile(file) //nolint:gosec // the operator names the data folder
	if id := strings.TrimSpace(string(b)); err == nil && len(id) == jimu.IDLen {
		return id, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("reading the node ID: %w", err)
	}
	id := jimu.NewID(now)
	if err := writeSynced(file, []byte(id+"\n")); err != nil {
		return "", fmt.Errorf("writing the node ID: %w", err)
	}
	return id, nil
}

// writeSynced replaces a small file so that after a crash it is the old one
// or the new one.
func writeSynced(file string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+"-*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
