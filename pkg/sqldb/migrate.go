package sqldb

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"
)

//go:embed migrations/*.sql
var leaseMigrations embed.FS

func ownMigrations() Migrations { return Migrations{Name: "sqldb", FS: leaseMigrations} }

// versionTable is where goose keeps which files of a set have run.
func versionTable(set Migrations) string { return "migrations_" + set.Name }

func checkSets(sets []Migrations) error {
	known := make(map[string]bool)
	for _, set := range sets {
		switch {
		case !schemaName.MatchString(set.Name):
			return fmt.Errorf("migrations %q: want a name of a-z, 0-9 and _, a letter first", set.Name)
		case known[set.Name]:
			return fmt.Errorf("migrations %s are given twice", set.Name)
		}
		known[set.Name] = true
	}
	return nil
}

// migrate runs what is pending of sets, nothing else running migrations meanwhile: the caller sees to that.
func migrate(ctx context.Context, db *sql.DB, dialect goose.Dialect, to target, sets []Migrations,
	options ...goose.ProviderOption,
) error {
	for _, set := range sets {
		files, err := rewriteAll(set, to)
		if err != nil {
			return fmt.Errorf("migrations %s: %w", set.Name, err)
		}
		provider, err := goose.NewProvider(dialect, db, files, append(options,
			goose.WithTableName(versionTable(set)),
			goose.WithDisableGlobalRegistry(true))...)
		if err != nil {
			return fmt.Errorf("migrations %s: %w", set.Name, err)
		}
		if _, err := provider.Up(ctx); err != nil {
			return fmt.Errorf("migrations %s: %w", set.Name, classify(err))
		}
	}
	return nil
}

// migrateSQLite runs all that is pending in one transaction, begun on the pool's only connection: SQLite has no other
// lock that another process would wait for.
func migrateSQLite(ctx context.Context, dsn string, sets []Migrations) error {
	if err := checkSets(sets); err != nil {
		return err
	}
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(1)
	err = func() error {
		if _, err := db.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
			return classify(err)
		}
		err := migrate(ctx, db, goose.DialectSQLite3, target{engine: SQLite}, sets,
			goose.WithIsolateDDL(true)) // goose begins no transaction of its own
		if err != nil {
			return err // closing the connection rolls back
		}
		_, err = db.ExecContext(ctx, "COMMIT")
		return classify(err)
	}()
	return errors.Join(err, db.Close())
}

// root is where the set's files lie: embed keeps the folder's name.
func (m Migrations) root() (fs.FS, error) {
	if info, err := fs.Stat(m.FS, "migrations"); err == nil && info.IsDir() {
		return fs.Sub(m.FS, "migrations")
	}
	return m.FS, nil
}
