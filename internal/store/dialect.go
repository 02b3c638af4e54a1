package store

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// Dialect is which database speaks.
type Dialect uint8

// The databases. MySQL includes MariaDB and TiDB, Postgres CockroachDB.
const (
	SQLite Dialect = iota
	MySQL
	Postgres
)

// String names the database for people.
func (d Dialect) String() string { return [...]string{"SQLite", "MySQL", "PostgreSQL"}[d] }

// tag is what marks a line of a migration for this database alone.
func (d Dialect) tag() string { return [...]string{"--sqlite:", "--mysql:", "--postgres:"}[d] }

// pick returns the one of three that is for this database.
func (d Dialect) pick(sqlite, mysql, postgres string) string {
	return [...]string{sqlite, mysql, postgres}[d]
}

// rebind writes a statement as this database reads it: its placeholders, and
// these macros:
//
//	{for update}              locks the rows read (SQLite: nothing, its transactions are exclusive)
//	{for update skip locked}  the same, passing over rows that others hold
//	{int}, {text}             the types in CAST(? AS {int})
//	{upsert (a, b)} c = {new c}   on a conflict of the unique a, b: update; t.c is the old value, {new c} the offered one
//	{ignore (a, b)}           on a conflict of the unique a, b: nothing
//	{greatest}(x, y), {least}(x, y)
//
// Neither "?" nor "{" of a quoted text is touched.
func (d Dialect) rebind(q string) (string, error) {
	return expand(q, d, d.queryMacro)
}

func (d Dialect) queryMacro(name string) (string, bool) {
	verb, rest, _ := strings.Cut(name, " ")
	switch verb {
	case "for":
		if name != "for update" && name != "for update skip locked" {
			return "", false
		}
		upper := strings.ToUpper(name)
		return d.pick("", upper, upper), true
	case "int":
		return d.pick("INTEGER", "SIGNED", "BIGINT"), rest == ""
	case "text":
		return d.pick("TEXT", "CHAR", "TEXT"), rest == ""
	case "greatest":
		return d.pick("MAX", "GREATEST", "GREATEST"), rest == ""
	case "least":
		return d.pick("MIN", "LEAST", "LEAST"), rest == ""
	case "new":
		return d.pick("excluded."+rest, "VALUES("+rest+")", "excluded."+rest), rest != ""
	case "upsert":
		on := "ON CONFLICT " + rest + " DO UPDATE SET"
		return d.pick(on, "ON DUPLICATE KEY UPDATE", on), rest != ""
	case "ignore":
		col, _, _ := strings.Cut(strings.Trim(rest, "()"), ",")
		on := "ON CONFLICT " + rest + " DO NOTHING"
		return d.pick(on, "ON DUPLICATE KEY UPDATE "+col+" = "+col, on), rest != ""
	}
	return "", false
}

// schemaMacro writes the macros of migrations.
func (d Dialect) schemaMacro(name string) (string, bool) {
	switch name {
	case "id":
		return d.pick("TEXT", "VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin", `VARCHAR(64) COLLATE "C"`), true
	case "key":
		return d.pick("TEXT", "VARCHAR(190) CHARACTER SET ascii COLLATE ascii_bin", `VARCHAR(190) COLLATE "C"`), true
	case "name":
		return d.pick("TEXT", "VARCHAR(190)", `VARCHAR(190) COLLATE "C"`), true
	case "text":
		return d.pick("TEXT", "LONGTEXT", `TEXT COLLATE "C"`), true
	case "blob":
		return d.pick("BLOB", "LONGBLOB", "BYTEA"), true
	case "int":
		return d.pick("INTEGER", "BIGINT", "BIGINT"), true
	case "table":
		return d.pick("STRICT", mysqlTable, ""), true
	case "table clustered":
		return d.pick("STRICT, WITHOUT ROWID", mysqlTable, ""), true
	}
	return "", false
}

const mysqlTable = "ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin"

// expand replaces placeholders and macros outside quoted text.
func expand(q string, d Dialect, macro func(string) (string, bool)) (string, error) {
	var b strings.Builder
	b.Grow(len(q) + 16)
	for param := 0; q != ""; {
		i := strings.IndexAny(q, "?{'")
		if i < 0 {
			b.WriteString(q)
			break
		}
		b.WriteString(q[:i])
		end := i + 1
		switch q[i] {
		case '?':
			if param++; d == Postgres {
				b.WriteString("$" + strconv.Itoa(param))
			} else {
				b.WriteByte('?')
			}
		case '\'':
			n := strings.IndexByte(q[end:], '\'')
			if n < 0 {
				return "", fmt.Errorf("a quoted text has no end: %q", q)
			}
			end += n + 1
			b.WriteString(q[i:end])
		case '{':
			n := strings.IndexByte(q[end:], '}')
			if n < 0 {
				return "", fmt.Errorf("a macro has no end: %q", q)
			}
			text, ok := macro(q[end : end+n])
			if !ok {
				return "", fmt.Errorf("macro {%s} does not exist", q[end:end+n])
			}
			b.WriteString(text)
			end += n + 1
		}
		q = q[end:]
	}
	return b.String(), nil
}

// Upsert writes the statement that inserts a row with the columns keys and
// cols, or, where one with these keys (unique) exists, updates its cols. The
// rows it affects differ between databases; do not count them.
func Upsert(table string, keys, cols []string) string {
	all := strings.Join(append(append([]string{}, keys...), cols...), ", ")
	marks := strings.Repeat(", ?", len(keys)+len(cols))[2:]
	set := make([]string, len(cols))
	for i, c := range cols {
		set[i] = c + " = {new " + c + "}"
	}
	tail := " {ignore (" + strings.Join(keys, ", ") + ")}"
	if len(cols) > 0 {
		tail = " {upsert (" + strings.Join(keys, ", ") + ")} " + strings.Join(set, ", ")
	}
	return "INSERT INTO " + table + " (" + all + ") VALUES (" + marks + ")" + tail
}

// IsDuplicate reports whether a statement broke a unique constraint. On
// PostgreSQL it has also ended its transaction: to go on in the same one, use
// {ignore (…)} instead.
func IsDuplicate(err error) bool {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		return e.Code() == sqlite3.SQLITE_CONSTRAINT_UNIQUE || e.Code() == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY
	}
	if e, ok := errors.AsType[*mysql.MySQLError](err); ok {
		return e.Number == 1062
	}
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Code == "23505"
	}
	return false
}

// isTransient reports whether a transaction lost against another one and may
// succeed if it is run again. Nothing of it has been kept.
func isTransient(err error) bool {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		return e.Code()&0xff == sqlite3.SQLITE_BUSY || e.Code()&0xff == sqlite3.SQLITE_LOCKED
	}
	if e, ok := errors.AsType[*mysql.MySQLError](err); ok {
		return e.Number == 1213 || e.Number == 1205
	}
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Code == "40001" || e.Code == "40P01" || e.Code == "55P03"
	}
	return false
}
