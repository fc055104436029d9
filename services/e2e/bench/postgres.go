package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// postgres is a private PostgreSQL server with its durability as shipped: fsync, full_page_writes and
// synchronous_commit are on.
type postgres struct {
	child *child
	base  url.URL
}

// startPostgres makes and starts a server in dir, which must not exist.
func startPostgres(ctx context.Context, dir string) (*postgres, error) {
	bin, err := postgresBinaries()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	as, err := postgresUser(dir)
	if err != nil {
		return nil, err
	}
	password := rand.Text()
	passwordFile := filepath.Join(dir, "password")
	if err := os.WriteFile(passwordFile, []byte(password), 0o644); err != nil { //nolint:gosec // G306: the folder is closed
		return nil, err
	}
	data := filepath.Join(dir, "data")
	initdb := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), "--pgdata", data, "--username=postgres", //nolint:gosec // G204: an installed binary
		"--pwfile", passwordFile, "--auth-local=reject", "--auth-host=scram-sha-256", "--encoding=UTF8", "--locale=C", "--data-checksums")
	initdb.Dir, initdb.SysProcAttr = dir, as
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w\n%s", err, out)
	}
	port, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	p := &postgres{base: url.URL{
		Scheme: "postgres", User: url.UserPassword("postgres", password),
		Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), RawQuery: "sslmode=disable",
	}}
	p.child, err = startChild(as, dir, filepath.Join(dir, "log"), filepath.Join(bin, "postgres"), "-D", data,
		"-c", "port="+strconv.Itoa(port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=",
		"-c", "max_connections=300", "-c", "shared_buffers=128MB", "-c", "jit=off", "-c", "max_wal_size=4GB",
		"-c", "fsync=on", "-c", "synchronous_commit=on", "-c", "full_page_writes=on")
	if err != nil {
		return nil, err
	}
	ready, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		conn, err := pgx.Connect(ready, p.dsn("postgres"))
		if err == nil {
			return p, conn.Close(ctx)
		}
		select {
		case <-ready.Done():
			return nil, errors.Join(fmt.Errorf("postgres does not answer: %w", err), p.stop())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (p *postgres) dsn(database string) string {
	dsn := p.base
	dsn.Path = "/" + database
	return dsn.String()
}

// create makes an empty database.
func (p *postgres) create(ctx context.Context, database string) error {
	conn, err := pgx.Connect(ctx, p.dsn("postgres"))
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "CREATE DATABASE "+database)
	return errors.Join(err, conn.Close(ctx))
}

// stop ends the server, and those who are still connected to it.
func (p *postgres) stop() error { return p.child.close() }

// postgresUser returns what makes a process run as somebody who may run PostgreSQL, which refuses root, and gives dir to
// them.
func postgresUser(dir string) (*syscall.SysProcAttr, error) {
	as := &syscall.SysProcAttr{Setpgid: true}
	if os.Getuid() != 0 {
		return as, nil
	}
	them, err := user.Lookup("postgres")
	if err != nil {
		if them, err = user.Lookup("nobody"); err != nil {
			return nil, err
		}
	}
	uid, err := strconv.ParseUint(them.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(them.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	as.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return as, os.Chown(dir, int(uid), int(gid))
}

// postgresBinaries returns the folder of the newest installed server.
func postgresBinaries() (string, error) {
	installed, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil {
		return "", err
	}
	version := func(folder string) int {
		n, err := strconv.Atoi(filepath.Base(filepath.Dir(folder)))
		if err != nil {
			return 0
		}
		return n
	}
	slices.SortFunc(installed, func(a, b string) int { return cmp.Compare(version(b), version(a)) })
	for _, path := range filepath.SplitList(os.Getenv("PATH")) {
		installed = append(installed, strings.TrimSuffix(path, "/"))
	}
	for _, folder := range installed {
		_, errInit := os.Stat(filepath.Join(folder, "initdb"))     //nolint:gosec // G703: PATH is the one who runs it's own
		_, errServer := os.Stat(filepath.Join(folder, "postgres")) //nolint:gosec // G703: as above
		if errInit == nil && errServer == nil {
			return folder, nil
		}
	}
	return "", errors.New("no PostgreSQL server is installed")
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
