package sqltest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// superuser is the private servers' superuser; its password is the same word.
const superuser = "postgres"

// keeper runs the server until its standard input ends: that happens when the test process does, however it does.
const keeper = `"$1/postgres" -D "$2" -k "$2" -p "$3" -h 127.0.0.1 >"$2/log" 2>&1 & pg=$!
read -r _ || :
kill -QUIT "$pg"; wait "$pg"; rm -rf "$2"`

// server is a running PostgreSQL.
type server struct {
	port int
	stop func() // holds the keeper's standard input: a server that nothing refers to any more ends
}

func (s *server) dsn(database string) string {
	return fmt.Sprintf("postgres://%s:%s@127.0.0.1:%d/%s?sslmode=disable", superuser, superuser, s.port, database)
}

// shared is the test process's own server, started when first asked for.
var shared = sync.OnceValues(startPostgres)

// errNoServer says that PostgreSQL is not installed.
var errNoServer = errors.New("PostgreSQL is not installed: apt-get install postgresql, or set TENURE_TEST_POSTGRES to a superuser's DSN")

// Postgres returns a superuser's DSN of a fresh database on a server that the tests of this process share. Without a
// server the test is skipped; with CI set it fails.
func Postgres(t testing.TB) string {
	t.Helper()
	if dsn := os.Getenv("TENURE_TEST_POSTGRES"); dsn != "" {
		return freshDatabase(t, dsn)
	}
	s, err := shared()
	need(t, err)
	return freshDatabase(t, s.dsn(superuser))
}

// PostgresServer returns a superuser's DSN of a server of the test's own: for tests that make roles, which belong to the
// whole server. Over TCP it wants passwords (SCRAM), so that a role's login can be tried.
func PostgresServer(t testing.TB) string {
	t.Helper()
	s, err := startPostgres()
	need(t, err)
	t.Cleanup(s.stop)
	return s.dsn(superuser)
}

func need(t testing.TB, err error) {
	t.Helper()
	switch {
	case err == nil:
	case errors.Is(err, errNoServer) && os.Getenv("CI") == "":
		t.Skip(err)
	default:
		t.Fatal(err)
	}
}

var databases atomic.Int64

func freshDatabase(t testing.TB, dsn string) string {
	t.Helper()
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatalf("TENURE_TEST_POSTGRES: %v", err)
	}
	name := fmt.Sprintf("test_%d_%d", os.Getpid(), databases.Add(1))
	exec := func(ctx context.Context, text string) error {
		conn, err := pgx.ConnectConfig(ctx, cfg.Copy())
		if err != nil {
			return err
		}
		defer conn.Close(ctx)
		_, err = conn.Exec(ctx, text)
		return err
	}
	if err := exec(t.Context(), "CREATE DATABASE "+name); err != nil {
		t.Fatalf("make a database: %v", err)
	}
	t.Cleanup(func() {
		if err := exec(context.Background(), "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			t.Errorf("drop the test's database: %v", err)
		}
	})
	return fmt.Sprintf("postgres://%s:%s@%s/%s?sslmode=disable", cfg.User, cfg.Password, net.JoinHostPort(cfg.Host, strconv.Itoa(int(cfg.Port))), name)
}

// startPostgres makes a cluster in a temporary directory and starts it on a free port. The server refuses to run as
// root, so root becomes the user postgres for it.
func startPostgres() (*server, error) {
	bin, err := postgresBin()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "pg")
	if err != nil {
		return nil, err
	}
	attr := &syscall.SysProcAttr{Setpgid: true} // an interrupt from the terminal is the test's, not the server's
	if os.Geteuid() == 0 {
		cred, err := unprivileged()
		if err != nil {
			return nil, err
		}
		attr.Credential = cred
		if err := os.Chown(dir, int(cred.Uid), int(cred.Gid)); err != nil {
			return nil, err
		}
	}
	if err := initCluster(bin, dir, attr); err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("/bin/sh", "-c", keeper, "sh", bin, dir, strconv.Itoa(port))
	cmd.SysProcAttr, cmd.Dir = attr, dir
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start PostgreSQL: %w", err)
	}
	s := &server{port: port, stop: sync.OnceFunc(func() {
		_ = stdin.Close()
		_ = cmd.Wait()
	})}
	if err := awaitReady(s.dsn(superuser), 60*time.Second); err != nil {
		log, _ := os.ReadFile(filepath.Join(dir, "log"))
		s.stop()
		return nil, fmt.Errorf("PostgreSQL does not answer: %w\n%s", err, log)
	}
	return s, nil
}

func initCluster(bin, dir string, attr *syscall.SysProcAttr) error {
	pwfile := filepath.Join(dir, "..", filepath.Base(dir)+".pw")
	if err := os.WriteFile(pwfile, []byte(superuser), 0o644); err != nil { //nolint:gosec // a test server's
		return err
	}
	defer os.Remove(pwfile)
	cmd := exec.Command(filepath.Join(bin, "initdb"), "-D", dir, "-U", superuser, "--pwfile", pwfile,
		"--auth-local=trust", "--auth-host=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync")
	cmd.SysProcAttr, cmd.Dir = attr, dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	// The tests that ask about durability set fsync themselves; for the others the disk may take its time.
	conf := "fsync = off\nmax_connections = 400\nshared_buffers = 64MB\nlog_min_messages = warning\n"
	f, err := os.OpenFile(filepath.Join(dir, "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(conf)
	return errors.Join(err, f.Close())
}

func postgresBin() (string, error) {
	if path, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(path), nil
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb") // the pattern is well formed
	if len(found) == 0 {
		return "", errNoServer
	}
	best, version := "", 0
	for _, path := range found {
		if v, _ := strconv.Atoi(strings.Split(path, "/")[4]); v >= version {
			best, version = filepath.Dir(path), v
		}
	}
	return best, nil
}

func unprivileged() (*syscall.Credential, error) {
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return nil, err
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			return nil, err
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.New("PostgreSQL refuses to run as root, and there is no user postgres or nobody")
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

func awaitReady(dsn string, patience time.Duration) error {
	ctx, stop := context.WithTimeout(context.Background(), patience)
	defer stop()
	for {
		conn, err := pgx.Connect(ctx, dsn)
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(20 * time.Millisecond):
		}
	}
}
