package sqltest

import (
	"slices"
	"strings"

	"github.com/tenurehq/tenure/pkg/sqldb/internal/sqltext"
)

// tok is a token of SQL that means something: not a comment, not blank, and strings without their content.
type tok struct {
	text  string
	upper string
	line  int
}

func tokens(text string) []tok {
	var all []tok
	line := 1
	for rest := text; rest != ""; {
		token := sqltext.Next(rest)
		rest = rest[len(token):]
		at := line
		line += strings.Count(token, "\n")
		switch {
		case strings.TrimSpace(token) == "", strings.HasPrefix(token, "--"), strings.HasPrefix(token, "/*"):
			continue
		case token[0] == '\'':
			token = "''"
		}
		all = append(all, tok{text: token, upper: strings.ToUpper(token), line: at})
	}
	return all
}

// banned words, and what to do instead.
var banned = map[string]string{
	"TRUE":              "no booleans: a nullable time or a number says more",
	"FALSE":             "no booleans: a nullable time or a number says more",
	"BOOLEAN":           "no booleans: a nullable time or a number says more",
	"BOOL":              "no booleans: a nullable time or a number says more",
	"ANY":               "no = ANY: join sqldb.Values, or write IN with parameters",
	"ARRAY":             "no arrays: use rows",
	"UNNEST":            "no arrays: use sqldb.Values",
	"LIKE":              "no LIKE: it ignores case on SQLite",
	"ILIKE":             "no ILIKE",
	"GLOB":              "no GLOB",
	"REGEXP":            "no REGEXP",
	"SIMILAR":           "no SIMILAR TO",
	"NOW":               "time comes as a parameter",
	"CURRENT_TIMESTAMP": "time comes as a parameter",
	"CURRENT_TIME":      "time comes as a parameter",
	"CURRENT_DATE":      "time comes as a parameter",
	"INTERVAL":          "times are numbers of microseconds",
	"EXTRACT":           "times are numbers of microseconds",
	"UNIXEPOCH":         "times are numbers of microseconds",
	"STRFTIME":          "times are numbers of microseconds",
	"SERIAL":            "ids come from the program",
	"BIGSERIAL":         "ids come from the program",
	"AUTOINCREMENT":     "ids come from the program",
	"IDENTITY":          "ids come from the program",
	"NEXTVAL":           "ids come from the program",
	"ROWID":             "PostgreSQL has no rowid",
	"OID":               "SQLite has no oid",
	"CTID":              "SQLite has no ctid",
	"GREATEST":          "write CASE: the engines name it differently",
	"LEAST":             "write CASE: the engines name it differently",
	"STRING_AGG":        "collect in the program",
	"GROUP_CONCAT":      "collect in the program",
	"ARRAY_AGG":         "collect in the program",
	"LATERAL":           "SQLite has no LATERAL",
	"NOTIFY":            "poll, and wake in process",
	"LISTEN":            "poll, and wake in process",
	"PRAGMA":            "the engine is set up by sqldb",
	"TRUNCATE":          "write DELETE",
	"SKIP":              "lock by writing: UPDATE … RETURNING",
	"STRICT":            "sqldb adds STRICT",
	"COLLATE":           "sqldb adds the collation",
	"VACUUM":            "not in a transaction",
}

// sequences of words that are banned together; * stands for any one word.
var sequences = map[string]string{
	"FOR UPDATE":         "lock by writing: UPDATE … RETURNING",
	"FOR SHARE":          "lock by writing: UPDATE … RETURNING",
	"INSERT OR *":        "write ON CONFLICT",
	"REPLACE INTO":       "write ON CONFLICT",
	"DISTINCT ON":        "SQLite has no DISTINCT ON",
	"AS ( INSERT":        "no statement that changes data inside WITH",
	"AS ( UPDATE":        "no statement that changes data inside WITH",
	"AS ( DELETE":        "no statement that changes data inside WITH",
	"WITHOUT ROWID":      "PostgreSQL has no WITHOUT ROWID",
	"CREATE TYPE":        "types are TEXT, BIGINT and BYTEA",
	"CREATE TRIGGER":     "a trigger goes into a block for one engine",
	"CREATE FUNCTION":    "a function goes into a block for one engine",
	"CREATE SEQUENCE":    "ids come from the program",
	": :":                "write CAST(… AS TEXT) or CAST(… AS BIGINT)",
	"- >":                "no JSON in SQL",
	"# >":                "no JSON in SQL",
	"ON CONFLICT ON":     "name the columns of the conflict",
	"USING GIN":          "an index for one engine goes into its block",
	"ALTER COLUMN":       "SQLite cannot alter a column: expand, copy, contract",
	"INDEX CONCURRENTLY": "SQLite has no CONCURRENTLY",
}

// columnTypes are all that a column may have.
var columnTypes = []string{"TEXT", "BIGINT", "BYTEA"}

// check returns what is not portable in one SQL text. nullable are the columns that may be NULL.
func check(sql []tok, nullable map[string]bool) []problem {
	var problems []problem
	report := func(at tok, what string) { problems = append(problems, problem{at.line, what}) }
	for i, t := range sql {
		if advice, ok := banned[t.upper]; ok {
			report(t, t.text+": "+advice)
		}
		if strings.HasPrefix(t.upper, "JSON") {
			report(t, t.text+": no JSON in SQL: what is queried is a column")
		}
		switch {
		case t.text == "?", t.text == "@", t.text == ":" && i+1 < len(sql) && sqltext.IsWord(sql[i+1].text):
			report(t, t.text+": parameters are $1, $2, …")
		case t.text == "~":
			report(t, "~: no regular expressions")
		case t.text == "`", t.text == "[":
			report(t, t.text+": names stand without quotes")
		}
		for sequence, advice := range sequences {
			if matches(sql[i:], strings.Fields(sequence)) {
				report(t, sequence+": "+advice)
			}
		}
		if t.upper == "CAST" {
			if as := castType(sql[i:]); as.text != "" && as.text != "TEXT" && as.text != "BIGINT" {
				report(as, "CAST to "+as.text+": only TEXT and BIGINT mean the same")
			}
		}
		if matches(sql[i:], []string{"ORDER", "BY"}) {
			for _, column := range orderedWithout(sql[i+2:]) {
				if nullable[column.upper] {
					report(column, "ORDER BY "+column.text+", which may be NULL: add NULLS LAST")
				}
			}
		}
	}
	for _, c := range columns(sql) {
		if !slices.Contains(columnTypes, c.typ.text) {
			report(c.typ, "column "+c.name+" is "+c.typ.text+": columns are TEXT, BIGINT or BYTEA, in upper case")
		}
	}
	return problems
}

func matches(sql []tok, words []string) bool {
	if len(sql) < len(words) {
		return false
	}
	for i, word := range words {
		if word != "*" && sql[i].upper != word {
			return false
		}
	}
	return true
}

// castType returns the type that CAST(… AS type) names.
func castType(sql []tok) tok {
	depth := 0
	for i, t := range sql {
		switch t.upper {
		case "(":
			depth++
		case ")":
			depth--
			if depth == 0 {
				return tok{}
			}
		case "AS":
			if depth == 1 && i+1 < len(sql) {
				return sql[i+1]
			}
		}
	}
	return tok{}
}

// orderedWithout returns the plain columns of an ORDER BY's list that lack NULLS LAST.
func orderedWithout(list []tok) []tok {
	var (
		found  []tok
		column *tok
		depth  int
		last   bool
	)
	flush := func() {
		if column != nil && !last {
			found = append(found, *column)
		}
		column, last = nil, false
	}
	for i, t := range list {
		switch {
		case t.text == "(":
			depth++
		case t.text == ")":
			depth--
			if depth < 0 {
				flush()
				return found
			}
		case depth > 0:
		case t.text == ",":
			flush()
		case t.text == ";", t.upper == "LIMIT", t.upper == "OFFSET", t.upper == "UNION", t.upper == "RETURNING":
			flush()
			return found
		case t.upper == "NULLS" && i+1 < len(list) && list[i+1].upper == "LAST":
			last = true
		case t.upper == "ASC", t.upper == "DESC", t.text == ".", t.upper == "LAST", t.upper == "NULLS", t.upper == "FIRST":
		case sqltext.IsWord(t.text):
			column = &list[i] // of table.column the second
		}
	}
	flush()
	return found
}

// column is one that CREATE TABLE or ALTER TABLE … ADD COLUMN defines.
type column struct {
	name     string
	typ      tok
	nullable bool
}

// constraints begin what stands among a table's columns and is none.
var constraints = []string{"PRIMARY", "UNIQUE", "CHECK", "FOREIGN", "CONSTRAINT"}

func columns(sql []tok) []column {
	var all []column
	for i := range sql {
		switch {
		case matches(sql[i:], []string{"CREATE", "TABLE"}):
			open := slices.IndexFunc(sql[i:], func(t tok) bool { return t.text == "(" })
			if open < 0 {
				continue
			}
			for _, definition := range definitions(sql[i+open+1:]) {
				all = appendColumn(all, definition)
			}
		case matches(sql[i:], []string{"ADD", "COLUMN"}):
			end := slices.IndexFunc(sql[i:], func(t tok) bool { return t.text == ";" })
			if end < 0 {
				end = len(sql) - i
			}
			all = appendColumn(all, sql[i+2:i+end])
		}
	}
	return all
}

func appendColumn(all []column, definition []tok) []column {
	if len(definition) < 2 || slices.Contains(constraints, definition[0].upper) {
		return all
	}
	nullable := true
	for i := range definition {
		if matches(definition[i:], []string{"NOT", "NULL"}) || matches(definition[i:], []string{"PRIMARY", "KEY"}) {
			nullable = false
		}
	}
	return append(all, column{name: definition[0].text, typ: definition[1], nullable: nullable})
}

// definitions splits what stands between a CREATE TABLE's parentheses at its commas.
func definitions(body []tok) [][]tok {
	var all [][]tok
	depth, from := 0, 0
	for i, t := range body {
		switch t.text {
		case "(":
			depth++
		case ")":
			depth--
			if depth < 0 {
				return append(all, body[from:i])
			}
		case ",":
			if depth == 0 {
				all = append(all, body[from:i])
				from = i + 1
			}
		}
	}
	return append(all, body[from:])
}

func nullableColumns(sql []tok) []string {
	var names []string
	for _, c := range columns(sql) {
		if c.nullable {
			names = append(names, strings.ToUpper(c.name))
		}
	}
	return names
}
