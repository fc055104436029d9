package main

import (
	"context"
	"errors"
	"net"

	"github.com/jackc/pgx/v5"

	"github.com/tenurehq/tenure/pkg/sqldb/sqltest"
)

// postgres is a private PostgreSQL server with its durability as shipped: fsync, full_page_writes and
// synchronous_commit are on.
type postgres struct{ server *sqltest.Server }

func startPostgres(ctx context.Context) (*postgres, error) {
	server, err := sqltest.Start(ctx, "fsync=on", "full_page_writes=on", "synchronous_commit=on",
		"checkpoint_timeout=5min", "max_connections=300", "shared_buffers=128MB")
	if err != nil {
		return nil, err
	}
	return &postgres{server}, nil
}

func (p *postgres) dsn(database string) string { return p.server.DSN(database) }

// create makes an empty database.
func (p *postgres) create(ctx context.Context, database string) error {
	conn, err := pgx.Connect(ctx, p.dsn("postgres"))
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "CREATE DATABASE "+database)
	return errors.Join(err, conn.Close(ctx))
}

// freePort returns a loopback port that nobody listened on a moment ago.
func freePort(ctx context.Context) (int, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	port := listener.Addr().(*net.TCPAddr).Port
	return port, listener.Close()
}
