package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// tick is the unit that the kernel counts processor time in, for programs: USER_HZ, on every Linux that Go runs on.
const tick = 10 * time.Millisecond

// proc is what the kernel says about one process.
type proc struct {
	parent int
	own    time.Duration // user and system
	ended  time.Duration // of children that it waited for
}

func readProc(pid int) (proc, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return proc{}, err
	}
	return parseProc(string(text))
}

// parseProc reads a line of proc_pid_stat(5). The name, in parentheses, may hold anything.
func parseProc(stat string) (proc, error) {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 15 {
		return proc{}, fmt.Errorf("not a process's state: %q", stat)
	}
	var n [5]int64
	for i, at := range []int{1, 11, 12, 13, 14} { // ppid, utime, stime, cutime, cstime
		var err error
		if n[i], err = strconv.ParseInt(fields[at], 10, 64); err != nil {
			return proc{}, err
		}
	}
	return proc{parent: int(n[0]), own: time.Duration(n[1]+n[2]) * tick, ended: time.Duration(n[3]+n[4]) * tick}, nil
}

// processor is the processor time that a Tenure has taken: that of its process and, on PostgreSQL, of the whole server.
func (t *tenure) processor(ctx context.Context) (time.Duration, error) {
	p, err := readProc(t.child.pid)
	if err != nil || t.engine != enginePostgres {
		return p.own, err
	}
	server, err := serverProcessor(ctx, t.db.dbs["ingest"])
	return p.own + server, err
}

// serverProcessor is the processor time that the PostgreSQL server behind a connection has taken, with all its processes.
func serverProcessor(ctx context.Context, db *sql.DB) (time.Duration, error) {
	var backend int
	if err := db.QueryRowContext(ctx, "SELECT pg_backend_pid()").Scan(&backend); err != nil {
		return 0, err
	}
	p, err := readProc(backend)
	if err != nil {
		return 0, err
	}
	return family(p.parent)
}

// family is the processor time of a process, of its children, and of those that have ended.
func family(pid int) (time.Duration, error) {
	parent, err := readProc(pid)
	if err != nil {
		return 0, err
	}
	all := parent.own + parent.ended
	others, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0, err
	}
	for _, dir := range others {
		other, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			return 0, err
		}
		switch p, err := readProc(other); {
		case errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH): // it has just ended
		case err != nil:
			return 0, err
		case p.parent == pid:
			all += p.own
		}
	}
	return all, nil
}
