package ingest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/tenurehq/tenure/pkg/bus"
	"github.com/tenurehq/tenure/pkg/telemetry"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	"github.com/tenurehq/tenure/services/ingest/internal/store"
	"github.com/tenurehq/tenure/services/ingest/roster"
	"github.com/tenurehq/tenure/services/ingest/source"
	"github.com/tenurehq/tenure/services/ingest/timeline"
)

const (
	// rosterPoll bounds how late a roster is noticed whose last part another process took.
	rosterPoll = time.Second
	// rosterRetry is how long a roster waits that could not be judged or taken in.
	rosterRetry = 10 * time.Second
)

// judgeRosters judges and takes in rosters whose parts are all in, in one replica at a time.
func (s *Service) judgeRosters(ctx context.Context) error {
	return s.db.Lease(ctx, "rosters", leaseTTL, func(ctx context.Context, _ int64) error {
		// Without the epoch: each step is decided by the version or the state of the roster under its row's lock, so that a
		// holder that does not know yet that it lost the lease takes no part in twice.
		defer s.metrics.rosters.reset()
		for ctx.Err() == nil {
			wait := rosterPoll
			if err := errors.Join(s.judgeAll(ctx), s.showRosters(ctx)); err != nil && ctx.Err() == nil {
				s.log.Error("a roster could not be judged or taken in; it will be tried again", zap.Error(err))
				wait = rosterRetry
			}
			timer := time.NewTimer(wait)
			select {
			case <-ctx.Done():
			case <-timer.C:
			case <-s.whole:
			}
			timer.Stop()
		}
		return nil
	})
}

// judgeAll brings every roster that is open to its end. What is wrong with one keeps no other waiting.
func (s *Service) judgeAll(ctx context.Context) error {
	open, err := s.store.OpenRosters(ctx)
	if err != nil {
		return err
	}
	var problems []error
	for _, r := range open {
		if err := s.settleRoster(ctx, r); err != nil {
			problems = append(problems, fmt.Errorf("roster of %s: %w", r.Source, err))
		}
	}
	return errors.Join(problems...)
}

// settleRoster judges a roster and takes it in, from wherever an earlier process came to.
func (s *Service) settleRoster(ctx context.Context, r store.Roster) error {
	parts, err := s.store.RosterParts(ctx, r.Source, r.ID)
	if err != nil {
		return err
	}
	for r.State == store.RosterWhole { // once more for every time that it was held and is to be judged again meanwhile
		if r, err = s.judgeOne(ctx, r, parts); err != nil {
			return err
		}
	}
	for r.State == store.RosterTaking && r.PartsTaken < r.Parts {
		if r, err = s.takePart(telemetry.Span(ctx), r, parts[r.PartsTaken]); err != nil {
			return err
		}
	}
	if r.State != store.RosterTaking {
		return nil
	}
	return s.finishRoster(ctx, r)
}

// judgeOne decides whether a roster is taken in, and returns it as it is then. It decides about the roster that it read only:
// one that was held by another judge and accepted meanwhile looks the same, but its people were forgotten, to be read anew.
func (s *Service) judgeOne(ctx context.Context, r store.Roster, parts []store.RosterPart) (store.Roster, error) {
	figures, broken, err := s.measure(ctx, r, parts)
	if err != nil {
		return r, err
	}
	now := s.now()
	var out store.Roster
	err = s.store.InTx(ctx, func(tx store.Tx) error {
		locked, _, err := tx.LockRoster(ctx, r.Source, r.ID)
		if out = locked; err != nil || locked.Version != r.Version {
			return err // somebody else judged it
		}
		last, found, err := tx.LastTaken(ctx, r.Source)
		if err != nil {
			return err
		}
		out.JudgedAt, out.Held, out.Understood = now, roster.Told(broken), figures.Understood
		switch {
		case found && r.MadeAt.Before(last.MadeAt): // what was not there then may be now, and the other way round
			out.State = store.RosterSuperseded
		case len(broken) > 0 && out.AcceptedBy == "":
			out.State = store.RosterHeld
			if err := s.holdRoster(ctx, tx, out); err != nil {
				return err
			}
		default:
			out.State = store.RosterTaking
		}
		return tx.SaveRoster(ctx, out)
	})
	if err == nil && out.State == store.RosterHeld {
		s.log.Warn("a roster breaks its contract and is held", zap.String(telemetry.FieldSource, r.Source), zap.String(telemetry.FieldDelivery, out.Delivery))
	}
	return out, err
}

// holdRoster keeps the parts of a roster for review, and says so once.
func (s *Service) holdRoster(ctx context.Context, tx store.Tx, r store.Roster) error {
	if err := tx.HoldParts(ctx, r.Source, r.ID, "roster: "+r.Held); err != nil {
		return err
	}
	return s.outbox.Add(ctx, tx.Tx, eventv1.Lane_LANE_NORMAL, bus.NewEvent(bus.DeliveryHeld, &eventv1.DeliveryHeld{
		DeliveryId: r.Delivery, Source: r.Source, ItemsHeld: count32(r.Records),
	}, bus.Cause{CorrelationID: r.Delivery, TraceParent: telemetry.TraceParent(telemetry.Span(ctx))}))
}

// measure reads a roster part by part and returns its figures, and the clauses that it breaks.
func (s *Service) measure(ctx context.Context, r store.Roster, parts []store.RosterPart) (roster.Figures, []string, error) {
	f := roster.Figures{Announced: r.Total, Came: r.Records, Empty: map[string]int{}, Made: r.MadeAt, Now: s.now()}
	feed := s.sources[r.Source]
	if feed == nil {
		return f, []string{"the source is no longer configured"}, nil
	}
	fields, identified := feed.contract.Fields(), 0
	for _, p := range parts {
		read, err := s.readPart(ctx, feed, p)
		if err != nil {
			return f, nil, err
		}
		ids := read.ids()
		identified += len(ids)
		f.Understood += len(read.facts)
		for i := range read.facts {
			for _, field := range fields {
				if value, _ := read.facts[i].Record.Get(field); value == "" {
					f.Empty[field]++
				}
			}
		}
		err = s.store.InTx(ctx, func(tx store.Tx) error {
			locked, _, err := tx.LockRoster(ctx, r.Source, r.ID)
			if err != nil || locked.Version != r.Version {
				return err // somebody else judged it, as will be found when it is to be decided
			}
			return tx.AddRosterPeople(ctx, r.Source, r.ID, ids)
		})
		if err != nil {
			return f, nil, err
		}
	}
	named, known, present, err := s.store.RosterCover(ctx, r.Source, r.ID, r.MadeAt)
	if err != nil {
		return f, nil, err
	}
	over, err := endedMissing(ctx, s.store, r)
	if err != nil {
		return f, nil, err
	}
	last, _, err := s.store.LastTaken(ctx, r.Source)
	if err != nil {
		return f, nil, err
	}
	f.Twice, f.Known, f.Present, f.Before = identified-named, known-len(over), present, last.Understood
	return f, feed.contract.Judge(f), nil
}

// readPart reads the records of a part, with the mapping of now. What cannot be read any more is held whole.
func (s *Service) readPart(ctx context.Context, feed *feed, p store.RosterPart) (reading, error) {
	d, found, err := s.store.Delivery(ctx, p.Delivery)
	if err != nil {
		return reading{}, err
	}
	if !found || d.Body == nil {
		return reading{}, fmt.Errorf("part %d: its body is gone", p.Part)
	}
	read, err := feed.read(d.Body, d.SourceTime)
	var wrong *source.Error
	if errors.As(err, &wrong) {
		read, err = reading{items: d.Items, whole: wrong.Error()}, nil
	}
	for n := 0; err == nil && read.whole != "" && len(read.held) < d.Items; n++ {
		read.held = append(read.held, store.HeldItem{N: n, Held: read.whole})
	}
	return read, err
}

// ids are the employments that a reading is about, as far as they could be read, each as often as it is named.
func (r reading) ids() []string {
	var ids []string
	for _, item := range r.results() {
		if item.ExternalID != "" {
			ids = append(ids, item.ExternalID)
		}
	}
	return ids
}

// takePart takes in what one part says that is new, in one transaction, and returns the roster as it is then.
func (s *Service) takePart(ctx context.Context, r store.Roster, p store.RosterPart) (store.Roster, error) {
	feed := s.sources[r.Source]
	if feed == nil {
		return r, errors.New("the source is no longer configured")
	}
	read, err := s.readPart(ctx, feed, p)
	if err != nil {
		return r, err
	}
	var out store.Roster
	err = s.store.InTx(ctx, func(tx store.Tx) error {
		locked, _, err := tx.LockRoster(ctx, r.Source, r.ID)
		if out = locked; err != nil || locked.State != store.RosterTaking || locked.PartsTaken != p.Part-1 {
			return err // somebody else took it in
		}
		d, _, err := tx.LockDelivery(ctx, p.Delivery)
		if err != nil {
			return err
		}
		if len(read.held) > 0 || d.ItemsHeld > 0 {
			if err := tx.Settle(ctx, d.ID, "", d.Items, read.held); err != nil {
				return err
			}
		}
		changed, err := s.takeNews(ctx, tx, d, read.facts)
		if err != nil {
			return err
		}
		out.PartsTaken++
		out.Changed += changed
		return tx.SaveRoster(ctx, out)
	})
	return out, err
}

// takeNews takes in those of the facts that say something new, and returns how many do.
func (s *Service) takeNews(ctx context.Context, tx store.Tx, d store.Delivery, facts []store.Fact) (int, error) {
	facts = slices.Clone(facts) // the transaction may run again
	news, err := s.news(ctx, tx, d.Source, facts)
	if err != nil || len(news) == 0 {
		return 0, err
	}
	now := s.now()
	attribute(d, news, now)
	people, err := s.open(ctx, tx, d.Source, news)
	if err != nil {
		return 0, err
	}
	// Once more, now that their rows are taken: somebody may have said something newer meanwhile.
	if news, err = s.news(ctx, tx, d.Source, news); err != nil {
		return 0, err
	}
	cause := bus.Cause{CorrelationID: d.ID, TraceParent: telemetry.TraceParent(ctx)}
	return len(news), s.settle(ctx, tx, people, news, because(cause), now)
}

// news are those of the facts, all of one source's employments, that say something that the source did not say before.
func (s *Service) news(ctx context.Context, tx store.Tx, source string, facts []store.Fact) ([]store.Fact, error) {
	ids := make([]string, 0, len(facts))
	for _, f := range facts {
		ids = append(ids, f.Employment.ExternalID)
	}
	employed, err := tx.Employed(ctx, source, ids)
	if err != nil {
		return nil, err
	}
	people := make([]string, 0, len(employed))
	for _, person := range employed {
		people = append(people, person)
	}
	slices.Sort(people)
	said, err := tx.Facts(ctx, slices.Compact(people))
	if err != nil {
		return nil, err
	}
	known := make(map[string][]timeline.Fact, len(ids))
	for _, f := range said {
		if f.Source == source && f.Employment.Source == source {
			known[f.Employment.ExternalID] = append(known[f.Employment.ExternalID], f.Fact)
		}
	}
	var news []store.Fact
	for _, f := range facts {
		fact, is := roster.News(known[f.Employment.ExternalID], f.Fact)
		if is {
			f.Fact = fact
			news = append(news, f)
		}
	}
	return news, nil
}

// finishRoster says whom a roster that is taken in leaves out. Nobody leaves by that.
func (s *Service) finishRoster(ctx context.Context, r store.Roster) error {
	return s.store.InTx(ctx, func(tx store.Tx) error {
		locked, _, err := tx.LockRoster(ctx, r.Source, r.ID)
		if err != nil || locked.State != store.RosterTaking || locked.PartsTaken != locked.Parts {
			return err
		}
		if locked.Absent, err = saveAbsences(ctx, tx, r); err != nil {
			return err
		}
		locked.State, locked.TakenAt = store.RosterTaken, s.now()
		if err := tx.SaveRoster(ctx, locked); err != nil {
			return err
		}
		return tx.Supersede(ctx, locked)
	})
}

// saveAbsences stores whom a roster leaves out, and returns how many they are.
func saveAbsences(ctx context.Context, tx store.Tx, r store.Roster) (int, error) {
	n, err := tx.SaveAbsences(ctx, r.Source, r.ID, r.MadeAt)
	if err != nil {
		return 0, err
	}
	over, err := endedMissing(ctx, tx, r)
	if err != nil {
		return 0, err
	}
	return n - len(over), tx.DropAbsences(ctx, r.Source, over)
}

// peopleReader is a store, or a transaction of it.
type peopleReader interface {
	SharedMissing(ctx context.Context, source, roster string, made time.Time) ([]store.Absence, error)
	People(ctx context.Context, ids []string) ([]store.Person, error)
}

// endedMissing are the employments that a roster does not name because they ended, while another one of the same person's
// runs.
func endedMissing(ctx context.Context, from peopleReader, r store.Roster) ([]store.Absence, error) {
	shared, err := from.SharedMissing(ctx, r.Source, r.ID, r.MadeAt)
	if err != nil || len(shared) == 0 {
		return nil, err
	}
	return ended(ctx, from, shared)
}

// ended are the absences of employments that do not run, whatever else the person does.
func ended(ctx context.Context, from peopleReader, absences []store.Absence) ([]store.Absence, error) {
	ids := make([]string, 0, len(absences))
	for _, a := range absences {
		ids = append(ids, a.Person)
	}
	slices.Sort(ids)
	people, err := from.People(ctx, slices.Compact(ids))
	if err != nil {
		return nil, err
	}
	runs := map[timeline.Employment]bool{}
	for _, p := range people {
		for _, e := range p.State.Employments {
			runs[e.Employment] = e.Status == timeline.Active || e.Status == timeline.OnLeave
		}
	}
	return slices.DeleteFunc(slices.Clone(absences), func(a store.Absence) bool {
		return runs[timeline.Employment{Source: a.Source, ExternalID: a.ExternalID}]
	}), nil
}

// showRosters brings the figures up to date, and says once when a source has become silent.
func (s *Service) showRosters(ctx context.Context) error {
	counts, err := s.store.CountRosters(ctx)
	if err != nil {
		return err
	}
	bySource := make(map[string]store.RosterCounts, len(counts))
	for _, c := range counts {
		bySource[c.Source] = c
	}
	now := s.now()
	for _, name := range s.sourceNames() {
		c, has := bySource[name]
		stale := s.sources[name].contract.Stale(c.Made, now)
		if has || s.sources[name].contract.Freshness > 0 {
			if s.metrics.rosters.show(name, c, stale, now) {
				s.log.Warn("a source has sent no roster for longer than its contract allows", zap.String(telemetry.FieldSource, name))
			}
		}
	}
	return nil
}
