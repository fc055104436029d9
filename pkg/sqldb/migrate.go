package sqldb

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"io"
	"io/fs"
	"regexp"
	"strings"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
)

// runMigrations brings one set up to date. Its version table is <name>_versions.
func runMigrations(ctx context.Context, db *sql.DB, engine string, set Migrations) error {
	dialect := goose.DialectSQLite3
	if engine == "postgres" {
		dialect = goose.DialectPostgres
	}
	store, err := database.NewStore(dialect, set.Name+"_versions")
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider("", db, translated{set.FS, engine}, goose.WithStore(store), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fmt.Errorf("migrations of %s: %w", set.Name, err)
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("migrations of %s: %w", set.Name, err)
	}
	return nil
}

// translated is a folder of portable migrations as one engine reads them.
//
// On PostgreSQL TEXT sorts by bytes, as it does on SQLite. On SQLite BIGINT and BYTEA have the names that STRICT
// tables know, and every table is STRICT. Between `-- +tenure sqlite` (or postgres) and `-- +tenure end` stands what is
// for one engine only. `-- +tenure append-only TABLE` lets rows be neither changed nor removed: by triggers on SQLite,
// by what the service's role is granted on PostgreSQL.
type translated struct {
	fs.FS
	engine string
}

func (t translated) Open(name string) (fs.File, error) {
	f, err := t.FS.Open(name)
	if err != nil || !strings.HasSuffix(name, ".sql") {
		return f, err
	}
	defer func() { _ = f.Close() }() // only read
	raw, err := io.ReadAll(f)
	if err != nil {
		return nil, err
	}
	text := translate(string(raw), t.engine)
	return &sqlFile{bytes.NewReader([]byte(text)), name, int64(len(text))}, nil
}

// ReadDir and Glob are the folder's own.
func (t translated) ReadDir(name string) ([]fs.DirEntry, error) { return fs.ReadDir(t.FS, name) }

var (
	textType    = regexp.MustCompile(`\bTEXT\b`)
	bigintType  = regexp.MustCompile(`\bBIGINT\b`)
	byteaType   = regexp.MustCompile(`\bBYTEA\b`)
	createTable = regexp.MustCompile(`(?s)(CREATE TABLE\b.*?)\)\s*;`)
	appendOnly  = regexp.MustCompile(`(?m)^-- \+tenure append-only (\w+)[ \t]*$`)
	engineBlock = regexp.MustCompile(`(?ms)^-- \+tenure (sqlite|postgres)[ \t]*$(.*?)^-- \+tenure end[ \t]*$`)
)

func translate(text, engine string) string {
	text = engineBlock.ReplaceAllStringFunc(text, func(block string) string {
		parts := engineBlock.FindStringSubmatch(block)
		if parts[1] == engine {
			return parts[2]
		}
		return ""
	})
	if engine == "postgres" {
		return textType.ReplaceAllString(appendOnly.ReplaceAllString(text, ""), `TEXT COLLATE "C"`)
	}
	text = bigintType.ReplaceAllString(text, "INTEGER")
	text = byteaType.ReplaceAllString(text, "BLOB")
	text = createTable.ReplaceAllString(text, "$1) STRICT;")
	return appendOnly.ReplaceAllString(text, `
-- +goose StatementBegin
CREATE TRIGGER ${1}_no_update BEFORE UPDATE ON $1 BEGIN SELECT RAISE(ABORT, '$1 is append-only'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER ${1}_no_delete BEFORE DELETE ON $1 BEGIN SELECT RAISE(ABORT, '$1 is append-only'); END;
-- +goose StatementEnd
`)
}

// appendOnlyTables are the tables that a set's migrations declare append-only.
func appendOnlyTables(set Migrations) ([]string, error) {
	names, err := fs.Glob(set.FS, "*.sql")
	if err != nil {
		return nil, err
	}
	var tables []string
	for _, name := range names {
		raw, err := fs.ReadFile(set.FS, name)
		if err != nil {
			return nil, err
		}
		for _, match := range appendOnly.FindAllStringSubmatch(string(raw), -1) {
			tables = append(tables, match[1])
		}
	}
	return tables, nil
}

// sqlFile is one translated migration.
type sqlFile struct {
	*bytes.Reader
	name string
	size int64
}

func (f *sqlFile) Stat() (fs.FileInfo, error) { return f, nil }
func (f *sqlFile) Close() error               { return nil }
func (f *sqlFile) Name() string               { return f.name }
func (f *sqlFile) Size() int64                { return f.size }
func (f *sqlFile) Mode() fs.FileMode          { return 0o444 }
func (f *sqlFile) ModTime() time.Time         { return time.Time{} }
func (f *sqlFile) IsDir() bool                { return false }
func (f *sqlFile) Sys() any                   { return nil }
