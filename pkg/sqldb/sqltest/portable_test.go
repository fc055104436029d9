package sqltest

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/fstest"
)

// What each engine alone understands stands in these folders.
var speaksToOneEngine = []string{
	"deploy",                       // an administrator's
	"pkg/sqldb",                    // is the one that knows the engines
	"scripts/river",                // a queue in PostgreSQL, to compare with
	"services/connectors/postgres", // its application is PostgreSQL
	"services/promises/seeded",     // pieces of source that are wrong on purpose
}

func TestAllSQLOfTheRepositoryIsPortable(t *testing.T) {
	t.Parallel()
	CheckPortable(t, os.DirFS("../../.."), speaksToOneEngine...)
}

func TestOwnMigrationsArePortable(t *testing.T) {
	t.Parallel()
	CheckPortable(t, os.DirFS("../migrations"))
}

const tables = `
CREATE TABLE people (
    id       TEXT   PRIMARY KEY,
    name     TEXT   NOT NULL,
    version  BIGINT NOT NULL,
    picture  BYTEA,
    ended_at BIGINT,
    CHECK (version > 0),
    UNIQUE (name, version)
);
`

func TestEachConstructThatIsNotPortableIsFound(t *testing.T) {
	t.Parallel()
	for _, bad := range []struct{ sql, want string }{
		{"SELECT id FROM people WHERE id = ANY($1)", "= ANY"},
		{"SELECT id FROM people WHERE name LIKE $1", "LIKE"},
		{"SELECT id FROM people WHERE name ILIKE $1", "ILIKE"},
		{"SELECT id FROM people WHERE name ~ $1", "regular expressions"},
		{"SELECT id FROM people WHERE id = ?", "parameters are $1"},
		{"SELECT id FROM people WHERE id = :id", "parameters are $1"},
		{"SELECT id FROM people WHERE id = @id", "parameters are $1"},
		{"SELECT id FROM people WHERE active = TRUE", "booleans"},
		{"SELECT id FROM people WHERE active IS false", "booleans"},
		{"SELECT id, json_extract(data, '$.a') FROM people", "JSON"},
		{"SELECT data->>'a' FROM people", "JSON"},
		{"SELECT jsonb_agg(id) FROM people", "JSON"},
		{"SELECT id::text FROM people", "write CAST"},
		{"SELECT CAST(id AS INTEGER) FROM people", "CAST to INTEGER"},
		{"SELECT CAST($1 AS BYTEA) FROM people", "CAST to BYTEA"},
		{"SELECT now() FROM people", "parameter"},
		{"SELECT id FROM people WHERE version > EXTRACT(EPOCH FROM CURRENT_TIMESTAMP)", "parameter"},
		{"SELECT id FROM people FOR UPDATE", "lock by writing"},
		{"SELECT id FROM people FOR UPDATE SKIP LOCKED", "lock by writing"},
		{"SELECT DISTINCT ON (name) id FROM people", "DISTINCT ON"},
		{"SELECT string_agg(id, ',') FROM people", "in the program"},
		{"SELECT GREATEST(version, 1) FROM people", "CASE"},
		{"SELECT id FROM unnest($1) AS id", "arrays"},
		{"SELECT id FROM people ORDER BY ended_at", "NULLS LAST"},
		{"SELECT id FROM people ORDER BY name, p.ended_at DESC LIMIT 1", "NULLS LAST"},
		{"SELECT id FROM (SELECT id FROM people ORDER BY ended_at) AS x ORDER BY id", "NULLS LAST"},
		{"WITH gone AS (DELETE FROM people RETURNING id) SELECT id FROM gone", "inside WITH"},
		{"WITH made AS (INSERT INTO people (id) VALUES ($1) RETURNING id) SELECT id FROM made", "inside WITH"},
		{"WITH a AS (UPDATE people SET name = $1 RETURNING id) SELECT id FROM a", "inside WITH"},
		{"INSERT OR IGNORE INTO people (id) VALUES ($1)", "ON CONFLICT"},
		{"REPLACE INTO people (id) VALUES ($1)", "ON CONFLICT"},
		{"INSERT INTO people (id) VALUES ($1) ON CONFLICT ON CONSTRAINT people_pkey DO NOTHING", "columns of the conflict"},
		{"NOTIFY people", "poll"},
		{"SELECT rowid FROM people", "rowid"},
		{"CREATE TABLE t (id INTEGER PRIMARY KEY)", "column id is INTEGER"},
		{"CREATE TABLE t (id text PRIMARY KEY)", "upper case"},
		{"CREATE TABLE t (id TEXT PRIMARY KEY, at TIMESTAMPTZ)", "column at is TIMESTAMPTZ"},
		{"CREATE TABLE t (id TEXT PRIMARY KEY, on_leave BOOLEAN NOT NULL)", "column on_leave is BOOLEAN"},
		{"CREATE TABLE t (id TEXT PRIMARY KEY, data JSONB)", "column data is JSONB"},
		{"CREATE TABLE t (id BIGSERIAL PRIMARY KEY)", "column id is BIGSERIAL"},
		{"CREATE TABLE t (id TEXT PRIMARY KEY) WITHOUT ROWID", "WITHOUT ROWID"},
		{"CREATE TABLE t (id TEXT PRIMARY KEY) STRICT", "sqldb adds STRICT"},
		{"CREATE TABLE t (id TEXT COLLATE NOCASE PRIMARY KEY)", "sqldb adds the collation"},
		{"ALTER TABLE people ADD COLUMN age INT", "column age is INT"},
		{"ALTER TABLE people ALTER COLUMN name SET NOT NULL", "expand"},
		{"CREATE TRIGGER t AFTER INSERT ON people BEGIN SELECT 1; END", "block for one engine"},
	} {
		for file, text := range map[string]string{
			"services/hr/store/migrations/0002_x.sql": bad.sql + ";",
			"services/hr/store/store.go":              "package store\n\nconst query = `\n" + bad.sql + "`\n",
		} {
			if strings.HasSuffix(file, ".go") && !readsAsSQL.MatchString(bad.sql) {
				continue // begins with a word that is banned in migrations; no store sends it
			}
			problems := problemsOf(t, fstest.MapFS{
				"services/hr/store/migrations/0001_create_people.sql": {Data: []byte(tables)},
				file: {Data: []byte(text)},
			})
			if len(problems) == 0 || !strings.Contains(strings.Join(problems, "\n"), bad.want) {
				t.Errorf("%s in %s: got %q, want a complaint with %q", bad.sql, file, problems, bad.want)
			}
		}
	}
}

func TestPortableSQLPasses(t *testing.T) {
	t.Parallel()
	for _, good := range []string{
		"SELECT id, 'LIKE = ANY ?' FROM people WHERE name = $1 -- now() is for comments",
		"SELECT id FROM people ORDER BY name DESC, ended_at NULLS LAST, version",
		"SELECT id FROM people WHERE id IN (SELECT id FROM people ORDER BY version LIMIT 5)",
		"WITH wanted (id, v) AS (VALUES (CAST($1 AS TEXT), CAST($2 AS BIGINT))) SELECT p.id FROM people p JOIN wanted w ON w.id = p.id",
		"INSERT INTO people (id, name, version) VALUES ($1, $2, 1) ON CONFLICT (id) DO UPDATE SET version = people.version + 1 RETURNING version",
		"UPDATE people SET version = version + 1 WHERE id = $1 RETURNING version",
		"DELETE FROM people WHERE ended_at < $1",
		"CREATE UNIQUE INDEX people_by_name ON people (name) WHERE ended_at IS NULL",
		"ALTER TABLE people ADD COLUMN seen_at BIGINT NOT NULL DEFAULT 0",
	} {
		problems := problemsOf(t, fstest.MapFS{
			"services/hr/store/migrations/0001_create_people.sql": {Data: []byte(tables)},
			"services/hr/store/store.go":                          {Data: []byte("package store\n\nconst query = `\n" + good + "`\n")},
		})
		if len(problems) > 0 {
			t.Errorf("%s: %q", good, problems)
		}
	}
}

func TestPortableCheckReadsSumsAndPassesOverEngineBlocks(t *testing.T) {
	t.Parallel()
	problems := problemsOf(t, fstest.MapFS{
		"pkg/a/a.go":  {Data: []byte("package a\n\nfunc q(n string) string {\n\treturn `SELECT id FROM t ` +\n\t\tn + `\nWHERE id = ANY($1)`\n}\n")},
		"pkg/b/1.sql": {Data: []byte("-- +tenure postgres\nCREATE INDEX i ON t USING GIN (x);\n-- +tenure end\nSELECT now();\n")},
	})
	want := []string{"pkg/a/a.go", "pkg/b/1.sql:4"}
	if len(problems) != len(want) {
		t.Fatalf("got %q, want one complaint in each of %q", problems, want)
	}
	for i, place := range want {
		if !strings.HasPrefix(problems[i], place) {
			t.Errorf("got %q, want a complaint at %s", problems[i], place)
		}
	}
}

// problemsOf runs CheckPortable on files, and returns what it complains about.
func problemsOf(t *testing.T, files fstest.MapFS) []string {
	t.Helper()
	got := &complaints{TB: t}
	CheckPortable(got, files)
	return got.said
}

// complaints collects what a check says instead of failing the test.
type complaints struct {
	testing.TB
	said []string
}

func (c *complaints) Helper() {}

func (c *complaints) Errorf(format string, args ...any) {
	c.said = append(c.said, fmt.Sprintf(format, args...))
}
