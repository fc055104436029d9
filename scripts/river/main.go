// Command river is a peer for Tenure's benchmark: what a good engineer builds for the same task on River, a queue in
// PostgreSQL, in an afternoon. The same signed webhooks, the same demo applications through the same connector, and one job
// for each event and application, which makes the account right, reads it back and writes a row for the auditors.
//
// What it leaves out of what Tenure does is told in docs/performance.md. It is a module of its own so that nothing of
// Tenure depends on River; `make bench PEERS=river` builds and runs it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/tenurehq/tenure/pkg/run"
	"github.com/tenurehq/tenure/services/connectors/demo"
	"github.com/tenurehq/tenure/services/ingest/source/standardwebhooks"
)

type options struct {
	database     string
	secret       string
	dir          string
	listen       string
	applications int
	departments  int
	workers      int
	conns        int
	cooldown     time.Duration
}

func main() { run.Main(start) }

func start(ctx context.Context, args []string) error {
	var o options
	flags := flag.NewFlagSet("river", flag.ContinueOnError)
	flags.StringVar(&o.database, "database", "", "DSN of an empty database")
	flags.StringVar(&o.secret, "secret", "", "file with the secret of the webhooks")
	flags.StringVar(&o.dir, "dir", "", "folder of the applications' journals")
	flags.StringVar(&o.listen, "listen", "", "host:port for webhooks")
	flags.IntVar(&o.applications, "applications", 5, "demo applications, app1 and up")
	flags.IntVar(&o.departments, "departments", 40, "departments, d000 and up, each with a group in every application")
	// The defaults are the best of those that were tried.
	flags.IntVar(&o.workers, "workers", 32, "jobs at the same time")
	flags.IntVar(&o.conns, "conns", 32, "connections to the database")
	flags.DurationVar(&o.cooldown, "cooldown", 2*time.Millisecond, "least time between two fetches of jobs")
	if err := flags.Parse(args); err != nil {
		return err
	}
	return serve(ctx, o)
}

// serve runs webhooks and workers until ctx ends.
func serve(ctx context.Context, o options) (err error) {
	text, err := os.ReadFile(o.secret)
	if err != nil {
		return err
	}
	keys, err := standardwebhooks.ParseKeys(text)
	if err != nil {
		return err
	}
	pool, err := open(ctx, o)
	if err != nil {
		return err
	}
	defer pool.Close()
	e := &ensurer{pool: pool, roles: roles(o), applications: map[string]*demo.Application{}}
	defer func() {
		for _, a := range e.applications {
			err = errors.Join(err, a.Close())
		}
	}()
	for n := range o.applications {
		name := fmt.Sprintf("app%d", n+1)
		cfg := demo.Config{File: filepath.Join(o.dir, name)}
		for d := range o.departments {
			cfg.Entitlements = append(cfg.Entitlements, "group:"+department(d))
		}
		if e.applications[name], err = demo.Open(ctx, cfg); err != nil {
			return err
		}
	}
	workers := river.NewWorkers()
	river.AddWorker(workers, e)
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{
		Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: o.workers}}, Workers: workers, FetchCooldown: o.cooldown,
	})
	if err != nil {
		return err
	}
	if err := client.Start(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	in := &intake{keys: keys, pool: pool, client: client, applications: o.applications}
	err = listen(ctx, o.listen, in)
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return errors.Join(err, client.Stop(stopping))
}

// listen serves until ctx ends.
func listen(ctx context.Context, address string, handler http.Handler) error {
	server := &http.Server{Addr: address, Handler: handler, ReadHeaderTimeout: 5 * time.Second}
	return run.All(ctx,
		func(context.Context) error {
			if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		},
		func(ctx context.Context) error {
			<-ctx.Done()
			return server.Close()
		})
}

// open makes the tables of River and our own.
func open(ctx context.Context, o options) (*pgxpool.Pool, error) {
	cfg, err := pgxpool.ParseConfig(o.database)
	if err != nil {
		return nil, err
	}
	cfg.MaxConns = int32(o.conns) //nolint:gosec // G115: a flag of a benchmark
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, err
	}
	migrator, err := rivermigrate.New[pgx.Tx](riverpgxv5.New(pool), nil)
	if err == nil {
		_, err = migrator.Migrate(ctx, rivermigrate.DirectionUp, nil)
	}
	if err == nil {
		_, err = pool.Exec(ctx, tables)
	}
	if err != nil {
		pool.Close()
		return nil, err
	}
	return pool, nil
}

const tables = `
CREATE TABLE webhooks (
    id        TEXT   NOT NULL PRIMARY KEY,
    person    TEXT   NOT NULL,
    stored_at BIGINT NOT NULL,
    body      BYTEA  NOT NULL
);
CREATE TABLE people (
    id             TEXT  NOT NULL PRIMARY KEY,
    effective_date TEXT  NOT NULL,
    record         JSONB NOT NULL
);
CREATE TABLE audit (
    job         BIGINT NOT NULL PRIMARY KEY,
    webhook     TEXT   NOT NULL,
    person      TEXT   NOT NULL,
    application TEXT   NOT NULL,
    wanted      TEXT   NOT NULL,
    found       TEXT   NOT NULL,
    read_at     BIGINT NOT NULL
);`
