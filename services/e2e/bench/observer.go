package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver named pgx
)

const (
	engineSQLite   = "sqlite"
	enginePostgres = "postgres"
)

// settleTime is how long a round may take until everything in it is read back.
const settleTime = time.Minute

// observer reads what a Tenure has stored, beside it: when it had committed what, and how much.
type observer struct {
	engine string
	dsn    string // PostgreSQL: the database; SQLite: the folder
	dbs    map[string]*sql.DB
}

// services are the databases of a Tenure: schemas on PostgreSQL, files on SQLite.
func services() []string {
	names := []string{"ingest", "policy"}
	for n := range applications {
		names = append(names, worker(n))
	}
	return append(names, "audit")
}

func worker(n int) string { return "provision_" + appName(n) }

func (o *observer) open(ctx context.Context) error {
	o.dbs = map[string]*sql.DB{}
	for _, service := range services() {
		driver, dsn := "pgx", o.dsn
		if o.engine == engineSQLite {
			driver = "sqlite"
			dsn = "file:" + filepath.Join(o.dsn, service+".db") + "?_pragma=busy_timeout(10000)&_pragma=query_only(1)"
		} else {
			dsn += "&search_path=" + service
		}
		db, err := sql.Open(driver, dsn)
		if err != nil {
			return err
		}
		db.SetMaxOpenConns(1)
		o.dbs[service] = db
		if err := db.PingContext(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (o *observer) close() error {
	var errs []error
	for _, db := range o.dbs {
		errs = append(errs, db.Close())
	}
	o.dbs = nil
	return errors.Join(errs...)
}

// number reads one number.
func (o *observer) number(ctx context.Context, service, query string) (int64, error) {
	var n sql.NullInt64
	if err := o.dbs[service].QueryRowContext(ctx, query).Scan(&n); err != nil {
		return 0, fmt.Errorf("%s: %w", service, err)
	}
	return n.Int64, nil
}

// sent is how many events each service has numbered and taken out of its outbox.
func (o *observer) sent(ctx context.Context) (map[string]int64, error) {
	sent := map[string]int64{}
	for _, service := range services() {
		n, err := o.number(ctx, service, "SELECT MAX(next_seq) - 1 FROM outbox_origin")
		if err != nil {
			return nil, err
		}
		sent[service] = n
	}
	return sent, nil
}

// settled waits until events that began at before are done, and makes sure that they are.
func (o *observer) settled(ctx context.Context, before map[string]int64, events int) error {
	if err := o.recorded(ctx, before, events); err != nil {
		return err
	}
	return o.check(ctx)
}

// recorded waits until events that began at before have been read back in every application, and then until audit has
// recorded everything. What it asks for costs the same however much is stored.
func (o *observer) recorded(ctx context.Context, before map[string]int64, events int) error {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	for ctx.Err() == nil {
		now, err := o.sent(ctx)
		if err != nil {
			return err
		}
		done := true
		for n := range applications { // an intent and an outcome each
			done = done && now[worker(n)]-before[worker(n)] >= int64(2*events)
		}
		if done {
			var all int64
			for _, n := range now {
				all += n
			}
			recorded, err := o.number(ctx, "audit", "SELECT MAX(size) FROM head")
			if err != nil {
				return err
			}
			if recorded >= all-1 { // audit's own last checkpoint may be on its way
				return nil
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(25 * time.Millisecond):
		}
	}
	now, err := o.sent(context.WithoutCancel(ctx))
	return errors.Join(fmt.Errorf("not everything was read back within %s: %v then, %v now", settleTime, before, now), err)
}

// check makes sure that every target is settled.
func (o *observer) check(ctx context.Context) error {
	for n := range applications {
		open, err := o.number(ctx, worker(n), "SELECT COUNT(*) FROM targets WHERE state <> 1 OR settled_generation <> generation")
		if err != nil {
			return err
		}
		if open > 0 {
			return fmt.Errorf("%d targets of %s are not settled", open, appName(n))
		}
	}
	return nil
}

// lastReadBack is when the last target was seen to be as it should be.
func (o *observer) lastReadBack(ctx context.Context) (time.Time, error) {
	var last int64
	for n := range applications {
		at, err := o.number(ctx, worker(n), "SELECT MAX(observed_at) FROM targets")
		if err != nil {
			return time.Time{}, err
		}
		last = max(last, at)
	}
	return time.UnixMicro(last), nil
}

// stored is, by person, when events were stored: the instant is taken inside the transaction.
func (o *observer) stored(ctx context.Context, events []event) (map[string]int64, error) {
	at := map[string]int64{}
	err := o.pairs(ctx, "ingest", "SELECT person, known_at FROM facts WHERE key IN ("+keys(events)+")", func(person string, known int64) { at[person] = known })
	return at, err
}

// keys are the events' in a list of SQL.
func keys(events []event) string {
	ids := make([]string, len(events))
	for i, e := range events {
		ids[i] = e.id
	}
	return list(ids)
}

// list is a list of SQL. The texts are of our own making: nothing in them has to be escaped.
func list(texts []string) string { return "'" + strings.Join(texts, "', '") + "'" }

// latencies is, for each webhook, the time from the transaction that stored it (the instant is taken inside, so the
// commit itself counts) to the last of the five read-backs.
func (o *observer) latencies(ctx context.Context, events []event) ([]time.Duration, error) {
	stored, err := o.stored(ctx, events)
	if err != nil {
		return nil, err
	}
	if len(stored) != len(events) {
		return nil, fmt.Errorf("of %d webhooks %d are stored", len(events), len(stored))
	}
	last := map[string]int64{}
	for n := range applications {
		if err := o.pairs(ctx, worker(n), "SELECT person, observed_at FROM targets", func(person string, at int64) {
			last[person] = max(last[person], at)
		}); err != nil {
			return nil, err
		}
	}
	var all []time.Duration
	for person, at := range stored {
		all = append(all, time.Duration(last[person]-at)*time.Microsecond)
	}
	slices.Sort(all)
	return all, nil
}

func (o *observer) pairs(ctx context.Context, service, query string, each func(string, int64)) (err error) {
	rows, err := o.dbs[service].QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var key string
		var value int64
		if err := rows.Scan(&key, &value); err != nil {
			return err
		}
		each(key, value)
	}
	return rows.Err()
}

// row is one stored row, by column.
type row map[string]any

// sample reads one row as it is stored.
func (o *observer) sample(ctx context.Context, service, query string) (_ []string, _ row, err error) {
	rows, err := o.dbs[service].QueryContext(ctx, query)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	columns, err := rows.Columns()
	if err != nil {
		return nil, nil, err
	}
	if !rows.Next() {
		return nil, nil, errors.Join(fmt.Errorf("%s: nothing to sample: %s", service, query), rows.Err())
	}
	values := make([]any, len(columns))
	into := make([]any, len(columns))
	for i := range values {
		into[i] = &values[i]
	}
	if err := rows.Scan(into...); err != nil {
		return nil, nil, err
	}
	found := row{}
	for i, c := range columns {
		found[c] = values[i]
	}
	return columns, found, nil
}
