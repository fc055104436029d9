package e2e

import (
	"context"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// postgresFaults are those of the database of five processes.
var postgresFaults = []fault{
	{name: "PostgreSQL dies at once, and is away", world: onPostgres, alarm: "not ready", begin: func(t *testing.T, w *world) func() {
		start := w.database.stop(t)
		return func() { start(t) }
	}},
	{name: "PostgreSQL is paused", world: onPostgres, alarm: "not ready", begin: func(t *testing.T, w *world) func() {
		w.database.signal(t, syscall.SIGSTOP)
		return func() { w.database.signal(t, syscall.SIGCONT) }
	}},
	{name: "PostgreSQL is restarted every three seconds", world: onPostgres, alarm: "not ready", begin: func(t *testing.T, w *world) func() {
		return again(t, 3*time.Second, func() { w.database.stop(t)(t) })
	}},
	{name: "connections to PostgreSQL are ended by it", world: onPostgres, alarm: "intake fails", begin: func(t *testing.T, w *world) func() {
		return again(t, 100*time.Millisecond, func() { w.database.endConnections(t) })
	}},
	{name: "connections to PostgreSQL are cut, with replies under way", world: onPostgres, alarm: "intake fails", begin: func(t *testing.T, w *world) func() {
		w.toDatabase.loseReplies(1_000_000)
		// Which replies are lost is chance, and a dozen words may be spared: HR goes on, with one that changes nothing.
		stop := again(t, 200*time.Millisecond, func() { _, _ = w.hr.post(t, w.first) })
		return func() { stop(); w.toDatabase.loseReplies(0) }
	}},
}

// again does something at once and then that often, until what it returns is called.
func again(t *testing.T, every time.Duration, do func()) (stop func()) {
	t.Helper()
	do()
	ctx, cancel := context.WithCancel(t.Context())
	var doing sync.WaitGroup
	doing.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				do()
			case <-ctx.Done():
				return
			}
		}
	})
	t.Cleanup(func() { cancel(); doing.Wait() })
	return func() { cancel(); doing.Wait() }
}

// onPostgres is a world of five processes over PostgreSQL, which they reach over a wire.
func onPostgres(t *testing.T) *world {
	t.Helper()
	made := filepath.Join(installation(t), "deploy")
	certs := filepath.Join(made, "certs")
	db := &database{admin: postgresAdmin(t, certs)}
	db.look(t)
	host, err := url.Parse(db.admin)
	if err != nil {
		t.Fatal(err)
	}
	wire := newWire(t, host.Host)
	w := inProcesses(t, newClusterOn(t, made, natsServer(t, certs), wire.address))
	w.database, w.toDatabase = db, wire
	return w
}

// database is a PostgreSQL server that a test stops and starts.
type database struct {
	admin string // the superuser's DSN
	data  string // its folder
	bin   string // where its programs are
}

// look finds out where the server is.
func (db *database) look(t *testing.T) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), db.admin)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if err := conn.QueryRow(t.Context(), "SHOW data_directory").Scan(&db.data); err != nil {
		t.Fatal(err)
	}
	program, err := os.Readlink("/proc/" + db.pid(t) + "/exe")
	if err != nil {
		t.Fatal(err)
	}
	db.bin = filepath.Dir(program)
	t.Cleanup(func() { // whoever started it first does not know of the one that runs now
		if _, err := os.Stat(filepath.Join(db.data, "postmaster.pid")); err == nil {
			db.control(t, "stop", "-m", "immediate")
		}
	})
}

// pid is the server's process, in text.
func (db *database) pid(t *testing.T) string {
	t.Helper()
	pid, _, _ := strings.Cut(read(t, filepath.Join(db.data, "postmaster.pid")), "\n")
	return pid
}

// stop ends the server at once, as if it had crashed. It returns what starts it.
func (db *database) stop(t *testing.T) (start func(*testing.T)) {
	t.Helper()
	// As it was called: pg_ctl restart would have to know.
	options := strings.Fields(strings.ReplaceAll(read(t, filepath.Join(db.data, "postmaster.opts")), `"`, ""))
	db.control(t, "stop", "-m", "immediate")
	return func(t *testing.T) {
		t.Helper()
		db.control(t, "start", "-w", "-l", filepath.Join(db.data, "log"), "-o", strings.Join(options[3:], " "))
	}
}

// control runs pg_ctl as whom the server runs as.
func (db *database) control(t *testing.T, args ...string) {
	t.Helper()
	line := append([]string{filepath.Join(db.bin, "pg_ctl"), "-D", db.data}, args...)
	if os.Geteuid() == 0 {
		line = append([]string{"setpriv", "--reuid", db.owner(t), "--regid", db.owner(t), "--clear-groups", "--"}, line...)
	}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), line[0], line[1:]...) // also when the test ends
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("pg_ctl %s: %v\n%s", args, err, out)
	}
}

// owner is the user that the server runs as, by number.
func (db *database) owner(t *testing.T) string {
	t.Helper()
	info, err := os.Stat(db.data)
	if err != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(int(info.Sys().(*syscall.Stat_t).Uid))
}

// signal sends a signal to the server and all of its processes.
func (db *database) signal(t *testing.T, what syscall.Signal) {
	t.Helper()
	parent := db.pid(t)
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	pids := []string{parent}
	for _, file := range stats {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		_, after, _ := strings.Cut(string(text), ") ")
		if fields := strings.Fields(after); len(fields) > 1 && fields[1] == parent {
			pids = append(pids, filepath.Base(filepath.Dir(file)))
		}
	}
	for _, text := range pids {
		pid, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, what); err != nil && text == parent {
			t.Fatal(err)
		}
	}
}

// endConnections has the server end every connection but this one.
func (db *database) endConnections(t *testing.T) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), db.admin)
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"); err != nil {
		t.Error(err)
	}
}
