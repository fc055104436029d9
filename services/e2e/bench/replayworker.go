package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tenurehq/tenure/pkg/batch"
	"github.com/tenurehq/tenure/pkg/bus"
	"github.com/tenurehq/tenure/pkg/sqldb"
)

// replayWorker is what the worker of one application writes.
type replayWorker struct {
	floor  *floor
	n      int
	db     *sqldb.DB
	relay  *relay
	marked chan struct{}
	slots  chan struct{} // as many targets at a time as Tenure works on in the normal lane

	intents, outcomes *batch.Batch[written] // share transactions as Tenure's do

	mu     sync.Mutex
	due    []string
	waits  bool          // nothing is due: what is marked is claimed with it
	handed chan []string // what was
}

// written is what a target's intent or outcome writes.
type written struct {
	person, operation string
	event             message
}

func (f *floor) worker(n int) *replayWorker {
	w := &replayWorker{
		floor: f, n: n, db: f.dbs[worker(n)], relay: f.relays[worker(n)],
		marked: make(chan struct{}, 1), handed: make(chan []string, 1), slots: make(chan struct{}, 12),
	}
	cfg := batch.Config{Most: 32, Wait: workerWait, Expected: func() int { return len(w.slots) }}
	w.intents, w.outcomes = batch.New(cfg, w.intend), batch.New(cfg, w.end)
	return w
}

func (w *replayWorker) name(table string) string { return worker(0) + "." + table }

// mark is what a batch of access events writes.
func (w *replayWorker) mark(ctx context.Context, batch []bus.Event) error {
	var rows []row
	var people []string
	for _, e := range batch {
		w.floor.relays["policy"].hop(e, w.n)
		person := personOf(e.Subject)
		people = append(people, person)
		rows = append(rows, row{"person": person})
	}
	w.mu.Lock()
	claims := w.waits
	w.waits = false
	w.mu.Unlock()
	held := ""
	if claims {
		held = ", holder = excluded.holder, epoch = targets.epoch + 1, lease_until = excluded.lease_until"
		for _, r := range rows {
			r["holder"], r["lease_until"] = holder, leased()
		}
	}
	took, err := w.floor.inTx(ctx, w.db, func(tx *writer) error {
		return w.floor.samples.insert(tx, w.name("targets"), ` ON CONFLICT (person) DO UPDATE
SET version = targets.version + 1, generation = excluded.generation, lane = excluded.lane, state = 2, due_at = excluded.marked_at,
    marked_at = excluded.marked_at, attempts = 0`+held, rows...)
	})
	if err != nil {
		return err
	}
	for _, p := range people {
		w.floor.spent(p, w.n, took)
	}
	if claims {
		w.handed <- people
		return nil
	}
	w.mu.Lock()
	w.due = append(w.due, people...)
	w.mu.Unlock()
	select {
	case w.marked <- struct{}{}:
	default:
	}
	return nil
}

// holder is who claims every target, for as long as leased says.
const holder = "00000000-0000-0000-0000-000000000000"

func leased() int64 { return time.Now().Add(time.Minute).UnixMicro() }

// feed claims due targets in batches and works on each.
func (w *replayWorker) feed(ctx context.Context) error {
	var begun sync.WaitGroup
	defer begun.Wait()
	failed := make(chan error, 1)
	for {
		w.mu.Lock()
		n := min(len(w.due), 64)
		people := w.due[:n:n]
		w.due = w.due[n:]
		w.waits = n == 0
		w.mu.Unlock()
		if n == 0 {
			select {
			case <-ctx.Done():
				return nil
			case err := <-failed:
				return err
			case <-w.marked:
				continue
			case people = <-w.handed:
			}
		} else if err := w.claim(ctx, people); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		for _, person := range people {
			w.slots <- struct{}{}
			begun.Go(func() {
				defer func() { <-w.slots }()
				if err := w.work(ctx, person); err != nil && ctx.Err() == nil {
					select {
					case failed <- err:
					default:
					}
				}
			})
		}
	}
}

func (w *replayWorker) claim(ctx context.Context, people []string) error {
	var args []any
	for _, p := range people {
		args = append(args, p)
	}
	n := len(people)
	args = append(args, holder, leased())
	took, err := w.floor.inTx(ctx, w.db, func(tx *writer) error {
		return tx.exec(sqldb.Given("who", n, "TEXT")+fmt.Sprintf(
			" UPDATE targets SET version = version + 1, holder = $%d, epoch = epoch + 1, lease_until = $%d FROM given WHERE person = given.who", n+1, n+2), args...)
	})
	if err != nil {
		return err
	}
	for _, person := range people {
		w.floor.spent(person, w.n, took)
	}
	return nil
}

// work is the intent and the outcome of one target.
func (w *replayWorker) work(ctx context.Context, person string) error {
	operation := fresh()
	began := time.Now()
	if err := w.write(ctx, w.intents, "Intent", bus.IntentSubject(appName(w.n), person), written{person: person, operation: operation}); err != nil {
		return err
	}
	w.floor.spent(person, w.n, time.Since(began))
	if err := w.write(ctx, w.outcomes, "Outcome", bus.OutcomeSubject(appName(w.n), person), written{person: person, operation: operation}); err != nil {
		return err
	}
	w.floor.finished.Add(1)
	return nil
}

func (w *replayWorker) write(ctx context.Context, to *batch.Batch[written], kind, subject string, what written) error {
	event, encoded, err := w.floor.samples.message(kind, subject)
	if err != nil {
		return err
	}
	what.event = message{event, encoded}
	if err := to.Do(ctx, what); err != nil {
		return err
	}
	w.relay.wake()
	return nil
}

// intend is what intents write.
func (w *replayWorker) intend(ctx context.Context, all []written) error {
	var open []row
	for _, x := range all {
		open = append(open, row{
			"operation": x.operation, "person": x.person, "outcome_at": int64(0), "outcome_event": "", "results": []byte{}, "observed": []byte{},
			"outcome_nonce": []byte{}, "state": int64(0),
		})
	}
	waiting := w.relay.announce(events(all)...)
	_, err := w.floor.inTx(ctx, w.db, func(tx *writer) error {
		if err := w.floor.samples.insert(tx, w.name("journal"), "", open...); err != nil {
			return err
		}
		return outboxAdd(tx, waiting)
	})
	return err
}

// end is what outcomes write.
func (w *replayWorker) end(ctx context.Context, all []written) error {
	s := w.floor.samples
	all = slices.SortedFunc(slices.Values(all), func(a, b written) int { return strings.Compare(a.person, b.person) })
	var targets, entries []row
	for _, x := range all {
		targets = append(targets, row{"person": x.person})
		entries = append(entries, row{"operation": x.operation, "person": x.person})
	}
	waiting := w.relay.announce(events(all)...)
	_, err := w.floor.inTx(ctx, w.db, func(tx *writer) error {
		if err := s.insert(tx, w.name("targets"), s.upsert(w.name("targets"), "person"), targets...); err != nil {
			return err
		}
		if err := s.insert(tx, w.name("journal"), s.upsert(w.name("journal"), "operation"), entries...); err != nil {
			return err
		}
		return outboxAdd(tx, waiting)
	})
	return err
}

func events(all []written) []message {
	var list []message
	for _, x := range all {
		list = append(list, x.event)
	}
	return list
}
