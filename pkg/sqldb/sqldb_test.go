package sqldb_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/tenurehq/tenure/pkg/config"
	"github.com/tenurehq/tenure/pkg/fault"
	"github.com/tenurehq/tenure/pkg/sqldb"
	"github.com/tenurehq/tenure/pkg/sqldb/sqltest"
)

func counters() sqldb.Migrations {
	return sqldb.Migrations{Name: "counters", FS: fstest.MapFS{"0001_create_counters.sql": {Data: []byte(`-- +goose Up
CREATE TABLE counters (
    name  TEXT   PRIMARY KEY,
    n     BIGINT NOT NULL,
    data  BYTEA
);
CREATE TABLE numbers (n BIGINT PRIMARY KEY);
CREATE TABLE entries (
    id    BIGINT PRIMARY KEY,
    name  TEXT NOT NULL
);
-- +tenure append-only entries
-- +tenure postgres
CREATE INDEX entries_by_name ON entries (name);
-- +tenure end
-- +tenure sqlite
CREATE INDEX entries_by_name_sqlite ON entries (name);
-- +tenure end
`)}}}
}

func all() []sqldb.Migrations { return []sqldb.Migrations{counters()} }

func TestEightConcurrentWritersLoseNoUpdate(t *testing.T) {
	t.Parallel()
	sqltest.Run(t, all(), func(t *testing.T, db *sqldb.DB) {
		ctx := t.Context()
		must(t, db.InTx(ctx, func(tx *sqldb.Tx) error {
			_, err := tx.Exec(ctx, `INSERT INTO counters (name, n) VALUES ($1, $2)`, "c", int64(0))
			return err
		}))
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 50 {
					err := db.InTx(ctx, func(tx *sqldb.Tx) error {
						var n int64
						return tx.QueryRow(ctx, `UPDATE counters SET n = n + 1 WHERE name = $1 RETURNING n`, "c").Scan(&n)
					})
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if n := counter(t, db, "c"); n != 400 {
			t.Errorf("400 increments led to %d", n)
		}
	})
}

func TestAfterCommitRunsOnlyAfterACommit(t *testing.T) {
	t.Parallel()
	sqltest.Run(t, all(), func(t *testing.T, db *sqldb.DB) {
		ran := 0
		_ = db.InTx(t.Context(), func(tx *sqldb.Tx) error {
			tx.AfterCommit(func() { ran++ })
			return errors.New("no")
		})
		if ran != 0 {
			t.Error("it ran after a rollback")
		}
		must(t, db.InTx(t.Context(), func(tx *sqldb.Tx) error {
			tx.AfterCommit(func() { ran++ })
			return nil
		}))
		if ran != 1 {
			t.Errorf("it ran %d times", ran)
		}
	})
}

func TestAFailedStatementEndsItsTransaction(t *testing.T) {
	t.Parallel()
	sqltest.Run(t, all(), func(t *testing.T, db *sqldb.DB) {
		ctx := t.Context()
		put(t, db, "a", 1)
		for name, failing := range map[string]func(tx *sqldb.Tx) error{
			"exec": func(tx *sqldb.Tx) error {
				_, err := tx.Exec(ctx, `INSERT INTO counters (name, n) VALUES ('a', 1)`)
				return err
			},
			"query": func(tx *sqldb.Tx) error {
				return tx.QueryRow(ctx, `INSERT INTO counters (name, n) VALUES ('a', 1) RETURNING n`).Scan(new(int64))
			},
			"scan": func(tx *sqldb.Tx) error {
				return tx.QueryRow(ctx, `SELECT MAX(name) FROM counters WHERE n = 7`).Scan(new(string))
			},
		} {
			err := db.InTx(ctx, func(tx *sqldb.Tx) error {
				if failing(tx) == nil {
					t.Errorf("%s: it did not fail", name)
				}
				if _, err := tx.Exec(ctx, `INSERT INTO counters (name, n) VALUES ('b', 1)`); err == nil {
					t.Errorf("%s: a statement ran after a failed one", name)
				}
				return nil
			})
			if err == nil {
				t.Errorf("%s: committed although a statement had failed", name)
			}
		}
		var n int64
		must(t, db.QueryRow(ctx, `SELECT COUNT(*) FROM counters`).Scan(&n))
		if n != 1 {
			t.Errorf("%d rows are there, want 1", n)
		}
	})
}

func TestOneResultIsOpenAtATime(t *testing.T) {
	t.Parallel()
	sqltest.Run(t, all(), func(t *testing.T, db *sqldb.DB) {
		ctx := t.Context()
		put(t, db, "a", 1)
		must(t, db.InTx(ctx, func(tx *sqldb.Tx) error {
			rows, err := tx.Query(ctx, `SELECT name FROM counters`)
			if err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, `DELETE FROM counters`); err == nil {
				t.Error("a statement ran while rows were open")
			}
			if err := rows.Close(); err != nil {
				return err
			}
			_, err = tx.Exec(ctx, `DELETE FROM counters`)
			return err
		}))
	})
}

func TestATransactionEndsWithItsFunction(t *testing.T) {
	t.Parallel()
	sqltest.Run(t, all(), func(t *testing.T, db *sqldb.DB) {
		var kept *sqldb.Tx
		must(t, db.InTx(t.Context(), func(tx *sqldb.Tx) error {
			kept = tx
			return nil
		}))
		if _, err := kept.Exec(t.Context(), `INSERT INTO counters (name, n) VALUES ('late', 1)`); err == nil {
			t.Error("a statement ran outside its transaction")
		}
	})
}

func TestReadersCannotWrite(t *testing.T) {
	t.Parallel()
	db := sqltest.New(t, sqldb.SQLite, all()...)
	if err := db.QueryRow(t.Context(), `INSERT INTO counters (name, n) VALUES ('a', 1) RETURNING n`).Scan(new(int64)); err == nil {
		t.Error("a write went past the writer")
	}
}

func TestReadersSeeWhatWasCommittedBefore(t *testing.T) {
	t.Parallel()
	sqltest.Run(t, all(), func(t *testing.T, db *sqldb.DB) {
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				name := fmt.Sprint(i)
				for n := range int64(20) {
					must(t, db.InTx(t.Context(), func(tx *sqldb.Tx) error {
						_, err := tx.Exec(t.Context(), `INSERT INTO counters (name, n) VALUES ($1, $2)
ON CONFLICT (name) DO UPDATE SET n = excluded.n`, name, n)
						return err
					}))
					if got := counter(t, db, name); got != n {
						t.Errorf("read %d after %d was committed", got, n)
					}
				}
			})
		}
		wg.Wait()
	})
}

func TestOnlyOneDatabaseIsNamed(t *testing.T) {
	t.Parallel()
	dsn := config.NewSecret([]byte("postgres://localhost/x"))
	for what, cfg := range map[string]sqldb.Config{
		"none":          {},
		"both":          {SQLite: "x", Postgres: dsn},
		"bad schema":    {Postgres: dsn, Schema: "Policy"},
		"quoted schema": {Postgres: dsn, Schema: `a"b`},
		"long schema":   {Postgres: dsn, Schema: strings.Repeat("a", 58)},
		"negative":      {SQLite: "x", MaxConns: -1},
	} {
		if err := cfg.Validate(); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
	if err := (sqldb.Config{Postgres: dsn, Schema: strings.Repeat("a", 57)}).Validate(); err != nil {
		t.Errorf("the longest schema: %v", err)
	}
}

func TestAServerThatIsNotThereIsUnavailable(t *testing.T) {
	t.Parallel()
	_, err := sqldb.Open(t.Context(), sqldb.Config{Postgres: config.NewSecret([]byte("postgres://u:hush-hush@127.0.0.1:1/x"))})
	if fault.KindOf(err) != fault.Unavailable {
		t.Errorf("got %v, want Unavailable", err)
	}
	if err != nil && strings.Contains(err.Error(), "hush-hush") {
		t.Errorf("the password is in %q", err)
	}
}

// put adds a counter.
func put(t *testing.T, db *sqldb.DB, name string, n int64) {
	t.Helper()
	must(t, db.InTx(t.Context(), func(tx *sqldb.Tx) error {
		_, err := tx.Exec(t.Context(), `INSERT INTO counters (name, n) VALUES ($1, $2)`, name, n)
		return err
	}))
}

func counter(t *testing.T, db *sqldb.DB, name string) int64 {
	t.Helper()
	var n int64
	if err := db.QueryRow(t.Context(), `SELECT n FROM counters WHERE name = $1`, name).Scan(&n); err != nil {
		t.Error(err)
	}
	return n
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
