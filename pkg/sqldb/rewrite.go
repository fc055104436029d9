package sqldb

import (
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"
	"strings"

	"github.com/tenurehq/tenure/pkg/sqldb/internal/sqltext"
)

// target is what a migration is rewritten for.
type target struct {
	engine string
	schema string // PostgreSQL: the service's schema and role; may be empty
}

// rewriteAll gives a set's files as goose runs them on the target.
func rewriteAll(set Migrations, to target) (fs.FS, error) {
	root, err := set.root()
	if err != nil {
		return nil, err
	}
	names, err := fs.Glob(root, "*.sql")
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("no .sql file in %T", set.FS)
	}
	texts := make(map[string]string, len(names))
	for _, name := range names {
		original, err := fs.ReadFile(root, name)
		if err != nil {
			return nil, err
		}
		if texts[name], err = rewrite(string(original), to); err != nil {
			return nil, fmt.Errorf("%s: %w", path.Base(name), err)
		}
	}
	return rewritten{FS: root, texts: texts}, nil
}

// rewritten is a file system in which some files have another text.
type rewritten struct {
	fs.FS
	texts map[string]string
}

// Open implements fs.FS.
func (r rewritten) Open(name string) (fs.File, error) {
	file, err := r.FS.Open(name)
	if err != nil {
		return nil, err
	}
	if text, ok := r.texts[name]; ok {
		return rewrittenFile{File: file, text: strings.NewReader(text)}, nil
	}
	return file, nil
}

type rewrittenFile struct {
	fs.File
	text io.Reader
}

func (f rewrittenFile) Read(p []byte) (int, error) { return f.text.Read(p) }

const directive = "-- +tenure "

// rewrite turns a portable migration into the target's SQL, with goose's marks.
func rewrite(text string, to target) (string, error) {
	var (
		out      strings.Builder
		portable strings.Builder
		block    string // the engine whose block we are in
	)
	flush := func() {
		out.WriteString(rewriteTypes(portable.String(), to.engine))
		portable.Reset()
	}
	if !strings.Contains(text, "-- +goose Up") {
		out.WriteString("-- +goose Up\n")
	}
	number := 0
	for line := range strings.Lines(text) {
		number++
		trimmed := strings.TrimSpace(line)
		if strings.HasPrefix(trimmed, "-- +goose Down") {
			return "", fmt.Errorf("line %d: migrations only go forward", number)
		}
		words, isDirective := strings.CutPrefix(trimmed, directive)
		switch {
		case isDirective:
			flush()
			kind, argument, _ := strings.Cut(words, " ")
			switch {
			case (kind == SQLite || kind == Postgres) && block == "" && argument == "":
				block = kind
			case kind == "end" && block != "" && argument == "":
				block = ""
			case kind == "append-only" && block == "":
				statements, err := appendOnly(strings.TrimSpace(argument), to)
				if err != nil {
					return "", fmt.Errorf("line %d: %w", number, err)
				}
				out.WriteString(statements)
			default:
				return "", fmt.Errorf("line %d: %q makes no sense here", number, trimmed)
			}
		case block == "":
			portable.WriteString(line)
		case block == to.engine:
			out.WriteString(line)
		}
	}
	if block != "" {
		return "", fmt.Errorf("%s%s has no %send", directive, block, directive)
	}
	flush()
	return out.String(), nil
}

var tableName = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

// appendOnly returns what keeps rows of table from being changed or removed by the service.
func appendOnly(table string, to target) (string, error) {
	if !tableName.MatchString(table) {
		return "", fmt.Errorf("append-only %q: want a table's name", table)
	}
	if to.engine == Postgres {
		if to.schema == "" {
			return "", fmt.Errorf("append-only %s: on PostgreSQL this takes roles, so Config.Schema must be set", table)
		}
		return fmt.Sprintf("REVOKE UPDATE, DELETE ON %s FROM %s;\n", table, quoted(to.schema)), nil
	}
	var b strings.Builder
	for _, verb := range []string{"UPDATE", "DELETE"} {
		fmt.Fprintf(&b, `-- +goose StatementBegin
CREATE TRIGGER %[1]s_no_%[2]s BEFORE %[3]s ON %[1]s BEGIN
    SELECT RAISE(ABORT, '%[1]s is append-only');
END;
-- +goose StatementEnd
`, table, strings.ToLower(verb), verb)
	}
	return b.String(), nil
}

// rewriteTypes replaces the portable types in CREATE TABLE and ALTER TABLE statements. Only whole words in upper case
// are types; strings, quoted names and comments stay as they are.
func rewriteTypes(text, engine string) string {
	var (
		out              strings.Builder
		words            []string // of the statement so far; two are enough to know it
		last             string   // word before
		creates, defines bool
	)
	for rest := text; rest != ""; {
		token := sqltext.Next(rest)
		rest = rest[len(token):]
		switch {
		case token == ";":
			if creates && engine == SQLite {
				out.WriteString(" STRICT")
			}
			words, last, creates, defines = nil, "", false, false
		case sqltext.IsWord(token):
			if len(words) < 2 {
				words = append(words, strings.ToUpper(token))
				if len(words) == 2 && words[1] == "TABLE" {
					creates = words[0] == "CREATE"
					defines = creates || words[0] == "ALTER"
				}
			}
			if defines && last != "AS" { // CAST(x AS TEXT) in a CHECK takes no collation, and both engines know the names
				token = typeOn(engine, token)
			}
			last = strings.ToUpper(token)
		}
		out.WriteString(token)
	}
	return out.String()
}

func typeOn(engine, word string) string {
	switch {
	case engine == Postgres && word == "TEXT":
		return `TEXT COLLATE "C"` // compare by bytes, as SQLite does
	case engine == SQLite && word == "BIGINT":
		return "INTEGER"
	case engine == SQLite && word == "BYTEA":
		return "BLOB"
	}
	return word
}
