package policy

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/tenurehq/tenure/pkg/bus"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	"github.com/tenurehq/tenure/services/policy/brake"
	"github.com/tenurehq/tenure/services/policy/internal/store"
)

const (
	hour = time.Hour
	day  = 24 * time.Hour
	// censusEvery is how often people are counted. Where there are so many that this takes long it is done less often, so that it
	// is a hundredth of the time, up to censusLate: by an old count too many may be released of a company that shrank.
	censusEvery = time.Minute
	censusShare = 100
	censusLate  = 10 * time.Minute
)

// errDoubt ends a transaction that would hold somebody: people are counted anew, and causes asked for, before it is so.
var errDoubt = errors.New("somebody would be held")

// census is how many people there are with access, as counted last.
type census struct {
	mu         sync.Mutex
	counted    time.Time // by time.Now; zero: never
	took       time.Duration
	population brake.Population
}

// every is how often people are counted when it takes so long.
func every(took time.Duration) time.Duration {
	return min(max(censusEvery, censusShare*took), censusLate)
}

// population is a recent count of people; sure: one that was begun after this call. It is read outside of transactions:
// counting everybody while nobody may decide would be slow.
func (s *Service) population(ctx context.Context, sure bool) (brake.Population, error) {
	since := time.Now()
	s.census.mu.Lock()
	defer s.census.mu.Unlock()
	if !sure {
		since = since.Add(-2 * every(s.census.took)) // the next one is late by then
	}
	if s.census.counted.After(since) {
		return s.census.population, nil
	}
	began := time.Now()
	standing, err := s.store.Standing(ctx, s.now().Add(-day))
	if err != nil {
		return brake.Population{}, err
	}
	people := standing[""]
	delete(standing, "")
	s.census.counted, s.census.took = began, time.Since(began)
	s.census.population = brake.Population{People: people, Apps: standing}
	return s.census.population, nil
}

// recount keeps the census young, so that no leaver waits for it.
func (s *Service) recount(ctx context.Context) error {
	for {
		_, err := s.population(ctx, true)
		s.census.mu.Lock()
		again := every(s.census.took)
		s.census.mu.Unlock()
		if err != nil && ctx.Err() == nil {
			s.log.Warn("people with access not counted", zap.Error(err))
			again = censusEvery
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(again):
		}
	}
}

// forget deletes what no window looks back on any more.
func (s *Service) forget(ctx context.Context) error {
	return s.store.InTx(ctx, func(tx store.Tx) error {
		if err := tx.LockBrake(ctx); err != nil {
			return err
		}
		return tx.Forget(ctx, s.now().Add(-day))
	})
}

// judge gives a verdict on each change by what was released in the windows before, and counts those that are released.
// The brake must be locked: from here on nobody else counts until the transaction is over.
func (s *Service) judge(
	ctx context.Context, tx store.Tx, population brake.Population, changes []brake.Change,
) ([]brake.Verdict, error) {
	now := s.now()
	removed, err := s.removed(ctx, tx, population, changes, now)
	if err != nil {
		return nil, err
	}
	var given map[string]bool
	if slices.ContainsFunc(changes, func(c brake.Change) bool { return c.Privileged }) {
		if given, err = tx.Elevated(ctx, now.Add(-day)); err != nil {
			return nil, err
		}
	}
	before, uncounted := windows(changes, removed, given, now)
	verdicts := brake.Judge(s.cfg.Brake, population, before, uncounted)
	// All of a change is written, also what its person was counted for: a later window has to know of it.
	var released []store.Removed
	var elevated []string
	for i, c := range changes {
		if !verdicts[i].Released() || c.Corroboration != brake.Uncorroborated {
			continue
		}
		if c.Privileged {
			elevated = append(elevated, c.Person)
		}
		if !c.Loses {
			continue
		}
		apps := maps.Clone(removed[c.Person].Apps)
		if apps == nil {
			apps = map[string]time.Time{}
		}
		for _, app := range c.Apps {
			apps[app] = now
		}
		released = append(released, store.Removed{Person: c.Person, At: now, Apps: apps})
	}
	if err := tx.PutRemoved(ctx, released); err != nil {
		return nil, err
	}
	return verdicts, tx.PutElevated(ctx, elevated, now)
}

// removed returns who lost access in the windows before: all of them, or only those of the changes where no window can be
// full, the hour's limit being the least.
func (s *Service) removed(
	ctx context.Context, tx store.Tx, population brake.Population, changes []brake.Change, now time.Time,
) (map[string]store.Removed, error) {
	var losers []string
	for _, c := range changes {
		if c.Loses {
			losers = append(losers, c.Person)
		}
	}
	if len(losers) == 0 {
		return nil, nil
	}
	count, err := tx.CountRemoved(ctx, now.Add(-day))
	if err != nil {
		return nil, err
	}
	if count+len(losers) <= s.cfg.Brake.PerHour.Of(population.People) {
		return tx.RemovedOf(ctx, losers, now.Add(-day))
	}
	return tx.Removed(ctx, now.Add(-day))
}

// windows returns how many people the windows before now hold, and the changes without what their people are in them for
// already.
func windows(
	changes []brake.Change, removed map[string]store.Removed, given map[string]bool, now time.Time,
) (before brake.Spent, uncounted []brake.Change) {
	before = spent(removed, now)
	before.Privileged = len(given)
	for _, c := range changes {
		if was, ok := removed[c.Person]; ok {
			c.Counted = brake.Day
			if was.At.After(now.Add(-hour)) {
				c.Counted = brake.Hour
			}
			c.Apps = slices.DeleteFunc(slices.Clone(c.Apps), func(app string) bool { _, ok := was.Apps[app]; return ok })
		}
		c.Privileged = c.Privileged && !given[c.Person]
		uncounted = append(uncounted, c)
	}
	return before, uncounted
}

// spent counts the people who lost access in the windows before now.
func spent(removed map[string]store.Removed, now time.Time) brake.Spent {
	s := brake.Spent{Apps: map[string]int{}}
	for _, r := range removed {
		s.Day++
		if r.At.After(now.Add(-hour)) {
			s.Hour++
		}
		for app := range r.Apps {
			s.Apps[app]++
		}
	}
	return s
}

// keep is what a transaction does about the decisions that it saves and the brake judges.
type keep struct {
	held    []store.Held
	ended   []string // people of whom nothing is held any more
	isHeld  map[string]bool
	events  map[eventv1.Lane][]bus.Event
	doubted []*decision
}

// brake judges decisions whose people were claimed in this transaction.
func (s *Service) brake(ctx context.Context, tx store.Tx, population brake.Population, claimed []*decision) (*keep, error) {
	k := &keep{isHeld: map[string]bool{}, events: map[eventv1.Lane][]bus.Event{}}
	var judged []*decision
	var changes []brake.Change
	for _, d := range claimed {
		r := d.impact
		switch {
		case r != nil && r.corroboration == brake.Uncorroborated && r.stays:
			k.hold(d, d.held.Status, d.held.Effects.GetLimit(), s.now())
		case r != nil && r.corroboration == brake.Uncorroborated:
			judged = append(judged, d)
			changes = append(changes, r.change(d.Person))
		case d.held.Status != store.NotHeld:
			k.end(d)
		}
	}
	if len(judged)+len(k.held)+len(k.ended) == 0 {
		return k, nil
	}
	if err := tx.LockBrake(ctx); err != nil {
		return nil, err
	}
	verdicts, err := s.judge(ctx, tx, population, changes)
	if err != nil {
		return nil, err
	}
	for i, d := range judged {
		switch {
		case !verdicts[i].Released():
			k.doubted = append(k.doubted, d)
			k.hold(d, store.Open, verdicts[i].String(), s.now())
		case d.held.Status != store.NotHeld:
			k.end(d)
		}
	}
	if err := tx.PutHeld(ctx, k.held); err != nil {
		return nil, err
	}
	return k, tx.DropHeld(ctx, "", k.ended)
}

// hold keeps a decision back, whole.
func (k *keep) hold(d *decision, status store.Status, limit string, now time.Time) {
	r := d.impact
	h := store.Held{
		Person: d.Person, Hold: r.cause.ID(), Status: status, Digest: r.digest, OpenedAt: now, Kept: d.before,
	}
	if d.held.Status != store.NotHeld {
		h.OpenedAt = d.held.OpenedAt
	}
	h.Effects = effectsOf(r.effects, r.cause, limit, h.OpenedAt)
	h.Effects.TriggerEventId, h.Effects.CorrelationId = d.Trigger, d.trigger.cause.CorrelationID
	h.Effects.KnownAt = timestamp(d.trigger.since)
	k.held = append(k.held, h)
	k.isHeld[d.Person] = true
	if !r.stays {
		k.tell(d, h.Hold, eventv1.HoldState_HOLD_STATE_OPENED)
	}
}

// end lets go of what was held: a decision took its place.
func (k *keep) end(d *decision) {
	k.ended = append(k.ended, d.Person)
	if d.impact == nil || d.impact.corroboration != brake.Approved {
		k.tell(d, d.held.Hold, eventv1.HoldState_HOLD_STATE_ENDED)
	}
}

func (k *keep) tell(d *decision, hold string, state eventv1.HoldState) {
	k.events[d.lane] = append(k.events[d.lane], bus.NewEvent(bus.HoldSubject(state), &eventv1.Hold{
		HoldId: hold, State: state, PersonId: d.Person, Decision: unsigned(d.N),
	}, d.trigger.cause))
}
