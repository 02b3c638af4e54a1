package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/jimu-ai/jimu"
)

//go:embed migrations
var migrationFiles embed.FS

// line is a series of numbered migrations and the database it is for.
type line struct {
	name string
	db   *DB
}

// migration is one numbered file.
type migration struct {
	version    int64
	name       string
	sum        string
	statements []string
}

// applied is what the database says of a migration.
type applied struct {
	sum        string
	done       int // statements that are in effect
	finishedAt int64
}

// migrator brings one line up to date. On SQLite and PostgreSQL a migration is
// one transaction. MySQL commits at each change of a table, so there progress
// is recorded by the statement, and a migration that was cut off goes on where
// it was.
type migrator struct {
	line
	fsys     fs.FS
	log      *slog.Logger
	now      func() time.Time
	data     string
	readOnly bool
}

const progressTable = `CREATE TABLE IF NOT EXISTS schema_migrations (
	line {id} NOT NULL, version {int} NOT NULL, name {key} NOT NULL, checksum {id} NOT NULL,
	done {int} NOT NULL, finished_at {int} NOT NULL, PRIMARY KEY (line, version)) {table}`

func (m *migrator) run(ctx context.Context) error {
	all, err := loadMigrations(m.fsys, "migrations/"+m.name, m.db.dialect)
	if err != nil {
		return err
	}
	if m.readOnly {
		return m.requireAll(ctx, all)
	}
	unlock, err := m.lock(ctx)
	if err != nil {
		return fmt.Errorf("taking the migration lock: %w", err)
	}
	return errors.Join(m.apply(ctx, all), unlock())
}

// requireAll checks that a store opened for reading needs no migration.
func (m *migrator) requireAll(ctx context.Context, all []migration) error {
	have, err := m.state(ctx)
	if err != nil {
		return fmt.Errorf("reading the schema version: %w", err)
	}
	todo, err := m.pending(all, have)
	if err == nil && len(todo) > 0 {
		return jimu.Errorf(jimu.Conflict, "the database is of an older jimu: start the server once, which brings it up to date")
	}
	return err
}

func (m *migrator) apply(ctx context.Context, all []migration) error {
	create, err := expand(progressTable, m.db.dialect, m.db.dialect.schemaMacro)
	if err != nil {
		return err
	}
	if _, err := m.db.w.ExecContext(ctx, create); err != nil {
		return fmt.Errorf("making the table of migrations: %w", err)
	}
	have, err := m.state(ctx)
	if err != nil {
		return fmt.Errorf("reading the schema version: %w", err)
	}
	todo, err := m.pending(all, have)
	if err != nil || len(todo) == 0 {
		return err
	}
	if m.db.dialect == SQLite && len(have) > 0 {
		if err := m.saveFirst(ctx, todo[0]); err != nil {
			return fmt.Errorf("copying the database before the migration: %w", err)
		}
	}
	for _, mig := range todo {
		if m.db.dialect == MySQL {
			err = m.applyByStatement(ctx, mig, have[mig.version])
		} else {
			err = m.applyAtOnce(ctx, mig)
		}
		if err != nil {
			return fmt.Errorf("migrating %s to %03d_%s: %w", m.name, mig.version, mig.name, err)
		}
		m.log.InfoContext(ctx, "schema migrated", "line", m.name, "version", mig.version, "name", mig.name)
	}
	return nil
}

// state reads what the database has.
func (m *migrator) state(ctx context.Context) (map[int64]applied, error) {
	q, err := m.db.dialect.rebind("SELECT version, checksum, done, finished_at FROM schema_migrations WHERE line = ?")
	if err != nil {
		return nil, err
	}
	rows, err := m.db.r.QueryContext(ctx, q, m.name)
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // Err below says whether all was read
	have := make(map[int64]applied)
	for rows.Next() {
		var v int64
		var a applied
		if err := rows.Scan(&v, &a.sum, &a.done, &a.finishedAt); err != nil {
			return nil, err
		}
		have[v] = a
	}
	return have, rows.Err()
}

// pending lists what is to be done, and refuses a database that this program
// does not know.
func (m *migrator) pending(all []migration, have map[int64]applied) ([]migration, error) {
	known := make(map[int64]bool, len(all))
	var todo []migration
	for _, mig := range all {
		known[mig.version] = true
		was, ok := have[mig.version]
		if ok && was.sum != mig.sum {
			return nil, jimu.Errorf(jimu.Conflict, "migration %s/%03d_%s is not the one that this database was made with: run the jimu version that made it, or a release after it", m.name, mig.version, mig.name)
		}
		if !ok || was.finishedAt == 0 {
			todo = append(todo, mig)
		}
	}
	for v := range have {
		if !known[v] {
			return nil, jimu.Errorf(jimu.Conflict, "the database is of a newer jimu (its %s schema has version %d, this program knows up to %d): run that version, or restore the backup made before the upgrade", m.name, v, len(all))
		}
	}
	return todo, nil
}

func (m *migrator) applyAtOnce(ctx context.Context, mig migration) error {
	return m.db.once(ctx, func(tx *Tx) error {
		for _, s := range mig.statements {
			if _, err := tx.tx.ExecContext(ctx, s); err != nil {
				return fmt.Errorf("%w (statement %q)", err, s)
			}
		}
		_, err := tx.Exec(ctx, "INSERT INTO schema_migrations (line, version, name, checksum, done, finished_at) VALUES (?, ?, ?, ?, ?, ?)",
			m.name, mig.version, mig.name, mig.sum, len(mig.statements), m.now().UnixMicro())
		return err
	})
}

// applyByStatement applies what is left of a migration where changes of
// tables commit by themselves. The death of the process between a change and
// its record is healed by accepting, for the first statement, that it has
// been done.
func (m *migrator) applyByStatement(ctx context.Context, mig migration, was applied) error {
	if was.sum == "" {
		if _, err := m.db.Exec(ctx, "INSERT INTO schema_migrations (line, version, name, checksum, done, finished_at) VALUES (?, ?, ?, ?, 0, 0)",
			m.name, mig.version, mig.name, mig.sum); err != nil {
			return err
		}
	}
	for i := was.done; i < len(mig.statements); i++ {
		err := m.db.once(ctx, func(tx *Tx) error {
			_, err := tx.tx.ExecContext(ctx, mig.statements[i])
			if err != nil && (i != was.done || !isDoneAlready(err)) {
				return fmt.Errorf("%w (statement %q)", err, mig.statements[i])
			}
			_, err = tx.Exec(ctx, "UPDATE schema_migrations SET done = ? WHERE line = ? AND version = ?", i+1, m.name, mig.version)
			return err
		})
		if err != nil {
			return err
		}
	}
	_, err := m.db.Exec(ctx, "UPDATE schema_migrations SET finished_at = ? WHERE line = ? AND version = ?", m.now().UnixMicro(), m.name, mig.version)
	return err
}

// isDoneAlready reports whether MySQL refused a change because it is in
// effect: the table, column, or index is there, or is gone.
func isDoneAlready(err error) bool {
	e, ok := errors.AsType[*mysql.MySQLError](err)
	return ok && slices.Contains([]uint16{1050, 1051, 1060, 1061, 1091}, e.Number)
}

// lockWait bounds the wait for another replica's migration.
const lockWait = 10 * time.Minute

// lock keeps other replicas from migrating at the same time. SQLite has only
// this process.
func (m *migrator) lock(ctx context.Context) (unlock func() error, err error) {
	if m.db.dialect == SQLite {
		return func() error { return nil }, nil
	}
	ctx, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	conn, err := m.db.w.Conn(ctx)
	if err != nil {
		return nil, err
	}
	var schema string
	if err := conn.QueryRowContext(ctx, m.db.dialect.pick("", "SELECT DATABASE()", "SELECT current_schema()")).Scan(&schema); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	sum := sha256.Sum256([]byte("jimu migrations " + schema))
	name, key := "jimu_"+hex.EncodeToString(sum[:12]), int64(sum[0])<<48|int64(sum[1])<<40|int64(sum[2])<<32|0x6a696d75
	got := int64(1)
	if m.db.dialect == MySQL {
		err = conn.QueryRowContext(ctx, "SELECT GET_LOCK(?, ?)", name, int64(lockWait/time.Second)).Scan(&got)
	} else {
		_, err = conn.ExecContext(ctx, "SELECT pg_advisory_lock($1)", key)
	}
	if err == nil && got != 1 {
		err = errors.New("another process holds it")
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return func() error { // the lock is the connection's: unlock, then give that back
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		if m.db.dialect == MySQL {
			_, err = conn.ExecContext(ctx, "DO RELEASE_LOCK(?)", name)
		} else {
			_, err = conn.ExecContext(ctx, "SELECT pg_advisory_unlock($1)", key)
		}
		return errors.Join(err, conn.Close())
	}, nil
}

// How many automatic copies of a database stay. History is large.
const (
	keepCopies  = 3
	keepHistory = 1
)

// saveFirst copies a SQLite database before it is changed, and removes the
// oldest copies.
func (m *migrator) saveFirst(ctx context.Context, next migration) error {
	dir := filepath.Join(m.data, "backup")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	base := strings.TrimSuffix(filepath.Base(m.db.file), ".db")
	file := filepath.Join(dir, fmt.Sprintf("%s-%s-before-%03d.db", base, m.now().UTC().Format("20060102T150405.000000"), next.version))
	if err := vacuumInto(ctx, m.db.w, file); err != nil {
		return err
	}
	old, err := filepath.Glob(filepath.Join(dir, base+"-*-before-*.db"))
	if err != nil {
		return err
	}
	slices.Sort(old)
	keep := keepCopies
	if m.name == "history" {
		keep = keepHistory
	}
	for _, f := range old[:max(0, len(old)-keep)] {
		if err := os.Remove(f); err != nil {
			return err
		}
	}
	return nil
}

// vacuumInto writes a consistent copy of a SQLite database to a new file.
func vacuumInto(ctx context.Context, pool *sql.DB, file string) error {
	if _, err := pool.ExecContext(ctx, "VACUUM INTO ?", file); err != nil {
		_ = os.Remove(file) // half of a copy, on a full disk
		return err
	}
	return os.Chmod(file, 0o600)
}

// loadMigrations reads a folder of NNN_name.sql, numbered from 001 without
// gaps.
func loadMigrations(fsys fs.FS, dir string, d Dialect) ([]migration, error) {
	files, err := fs.Glob(fsys, dir+"/*.sql")
	if err != nil {
		return nil, err
	}
	slices.Sort(files)
	out := make([]migration, 0, len(files))
	for i, file := range files {
		number, name, _ := strings.Cut(strings.TrimSuffix(path.Base(file), ".sql"), "_")
		version, err := strconv.ParseInt(number, 10, 64)
		if err != nil || version != int64(i+1) {
			return nil, fmt.Errorf("migration %s should have number %03d", file, i+1)
		}
		b, err := fs.ReadFile(fsys, file)
		if err != nil {
			return nil, err
		}
		statements, err := splitStatements(string(b), d)
		if err != nil {
			return nil, fmt.Errorf("migration %s: %w", file, err)
		}
		sum := sha256.Sum256(b)
		out = append(out, migration{version, name, hex.EncodeToString(sum[:]), statements})
	}
	return out, nil
}

// splitStatements cuts a file at its lines "--;", keeps the lines marked for
// this database, drops comments, and writes out the macros.
func splitStatements(file string, d Dialect) ([]string, error) {
	var out []string
	var cur strings.Builder
	flush := func() error {
		s := strings.TrimSuffix(strings.TrimSpace(cur.String()), ";")
		cur.Reset()
		if s == "" {
			return nil
		}
		s, err := expand(s, d, d.schemaMacro)
		out = append(out, s)
		return err
	}
	for l := range strings.Lines(file) {
		trimmed := strings.TrimSpace(l)
		own, marked := strings.CutPrefix(trimmed, d.tag())
		switch {
		case trimmed == "--;":
			if err := flush(); err != nil {
				return nil, err
			}
		case marked:
			cur.WriteString(own + "\n")
		case !strings.HasPrefix(trimmed, "--"):
			cur.WriteString(l)
		}
	}
	return out, flush()
}
