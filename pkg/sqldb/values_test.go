package sqldb_test

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tenurehq/tenure/pkg/fault"
	"github.com/tenurehq/tenure/pkg/sqldb"
	"github.com/tenurehq/tenure/pkg/sqldb/sqltest"
)

func TestValues(t *testing.T) {
	t.Parallel()
	if got := sqldb.Values(2, 3); got != "($1, $2, $3), ($4, $5, $6)" {
		t.Error(got)
	}
}

func TestParametersMayRepeatAndComeInAnyOrder(t *testing.T) {
	t.Parallel()
	sqltest.Run(t, all(), func(t *testing.T, db *sqldb.DB) {
		ctx := t.Context()
		must(t, db.InTx(ctx, func(tx *sqldb.Tx) error {
			_, err := tx.Exec(ctx, `INSERT INTO counters (name, n, data) VALUES ($3, $1, $2)`, int64(7), []byte{0, 1}, "x")
			return err
		}))
		var name string
		var data []byte
		must(t, db.QueryRow(ctx, `SELECT name, data FROM counters WHERE n = $2 AND (name = $1 OR name = $1)`, "x", int64(7)).Scan(&name, &data))
		if name != "x" || string(data) != "\x00\x01" {
			t.Errorf("got %q, %v", name, data)
		}
		var none *int64
		must(t, db.InTx(ctx, func(tx *sqldb.Tx) error {
			return tx.QueryRow(ctx, `SELECT MAX(n) FROM counters WHERE name = $1`, "nobody").Scan(&none)
		}))
		if none != nil {
			t.Errorf("NULL was read as %d", *none)
		}
		if err := db.QueryRow(ctx, `SELECT n FROM counters WHERE name = $1`, "nobody").Scan(new(int64)); !errors.Is(err, sqldb.ErrNoRows) {
			t.Errorf("got %v, want ErrNoRows", err)
		}
	})
}

func TestTheNumberOfParametersMustBeRight(t *testing.T) {
	t.Parallel()
	sqltest.Run(t, all(), func(t *testing.T, db *sqldb.DB) {
		put(t, db, "a", 1)
		for n, args := range [][]any{{}, {"a"}, {"a", int64(1)}, {"a", int64(1), "more"}} {
			err := db.QueryRow(t.Context(), `SELECT n FROM counters WHERE name <> '$3' AND name = $1 AND n = $2`, args...).Scan(new(int64))
			if (err == nil) != (n == 2) {
				t.Errorf("%d arguments for two parameters: %v", n, err)
			}
		}
	})
}

func TestTextSortsByBytesOnBothEngines(t *testing.T) {
	t.Parallel()
	sqltest.Run(t, all(), func(t *testing.T, db *sqldb.DB) {
		ctx := t.Context()
		must(t, db.InTx(ctx, func(tx *sqldb.Tx) error {
			_, err := tx.Exec(ctx, `INSERT INTO counters (name, n) VALUES `+sqldb.Values(4, 2), "b", int64(1), "B", int64(2), "ä", int64(3), "a", int64(4))
			return err
		}))
		rows, err := db.Query(ctx, `SELECT name FROM counters ORDER BY name`)
		names, err := sqldb.Collect(rows, err, func(scan func(...any) error) (s string, err error) { return s, scan(&s) })
		must(t, err)
		if got := strings.Join(names, " "); got != "B a b ä" {
			t.Errorf("got %s", got)
		}
	})
}

func TestWhatIsGivenHasItsTypesAndIsLookedUpByIndex(t *testing.T) {
	t.Parallel()
	sqltest.Run(t, all(), func(t *testing.T, db *sqldb.DB) {
		ctx := t.Context()
		put(t, db, "a", 1)
		put(t, db, "b", 2)
		put(t, db, "c", 3)
		update := func(rows int) string {
			return sqldb.Given("who, n", rows, "TEXT", "BIGINT") + ` UPDATE counters SET n = given.n FROM given WHERE name = given.who`
		}
		must(t, db.InTx(ctx, func(tx *sqldb.Tx) error {
			_, err := tx.Exec(ctx, update(2), "a", int64(10), "c", int64(30))
			return err
		}))
		for name, want := range map[string]int64{"a": 10, "b": 2, "c": 30} {
			if n := counter(t, db, name); n != want {
				t.Errorf("%s is %d, want %d", name, n, want)
			}
		}
		var many []any
		for n := range 64 {
			many = append(many, strconv.Itoa(n), int64(n))
		}
		byIndex(t, db, update(64), many...)
	})
}

// byIndex checks that counters are found by index, though nothing is known of the table.
func byIndex(t *testing.T, db *sqldb.DB, statement string, args ...any) {
	t.Helper()
	explain, scan, index := "EXPLAIN ", "Seq Scan on counters", "Index"
	if db.Engine() == sqldb.SQLite {
		explain, scan, index = "EXPLAIN QUERY PLAN ", "SCAN counters", "SEARCH counters USING"
	}
	rows, err := db.Query(t.Context(), explain+statement, args...)
	plan, err := sqldb.Collect(rows, err, func(scan func(...any) error) (line string, err error) {
		if db.Engine() == sqldb.SQLite {
			return line, scan(new(int64), new(int64), new(int64), &line)
		}
		return line, scan(&line)
	})
	must(t, err)
	if whole := strings.Join(plan, "\n"); strings.Contains(whole, scan) || !strings.Contains(whole, index) {
		t.Errorf("the plan is\n%s", whole)
	}
}

func TestWhatIsAskedForIsFoundOnceAndByIndex(t *testing.T) {
	t.Parallel()
	sqltest.Run(t, all(), func(t *testing.T, db *sqldb.DB) {
		ctx := t.Context()
		put(t, db, "a", 1)
		put(t, db, "b", 2)
		asked := []any{"a", "c", "b", "a"}
		query := sqldb.Asked(len(asked)) + ` SELECT name FROM asked JOIN counters ON name = asked.value ORDER BY name`
		rows, err := db.Query(ctx, query, asked...)
		found, err := sqldb.Collect(rows, err, func(scan func(...any) error) (name string, err error) { return name, scan(&name) })
		must(t, err)
		if !slices.Equal(found, []string{"a", "b"}) {
			t.Errorf("found %q", found)
		}
		byIndex(t, db, query, asked...)
	})
}

func TestAStatementTakesMaxParams(t *testing.T) {
	t.Parallel()
	sqltest.Run(t, all(), func(t *testing.T, db *sqldb.DB) {
		ctx := t.Context()
		args := make([]any, sqldb.MaxParams)
		for i := range args {
			args[i] = int64(i)
		}
		insert := func(n int) error {
			return db.InTx(ctx, func(tx *sqldb.Tx) error {
				_, err := tx.Exec(ctx, `INSERT INTO numbers (n) VALUES `+sqldb.Values(n, 1), args[:n]...)
				return err
			})
		}
		must(t, insert(sqldb.MaxParams))
		args = append(args, int64(-1))
		if err := insert(len(args)); err == nil {
			t.Error("one more parameter than MaxParams was taken")
		}
	})
}

type (
	personID string
	version  int64
)

func TestValuesComeBackAsTheyWere(t *testing.T) {
	t.Parallel()
	sqltest.Run(t, all(), func(t *testing.T, db *sqldb.DB) {
		ctx := t.Context()
		for i, want := range [][]byte{nil, {}, {0, 255}, []byte("text")} {
			name := personID(fmt.Sprint("ü", i))
			must(t, db.InTx(ctx, func(tx *sqldb.Tx) error {
				_, err := tx.Exec(ctx, `INSERT INTO counters (name, n, data) VALUES ($1, $2, $3)`, name, version(math.MinInt64), want)
				return err
			}))
			var (
				gotName personID
				gotN    version
				got     []byte
			)
			must(t, db.QueryRow(ctx, `SELECT name, n, data FROM counters WHERE name = $1`, name).Scan(&gotName, &gotN, &got))
			if gotName != name || gotN != math.MinInt64 || !bytes.Equal(got, want) {
				t.Errorf("wrote %q and %#v, read %q, %d and %#v", name, want, gotName, gotN, got)
			}
		}
		var nulls int64
		must(t, db.QueryRow(ctx, `SELECT COUNT(*) FROM counters WHERE data IS NULL`).Scan(&nulls))
		if nulls != 1 {
			t.Errorf("%d values are NULL, want nil only, not empty bytes", nulls)
		}
		var isNull sql.Null[string]
		must(t, db.QueryRow(ctx, `SELECT MAX(name) FROM counters WHERE name = $1`, "nobody").Scan(&isNull))
		if isNull.Valid {
			t.Errorf("NULL was read as %q", isNull.V)
		}
		if err := db.QueryRow(ctx, `SELECT MAX(name) FROM counters WHERE n = 7`).Scan(new(string)); err == nil {
			t.Error("NULL was read into a string")
		}
	})
}

func TestValuesThatTheEnginesTakeDifferentlyAreRefused(t *testing.T) {
	t.Parallel()
	sqltest.Run(t, all(), func(t *testing.T, db *sqldb.DB) {
		now := time.Now()
		for _, value := range []any{true, 1.5, now, &now, []string{"a"}, [2]byte{}, struct{}{}, new(bool), sql.Null[bool]{V: true, Valid: true}} {
			err := db.QueryRow(t.Context(), `SELECT n FROM counters WHERE name = $1`, value).Scan(new(int64))
			if err == nil || errors.Is(err, sqldb.ErrNoRows) {
				t.Errorf("%T was taken", value)
			}
		}
		for _, text := range []any{"a\x00b", "\xff", personID("\x00"), sql.Null[string]{V: "\x00", Valid: true}} {
			err := db.QueryRow(t.Context(), `SELECT n FROM counters WHERE name = $1`, text).Scan(new(int64))
			if fault.KindOf(err) != fault.Invalid {
				t.Errorf("%q: got %v, want Invalid: PostgreSQL cannot store it", text, err)
			}
		}
	})
}

func TestTimesAreMicrosecondsUTC(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		us := rapid.Int64Range(-1<<53, 1<<53).Draw(t, "us")
		if got := sqldb.Micros(sqldb.Time(us)); got != us {
			t.Fatalf("%d came back as %d", us, got)
		}
		if at := sqldb.Time(us); us != 0 && at.Location() != time.UTC {
			t.Fatalf("%v is not UTC", at)
		}
	})
	if !sqldb.Time(0).IsZero() || sqldb.Micros(time.Time{}) != 0 {
		t.Error("no time is not 0")
	}
}
