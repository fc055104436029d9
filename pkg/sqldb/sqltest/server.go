package sqltest

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	dsnVariable = "TENURE_TEST_POSTGRES"
	// A machine that runs many test processes at once starts slowly.
	startTime     = 90 * time.Second
	startAttempts = 3
)

// server is a PostgreSQL server that takes a superuser.
type server struct {
	base   url.URL // over TCP, to no particular database
	socket string  // folder of its Unix socket, where no password is asked; empty: none
	port   string

	keeper  *exec.Cmd // nil for a server that is not ours
	release io.Closer // the keeper's standard input

	templates templates
}

// shared is the one server of this test process, started at the first call.
func shared(tb testing.TB) *server {
	tb.Helper()
	s, err := sharedServer()
	need(tb, err)
	return s
}

// sharedServer outlives every test, so it is the one thing of this process that no test owns.
var sharedServer = sync.OnceValues(func() (*server, error) {
	if dsn := os.Getenv(dsnVariable); dsn != "" {
		return givenServer(dsn)
	}
	return startServer(context.Background(), nil)
})

// errNotInstalled says what to do; every other reason not to start is a failure.
var errNotInstalled = errors.New("no PostgreSQL for tests: install its server, or set " + dsnVariable +
	" to the DSN of a superuser")

func need(tb testing.TB, err error) {
	tb.Helper()
	switch {
	case err == nil:
	case errors.Is(err, errNotInstalled) && os.Getenv("CI") == "":
		tb.Skip(err)
	default:
		tb.Fatal(err)
	}
}

func givenServer(dsn string) (*server, error) {
	base, err := url.Parse(dsn)
	if err != nil || (base.Scheme != "postgres" && base.Scheme != "postgresql") {
		return nil, fmt.Errorf("%s: want postgres://…", dsnVariable)
	}
	return &server{base: *base}, nil
}

// tcp returns the superuser's DSN of a database, with a password over TCP.
func (s *server) tcp(database string) string {
	dsn := s.base
	dsn.Path = "/" + database
	return dsn.String()
}

// fast returns the superuser's DSN of a database by the quickest way in.
func (s *server) fast(database string) string {
	if s.socket == "" {
		return s.tcp(database)
	}
	query := url.Values{"host": {s.socket}, "port": {s.port}, "user": {"postgres"}}
	return "postgres:///" + database + "?" + query.Encode()
}

// The keeper runs the server until its standard input closes, which it does when the test process is gone, for
// whatever reason, and then cleans up. No goroutine watches it, which tests that look for left-over ones would see.
const keeper = `
dir=$1; shift
trap '' INT TERM HUP QUIT
( "$@" >"$dir/log" 2>&1 </dev/null; : >"$dir/ended" ) &
while read -r _; do :; done
until [ -e "$dir/ended" ]; do
	kill -QUIT "$(head -n 1 "$dir/data/postmaster.pid")" 2>/dev/null
	sleep 0.1
done
cd / && rm -rf "$dir"
`

// Server is a server of its own for a program that is no test, such as a benchmark.
type Server struct{ s *server }

// Start starts a server with settings like "fsync=on". It ends with Stop, or with the process.
func Start(ctx context.Context, settings ...string) (*Server, error) {
	s, err := startServer(ctx, settings)
	if err != nil {
		return nil, err
	}
	return &Server{s}, nil
}

// DSN is the superuser's, of a database.
func (s *Server) DSN(database string) string { return s.s.tcp(database) }

// Stop ends the server, and those who are still connected to it.
func (s *Server) Stop() { s.s.stop() }

// startServer makes and starts a server of its own in a temporary folder, on another port if somebody was faster.
func startServer(ctx context.Context, settings []string) (*server, error) {
	bin, err := binaries(ctx)
	if err != nil {
		return nil, err
	}
	for attempt := 1; ; attempt++ {
		dir, err := os.MkdirTemp("", "tenure-pg-")
		if err != nil {
			return nil, err
		}
		s, err := startIn(ctx, bin, dir, settings)
		if err == nil {
			return s, nil
		}
		if err = errors.Join(err, os.RemoveAll(dir)); !errors.Is(err, errEnded) || attempt == startAttempts {
			return nil, err
		}
	}
}

func startIn(ctx context.Context, bin, dir string, settings []string) (*server, error) {
	as, err := serverUser(dir)
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
		"--pwfile", passwordFile, "--auth-local=trust", "--auth-host=scram-sha-256", "--encoding=UTF8",
		"--locale=C", "--data-checksums", "--no-sync")
	initdb.Dir, initdb.SysProcAttr = dir, as
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w\n%s", err, out)
	}
	port, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	s := &server{
		base: url.URL{Scheme: "postgres", User: url.UserPassword("postgres", password), Host: "127.0.0.1:" + port, RawQuery: "sslmode=disable"},
		port: port,
	}
	sockets := ""
	if len(dir) < 80 { // a socket's path has 107 bytes at most
		sockets, s.socket = dir, dir
	}
	args := []string{"-c", keeper, "sh", dir, filepath.Join(bin, "postgres"), "-D", data}
	for _, setting := range append([]string{
		"port=" + port, "listen_addresses=127.0.0.1", "unix_socket_directories=" + sockets,
		"fsync=off", "full_page_writes=off", "max_connections=500", "shared_buffers=64MB", "jit=off",
		"max_wal_size=4GB", "checkpoint_timeout=1h", "log_min_messages=fatal",
	}, settings...) {
		args = append(args, "-c", setting)
	}
	// Not CommandContext: it must outlive the test that happened to need it first.
	s.keeper = exec.Command("/bin/sh", args...) //nolint:gosec,noctx // see above; G204: an installed binary
	s.keeper.Dir, s.keeper.SysProcAttr = dir, as
	if s.release, err = s.keeper.StdinPipe(); err != nil {
		return nil, err
	}
	if err := s.keeper.Start(); err != nil {
		return nil, err
	}
	if err := s.awaitReady(ctx, dir); err != nil {
		log, _ := os.ReadFile(filepath.Join(dir, "log")) //nolint:gosec // G304: our own folder; without it there is less to say
		s.stop()
		return nil, fmt.Errorf("%w\n%s", err, log)
	}
	return s, nil
}

// errEnded is mostly said of a port that was taken between its choice and the start.
var errEnded = errors.New("postgres ended at once")

func (s *server) stop() {
	_ = s.release.Close()
	_ = s.keeper.Wait()
}

func (s *server) awaitReady(ctx context.Context, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	for {
		conn, err := pgx.Connect(ctx, s.tcp("postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		if isFile(filepath.Join(dir, "ended")) {
			return errEnded
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("postgres does not answer: %w", err)
		}
	}
}

// serverUser returns what makes a process run as somebody who may run PostgreSQL, which refuses root, and gives dir to
// them. The processes get a group of their own, so that a Ctrl-C in the terminal reaches only the test.
func serverUser(dir string) (*syscall.SysProcAttr, error) {
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

// binaries returns the folder of the newest installed initdb and postgres.
func binaries(ctx context.Context) (string, error) {
	var folders []string
	if initdb, err := exec.LookPath("initdb"); err == nil {
		folders = append(folders, filepath.Dir(initdb))
	}
	if out, err := exec.CommandContext(ctx, "pg_config", "--bindir").Output(); err == nil {
		folders = append(folders, strings.TrimSpace(string(out)))
	}
	installed, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil {
		return "", err
	}
	slices.SortFunc(installed, func(a, b string) int { return cmp.Compare(version(b), version(a)) })
	for _, folder := range append(folders, installed...) {
		if isFile(filepath.Join(folder, "initdb")) && isFile(filepath.Join(folder, "postgres")) {
			return folder, nil
		}
	}
	return "", errNotInstalled
}

// version is the number in /usr/lib/postgresql/15/bin.
func version(folder string) int {
	n, err := strconv.Atoi(filepath.Base(filepath.Dir(folder)))
	if err != nil {
		return 0
	}
	return n
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// freePort returns a port that nobody listened on a moment ago.
func freePort(ctx context.Context) (string, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	_, port, err := net.SplitHostPort(listener.Addr().String())
	return port, errors.Join(err, listener.Close())
}
