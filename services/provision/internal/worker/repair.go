package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/tenurehq/tenure/pkg/bus"
	"github.com/tenurehq/tenure/pkg/telemetry"
	accessv1 "github.com/tenurehq/tenure/proto/gen/tenure/access/v1"
	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	"github.com/tenurehq/tenure/services/provision/internal/store"
	"github.com/tenurehq/tenure/services/provision/plan"
)

const (
	repairRetry = 5 * time.Second
	watchEvery  = 5 * time.Second // also how often a few settled targets are looked at again
)

// repair compares every generation with policy's: at start, at intervals, and whenever the stream is a new one. A
// message that was lost is found by it.
func (w *Worker) repair(ctx context.Context) error {
	applied := false
	return w.often(ctx, w.repairNow, func(ctx context.Context) bool {
		if !applied {
			applied = w.apply(ctx)
		}
		err := w.compare(ctx)
		if err != nil && ctx.Err() == nil {
			w.log.Warn("generations not compared", zap.Error(err))
		}
		return err == nil && applied
	})
}

// often does what compares states: at start, at intervals, whenever the bell rings, and soon again when it did not succeed.
func (w *Worker) often(ctx context.Context, bell <-chan struct{}, do func(context.Context) bool) error {
	for {
		next := w.cfg.Timing.Repair + rand.N(w.cfg.Timing.Repair/10+1) //nolint:gosec // so that applications do not ask all at once
		if !do(ctx) {
			next = min(next, repairRetry)
		}
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		case <-bell:
			timer.Stop()
		}
	}
}

// apply makes everything due when the operator changed how it is planned, such as from observe to full.
func (w *Worker) apply(ctx context.Context) bool {
	err := w.deps.Store.InTx(ctx, func(tx store.Tx) error { return tx.Apply(ctx, w.cfg.applied(), w.deps.Now()) })
	if err != nil && ctx.Err() == nil {
		w.log.Warn("settings not compared", zap.Error(err))
	}
	w.ring()
	return err == nil
}

// applied is what the store remembers of how targets are planned.
func (c Config) applied() string { return fmt.Sprintf("%+v %s", c.Settings, c.Correlate) }

func (w *Worker) compare(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := w.deps.Access.Generations(ctx, &accessv1.GenerationsRequest{Application: w.cfg.Application})
	if err != nil {
		return fmt.Errorf("ask for generations: %w", err)
	}
	for {
		page, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("receive generations: %w", err)
		}
		people := make([]string, len(page.GetPairs()))
		for i, p := range page.GetPairs() {
			people[i] = p.GetPersonId()
		}
		known, err := w.deps.Store.Generations(ctx, people)
		if err != nil {
			return err
		}
		behind := map[string]store.Mark{}
		for _, p := range page.GetPairs() {
			m := store.Mark{Person: p.GetPersonId(), Generation: int64(p.GetGeneration()), Lane: laneOf(p.GetLane())} //nolint:gosec // a counter
			if m.Generation > known[m.Person] {
				behind[m.Person] = m
			}
		}
		if err := w.mark(ctx, behind); err != nil {
			return err
		}
	}
}

// back makes what waited for the application due at once.
func (w *Worker) back(ctx context.Context, code string) {
	err := w.deps.Store.InTx(ctx, func(tx store.Tx) error { return tx.Wake(ctx, code, w.deps.Now()) })
	if err != nil && ctx.Err() == nil {
		w.log.Warn("waiting targets not woken", zap.Error(err))
	}
	w.ring()
}

// watch keeps the figures about open targets, and escalates urgent work that nobody could do: that an application is
// down must not keep a leaver's access from somebody's eyes.
func (w *Worker) watch(ctx context.Context) error {
	for {
		if err := w.look(ctx); err != nil && ctx.Err() == nil {
			w.log.Warn("open targets not counted", zap.Error(err))
		}
		if err := w.lookAgain(ctx); err != nil && ctx.Err() == nil {
			w.log.Warn("settled targets not looked at again", zap.Error(err))
		}
		if sleep(ctx, watchEvery) != nil {
			return nil //nolint:nilerr // told to stop
		}
	}
}

// setBack keeps what waits from waiting longer when the clock is set back.
func (w *Worker) setBack(ctx context.Context) error {
	return w.deps.Store.WhenSetBack(ctx, w.deps.Now, func(by time.Duration, targets int64) {
		w.log.Warn("the clock was set back: what waited goes on", zap.Duration("by", by), zap.Int64("targets", targets))
		w.ring()
	})
}

func (w *Worker) look(ctx context.Context) error {
	open, err := w.deps.Store.Open(ctx)
	if err != nil {
		return err
	}
	w.deps.Metrics.open(w.cfg.Application, open, w.deps.Now())
	now := w.deps.Now()
	before := now.Add(-w.cfg.Timing.Escalate)
	late, err := w.deps.Store.Late(ctx, urgent, before)
	if err != nil {
		return err
	}
	if len(late) == 0 {
		return nil
	}
	slices.SortFunc(late, func(a, b store.Target) int { return strings.Compare(a.Person, b.Person) }) // as marks are
	for i := range late {
		if cause := w.app.breaker.open(); cause != nil {
			late[i].Problem = CodeName(cause.Code)
		} else if late[i].Problem == "" {
			late[i].Problem = CodeName(connectorv1.Code_CODE_TARGET_UNAVAILABLE)
		}
	}
	var escalated map[string]bool
	err = w.deps.Store.InTx(ctx, func(tx store.Tx) (err error) {
		if escalated, err = tx.Escalate(ctx, late, now); err != nil {
			return err
		}
		var events []bus.Event
		for _, t := range late {
			if escalated[t.Person] {
				events = append(events, w.finding(t.Person, t.Generation, eventv1.FindingKind_FINDING_KIND_STUCK, t.Problem, true, bus.Cause{}))
			}
		}
		return w.deps.Outbox.Add(ctx, tx.Tx, eventv1.Lane_LANE_URGENT, events...)
	})
	if err != nil {
		return err
	}
	for _, t := range late {
		if escalated[t.Person] {
			w.log.Error("urgent work is late", zap.String(telemetry.FieldPerson, t.Person), zap.String("code", t.Problem))
		}
	}
	return nil
}

// lookAgain has what is settled read again: what somebody else changed in the application is found by it, and what a call did
// later than any call may. As many as are worked on at a time become due, and only while nobody else waits: who comes then
// does not wait for long, whatever the application's rate.
func (w *Worker) lookAgain(ctx context.Context) error {
	now := w.deps.Now()
	people, err := w.deps.Store.Unread(ctx, now.Add(-w.cfg.Timing.Again), now, w.slots.count())
	if err != nil || len(people) == 0 {
		return err
	}
	err = w.deps.Store.InTx(ctx, func(tx store.Tx) error { return tx.LookAgain(ctx, people, now) })
	w.ring()
	return err
}

func (w *Worker) finding(person string, generation int64, kind eventv1.FindingKind, problem string, removal bool, cause bus.Cause) bus.Event {
	return bus.NewEvent(bus.FindingSubject(w.cfg.Application, person), &eventv1.Finding{
		PersonId: person, Application: w.cfg.Application, Generation: uint64(generation), //nolint:gosec // a counter
		Kind: kind, Problem: problem, Removal: removal,
	}, cause)
}

// Preview says what would be done for a person now. It makes no call that changes anything.
func (w *Worker) Preview(ctx context.Context, t store.Target, d *accessv1.Desired) (plan.Plan, string) {
	can, p := w.app.describe(ctx)
	if p != nil {
		return plan.Plan{}, words(p)
	}
	cuts, err := w.deps.Store.Cuts(ctx, []string{t.Person})
	if err != nil {
		return plan.Plan{}, err.Error()
	}
	switch cut := cuts[t.Person]; planCut(cut).Rule(d.GetPersonVersion()) {
	case plan.Nothing:
		d, _ = underCut(d, store.Claimed{Target: t, Cut: cut})
	case plan.Waits:
		return plan.Plan{}, reasonLift
	case plan.Counts:
	}
	k := &task{Worker: w, desired: d, d: desiredOf(d), t: t, lane: normal, can: can, turn: ctx}
	if p := k.read(ctx); p != nil {
		return plan.Plan{}, words(p)
	}
	return k.plan, ""
}

// Desired asks policy what is desired now, for at most 1000 people.
func (w *Worker) Desired(ctx context.Context, people []string) (map[string]*accessv1.Desired, error) {
	return w.ask(ctx, people)
}
