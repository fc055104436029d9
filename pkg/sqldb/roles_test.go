package sqldb_test

import (
	"context"
	"fmt"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/tenurehq/tenure/pkg/config"
	"github.com/tenurehq/tenure/pkg/fault"
	"github.com/tenurehq/tenure/pkg/sqldb"
	"github.com/tenurehq/tenure/pkg/sqldb/sqltest"
)

// as returns dsn for another user, with the password "pw", or another database.
func as(t *testing.T, dsn, user, database string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	must(t, err)
	if user != "" {
		u.User = url.UserPassword(user, "pw")
	}
	if database != "" {
		u.Path = "/" + database
	}
	return u.String()
}

func service(dsn, schema string) sqldb.Config {
	return sqldb.Config{Postgres: config.NewSecret([]byte(dsn)), Schema: schema}
}

func super(t *testing.T, dsn string, statements ...string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	must(t, err)
	defer func() { must(t, conn.Close(context.WithoutCancel(t.Context()))) }()
	for _, statement := range statements {
		_, err := conn.Exec(t.Context(), statement)
		must(t, err)
	}
}

func TestAServiceMayOnlyTouchItsOwnRows(t *testing.T) {
	t.Parallel()
	dsn := sqltest.PostgresServer(t)
	sqltest.Open(t, service(dsn, "ingest"), all()...)
	db := sqltest.Open(t, service(dsn, "policy"), all()...)
	_ = db.InTx(t.Context(), func(tx *sqldb.Tx) error { // a warning, and without effect, as UPDATE below tells
		_, err := tx.Exec(t.Context(), `GRANT UPDATE ON entries TO policy`)
		return err
	})
	for statement, allowed := range map[string]bool{
		`INSERT INTO counters (name, n) VALUES ('a', 1)`:        true,
		`UPDATE counters SET n = 2`:                             true,
		`DELETE FROM counters`:                                  true,
		`INSERT INTO entries (id, name) VALUES (1, 'a')`:        true,
		`UPDATE entries SET name = 'b'`:                         false,
		`DELETE FROM entries`:                                   false,
		`TRUNCATE entries`:                                      false,
		`TRUNCATE counters`:                                     false,
		`ALTER TABLE entries DISABLE TRIGGER ALL`:               false,
		`DROP TABLE counters`:                                   false,
		`CREATE TABLE mine (id BIGINT)`:                         false,
		`UPDATE migrations_counters SET version_id = 0`:         false,
		`DELETE FROM migrations_sqldb`:                          false,
		`UPDATE ingest.counters SET n = 1`:                      false,
		`INSERT INTO ingest.counters (name, n) VALUES ('a', 1)`: false,
	} {
		err := db.InTx(t.Context(), func(tx *sqldb.Tx) error {
			_, err := tx.Exec(t.Context(), statement)
			return err
		})
		if (err == nil) != allowed {
			t.Errorf("%s: got %v, allowed %v", statement, err, allowed)
		}
	}
	conn, err := pgx.Connect(t.Context(), dsn)
	must(t, err)
	defer func() { must(t, conn.Close(context.WithoutCancel(t.Context()))) }()
	var logins int
	must(t, conn.QueryRow(t.Context(), `SELECT COUNT(*) FROM pg_roles WHERE rolname ~ '^(policy|ingest)' AND rolcanlogin`).Scan(&logins))
	if logins != 0 {
		t.Errorf("%d of the services' roles can log in", logins)
	}
}

func TestDatabasesOfOneServerMakeTheSameRolesTogether(t *testing.T) {
	t.Parallel()
	dsn := sqltest.PostgresServer(t)
	var wg sync.WaitGroup
	for i := range 6 {
		name := fmt.Sprintf("db%d", i/2)
		if i%2 == 0 {
			super(t, dsn, "CREATE DATABASE "+name)
		}
		defer wg.Wait()
	}
	for i := range 6 {
		wg.Go(func() {
			db, err := sqldb.Open(t.Context(), service(as(t, dsn, "", fmt.Sprintf("db%d", i/2)), "policy"), all()...)
			if err != nil {
				t.Error(err)
				return
			}
			must(t, db.Close())
		})
	}
}

func TestALoginThatMayMakeRolesIsEnough(t *testing.T) {
	t.Parallel()
	dsn := sqltest.PostgresServer(t)
	super(t, dsn, `CREATE ROLE deployer LOGIN CREATEROLE PASSWORD 'pw'`, `GRANT CREATE ON DATABASE postgres TO deployer`)
	db := sqltest.Open(t, service(as(t, dsn, "deployer", ""), "policy"), all()...)
	put(t, db, "a", 1)
}

func TestALoginThatMayMakeNothingIsEnoughWhenAllIsThere(t *testing.T) {
	t.Parallel()
	dsn := sqltest.PostgresServer(t)
	super(t, dsn, `CREATE ROLE policy NOLOGIN`, `CREATE ROLE policy_owner NOLOGIN`,
		`CREATE ROLE deployer LOGIN PASSWORD 'pw' IN ROLE policy, policy_owner`,
		`CREATE SCHEMA policy AUTHORIZATION policy_owner`)
	db := sqltest.Open(t, service(as(t, dsn, "deployer", ""), "policy"), all()...)
	put(t, db, "a", 1)
	if _, err := sqldb.Open(t.Context(), service(as(t, dsn, "deployer", ""), "audit")); err == nil {
		t.Error("a login that may make nothing made a schema")
	}
}

func TestARoleWithTooMuchPowerIsRefused(t *testing.T) {
	t.Parallel()
	dsn := sqltest.PostgresServer(t)
	super(t, dsn, `CREATE ROLE a SUPERUSER`, `CREATE ROLE b LOGIN`, `CREATE ROLE c_owner`, `CREATE ROLE c IN ROLE c_owner`)
	for _, schema := range []string{"a", "b", "c"} {
		if _, err := sqldb.Open(t.Context(), service(dsn, schema)); err == nil {
			t.Errorf("role %s was taken, and append-only would not hold", schema)
		}
	}
}

func TestAppendOnlyWithoutRolesIsRefused(t *testing.T) {
	t.Parallel()
	dsn := sqltest.Postgres(t)
	if _, err := sqldb.Open(t.Context(), service(dsn, ""), all()...); err == nil {
		t.Error("a table that only claims to be append-only was made")
	}
	sqltest.Open(t, service(dsn, ""))
}

func TestAServerThatDoesNotSyncIsReported(t *testing.T) {
	t.Parallel()
	for settings, want := range map[string]int{"fsync=off": 1, "fsync=on": 0} {
		db := sqltest.Open(t, service(sqltest.PostgresServer(t, settings, "full_page_writes=on"), "policy"))
		weak, err := db.Weaknesses(t.Context())
		must(t, err)
		if len(weak) != want {
			t.Errorf("with %s: %q", settings, weak)
		}
	}
}

func TestAServerThatGoesAwayIsUnavailable(t *testing.T) {
	t.Parallel()
	dsn := sqltest.PostgresServer(t)
	db := sqltest.Open(t, service(dsn, "policy"), all()...)
	conn, err := pgx.Connect(t.Context(), dsn)
	must(t, err)
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	err = db.InTx(t.Context(), func(tx *sqldb.Tx) error {
		if _, err := conn.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()`); err != nil {
			return err
		}
		_, err := tx.Exec(t.Context(), `INSERT INTO counters (name, n) VALUES ('a', 1)`)
		return err
	})
	if fault.KindOf(err) != fault.Unavailable {
		t.Errorf("got %v, want Unavailable", err)
	}
	put(t, db, "b", 1) // the next one gets a new connection
}

func TestADeadlockIsRunAgain(t *testing.T) {
	t.Parallel()
	dsn := sqltest.PostgresServer(t, "deadlock_timeout=10ms")
	for name, then := range map[string]func(ctx context.Context, tx *sqldb.Tx, text, of string) error{
		"asked": func(ctx context.Context, tx *sqldb.Tx, text, of string) error {
			_, err := tx.Exec(ctx, text, of)
			return err
		},
		"queued": func(ctx context.Context, tx *sqldb.Tx, text, of string) error { return tx.Queue(ctx, text, of) }, // goes with COMMIT
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := sqltest.Open(t, service(dsn, name), all()...)
			put(t, db, "a", 0)
			put(t, db, "b", 0)
			// Each holds one row and wants the other's; only the first time, when both are sure to meet.
			var met, wg sync.WaitGroup
			met.Add(2)
			runs := new(atomic.Int64)
			const increment = `UPDATE counters SET n = n + 1 WHERE name = $1`
			for _, order := range [][]string{{"a", "b"}, {"b", "a"}} {
				wg.Go(func() {
					meet := sync.OnceFunc(func() {
						met.Done()
						met.Wait()
					})
					err := db.InTx(t.Context(), func(tx *sqldb.Tx) error {
						runs.Add(1)
						if _, err := tx.Exec(t.Context(), increment, order[0]); err != nil {
							return fmt.Errorf("wrapped: %w", err)
						}
						meet()
						if err := then(t.Context(), tx, increment, order[1]); err != nil {
							return fmt.Errorf("wrapped: %w", err)
						}
						return nil
					})
					if err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			if a, b := counter(t, db, "a"), counter(t, db, "b"); a != 2 || b != 2 || runs.Load() < 3 {
				t.Errorf("two increments of each led to %d and %d in %d runs, want 2 and 2 in 3", a, b, runs.Load())
			}
		})
	}
}
