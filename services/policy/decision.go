package policy

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/tenurehq/tenure/pkg/bus"
	"github.com/tenurehq/tenure/pkg/fault"
	"github.com/tenurehq/tenure/pkg/telemetry"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
	"github.com/tenurehq/tenure/services/policy/brake"
	"github.com/tenurehq/tenure/services/policy/decide"
	"github.com/tenurehq/tenure/services/policy/internal/store"
	"github.com/tenurehq/tenure/services/policy/model"
)

// maxPeople is how many people ingest answers about at once.
const maxPeople = 1000

// codeAuditBehind marks a decision whose grants wait for the audit log.
const codeAuditBehind = "audit_behind"

// decide decides about people and saves what changed; somebody whom another replica overtook is decided about again.
// Before a model is applied it does nothing: applying one makes everybody due.
func (s *Service) decide(ctx context.Context, triggers map[string]trigger) error {
	for people := slices.Sorted(maps.Keys(triggers)); len(people) > 0; {
		var overtaken []string
		for chunk := range slices.Chunk(people, maxPeople) {
			decided, stale, err := s.decideChunk(ctx, chunk, triggers)
			if err != nil {
				return err
			}
			refused, err := s.save(ctx, decided)
			if err != nil {
				return err
			}
			overtaken = append(append(overtaken, stale...), refused...)
		}
		s.metrics.overtaken.Add(float64(len(overtaken)))
		people = slices.Sorted(slices.Values(overtaken)) // as saving needs them
	}
	return nil
}

// decision is one decision with the events that announce it.
type decision struct {
	store.Decision
	lane    eventv1.Lane
	events  []bus.Event
	trigger trigger
	before  store.Decided // the decision that it takes the place of
	held    store.Held    // what was held of the person
	impact  *impact       // nil: the brake does not look at it
}

// decideChunk reads what was decided, then asks ingest, then decides. The order matters: what another replica decides
// meanwhile has a greater n than was read, so save refuses what was worked out from older people. Stale is for whom a
// newer model than was read has been used already.
func (s *Service) decideChunk(
	ctx context.Context, ids []string, triggers map[string]trigger,
) (all []decision, stale []string, err error) {
	rules, err := s.rules(ctx)
	if err != nil || rules == nil {
		return nil, nil, err
	}
	decided, err := s.store.Decided(ctx, ids)
	if err != nil {
		return nil, nil, err
	}
	desired, err := s.store.OfPeople(ctx, ids)
	if err != nil {
		return nil, nil, err
	}
	held, err := s.held(ctx, decided)
	if err != nil {
		return nil, nil, err
	}
	people, err := s.getPeople(ctx, ids)
	if err != nil {
		return nil, nil, err
	}
	withhold := s.withholding()
	for _, id := range ids {
		p, ok := people[id]
		if !ok {
			s.log.Warn("ingest does not know a person that was to be decided about",
				zap.String(telemetry.FieldPerson, id))
			continue
		}
		before, version := decided[id], signed(p.GetVersion())
		if version < triggers[id].version {
			return nil, nil, fault.New(fault.Unavailable, "ingest knows an older version of person %s than was announced", id)
		}
		if version < before.PersonVersion { // what was decided stands, and keeps nobody else waiting
			s.log.Warn("ingest knows an older version of a person than was decided about: was it restored from a backup?",
				zap.String(telemetry.FieldPerson, id))
			continue
		}
		if before.ModelSeq > rules.applied.Seq {
			stale = append(stale, id)
			continue
		}
		basis := store.Basis{PersonVersion: version, ModelSeq: rules.applied.Seq, Accounts: s.basis}
		was := held[id]
		if before.N > 0 && before.Basis == basis && (!before.Withheld || withhold) && was.Status != store.Released {
			continue // decided already; an event came twice
		}
		all = append(all, s.weigh(rules, p, before, was, desired[id], triggerOf(rules, before, basis, was, triggers[id]), withhold))
	}
	return all, stale, nil
}

// held returns what is held of these people's decisions: as a rule nothing, so as a rule nothing is read.
func (s *Service) held(ctx context.Context, decided map[string]store.Decided) (map[string]store.Held, error) {
	var people []string
	for id, d := range decided {
		if d.Held {
			people = append(people, id)
		}
	}
	return s.store.Held(ctx, people)
}

// getPeople asks ingest for people as known now, by id; those it does not know are left out.
func (s *Service) getPeople(ctx context.Context, ids []string) (map[string]*peoplev1.Person, error) {
	response, err := s.people.GetPeople(ctx, &peoplev1.GetPeopleRequest{Ids: ids})
	if err != nil {
		return nil, fault.FromStatus(err)
	}
	people := make(map[string]*peoplev1.Person, len(ids))
	for _, p := range response.GetPeople() {
		people[p.GetId()] = p
	}
	return people, nil
}

// withholding says whether new grants must wait: nobody could prove them later if the audit log never got them.
func (s *Service) withholding() bool { return s.behind() > s.cfg.MaxBehind }

// triggerOf names the cause of a decision that no event asked for: what led to the same decision when it was held, a
// newer model, or nothing but repair.
func triggerOf(rules *rules, before store.Decided, basis store.Basis, was store.Held, t trigger) trigger {
	if t.event != "" {
		return t
	}
	if was.Status != store.NotHeld && before.Basis == basis {
		t.event, t.since = was.Effects.GetTriggerEventId(), moment(was.Effects.GetKnownAt())
		t.cause = bus.Cause{CorrelationID: was.Effects.GetCorrelationId(), CausationID: t.event}
		return t
	}
	if before.N > 0 && before.ModelSeq < rules.applied.Seq {
		return rules.trigger()
	}
	t.cause.CorrelationID = uuid.Must(uuid.NewV7()).String()
	return t
}

// weigh decides about one person and prepares what is to be stored and announced.
func (s *Service) weigh(
	rules *rules, p *peoplev1.Person, before store.Decided, was store.Held, desired map[string]store.Desired, t trigger, withhold bool,
) decision {
	standing := make(map[string]decide.Access, len(desired))
	for app, d := range desired {
		standing[app] = d.Access
	}
	wanted := decideFor(rules.Rules, p, standing)
	d := decision{
		Decision: store.Decision{
			Person:     p.GetId(),
			N:          before.N + 1,
			Basis:      store.Basis{PersonVersion: signed(p.GetVersion()), ModelSeq: rules.applied.Seq, Accounts: s.basis},
			Employment: employmentOf(before.Employment, p, cmp.Or(t.known, t.since)),
			At:         s.now(),
			Errors:     wanted.Errors,
			Trigger:    t.event,
			Nonce:      make([]byte, nonceSize),
		},
		lane: laneOf(p), trigger: t, before: before, held: was,
		impact: impactOf(rules.Model, p.GetId(), s.names(), standing, wanted.Access),
	}
	if d.impact != nil {
		s.doubt(&d, p)
	}
	_, _ = rand.Read(d.Nonce) // never fails
	for _, app := range s.names() {
		access := wanted.Access[app]
		if withhold {
			var kept bool
			access, kept = decide.Withhold(access, standing[app])
			d.Withheld = d.Withheld || kept
		}
		s.change(&d, desired[app], app, access, t)
	}
	if d.Withheld {
		d.Errors = append(d.Errors, model.RuleError{
			Code: codeAuditBehind, Message: "new access waits until the audit log has caught up",
		})
	}
	return d
}

// doubt says how far an impact is believed, and what led to it.
func (s *Service) doubt(d *decision, p *peoplev1.Person) {
	r, was := d.impact, d.held
	r.cause = causeOf(p, d.before, d.Basis.ModelSeq, d.trigger)
	r.corroboration = s.corroboration(p, d.Employment, d.trigger)
	if was.Status == store.NotHeld || !bytes.Equal(was.Digest, r.digest) {
		return
	}
	switch was.Status {
	case store.Released:
		r.corroboration = brake.Approved
	case store.Open: // whatever led to it this time
		r.stays, r.cause = true, causeFromProto(was.Effects.GetCause())
	case store.Rejected: // nothing is newer
		r.stays, r.cause = d.before.Basis == d.Basis, causeFromProto(was.Effects.GetCause())
	case store.NotHeld:
	}
}

// release is the permission for what a decision takes away in an application. Where it takes nothing, the permission of
// before stays: what was ordered then may not be done yet.
func (d *decision) release(app, before string) string {
	switch {
	case !d.impact.takesIn(app):
		return before
	case d.impact.corroboration == brake.Approved:
		return d.held.Release
	}
	return rand.Text()
}

// change adds to a decision what is new in one application: a generation with its event, or reasons alone.
func (s *Service) change(d *decision, before store.Desired, app string, access decide.Access, t trigger) {
	if access.Equal(before.Access) {
		if before.Generation > 0 && !sameReasons(access.Reasons, before.Access.Reasons) {
			before.Access.Reasons = access.Reasons
			d.Changes = append(d.Changes, before)
		}
		return
	}
	after := store.Desired{
		Person:      d.Person,
		Application: app,
		Generation:  before.Generation + 1,
		Lane:        d.lane,
		Release:     d.release(app, before.Release),
		DecidedAt:   d.At,
		Since:       t.since,
		Access:      access,
		Announced:   true,
	}
	event := bus.NewEvent(bus.AccessSubject(d.lane, app, d.Person), &eventv1.Access{
		PersonId:      d.Person,
		Application:   app,
		Generation:    unsigned(after.Generation),
		Decision:      unsigned(d.N),
		PersonVersion: unsigned(d.Basis.PersonVersion),
		ModelSeq:      unsigned(d.Basis.ModelSeq),
		State:         stateToProto(access.State),
		Added:         count(len(decide.Without(access.Entitlements, before.Access.Entitlements))),
		Removed:       count(len(decide.Without(before.Access.Entitlements, access.Entitlements))),
		Release:       after.Release,
		Commitment:    commitment(d.Nonce, d.Person, app, after.Generation, access),
	}, t.cause)
	after.EventID, after.CorrelationID = event.ID, event.CorrelationID
	d.events = append(d.events, event)
	d.Changes = append(d.Changes, after)
}

// decideFor is decide.Decide for a person: who is cut has nothing, whatever HR and the model say.
func decideFor(rules decide.Rules, p *peoplev1.Person, standing map[string]decide.Access) decide.Decision {
	if p.GetCut() != nil {
		return decide.Decision{}
	}
	return decide.Decide(rules, personOf(p), standing, othersOf(p)...)
}

// laneOf puts whoever may have nothing, also who is cut, before everybody else.
func laneOf(p *peoplev1.Person) eventv1.Lane {
	if employed(p) {
		return eventv1.Lane_LANE_NORMAL
	}
	return eventv1.Lane_LANE_URGENT
}

func sameReasons(a, b []decide.Reason) bool {
	return slices.EqualFunc(a, b, func(x, y decide.Reason) bool {
		return x.Entitlement == y.Entitlement && x.Role == y.Role && x.Standing == y.Standing &&
			slices.Equal(x.Bindings, y.Bindings)
	})
}

// save stores decisions and their events in one transaction. It returns the people about whom somebody else decided
// since: nothing is stored of what was decided about them here. Before somebody is held people are counted anew, and
// what led to it is asked for.
func (s *Service) save(ctx context.Context, decisions []decision) (overtaken []string, err error) {
	if len(decisions) == 0 {
		return nil, nil
	}
	began := time.Now()
	overtaken, doubted, err := s.saveOnce(ctx, decisions, false)
	if errors.Is(err, errDoubt) {
		for _, d := range doubted {
			if err := s.describe(ctx, d); err != nil {
				return nil, err
			}
		}
		overtaken, _, err = s.saveOnce(ctx, decisions, true)
	}
	if err != nil {
		return nil, err
	}
	s.metrics.saved(len(decisions)-len(overtaken), time.Since(began))
	return overtaken, nil
}

// saveOnce saves by a recent count of people. Unless that is sure nobody is held: it ends with errDoubt, and says who would
// be.
func (s *Service) saveOnce(ctx context.Context, decisions []decision, sure bool) (overtaken []string, doubted []*decision, err error) {
	all := make([]store.Decision, len(decisions))
	judged := false
	for i := range decisions {
		all[i] = decisions[i].Decision
		judged = judged || decisions[i].impact != nil
	}
	var population brake.Population
	if judged {
		if population, err = s.population(ctx, sure); err != nil {
			return nil, nil, err
		}
	}
	err = s.store.InTx(ctx, func(tx store.Tx) error {
		overtaken = nil
		taken, err := tx.Claim(ctx, all)
		if err != nil {
			return err
		}
		var claimed []*decision
		for i := range decisions {
			if d := &decisions[i]; taken[d.Person] {
				claimed = append(claimed, d)
			} else {
				overtaken = append(overtaken, d.Person)
			}
		}
		kept, err := s.brake(ctx, tx, population, claimed)
		if err != nil {
			return err
		}
		if doubted = kept.doubted; len(doubted) > 0 && !sure {
			return errDoubt
		}
		return s.write(ctx, tx, claimed, kept)
	})
	return overtaken, doubted, err
}

// write stores what claimed decisions change, but for those that are held.
func (s *Service) write(ctx context.Context, tx store.Tx, claimed []*decision, kept *keep) error {
	var saved []store.Decision
	var rows []store.Desired
	lanes := kept.events
	for _, d := range claimed {
		if kept.isHeld[d.Person] {
			continue
		}
		saved = append(saved, d.Decision)
		rows = append(rows, d.Changes...)
		lanes[d.lane] = append(lanes[d.lane], d.events...)
	}
	if err := tx.PutDesired(ctx, rows); err != nil {
		return err
	}
	if err := tx.AddHistory(ctx, saved); err != nil {
		return err
	}
	for _, lane := range []eventv1.Lane{eventv1.Lane_LANE_URGENT, eventv1.Lane_LANE_NORMAL} {
		if err := s.outbox.Add(ctx, tx.Tx, lane, lanes[lane]...); err != nil {
			return err
		}
	}
	return nil
}
