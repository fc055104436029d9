package policy

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tenurehq/tenure/pkg/fault"
	accessv1 "github.com/tenurehq/tenure/proto/gen/tenure/access/v1"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
	"github.com/tenurehq/tenure/services/policy/brake"
	"github.com/tenurehq/tenure/services/policy/decide"
	"github.com/tenurehq/tenure/services/policy/internal/store"
	"github.com/tenurehq/tenure/services/policy/model"
)

const (
	// announcedFor is how long before it an end must have been known, to be believed beyond the limits.
	announcedFor = 24 * time.Hour
	// agreeWithin is how far two sources' ends of one person may lie apart to be one end.
	agreeWithin = 24 * time.Hour
)

// impact is what the brake judges of a decision, or of a worker's wish: what it takes away, and whether it gives something
// privileged.
type impact struct {
	apps          []string // in which something is taken away, sorted
	privileged    bool     // something of that kind is given
	cause         brake.Cause
	corroboration brake.Corroboration
	effects       *accessv1.HeldPerson
	digest        []byte
	stays         bool // exactly this is held already
}

// impactOf is what happens to a person from standing to wanted access; nil: nothing that the brake looks at.
func impactOf(m *model.Model, person string, apps []string, standing, wanted map[string]decide.Access) *impact {
	r := &impact{effects: &accessv1.HeldPerson{PersonId: person}}
	for _, app := range apps {
		before, after := standing[app], wanted[app]
		one := &accessv1.HeldAccess{Application: app, State: stateToProto(after.State)}
		if after.State < before.State {
			one.Loses = append(one.Loses, "")
		}
		if after.State > before.State {
			one.Gains = append(one.Gains, "")
		}
		one.Loses = append(one.Loses, decide.Without(before.Entitlements, after.Entitlements)...)
		one.Gains = append(one.Gains, decide.Without(after.Entitlements, before.Entitlements)...)
		if len(one.GetLoses())+len(one.GetGains()) > 0 {
			r.effects.Applications = append(r.effects.Applications, one)
		}
		if len(one.GetLoses()) > 0 {
			r.apps = append(r.apps, app)
		}
		r.privileged = r.privileged || givesPrivileged(m, app, one.GetGains())
	}
	if len(r.apps) == 0 && !r.privileged {
		return nil
	}
	r.digest = digestOf(r.effects)
	return r
}

// givesPrivileged says whether one of these is privileged by the model's catalogue.
func givesPrivileged(m *model.Model, app string, entitlements []string) bool {
	return slices.ContainsFunc(entitlements, func(id string) bool { return m.Privileged(model.Ref{Application: app, Entitlement: id}) })
}

// change is the impact in the brake's terms.
func (r *impact) change(person string) brake.Change {
	return brake.Change{Person: person, Loses: len(r.apps) > 0, Apps: r.apps, Privileged: r.privileged}
}

// digestOf is the identity of what is held: the same effects have the same.
func digestOf(effects *accessv1.HeldPerson) []byte {
	facts := &accessv1.HeldPerson{
		PersonId: effects.GetPersonId(), Application: effects.GetApplication(), Applications: effects.GetApplications(),
	}
	encoded, err := proto.MarshalOptions{Deterministic: true}.Marshal(facts)
	if err != nil { // only a text that is not UTF-8, which neither a model nor the wire lets in
		encoded = []byte(facts.String())
	}
	sum := sha256.Sum256(encoded)
	return sum[:]
}

// takesIn says whether something is taken away in an application.
func (r *impact) takesIn(app string) bool { return r != nil && slices.Contains(r.apps, app) }

// corroboration is why a person's end is believed beyond the limits. Who does not leave is not believed to lose much.
func (s *Service) corroboration(p *peoplev1.Person, e store.Employment, t trigger) brake.Corroboration {
	switch {
	case p.GetCut() != nil:
		return brake.Ordered
	case employed(p), e.EndedAt.IsZero():
		return brake.Uncorroborated
	case s.cfg.Manual != "" && t.source == s.cfg.Manual && strings.HasPrefix(t.actor, "operator:"):
		return brake.Ordered
	case !e.KnownAt.IsZero() && e.EndedAt.Sub(e.KnownAt) >= announcedFor:
		return brake.Announced
	case agreed(p):
		return brake.Agreed
	}
	return brake.Uncorroborated
}

// agreed says that two sources ended an employment of the person at about the same time.
func agreed(p *peoplev1.Person) bool {
	for i, a := range p.GetEmployments() {
		for _, b := range p.GetEmployments()[:i] {
			if a.GetSource() != b.GetSource() && hasEnded(a) && hasEnded(b) &&
				a.GetEndedAt().AsTime().Sub(b.GetEndedAt().AsTime()).Abs() <= agreeWithin {
				return true
			}
		}
	}
	return false
}

func hasEnded(e *peoplev1.Employment) bool {
	return e.GetStatus() == peoplev1.PersonStatus_PERSON_STATUS_TERMINATED && e.GetEndedAt() != nil
}

// causeOf is what led to a change, as far as the trigger tells.
func causeOf(p *peoplev1.Person, before store.Decided, modelSeq int64, t trigger) brake.Cause {
	switch {
	case t.kind != eventv1.LifecycleKind_LIFECYCLE_KIND_UNSPECIFIED:
		kind := strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(t.kind.String(), "LIFECYCLE_KIND_")), "_", "-")
		return brake.Cause{Kind: kind, Source: t.source, Delivery: t.delivery}
	case before.ModelSeq < modelSeq:
		return brake.Cause{Kind: "model", Field: "model", From: fmt.Sprint(before.ModelSeq), To: fmt.Sprint(modelSeq)}
	case p.GetStatus() == peoplev1.PersonStatus_PERSON_STATUS_TERMINATED:
		return brake.Cause{Kind: "leaver"}
	}
	return brake.Cause{Kind: "repair"}
}

// shown are the fields whose values many people share: others tell nothing about a wave, and are nobody else's business.
var shown = []string{"department", "status", "employment_type", "company", "location", "title", "manager_external_id"}

// describe adds to the cause of an impact which value changed to which. Events do not say, so ingest is asked.
func (s *Service) describe(ctx context.Context, d *decision) error {
	c := &d.impact.cause
	if d.trigger.event == "" || len(d.trigger.changed) == 0 || c.Field != "" {
		return nil
	}
	if d.lane == eventv1.Lane_LANE_URGENT {
		return nil // of a leaver it is the leaving that matters, not what else changed
	}
	timeline, err := s.people.Timeline(ctx, &peoplev1.TimelineRequest{PersonId: d.Person})
	if err != nil {
		return fault.FromStatus(err)
	}
	for _, happening := range timeline.GetHappenings() {
		if happening.GetEventId() != d.trigger.event {
			continue
		}
		for _, field := range shown {
			i := slices.IndexFunc(happening.GetChanges(), func(ch *peoplev1.Change) bool { return ch.GetField() == field })
			if i >= 0 {
				change := happening.GetChanges()[i]
				c.Field, c.From, c.To = field, change.GetFrom(), change.GetTo()
				return nil
			}
		}
	}
	return nil
}

func causeToProto(c brake.Cause) *accessv1.HoldCause {
	return &accessv1.HoldCause{Kind: c.Kind, Field: c.Field, From: c.From, To: c.To, Source: c.Source, Delivery: c.Delivery}
}

func causeFromProto(c *accessv1.HoldCause) brake.Cause {
	return brake.Cause{
		Kind: c.GetKind(), Field: c.GetField(), From: c.GetFrom(), To: c.GetTo(), Source: c.GetSource(), Delivery: c.GetDelivery(),
	}
}

// effectsOf completes what is shown of something that is held.
func effectsOf(effects *accessv1.HeldPerson, cause brake.Cause, limit string, since time.Time) *accessv1.HeldPerson {
	return &accessv1.HeldPerson{
		PersonId: effects.GetPersonId(), Application: effects.GetApplication(), Applications: effects.GetApplications(),
		Cause: causeToProto(cause), Limit: limit, Since: timestamp(since),
	}
}
