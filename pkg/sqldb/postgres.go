package sqldb

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	pgNow = "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)"
	// A transaction that PostgreSQL gave up for another is run again this often, with growing pauses: about 2 s in all.
	pgAttempts   = 10
	pgFirstPause = 2 * time.Millisecond
	pgLastPause  = 500 * time.Millisecond
	// A rollback that takes longer is left to the server, by closing the connection.
	pgRollbackTime = 5 * time.Second
)

type postgresEngine struct {
	pool   *pgxpool.Pool
	closed atomic.Bool // a transaction that sends nothing would not hear of it from the pool
}

func openPostgres(ctx context.Context, cfg Config, sets []Migrations) (engine, error) {
	poolConfig, err := pgxpool.ParseConfig(string(cfg.Postgres.Reveal()))
	if err != nil {
		return nil, err // pgx leaves the password out
	}
	if err := migratePostgres(ctx, poolConfig.ConnConfig.Copy(), cfg.Schema, sets); err != nil {
		return nil, err
	}
	poolConfig.MaxConns = int32(min(cfg.MaxConns, 10_000)) //nolint:gosec // G115: bounded
	poolConfig.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		return become(ctx, conn, cfg.Schema, cfg.Schema)
	}
	pool, err := pgxpool.NewWithConfig(ctx, poolConfig)
	if err != nil {
		return nil, classify(err)
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, classify(err)
	}
	return &postgresEngine{pool: pool}, nil
}

// become makes a new connection act as role, inside the schema; without a schema it stays what it is.
func become(ctx context.Context, conn *pgx.Conn, schema, role string) error {
	if schema == "" {
		return nil
	}
	if _, err := conn.Exec(ctx, "SET search_path = "+quoted(schema)+"; SET ROLE "+quoted(role)); err != nil {
		return fmt.Errorf("act as role %s: %w", role, err)
	}
	return nil
}

func (e *postgresEngine) name() string { return Postgres }
func (e *postgresEngine) now() string  { return pgNow }

func (e *postgresEngine) inTx(ctx context.Context, f func(*Tx) error) error {
	pause := pgFirstPause
	for attempt := 1; ; attempt++ {
		err := e.attempt(ctx, f)
		conflict, ok := errors.AsType[*pgconn.PgError](err)
		if err == nil || !ok || !conflicts(conflict) || attempt == pgAttempts {
			return err
		}
		select {
		case <-time.After(pause/2 + rand.N(pause)): //nolint:gosec // G404: only spreads retries
		case <-ctx.Done():
			return ctx.Err()
		}
		pause = min(2*pause, pgLastPause)
	}
}

func (e *postgresEngine) attempt(ctx context.Context, f func(*Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if e.closed.Load() {
		return errClosed
	}
	session := &pgSession{pool: e.pool}
	tx := &Tx{session: session}
	settled := false
	defer func() { // also when f panics
		if !settled {
			_ = tx.end(nil)
			session.rollback(ctx)
		}
	}()
	if err := tx.end(f(tx)); err != nil {
		return err
	}
	if err := session.commit(ctx); err != nil {
		return classify(err)
	}
	settled = true
	tx.committed()
	return nil
}

func (e *postgresEngine) query(ctx context.Context, text string, args []any) (*Rows, error) {
	if err := checkArgs(args); err != nil {
		return nil, err
	}
	rows, err := e.pool.Query(ctx, text, args...)
	if err != nil {
		return nil, classify(err)
	}
	return &Rows{cursor: pgCursor{Rows: rows}}, nil
}

func (e *postgresEngine) ping(ctx context.Context) error { return classify(e.pool.Ping(ctx)) }

const durabilitySettings = `
SELECT name || ' is ' || setting
FROM   pg_settings
WHERE  (name IN ('fsync', 'full_page_writes', 'data_checksums', 'synchronous_commit') AND setting = 'off')
ORDER  BY name`

func (e *postgresEngine) weaknesses(ctx context.Context) ([]string, error) {
	rows, err := e.query(ctx, durabilitySettings, nil)
	return Collect(rows, err, func(scan func(...any) error) (string, error) {
		var setting string
		err := scan(&setting)
		return setting, err
	})
}

func (e *postgresEngine) close() error {
	e.closed.Store(true)
	e.pool.Close()
	return nil
}
