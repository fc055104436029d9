package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
)

const (
	// One number for all schemas: services that start together make their roles one after the other.
	migrationLock = 0x74656e757265 // "tenure"
	// Roles belong to the whole server, the lock only to one database: two databases may still meet there.
	roleAttempts = 20
)

// migratePostgres makes the schema and its roles, and runs the migrations as the owner.
func migratePostgres(ctx context.Context, cfg *pgx.ConnConfig, schema string, sets []Migrations) error {
	if err := checkSets(sets); err != nil {
		return err
	}
	if schema != "" {
		if err := makeSchema(ctx, cfg, schema); err != nil {
			return fmt.Errorf("make schema %s and its roles: %w", schema, classify(err))
		}
	}
	// Every connection of this pool, also one made after a loss, has the lock and acts as the owner.
	db := stdlib.OpenDB(*cfg, stdlib.OptionAfterConnect(func(ctx context.Context, conn *pgx.Conn) error {
		if _, err := conn.Exec(ctx, "SELECT pg_advisory_lock($1)", int64(migrationLock)); err != nil {
			return err
		}
		return become(ctx, conn, schema, ownerOf(schema))
	}))
	db.SetMaxOpenConns(1) // goose needs no second one, which would wait for the lock for ever
	err := migrate(ctx, db, goose.DialectPostgres, target{engine: Postgres, schema: schema}, sets)
	if err == nil {
		err = protectVersions(ctx, db, schema, sets)
	}
	return errors.Join(err, db.Close())
}

// makeSchema makes what is missing of the schema and its two roles.
func makeSchema(ctx context.Context, cfg *pgx.ConnConfig, schema string) error {
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // everything is committed or given up
	for attempt := 1; ; attempt++ {
		err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error { return makeSchemaIn(ctx, tx, schema) })
		if err == nil || !metOtherDatabase(err) || attempt == roleAttempts {
			return err
		}
	}
}

// metOtherDatabase reports that another database of this server made or granted the same roles at this moment.
func metOtherDatabase(err error) bool {
	found, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return false
	}
	switch found.Code {
	case "42710": // duplicate_object
		return true
	case "23505": // unique_violation, in the catalogue
		return strings.HasPrefix(found.ConstraintName, "pg_auth")
	case "XX000": // internal_error: the only sign of a concurrent change of one catalogue row
		return strings.Contains(found.Message, "concurrently")
	}
	return conflicts(found)
}

func ownerOf(schema string) string { return schema + "_owner" }

func makeSchemaIn(ctx context.Context, tx pgx.Tx, schema string) error {
	if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", int64(migrationLock)); err != nil {
		return err
	}
	for _, role := range []string{schema, ownerOf(schema)} {
		if err := makeRole(ctx, tx, role); err != nil {
			return err
		}
	}
	if err := checkApart(ctx, tx, schema); err != nil {
		return err
	}
	service, owner := quoted(schema), quoted(ownerOf(schema))
	var exists bool
	err := tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)", schema).Scan(&exists)
	if err != nil {
		return err
	}
	var statements []string
	if !exists {
		statements = append(statements, "CREATE SCHEMA "+service+" AUTHORIZATION "+owner)
	}
	statements = append(statements,
		"SET LOCAL ROLE "+owner,
		"GRANT USAGE ON SCHEMA "+service+" TO "+service,
		// Each table that a migration makes from here on; an append-only one takes back what is too much at once.
		"ALTER DEFAULT PRIVILEGES IN SCHEMA "+service+" GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO "+service)
	for _, statement := range statements {
		if _, err := tx.Exec(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// mayAct is whether this login may SET ROLE to $1; PostgreSQL 16 made that a privilege of its own.
const mayAct = `
SELECT pg_has_role(current_user, $1, CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END)`

func makeRole(ctx context.Context, tx pgx.Tx, role string) error {
	var exists bool
	err := tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", role).Scan(&exists)
	if err != nil {
		return err
	}
	if !exists {
		if _, err := tx.Exec(ctx, "CREATE ROLE "+quoted(role)+" NOLOGIN"); err != nil {
			return err
		}
	}
	var may bool
	if err := tx.QueryRow(ctx, mayAct, role).Scan(&may); err != nil {
		return err
	}
	if !may {
		if _, err := tx.Exec(ctx, "GRANT "+quoted(role)+" TO CURRENT_USER"); err != nil {
			return err
		}
	}
	return nil
}

const powers = `
SELECT rolsuper OR rolcanlogin OR pg_has_role($1, $2, 'MEMBER') FROM pg_roles WHERE rolname = $1`

// checkApart refuses a service role that could act as the owner: append-only would be a word only.
func checkApart(ctx context.Context, tx pgx.Tx, schema string) error {
	var tooMuch bool
	if err := tx.QueryRow(ctx, powers, schema, ownerOf(schema)).Scan(&tooMuch); err != nil {
		return err
	}
	if tooMuch {
		return fmt.Errorf("role %s exists and may log in, is a superuser, or is a member of %s: it must be none of these",
			schema, ownerOf(schema))
	}
	return nil
}

// protectVersions leaves the service only the reading of which migrations have run.
func protectVersions(ctx context.Context, db *sql.DB, schema string, sets []Migrations) error {
	if schema == "" {
		return nil
	}
	for _, set := range sets {
		revoke := "REVOKE INSERT, UPDATE, DELETE ON " + quoted(versionTable(set)) + " FROM " + quoted(schema) //nolint:gosec // G202: quoted
		if _, err := db.ExecContext(ctx, revoke); err != nil {
			return classify(err)
		}
	}
	return nil
}

func quoted(name string) string { return pgx.Identifier{name}.Sanitize() }
