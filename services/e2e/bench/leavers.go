package main

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

const backlogSource = "backlog" // of kind csv: joiners that come all at once

// leaversBehind is one round of leavers at low rate, on a Tenure of its own: first with nothing else to do, then with so many
// joiners waiting, who were imported just before. The joiners are not waited for.
func (b *bench) leaversBehind(ctx context.Context, engine string, round int) (err error) {
	dir := filepath.Join(b.work, "behind", fmt.Sprint(engine, round))
	t, err := startTenure(ctx, b.binary, dir, engine, b.pg, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.close()) }()
	people := &population{}
	sender := newSender(t.webhook, t.keys, b.clients)
	defer sender.close()
	before, err := t.db.sent(ctx)
	if err != nil {
		return err
	}
	hired := people.mix(2 * b.leavers)
	if _, err := sender.flood(ctx, hired, b.clients); err != nil {
		return err
	}
	if err := t.db.settled(ctx, before, len(hired)); err != nil {
		return err
	}
	leave := func() ([]time.Duration, error) {
		gone := people.leavers(b.leavers)
		if err := sender.drip(ctx, gone, b.every); err != nil {
			return nil, err
		}
		return t.db.readBack(ctx, gone)
	}
	idle, err := leave()
	if err != nil {
		return err
	}
	if err := t.importJoiners(ctx, b.binary, b.backlog); err != nil {
		return err
	}
	loaded, err := leave()
	if err != nil {
		return err
	}
	waiting, err := t.db.waiting(ctx)
	if err != nil {
		return err
	}
	print("%s, round %d: %d leavers behind %d joiners, of whom %d still waited after them", engine, round, b.leavers, b.backlog, waiting)
	if waiting == 0 {
		return errors.New("the joiners were done before the leavers: more of them are needed")
	}
	b.figures.sample("leaver_behind_backlog_p95_ms", engine, 0.95, loaded, idle)
	return nil
}

// importJoiners hands in people who join, and returns when they are taken in.
func (t *tenure) importJoiners(ctx context.Context, binary string, n int) error {
	path := filepath.Join(t.dir, "joiners.csv")
	file, err := os.Create(path) //nolint:gosec // G304: a folder of the bench
	if err != nil {
		return err
	}
	rows := csv.NewWriter(file)
	err = rows.Write([]string{"external_id", "status", "given_name", "family_name", "email", "department", "start_date"})
	for i := range n {
		if err == nil {
			err = rows.Write([]string{
				strconv.Itoa(i), "active", "Joiner" + letters(i%40), "Backlog" + letters(i), fmt.Sprintf("joiner%d@example.test", i), department(i), "2020-01-01",
			})
		}
	}
	rows.Flush()
	if err := errors.Join(err, rows.Error(), file.Close()); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, binary, "import", backlogSource, path, "--server", t.grpc, "--token-file", filepath.Join(t.dir, "token")) //nolint:gosec // G204: built by us
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("import joiners: %w\n%s", err, out)
	}
	return nil
}

// readBack waits until events are read back in every application, whatever else is under way, and returns how long each
// took.
func (o *observer) readBack(ctx context.Context, events []event) ([]time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	stored, err := o.stored(ctx, events)
	if err != nil {
		return nil, err
	}
	people := list(slices.Collect(maps.Keys(stored)))
	for {
		done, last := 0, map[string]int64{}
		for n := range applications {
			query := "SELECT person, observed_at FROM targets WHERE state = 1 AND settled_generation = generation AND person IN (" + people + ")"
			if err := o.pairs(ctx, worker(n), query, func(person string, at int64) {
				if at > stored[person] {
					done++
					last[person] = max(last[person], at)
				}
			}); err != nil {
				return nil, err
			}
		}
		if done == applications*len(events) {
			var all []time.Duration
			for person, at := range stored {
				all = append(all, time.Duration(last[person]-at)*time.Microsecond)
			}
			return all, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("of %d read-backs %d came: %w", applications*len(events), done, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// waiting is of how many people the first application has no account yet that is as it should be.
func (o *observer) waiting(ctx context.Context) (int64, error) {
	all, err := o.number(ctx, "ingest", "SELECT COUNT(*) FROM people")
	if err != nil {
		return 0, err
	}
	done, err := o.number(ctx, worker(0), "SELECT COUNT(*) FROM targets WHERE state = 1 AND settled_generation = generation")
	return all - done, err
}
