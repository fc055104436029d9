// Package sqltest gives tests fresh databases: a SQLite file, and a PostgreSQL database on a private server started from
// the installed binaries.
package sqltest

import (
	"path/filepath"
	"testing"

	"github.com/tenurehq/tenure/pkg/config"
	"github.com/tenurehq/tenure/pkg/sqldb"
)

// Engines are all engines, in the order in which Run tries them.
var Engines = []string{"sqlite", "postgres"}

// schema is the schema and role of a test's database.
const schema = "tenure_test"

// Run runs test once on each engine, in parallel, with a fresh database that has run the migrations.
func Run(t *testing.T, sets []sqldb.Migrations, test func(t *testing.T, db *sqldb.DB)) {
	t.Helper()
	for _, engine := range Engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			test(t, New(t, engine, sets...))
		})
	}
}

// New returns a fresh database on the engine ("sqlite" or "postgres") that lasts as long as the test.
func New(t testing.TB, engine string, sets ...sqldb.Migrations) *sqldb.DB {
	t.Helper()
	db, err := sqldb.Open(t.Context(), Config(t, engine), sets...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("close the database: %v", err)
		}
	})
	return db
}

// Config returns where a fresh, empty database is, for tests that open it themselves, or several times.
func Config(t testing.TB, engine string) sqldb.Config {
	t.Helper()
	switch engine {
	case "sqlite":
		return sqldb.Config{SQLite: filepath.Join(t.TempDir(), "test.db")}
	case "postgres":
		return sqldb.Config{Postgres: config.NewSecret([]byte(Postgres(t))), Schema: schema}
	}
	t.Fatalf("no engine %q", engine)
	return sqldb.Config{}
}
