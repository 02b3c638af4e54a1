package store

import (
	"io/fs"

	"github.com/go-sql-driver/mysql"
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
