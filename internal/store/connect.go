package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"modernc.org/sqlite"

	"github.com/jimu-ai/jimu"
)

const (
	mainFile    = "jimu.db"
	historyFile = "history.db"
)

const (
	sqliteReaders  = 3
	serverConns    = 16
	serverIdle     = 8
	serverConnLife = 30 * time.Minute
	readerIdle     = time.Minute
)

// openSQLite opens a file with one connection that writes and a few that only
// read. A commit of a durable file waits for the disk.
func openSQLite(ctx context.Context, file string, durable, readOnly bool) (*DB, error) {
	sync := "NORMAL"
	if durable {
		sync = "FULL"
	}
	r, err := sqlitePool(file, "query_only(1)", "cache_size(-512)")
	if err != nil {
		return nil, err
	}
	r.SetMaxOpenConns(sqliteReaders)
	r.SetMaxIdleConns(sqliteReaders)
	r.SetConnMaxIdleTime(readerIdle)
	d := &DB{dialect: SQLite, r: r, file: file, readOnly: readOnly}
	if readOnly {
		return d, nil
	}
	// SQLite would let others read it, and gives its side files the same mode.
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600) //nolint:gosec // the operator names the data folder
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening %s: %w", file, err), d.close())
	}
	if err := f.Close(); err != nil {
		return nil, errors.Join(err, d.close())
	}
	if d.w, err = sqlitePool(file, "journal_mode(WAL)", "synchronous("+sync+")", "wal_autocheckpoint(2000)",
		"journal_size_limit(67108864)", "cache_size(-2048)", "foreign_keys(1)", "temp_store(MEMORY)"); err != nil {
		return nil, errors.Join(err, d.close())
	}
	d.w.SetMaxOpenConns(1)
	if err := d.w.PingContext(ctx); err != nil { // makes the file before any reader looks for it
		return nil, errors.Join(fmt.Errorf("opening %s: %w", file, err), d.close())
	}
	return d, nil
}

func sqlitePool(file string, pragmas ...string) (*sql.DB, error) {
	abs, err := filepath.Abs(file)
	if err != nil {
		return nil, err
	}
	q := url.Values{"_txlock": {"immediate"}, "_pragma": append([]string{"busy_timeout(10000)"}, pragmas...)}
	at := url.URL{Scheme: "file", Path: filepath.ToSlash(abs), RawQuery: q.Encode()}
	c, err := sqlite.NewConnector(at.String())
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", file, err)
	}
	return sql.OpenDB(bulkConns{c}), nil
}

// openMySQL connects to MySQL, MariaDB or TiDB.
func openMySQL(address string) (*DB, error) {
	bad := jimu.Errorf(jimu.Invalid, "the database address is not understood: write mysql://user:password@host:3306/name")
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || len(u.Path) < 2 {
		return nil, bad
	}
	host := u.Host
	if u.Port() == "" {
		host += ":3306"
	}
	cfg, err := mysql.ParseDSN("tcp(" + host + ")" + u.EscapedPath() + "?" + u.RawQuery)
	if err != nil {
		return nil, bad
	}
	cfg.User = u.User.Username()
	cfg.Passwd, _ = u.User.Password()
	cfg.ClientFoundRows = true
	cfg.InterpolateParams = true
	cfg.RejectReadOnly = true
	cfg.Collation = "utf8mb4_bin"
	if cfg.Timeout == 0 {
		cfg.Timeout = 10 * time.Second
	}
	if cfg.Params == nil {
		cfg.Params = map[string]string{}
	}
	cfg.Params["sql_mode"] = "'STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION'"
	c, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, bad
	}
	return serverDB(MySQL, sql.OpenDB(committedReads{c})), nil
}

// committedReads makes MySQL's connections read what is committed, as the
// other databases do; its default takes more locks and deadlocks more.
type committedReads struct{ driver.Connector }

// Connect implements [driver.Connector].
func (c committedReads) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	x, ok := conn.(driver.ExecerContext)
	if !ok {
		return nil, errors.Join(errors.New("the MySQL driver cannot run statements"), conn.Close())
	}
	if _, err := x.ExecContext(ctx, "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED", nil); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// openPostgres connects to PostgreSQL or CockroachDB.
func openPostgres(address string) (*DB, error) {
	cfg, err := pgx.ParseConfig(address)
	if err != nil {
		return nil, &jimu.Error{Code: jimu.Invalid, Text: "the database address is not understood: write postgres://user:password@host:5432/name", Err: err}
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = 10 * time.Second
	}
	return serverDB(Postgres, stdlib.OpenDB(*cfg)), nil
}

func serverDB(dialect Dialect, pool *sql.DB) *DB {
	pool.SetMaxOpenConns(serverConns)
	pool.SetMaxIdleConns(serverIdle)
	pool.SetConnMaxLifetime(serverConnLife)
	return &DB{dialect: dialect, w: pool, r: pool}
}
