package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/tenurehq/tenure/pkg/fault"
)

const (
	defaultConns = 16
	// attempts is how often a transaction is run that loses against others.
	attempts = 10
	// migrationLock is the advisory lock under which one process at a time makes schemas and runs migrations.
	migrationLock = 0x74656e757265 // "tenure"
)

type postgresDB struct {
	pool   *pgxpool.Pool
	schema string
}

func openPostgres(ctx context.Context, cfg Config) (engine, error) {
	pc, err := pgxpool.ParseConfig(string(cfg.Postgres.Reveal()))
	if err != nil {
		return nil, errors.New("the PostgreSQL DSN cannot be understood") // pgx's own text may hold the password
	}
	pc.MaxConns = defaultConns
	if cfg.MaxConns > 0 {
		pc.MaxConns = int32(min(cfg.MaxConns, 1<<15)) //nolint:gosec // bounded
	}
	pc.ConnConfig.RuntimeParams["application_name"] = "tenure " + cfg.Schema
	db := &postgresDB{schema: cfg.Schema}
	if cfg.Schema != "" {
		if err := makeSchema(ctx, pc.ConnConfig, cfg.Schema); err != nil {
			return nil, postgresFault(err)
		}
		// Every connection is the service's role and sees the service's schema only.
		setUp := "SET ROLE " + ident(cfg.Schema) + "; SET search_path TO " + ident(cfg.Schema)
		pc.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, setUp)
			return err
		}
	}
	if db.pool, err = pgxpool.NewWithConfig(ctx, pc); err != nil {
		return nil, postgresFault(err)
	}
	if err := db.pool.Ping(ctx); err != nil {
		db.pool.Close()
		return nil, postgresFault(err)
	}
	return db, nil
}

func ident(name string) string { return pgx.Identifier{name}.Sanitize() }

func owner(schema string) string { return schema + "_owner" }

// makeSchema makes the schema, the role that owns its tables and the role that works with them. Neither can log in.
func makeSchema(ctx context.Context, cfg *pgx.ConnConfig, schema string) error {
	conn, err := pgx.ConnectConfig(ctx, cfg.Copy())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // its work is committed
	for _, role := range []string{schema, owner(schema)} {
		// Roles belong to the whole server: another database's start may make the same one at the same time.
		_, err := conn.Exec(ctx, `DO $$ BEGIN CREATE ROLE `+ident(role)+` NOLOGIN; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$`)
		if err != nil {
			return fmt.Errorf("make role %s: %w", role, err)
		}
		var member bool
		if err := conn.QueryRow(ctx, `SELECT pg_has_role(current_user, $1, 'MEMBER')`, role).Scan(&member); err != nil {
			return err
		}
		if !member {
			if _, err := conn.Exec(ctx, `GRANT `+ident(role)+` TO CURRENT_USER`); err != nil {
				return fmt.Errorf("become a member of role %s: %w", role, err)
			}
		}
	}
	_, err = conn.Exec(ctx, `SELECT pg_advisory_lock(`+fmt.Sprint(migrationLock)+`)`)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, `CREATE SCHEMA IF NOT EXISTS `+ident(schema)+` AUTHORIZATION `+ident(owner(schema)))
	if err != nil {
		return fmt.Errorf("make schema %s: %w", schema, err)
	}
	_, err = conn.Exec(ctx, `GRANT USAGE ON SCHEMA `+ident(schema)+` TO `+ident(schema))
	return err // closing the connection gives the lock back
}

func (db *postgresDB) name() string { return "postgres" }

func (db *postgresDB) now() string {
	return `CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)`
}

func (db *postgresDB) close() error {
	db.pool.Close()
	return nil
}

// migrate runs all sets as the owner, one process at a time, and then grants the service's role what each table allows.
func (db *postgresDB) migrate(ctx context.Context, sets []Migrations) error {
	cfg := db.pool.Config().ConnConfig.Copy()
	std := stdlib.OpenDB(*cfg, stdlib.OptionAfterConnect(func(ctx context.Context, conn *pgx.Conn) error {
		if db.schema == "" {
			return nil
		}
		_, err := conn.Exec(ctx, "SET ROLE "+ident(owner(db.schema))+"; SET search_path TO "+ident(db.schema))
		return err
	}))
	std.SetMaxOpenConns(2) // goose's, and the lock's
	defer func() { _ = std.Close() }()
	lock, err := std.Conn(ctx)
	if err != nil {
		return postgresFault(err)
	}
	defer func() { _ = lock.Close() }()
	if _, err := lock.ExecContext(ctx, `SELECT pg_advisory_lock($1)`, int64(migrationLock)); err != nil {
		return postgresFault(err)
	}
	defer func() {
		_, _ = lock.ExecContext(context.WithoutCancel(ctx), `SELECT pg_advisory_unlock($1)`, int64(migrationLock)) // closing the pool gives it back too
	}()
	for _, set := range sets {
		if err := runMigrations(ctx, std, db.name(), set); err != nil {
			return postgresFault(err)
		}
	}
	return db.grant(ctx, lock, sets)
}

func (db *postgresDB) grant(ctx context.Context, conn *sql.Conn, sets []Migrations) error {
	if db.schema == "" {
		return nil
	}
	all := []string{`GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA ` + ident(db.schema) + ` TO ` + ident(db.schema)}
	for _, set := range sets {
		tables, err := appendOnlyTables(set)
		if err != nil {
			return err
		}
		for _, table := range tables {
			all = append(all, `REVOKE UPDATE, DELETE, TRUNCATE ON `+ident(table)+` FROM `+ident(db.schema))
		}
	}
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return postgresFault(err)
	}
	for _, text := range all {
		if _, err := tx.ExecContext(ctx, text); err != nil {
			return errors.Join(postgresFault(err), tx.Rollback())
		}
	}
	return postgresFault(tx.Commit())
}

func (db *postgresDB) query(ctx context.Context, text string, args []any) (*Rows, error) {
	return postgresRows(db.pool.Query(ctx, text, args...))
}

func (db *postgresDB) inTx(ctx context.Context, f func(*Tx) error) error {
	for attempt := 1; ; attempt++ {
		err := db.once(ctx, f)
		if err == nil || !lost(err) || attempt == attempts {
			return err
		}
		select { // let the one that won get further
		case <-ctx.Done():
			return err
		case <-time.After(time.Duration(attempt) * time.Millisecond):
		}
	}
}

// lost says that the transaction lost against another one and was rolled back: 40001 serialisation, 40P01 deadlock.
func lost(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && (e.Code == "40001" || e.Code == "40P01")
}

func (db *postgresDB) once(ctx context.Context, f func(*Tx) error) error {
	pgtx, err := db.pool.Begin(ctx)
	if err != nil {
		return postgresFault(err)
	}
	defer func() { _ = pgtx.Rollback(context.WithoutCancel(ctx)) }() // after a commit it does nothing
	tx := &Tx{txn: postgresTx{pgtx}}
	if err := f(tx); err != nil {
		return err
	}
	if err := pgtx.Commit(ctx); err != nil {
		return postgresFault(err)
	}
	tx.committed()
	return nil
}

type postgresTx struct{ tx pgx.Tx }

func (t postgresTx) exec(ctx context.Context, text string, args []any) (int64, error) {
	tag, err := t.tx.Exec(ctx, text, args...)
	return tag.RowsAffected(), postgresFault(err)
}

func (t postgresTx) query(ctx context.Context, text string, args []any) (*Rows, error) {
	return postgresRows(t.tx.Query(ctx, text, args...))
}

func postgresRows(rows pgx.Rows, err error) (*Rows, error) {
	if err != nil {
		return nil, postgresFault(err)
	}
	return &Rows{rows, postgresFault}, nil
}

// postgresFault says which errors are the database's trouble and not the caller's: connections (class 08), resources
// (53), an operator's intervention (57), the system (58).
func postgresFault(err error) error {
	if err == nil {
		return nil
	}
	var e *pgconn.PgError
	if errors.As(err, &e) {
		switch class := e.Code[:min(2, len(e.Code))]; class {
		case "08", "53", "57", "58":
			return fault.Wrap(fault.Unavailable, err)
		}
		return err
	}
	var connect *pgconn.ConnectError
	var network net.Error
	if errors.As(err, &connect) || errors.As(err, &network) || pgconn.SafeToRetry(err) || strings.Contains(err.Error(), "conn closed") {
		return fault.Wrap(fault.Unavailable, err)
	}
	return err
}
