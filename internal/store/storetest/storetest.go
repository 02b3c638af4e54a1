// Package storetest runs tests of the store on every database there is:
// SQLite always, MySQL where JIMU_TEST_MYSQL and PostgreSQL where
// JIMU_TEST_POSTGRES give the address of a server on which databases may be
// made and dropped (scripts/services starts both). In CI none may be missing.
package storetest

import (
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing" //nolint:depguard // this package is for tests
	"time"

	"github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib" // makes and drops databases

	"github.com/jimu-ai/jimu"
	"github.com/jimu-ai/jimu/internal/store"
)

// Each runs f for each database, on a fresh one that is dropped afterwards.
// Open opens it; called again it opens a second replica of it, with a data
// folder of its own. SQLite has no replicas (see [Replicas]): there a second
// call fails the test. What open returned is closed at the end of f.
func Each(t *testing.T, f func(t *testing.T, open func() *store.Store)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) {
		opened := false
		f(t, func() *store.Store {
			t.Helper()
			if opened {
				t.Fatal("SQLite is for one process: ask storetest.Replicas first")
			}
			opened = true
			return Open(t, "")
		})
	})
	for _, db := range []struct{ name, env string }{{"mysql", "JIMU_TEST_MYSQL"}, {"postgres", "JIMU_TEST_POSTGRES"}} {
		t.Run(db.name, func(t *testing.T) {
			address := Fresh(t, db.env)
			f(t, func() *store.Store { t.Helper(); return Open(t, address) })
		})
	}
}

// Replicas reports whether a second process can work on the same database.
func Replicas(s *store.Store) bool { return s.Main.Dialect() != store.SQLite }

// Open opens a store in a new data folder and closes it when the test ends.
// An empty address means SQLite.
func Open(tb testing.TB, address string) *store.Store {
	tb.Helper()
	s, err := store.Open(tb.Context(), store.Options{Data: tb.TempDir(), Database: address})
	if err != nil {
		tb.Fatalf("opening the store: %v", err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Errorf("closing the store: %v", err)
		}
	})
	return s
}

// Fresh makes a database on the server whose address the environment variable
// holds, drops it when the test ends, and returns its address. Without a
// server the test is skipped, and in CI it fails.
func Fresh(tb testing.TB, env string) string {
	tb.Helper()
	server := os.Getenv(env) //nolint:forbidigo // the only way to tell tests of a server
	if server == "" {
		if os.Getenv("CI") == "true" { //nolint:forbidigo // as above
			tb.Fatalf("%s is not set: run the tests through scripts/services run", env)
		}
		tb.Skipf("%s is not set; scripts/services run go test … sets it", env)
	}
	u, err := url.Parse(server)
	if err != nil {
		tb.Fatalf("%s: %v", env, err)
	}
	name := "jimu_test_" + jimu.NewID(time.Now())
	admin := connect(tb, u)
	if _, err := admin.ExecContext(tb.Context(), "CREATE DATABASE "+name); err != nil {
		tb.Fatalf("making a database: %v", err)
	}
	tb.Cleanup(func() {
		admin := connect(tb, u)
		if _, err := admin.Exec("DROP DATABASE " + name); err != nil { //nolint:noctx // the test's context is over
			tb.Errorf("dropping the database: %v", err)
		}
		if err := admin.Close(); err != nil {
			tb.Error(err)
		}
	})
	if err := admin.Close(); err != nil {
		tb.Fatal(err)
	}
	fresh := *u
	fresh.Path = "/" + name
	return fresh.String()
}

func connect(tb testing.TB, u *url.URL) *sql.DB {
	tb.Helper()
	driver, dsn := "pgx", u.String()
	if u.Scheme == "mysql" {
		cfg := mysql.NewConfig()
		cfg.Net, cfg.Addr, cfg.User = "tcp", u.Host, u.User.Username()
		cfg.Passwd, _ = u.User.Password()
		cfg.DBName = strings.TrimPrefix(u.Path, "/")
		driver, dsn = "mysql", cfg.FormatDSN()
	}
	db, err := sql.Open(driver, dsn)
	if err != nil {
		tb.Fatal(fmt.Errorf("connecting to the test server: %w", err))
	}
	return db
}
