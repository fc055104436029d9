package sqldb

import (
	"database/sql/driver"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tenurehq/tenure/pkg/fault"
)

// MaxParams is how many parameters one statement may have on both engines: SQLite's limit.
const MaxParams = 32766

// Values returns the text of rows rows of cols parameters, "($1, $2), ($3, $4)", to write many rows in one statement:
//
//	"INSERT INTO grants (person, app) VALUES " + sqldb.Values(len(grants), 2)
//
// For a table to join others with see Given. rows*cols must not exceed MaxParams. Numbers of rows that vary widely fill
// the statement caches: callers with very many rows use chunks of one size. What all of many rows are compared with is
// given in each row, not as one more parameter after them: SQLite (3.54) plans a statement anew when a parameter that a
// column is compared with was or becomes 0 or 1, and takes all beyond the 31st for one.
func Values(rows, cols int) string { return values(rows, make([]string, cols)) }

// Given returns the text of a table of rows rows, parameters from $1 on, with these columns of these types, TEXT, BIGINT
// or BYTEA, to look rows of other tables up by. The first column is a text:
//
//	sqldb.Given("who, version", len(people), "TEXT", "BIGINT") + ` UPDATE people SET version = given.version FROM given WHERE id = given.who`
//
// Each is looked up in an index, as with Asked, and in the order given: so are the rows of an UPDATE locked.
func Given(columns string, rows int, types ...string) string {
	return `WITH given (` + columns + `) AS (SELECT * FROM (VALUES ` + values(rows, types) + `) AS listed WHERE column1 || '' = column1)`
}

// Asked returns the text of a table of n texts, parameters from $1 on, each once, to look rows up by:
//
//	sqldb.Asked(len(ids)) + ` SELECT p.name FROM asked JOIN people p ON p.id = asked.value`
//
// Each is looked up in an index, whatever PostgreSQL knows of the table. With a list, `IN ($1, …)`, or a plain join it goes
// by statistics, which a table that is new or grew lately has not, and keeps a plan that reads and compares all rows. The
// condition that is always true has it take the texts for one, and for one the index is always right.
func Asked(n int) string {
	return `WITH asked (value) AS (SELECT DISTINCT column1 FROM (VALUES ` + Values(n, 1) + `) AS given WHERE column1 || '' = column1)`
}

func values(rows int, types []string) string {
	var b strings.Builder
	n := 0
	for row := range rows {
		if row > 0 {
			b.WriteString(", ")
		}
		b.WriteByte('(')
		for col, as := range types {
			if col > 0 {
				b.WriteString(", ")
			}
			n++
			// The first row decides the type of a column of VALUES.
			if row == 0 && as != "" {
				b.WriteString("CAST($" + strconv.Itoa(n) + " AS " + as + ")")
				continue
			}
			b.WriteByte('$')
			b.WriteString(strconv.Itoa(n))
		}
		b.WriteByte(')')
	}
	return b.String()
}

// Micros returns t as the database keeps it: microseconds since 1970, UTC. The zero Time is 0.
func Micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// Time is the inverse of Micros, in UTC. 0 is the zero Time.
func Time(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}

// checkArgs refuses values that the engines would store differently, or that only one of them would store.
func checkArgs(args []any) error {
	if len(args) > MaxParams {
		return fmt.Errorf("%d parameters; at most %d", len(args), MaxParams)
	}
	for i, arg := range args {
		if err := checkArg(arg); err != nil {
			return fmt.Errorf("parameter $%d: %w", i+1, err)
		}
	}
	return nil
}

func checkArg(arg any) error {
	switch arg := arg.(type) {
	case nil, int64, int, int32, []byte:
		return nil
	case string:
		return checkText(arg)
	case driver.Valuer: // sql.Null and the like
		value, err := arg.Value()
		if err != nil {
			return err
		}
		if _, again := value.(driver.Valuer); again {
			return fmt.Errorf("%T yields a %T", arg, value)
		}
		return checkArg(value)
	}
	v := reflect.ValueOf(arg)
	for v.Kind() == reflect.Pointer {
		if v.IsNil() {
			v = reflect.Zero(v.Type().Elem())
			continue
		}
		v = v.Elem()
	}
	switch v.Kind() {
	case reflect.String:
		return checkText(v.String())
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return nil
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return nil
		}
	default:
	}
	return fmt.Errorf("%T is not portable", arg)
}

// checkText refuses what PostgreSQL cannot store as TEXT. Such text comes from outside, so it is the sender's fault.
func checkText(text string) error {
	if !utf8.ValidString(text) || strings.IndexByte(text, 0) >= 0 {
		return fault.New(fault.Invalid, "text is not UTF-8 or holds a NUL")
	}
	return nil
}
