package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"modernc.org/sqlite"
)

// counts are row writes: inserted, updated and deleted rows, by "service.table".
type counts map[string][3]int64

// background are tables that are written by the second and not by the event: they are no part of what an event costs.
var background = []string{"leases", "checkpoints"}

func (c counts) total() (n int64) {
	for name, rows := range c {
		if _, table, _ := strings.Cut(name, "."); !slices.Contains(background, table) {
			n += rows[0] + rows[1] + rows[2]
		}
	}
	return n
}

// counter counts the rows that SQLite changes on connections of this process, below one folder. Each row counts that an
// INSERT, UPDATE or DELETE touches, as PostgreSQL's statistics do.
type counter struct {
	within string
	on     atomic.Bool
	mu     sync.Mutex
	rows   counts
}

// countSQLite sees every connection to a file below a folder that is opened from now on.
func countSQLite(within string) *counter {
	c := &counter{within: within, rows: counts{}}
	sqlite.RegisterConnectionHook(func(conn sqlite.ExecQuerierContext, dsn string) error {
		at := strings.Index(dsn, c.within)
		hooks, ok := conn.(sqlite.HookRegisterer)
		if at < 0 || !ok {
			return nil
		}
		file, _, _ := strings.Cut(dsn[at:], "?")
		service := strings.TrimSuffix(file[strings.LastIndexByte(file, '/')+1:], ".db")
		hooks.RegisterPreUpdateHook(func(d sqlite.SQLitePreUpdateData) { c.saw(service, d) })
		return nil
	})
	return c
}

func (c *counter) saw(service string, d sqlite.SQLitePreUpdateData) {
	if !c.on.Load() {
		return
	}
	const sqliteDelete, sqliteInsert = 9, 18 // SQLITE_DELETE, SQLITE_INSERT; the third is SQLITE_UPDATE
	kind := 1
	switch d.Op {
	case sqliteInsert:
		kind = 0
	case sqliteDelete:
		kind = 2
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	name := service + "." + d.TableName
	rows := c.rows[name]
	rows[kind]++
	c.rows[name] = rows
}

// countedPostgres reads PostgreSQL's own statistics of the observer's database. They are complete once nobody else is
// connected.
func (o *observer) countedPostgres(ctx context.Context) (found counts, err error) {
	rows, err := o.dbs["ingest"].QueryContext(ctx, "SELECT schemaname || '.' || relname, n_tup_ins, n_tup_upd, n_tup_del FROM pg_stat_user_tables")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	found = counts{}
	for rows.Next() {
		var name string
		var n [3]int64
		if err := rows.Scan(&name, &n[0], &n[1], &n[2]); err != nil {
			return nil, err
		}
		found[name] = n
	}
	return found, rows.Err()
}

// since is what was written after earlier.
func (c counts) since(earlier counts) counts {
	diff := counts{}
	for name, n := range c {
		for i := range n {
			n[i] -= earlier[name][i]
		}
		if n != [3]int64{} {
			diff[name] = n
		}
	}
	return diff
}

// table is for people: the row writes per event, the five applications taken together.
func (c counts) table(events int) []string {
	sums := counts{}
	for name, n := range c {
		service, table, _ := strings.Cut(name, ".")
		if strings.HasPrefix(service, "provision_") {
			service = "provision × 5"
		}
		name = service + " " + table
		sum := sums[name]
		for i := range n {
			sum[i] += n[i]
		}
		sums[name] = sum
	}
	var lines []string
	for name, n := range sums {
		per := func(i int) float64 { return float64(n[i]) / float64(events) }
		lines = append(lines, fmt.Sprintf("    %-30s insert %6.2f  update %6.2f  delete %6.2f", name, per(0), per(1), per(2)))
	}
	slices.Sort(lines)
	return lines
}
