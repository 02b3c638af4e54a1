package store

import (
	"io/fs"

	"github.com/go-sql-driver/mysql"

	"github.com/jimu-ai/jimu"
)

// WithMigrations makes the options use other migrations.
func (o Options) WithMigrations(f fs.FS) Options {
	o.migrations = f
	return o
}

// Migrations are the embedded ones.
func Migrations() fs.FS { return migrationFiles }

// Statements are those of a migration file for a database.
func Statements(file string, d Dialect) ([]string, error) { return splitStatements(file, d) }

// Rebind writes a statement as a database reads it.
func (d Dialect) Rebind(q string) (string, error) { return d.rebind(q) }

// IsTransient is isTransient.
func IsTransient(err error) bool { return isTransient(err) }

// Deadlock is what MySQL answers to the loser of a deadlock.
func Deadlock() error { return &mysql.MySQLError{Number: 1213} }

// DetailOf writes the detail of a record and reads it back.
func DetailOf(r *jimu.Record) (jimu.Record, jimu.Attempt, error) {
	only := onlyAnswer(r)
	d, err := readDetail(r.Request, string(appendDetail(nil, r, only)))
	return jimu.Record{
		Op: d.Op, Code: d.Code, Upstream: d.Upstream, Price: d.Price, First: d.first(),
		Stream: d.Stream, Quarantined: d.Quarantined, Usage: d.Usage,
	}, jimu.Attempt{Upstream: d.Upstream, Key: d.Key, Name: d.Name}, err
}
