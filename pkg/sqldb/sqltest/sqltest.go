// Package sqltest gives tests fresh databases on both engines.
//
// SQLite is a file in the test's folder. PostgreSQL is a private server that this process starts from the installed
// binaries when it is first needed and that ends with the process, however that ends; or the server that
// TENURE_TEST_POSTGRES names, as the DSN of a superuser. Without either the tests are skipped, or fail when CI is set.
// Each test gets a database of its own, cloned from one that was migrated once. The shared server does not sync to
// disk: it is for what SQL means, not for what survives a crash.
package sqltest

import (
	"context"
	"testing"
	"time"

	"github.com/tenurehq/tenure/pkg/config"
	"github.com/tenurehq/tenure/pkg/sqldb"
)

// schema and role of every database that New opens on PostgreSQL.
const schema = "sqltest"

// Engines are all engines, in the order in which Run tries them.
var Engines = []string{sqldb.SQLite, sqldb.Postgres}

// Run runs f as a subtest on each engine, with a fresh database in which the sets have run.
func Run(t *testing.T, sets []sqldb.Migrations, f func(t *testing.T, db *sqldb.DB)) {
	t.Helper()
	for _, engine := range Engines {
		t.Run(engine, func(t *testing.T) { f(t, New(t, engine, sets...)) })
	}
}

// New returns a fresh database on engine (sqldb.SQLite or sqldb.Postgres) in which the sets have run. It is closed and
// removed with the test.
func New(tb testing.TB, engine string, sets ...sqldb.Migrations) *sqldb.DB {
	tb.Helper()
	return Open(tb, Config(tb, engine, sets...), sets...)
}

// Open opens a database for the duration of the test.
func Open(tb testing.TB, cfg sqldb.Config, sets ...sqldb.Migrations) *sqldb.DB {
	tb.Helper()
	db, err := sqldb.Open(tb.Context(), cfg, sets...)
	if err != nil {
		tb.Fatalf("open test database: %v", err)
	}
	tb.Cleanup(func() {
		if err := db.Close(); err != nil {
			tb.Errorf("close test database: %v", err)
		}
	})
	return db
}

// Config returns a fresh database for a test that opens it itself: twice, for a restart or a second process. The
// sets have run on PostgreSQL; on SQLite they run when it is opened.
func Config(tb testing.TB, engine string, sets ...sqldb.Migrations) sqldb.Config {
	tb.Helper()
	switch engine {
	case sqldb.SQLite:
		return sqldb.Config{SQLite: tb.TempDir() + "/test.db"}
	case sqldb.Postgres:
		dsn := shared(tb).clone(tb, sets)
		return sqldb.Config{Postgres: config.NewSecret([]byte(dsn)), Schema: schema}
	}
	tb.Fatalf("no engine %q", engine)
	return sqldb.Config{}
}

// AwaitLock returns once somebody waits for a lock in db, which is PostgreSQL's.
func AwaitLock(ctx context.Context, tb testing.TB, db *sqldb.DB) {
	tb.Helper()
	const waiting = `
SELECT COUNT(*) FROM pg_locks WHERE NOT granted AND pid IN (
	SELECT pid FROM pg_locks WHERE database = (SELECT oid FROM pg_database WHERE datname = CURRENT_DATABASE())
)`
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); <-tick.C {
		var n int64
		if err := db.QueryRow(ctx, waiting).Scan(&n); err != nil {
			tb.Fatalf("look who waits for a lock: %v", err)
		}
		if n > 0 {
			return
		}
	}
	tb.Fatal("nobody waits for a lock")
}

// Postgres returns the DSN, as superuser, of a fresh empty database on the shared server, removed with the test.
// Connections go over TCP and prove their password by SCRAM, so logins of roles made by the test can be tried; but
// roles belong to the whole server, so a test that makes some with fixed names takes PostgresServer.
func Postgres(tb testing.TB) string {
	tb.Helper()
	s := shared(tb)
	return s.tcp(s.createDatabase(tb, "template1"))
}

// PostgresServer starts a server for this test alone and returns the DSN, as superuser, of its database postgres, as
// Postgres does. settings are PostgreSQL's, "fsync=on" say.
func PostgresServer(tb testing.TB, settings ...string) string {
	tb.Helper()
	s, err := startServer(tb.Context(), settings)
	need(tb, err)
	tb.Cleanup(s.stop)
	return s.tcp("postgres")
}
