package sqltest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// CheckPortable fails the test for each SQL construct under root that does not mean the same on both engines: in .sql
// files, outside blocks for one engine, and in the string constants of Go files that read as SQL. Tests, testdata and
// the folders in except, which speak to one engine on purpose, are passed over. See the package doc of sqldb for the
// rules.
func CheckPortable(tb testing.TB, root fs.FS, except ...string) {
	tb.Helper()
	texts, err := collect(root, except)
	if err != nil {
		tb.Fatalf("read SQL: %v", err)
	}
	if len(texts) == 0 {
		tb.Error("there is no SQL to check")
	}
	nullable := make(map[string]map[string]bool) // by area
	for _, text := range texts {
		area := text.area()
		if nullable[area] == nil {
			nullable[area] = make(map[string]bool)
		}
		for _, column := range nullableColumns(text.tokens) {
			nullable[area][column] = true
		}
	}
	for _, text := range texts {
		for _, problem := range check(text.tokens, nullable[text.area()]) {
			tb.Errorf("%s:%d: %s", text.file, text.line+problem.line, problem.what)
		}
	}
}

// sqlText is one piece of SQL in a file.
type sqlText struct {
	file   string
	line   int // before its first
	tokens []tok
}

// area is the part of the repository whose migrations make the tables that this text uses: services/ingest, pkg/outbox.
func (s sqlText) area() string {
	parts := strings.SplitN(s.file, "/", 3)
	if len(parts) < 3 {
		return ""
	}
	return parts[0] + "/" + parts[1]
}

func collect(root fs.FS, except []string) ([]sqlText, error) {
	var texts []sqlText
	err := fs.WalkDir(root, ".", func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			for _, folder := range except {
				if file == folder {
					return fs.SkipDir
				}
			}
			if entry.Name() == "testdata" || strings.HasPrefix(entry.Name(), ".") && file != "." {
				return fs.SkipDir
			}
			return nil
		}
		isGo := strings.HasSuffix(file, ".go") && !strings.HasSuffix(file, "_test.go")
		if !isGo && path.Ext(file) != ".sql" {
			return nil
		}
		source, err := fs.ReadFile(root, file)
		if err != nil {
			return err
		}
		if !isGo {
			texts = append(texts, sqlText{file: file, tokens: tokens(portablePart(string(source)))})
			return nil
		}
		found, err := inGo(file, source)
		texts = append(texts, found...)
		return err
	})
	return texts, err
}

// portablePart blanks what a migration says to one engine only, and keeps the lines' numbers.
func portablePart(migration string) string {
	var out strings.Builder
	inBlock := false
	for line := range strings.Lines(migration) {
		switch directive, _ := strings.CutPrefix(strings.TrimSpace(line), "-- +tenure "); directive {
		case "postgres", "sqlite":
			inBlock = true
		case "end":
			inBlock = false
		}
		if inBlock {
			line = "\n"
		}
		out.WriteString(line)
	}
	return out.String()
}

// readsAsSQL is how a string constant that is SQL begins, or a part of one.
var readsAsSQL = regexp.MustCompile(`(?i:^\s*(SELECT\s.*\sFROM\s|INSERT\s+INTO\s|UPDATE\s+\w+(\s+AS\s+\w+)?\s+SET\s|DELETE\s+FROM\s|WITH\s+\w+\s*(\([^)]*\)\s*)?AS\s|` +
	`CREATE\s+(UNIQUE\s+)?(TABLE|INDEX)\s|ALTER\s+TABLE\s))|^\s*(SELECT|WHERE|ORDER BY|FROM|SET|VALUES|ON CONFLICT|RETURNING|AND)\s`)

// inGo finds the SQL in a Go file. What is joined with + is read as one text.
func inGo(file string, source []byte) ([]sqlText, error) {
	set := token.NewFileSet()
	parsed, err := parser.ParseFile(set, file, source, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	var texts []sqlText
	ast.Inspect(parsed, func(node ast.Node) bool {
		expr, ok := node.(ast.Expr)
		if !ok {
			return true
		}
		text, ok := stringOf(expr)
		if !ok {
			return true
		}
		flat := strings.ReplaceAll(text, "\n", " ")
		if readsAsSQL.MatchString(flat) {
			texts = append(texts, sqlText{file: file, line: set.Position(expr.Pos()).Line - 1, tokens: tokens(text)})
		}
		return false
	})
	return texts, nil
}

// stringOf returns the text of a string literal, or of a sum with one; what is not constant in it counts as a parameter.
func stringOf(expr ast.Expr) (string, bool) {
	switch expr := expr.(type) {
	case *ast.BasicLit:
		if expr.Kind != token.STRING {
			return "", false
		}
		text, err := strconv.Unquote(expr.Value)
		return text, err == nil
	case *ast.ParenExpr:
		return stringOf(expr.X)
	case *ast.BinaryExpr:
		if expr.Op != token.ADD {
			return "", false
		}
		left, isLeft := stringOf(expr.X)
		right, isRight := stringOf(expr.Y)
		if !isLeft && !isRight {
			return "", false
		}
		if !isLeft {
			left = " $0 "
		}
		if !isRight {
			right = " $0 "
		}
		return left + right, true
	}
	return "", false
}

// problem is one construct that is not portable.
type problem struct {
	line int
	what string
}
