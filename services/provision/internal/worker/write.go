package worker

import (
	"context"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/tenurehq/tenure/pkg/batch"
	"github.com/tenurehq/tenure/pkg/bus"
	"github.com/tenurehq/tenure/pkg/telemetry"
	"github.com/tenurehq/tenure/services/provision/internal/store"
	"github.com/tenurehq/tenure/services/provision/plan"
)

const (
	mostAtOnce = 32                   // targets that share a transaction
	company    = 5 * time.Millisecond // how long what is not urgent waits for others that are worked on
)

// writes are the transactions in which the tasks of one lane write together what they have to write at the same time: on
// PostgreSQL a transaction of its own for each of them is most of what a target costs.
type writes struct {
	intents *batch.Batch[*intending]
	endings *batch.Batch[*ending]
}

func (w *Worker) writesOf(lane store.Lane) writes {
	cfg := batch.Config{Most: mostAtOnce}
	if lane != urgent {
		cfg.Wait, cfg.Expected = company, w.slots.busy
	}
	return writes{
		intents: batch.New(cfg, func(ctx context.Context, all []*intending) error { return w.writeIntents(ctx, lane, all) }),
		endings: batch.New(cfg, func(ctx context.Context, all []*ending) error { return w.writeEndings(ctx, lane, all) }),
	}
}

// intending is an intent that is to be written.
type intending struct {
	store.Intent
	event   bus.Event
	written bool // false: the lease was lost, or something newer was heard of
}

// writeIntents writes intents, and the events that announce them.
func (w *Worker) writeIntents(ctx context.Context, lane store.Lane, all []*intending) error {
	intents := make([]store.Intent, len(all))
	for i, in := range all {
		intents[i] = in.Intent
	}
	return w.deps.Store.InTx(ctx, func(tx store.Tx) error {
		written, err := tx.Intend(ctx, w.holder, intents)
		if err != nil {
			return err
		}
		var events []bus.Event
		for _, in := range all {
			if in.written = written[in.Operation]; in.written {
				events = append(events, in.event)
			}
		}
		return w.deps.Outbox.Add(ctx, tx.Tx, protoLane(lane), events...)
	})
}

// ending is how the work on a target ends.
type ending struct {
	task     *task
	conclude func(*store.Target, store.Stuckness) []bus.Event
	outcomes []store.Entry // of calls
	settled  []store.Entry // without a call
	polled   []*operation  // without an outcome yet
	events   map[string]bus.Event

	findings []bus.Event
	held     bool // false: the lease was lost
}

// finished is the target as it is to be written, given how it is stuck already.
func (e *ending) finished(was store.Stuckness) store.Finished {
	t := e.task.t
	t.Was = was
	e.findings = e.conclude(&t, was)
	return store.Finished{Target: t, Cut: e.task.cut}
}

// again writes a target that was not written with the others: whoever put it on the stuck list while it was worked on is heard
// first.
func (e *ending) again(ctx context.Context, tx store.Tx) error {
	for was := e.task.t.Was; !e.held; {
		now, ours, err := tx.Stuck(ctx, e.task.holder, e.task.t)
		if err != nil || !ours || now == was {
			return err
		}
		was = now
		held, err := tx.Finish(ctx, e.task.holder, []store.Finished{e.finished(was)})
		if err != nil {
			return err
		}
		e.held = held[0]
	}
	return nil
}

// writeEndings writes the targets, the outcomes and what follows from them, and ends the leases.
func (w *Worker) writeEndings(ctx context.Context, lane store.Lane, all []*ending) error {
	all = slices.SortedFunc(slices.Values(all), func(a, b *ending) int { return strings.Compare(a.task.t.Person, b.task.t.Person) }) // as marks are
	return w.deps.Store.InTx(ctx, func(tx store.Tx) error {
		targets := make([]store.Finished, len(all))
		for i, e := range all {
			targets[i] = e.finished(e.task.t.Was)
		}
		held, err := tx.Finish(ctx, w.holder, targets)
		if err != nil {
			return err
		}
		for i, e := range all {
			if e.held = held[i]; !e.held {
				if err := e.again(ctx, tx); err != nil {
					return err
				}
			}
		}
		// What is not held any more, and open, is taken up by whoever has the target now, with what this word of ours would
		// have left in the target. An intent that was closed meanwhile would not be found.
		events, err := record(ctx, tx, slices.DeleteFunc(slices.Clone(all), func(e *ending) bool { return !e.held }))
		if err != nil {
			return err
		}
		return w.deps.Outbox.Add(ctx, tx.Tx, protoLane(lane), events...)
	})
}

// record writes what became of operations, and returns what is to be told.
func record(ctx context.Context, tx store.Tx, all []*ending) ([]bus.Event, error) {
	var outcomes, settled []store.Entry
	for _, e := range all {
		outcomes = append(outcomes, e.outcomes...)
		settled = append(settled, e.settled...)
		for _, op := range e.polled {
			if err := tx.KeepResults(ctx, op.entry.Operation, encodeResults(op.results)); err != nil {
				return nil, err
			}
		}
	}
	if len(settled) > 0 {
		if err := tx.Record(ctx, settled); err != nil {
			return nil, err
		}
	}
	var concluded map[string]bool
	if len(outcomes) > 0 {
		var err error
		if concluded, err = tx.Conclude(ctx, outcomes); err != nil {
			return nil, err
		}
	}
	var events []bus.Event
	for _, e := range all {
		for _, s := range e.settled {
			events = append(events, e.events[s.Operation])
		}
		for _, o := range e.outcomes {
			if concluded[o.Operation] { // else it had its outcome
				events = append(events, e.events[o.Operation])
			}
		}
		events = append(events, e.findings...)
	}
	return events, nil
}

// finish writes the target, the outcomes and what follows from them, in one transaction, and ends the lease. conclude
// completes the target and tells the findings, given how the target is stuck already; it may be asked again, with the
// target as it was, because somebody else has put it on the stuck list since.
func (k *task) finish(ctx context.Context, conclude func(*store.Target, store.Stuckness) []bus.Event) {
	if !k.readAt.IsZero() {
		k.t.Observed, k.t.ObservedAt, k.t.Notes = k.observed(), k.readAt, notesOf(k.plan)
	}
	e := &ending{task: k, conclude: conclude, events: map[string]bus.Event{}}
	unseen := 0
	for _, op := range k.ops {
		if op.pending && k.t.Pending == op.entry.Operation {
			e.polled = append(e.polled, op)
			continue
		}
		entry, event := k.conclude(op)
		e.events[entry.Operation] = event
		if op.entry.IntentEvent == "" {
			e.settled = append(e.settled, entry)
		} else {
			e.outcomes = append(e.outcomes, entry)
		}
		unseen += k.unseen(op)
	}
	if err := k.writes[k.lane].endings.Do(ctx, e); err != nil { // the lease ends by itself, and the next holder takes up what is open
		k.log.Warn("outcome not written", zap.String(telemetry.FieldPerson, k.t.Person), zap.Error(err))
		return
	}
	if e.held {
		k.deps.Metrics.notSeen(k.cfg.Application, unseen)
	}
	if e.held && !k.wasCut && !k.t.CutOffAt.IsZero() {
		k.deps.Metrics.left(k.cfg.Application, plan.Since(k.t.EndedAt, time.Time{}, k.t.CutOffAt), plan.Since(k.t.EndedAt, k.t.EndKnownAt, k.t.CutOffAt))
	}
	if e.held && len(e.findings) > 0 && k.t.Problem != "" {
		k.log.Warn("target is stuck", zap.String(telemetry.FieldPerson, k.t.Person), zap.String("code", k.t.Problem), zap.Bool("removal", k.removal()))
	}
}
