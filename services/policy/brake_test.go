package policy_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	"github.com/tenurehq/tenure/pkg/bus"
	accessv1 "github.com/tenurehq/tenure/proto/gen/tenure/access/v1"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
	"github.com/tenurehq/tenure/services/policy"
)

const (
	leaver = eventv1.LifecycleKind_LIFECYCLE_KIND_LEAVER
	mover  = eventv1.LifecycleKind_LIFECYCLE_KIND_MOVER
)

// braked sets the limits of a service, and its clock.
func braked(perHour, perDay string, now *time.Time) func(*policy.Config, *policy.Deps) {
	return func(cfg *policy.Config, deps *policy.Deps) {
		cfg.Brake, cfg.Manual = limits(perHour, perDay, "100%"), "operators"
		cfg.MaxBehind = time.Hour // as a rule nothing runs that would ask how far audit is
		if now != nil {
			deps.Now = func() time.Time { return *now }
		}
	}
}

// hire makes so many people of d005 who have what the company gives them.
func (w *world) hire(s *policy.Service, n int) []*peoplev1.Person {
	w.t.Helper()
	all := make([]*peoplev1.Person, n)
	ids := make([]string, n)
	for i := range all {
		all[i] = w.people.put(person(active, "d005"))
		ids[i] = all[i].GetId()
	}
	if err := s.Decide(w.t.Context(), ids...); err != nil {
		w.t.Fatal(err)
	}
	return all
}

// event is what ingest would publish about a person whom it now knows as p.
func (w *world) event(kind eventv1.LifecycleKind, p *peoplev1.Person, change ...func(*eventv1.Lifecycle)) bus.Event {
	w.t.Helper()
	p = w.people.put(p)
	w.seq++
	fact := &eventv1.Lifecycle{
		PersonId: p.GetId(), PersonVersion: p.GetVersion(), Kind: kind, Source: "hr", DeliveryId: fmt.Sprint("delivery-", w.seq), Actor: "source:hr",
	}
	for _, c := range change {
		c(fact)
	}
	lane := normal
	if kind == leaver {
		lane = urgent
	}
	e := bus.NewEvent(bus.LifecycleSubject(lane, kind, p.GetId()), fact, bus.Cause{CorrelationID: fact.GetDeliveryId()})
	e.Origin, e.Seq, e.Time = "ingest", w.seq, time.Now().UTC().Truncate(time.Microsecond)
	return e
}

// terminate is HR's word that these people have left, and policy's hearing it, in one batch.
func (w *world) terminate(s *policy.Service, people []*peoplev1.Person, change ...func(*eventv1.Lifecycle)) {
	w.t.Helper()
	var events []bus.Event
	for _, p := range people {
		p.Status = terminated
		if p.GetEndedAt() == nil {
			p.EndedAt = timestamppb.Now()
		}
		events = append(events, w.event(leaver, p, change...))
	}
	w.hear(s, events...)
}

func (w *world) hear(s *policy.Service, events ...bus.Event) {
	w.t.Helper()
	if err := s.Hear(w.t.Context(), events...); err != nil {
		w.t.Fatal(err)
	}
}

// gone returns those who should have nothing any more. Who has something of it must have all of it.
func (w *world) gone(s *policy.Service, people []*peoplev1.Person) []string {
	w.t.Helper()
	var gone []string
	for _, p := range people {
		access, nothing := w.show(s, p.GetId()), 0
		for _, has := range access {
			if strings.HasPrefix(has, "ACCESS_STATE_NONE") {
				nothing++
			}
		}
		switch nothing {
		case 0:
		case len(access):
			gone = append(gone, p.GetId())
		default:
			w.t.Errorf("%s lost something and kept something: %v", p.GetId(), access)
		}
	}
	return gone
}

// holds returns the words of what is kept back.
func (w *world) holds(s *policy.Service) []string {
	w.t.Helper()
	listed, err := s.ListHolds(w.t.Context(), &accessv1.ListHoldsRequest{})
	if err != nil {
		w.t.Fatal(err)
	}
	var words []string
	for _, h := range listed.GetHolds() {
		words = append(words, h.GetWords())
	}
	return words
}

func TestOfAnEmptiedCompanyOnlyTheLimitLosesAccess(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		s := w.service(braked("max(5,min(50,5%))", "10%", nil))
		w.apply(s, company)
		everybody := w.hire(s, 40)
		w.terminate(s, everybody)
		if gone := w.gone(s, everybody); len(gone) != 5 {
			t.Errorf("%d of 40 lost access, want the 5 of an hour", len(gone))
		}
		if diff := cmp.Diff([]string{"35 of 35: leaver, source hr"}, w.holds(s)); diff != "" {
			t.Errorf("holds (-want +got):\n%s", diff)
		}
		// The same again, from repair and from a second replica: nobody more.
		again := w.service(braked("max(5,min(50,5%))", "10%", nil))
		w.terminate(again, everybody)
		if gone := w.gone(s, everybody); len(gone) != 5 {
			t.Errorf("told again, %d of 40 lost access", len(gone))
		}
		if words := w.holds(again); !slices.Equal(words, []string{"35 of 35: leaver, source hr"}) {
			t.Errorf("a replica that starts later knows of holds %v", words)
		}
	})
}

func TestADripOfLeaversIsHeldByTheDay(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		now := time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)
		s := w.service(braked("5", "10%", &now))
		w.apply(s, company)
		everybody := w.hire(s, 100)
		for _, p := range everybody[:80] { // one a minute
			now = now.Add(time.Minute)
			w.terminate(s, []*peoplev1.Person{p})
		}
		if gone := w.gone(s, everybody); len(gone) != 10 {
			t.Errorf("of one a minute %d of 100 lost access, want 10: 5 an hour, and a tenth a day", len(gone))
		}
		now = now.Add(25 * time.Hour)
		w.terminate(s, everybody[80:])
		if gone := w.gone(s, everybody); len(gone) != 15 {
			t.Errorf("a day later %d of 100 have lost access, want 5 more", len(gone))
		}
	})
}

// Who loses something again counts from then on, though it costs nothing: a window that ends at any instant knows of it.
func TestWhoLosesMoreLaterIsCountedFromThenOn(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		now := time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)
		s := w.service(braked("100%", "100%", &now), func(cfg *policy.Config, _ *policy.Deps) { cfg.Brake = limits("1", "100%", "1") })
		w.apply(s, company)
		people := w.hire(s, 10)
		first := people[0]
		first.Record.EmploymentType, first.Record.Attributes = "employee", map[string]string{"rota": "yes"}
		w.hear(s, w.event(mover, first))
		first.Record.Attributes = map[string]string{"rota": "no"}
		w.hear(s, w.event(mover, first)) // is on call no more
		now = now.Add(20 * time.Hour)
		first.Record.Department = "d008"
		w.hear(s, w.event(mover, first)) // is no developer any more
		if got := w.show(s, first.GetId())["code"]; !strings.HasPrefix(got, "ACCESS_STATE_NONE") {
			t.Fatalf("who lost something in code that day loses more of it at once, and has %s", got)
		}
		now = now.Add(5 * time.Hour)
		second := people[1]
		second.Record.Department = "d008"
		w.hear(s, w.event(mover, second))
		if got := w.show(s, second.GetId())["code"]; got != "[developers]" {
			t.Errorf("two people lost something in code within 24 hours, and one may: the second has %s", got)
		}
	})
}

func TestRoomLetsNobodyOutWhoIsHeld(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		now := time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)
		s := w.service(braked("2", "100%", &now))
		w.apply(s, company)
		people := w.hire(s, 5)
		w.terminate(s, people)
		now = now.Add(25 * time.Hour)
		w.terminate(s, people) // HR says it again
		if gone := w.gone(s, people); len(gone) != 2 {
			t.Errorf("a day later %d of 5 have lost access, want the 2 of before", len(gone))
		}
		if diff := cmp.Diff([]string{"3 of 3: leaver, source hr"}, w.holds(s)); diff != "" {
			t.Errorf("holds (-want +got):\n%s", diff)
		}
	})
}

func TestInsideTheLimitNothingIsHeld(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		now := time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)
		s := w.service(braked("5", "100%", &now))
		w.apply(s, company)
		people := w.hire(s, 20)
		for hour := range 4 { // five at once, to the minute an hour after the five before
			w.terminate(s, people[5*hour:5*hour+5])
			now = now.Add(time.Hour)
		}
		if gone := w.gone(s, people); len(gone) != 20 || len(w.holds(s)) != 0 {
			t.Errorf("%d of 20 lost access, held: %v", len(gone), w.holds(s))
		}
		for range 3 { // the same person losing more costs nothing
			p := w.hire(s, 1)[0]
			p.Record.Department = "d001"
			w.hear(s, w.event(mover, p))
			p.Status = onLeave
			w.hear(s, w.event(eventv1.LifecycleKind_LIFECYCLE_KIND_LEAVE_STARTED, p))
			w.terminate(s, []*peoplev1.Person{p})
		}
		if held := w.holds(s); len(held) != 0 {
			t.Errorf("three people who lose three times are %v", held)
		}
	})
}

func TestBeyondTheLimitOnlyCorroboratedLeaversPass(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		s := w.service(braked("0", "0", nil))
		w.apply(s, company)
		now := time.Now()
		ended := func(source string, ago time.Duration) *peoplev1.Employment {
			return &peoplev1.Employment{Source: source, Status: terminated, EndedAt: timestamppb.New(now.Add(-ago))}
		}
		byOperator := func(e *eventv1.Lifecycle) { e.Actor, e.Source = "operator:ada", "operators" }
		imported := func(e *eventv1.Lifecycle) { e.Actor, e.Source = "operator:ada", "csv" }
		for name, c := range map[string]struct {
			person func(*peoplev1.Person)
			event  func(*eventv1.Lifecycle)
			passes bool
		}{
			"nothing more":                 {},
			"by an operator":               {event: byOperator, passes: true},
			"in a file that one handed in": {event: imported},
			"cut":                          {person: func(p *peoplev1.Person) { p.Cut = &peoplev1.Cut{At: timestamppb.New(now)} }, passes: true},
			"known for a day": {person: func(p *peoplev1.Person) {
				p.EndedAt, p.EndKnownAt = timestamppb.New(now), timestamppb.New(now.Add(-24*time.Hour))
			}, passes: true},
			"known for less": {person: func(p *peoplev1.Person) {
				p.EndedAt, p.EndKnownAt = timestamppb.New(now), timestamppb.New(now.Add(-23*time.Hour))
			}},
			"ended two days ago, known today": {person: func(p *peoplev1.Person) {
				p.EndedAt, p.EndKnownAt = timestamppb.New(now.Add(-48*time.Hour)), timestamppb.New(now)
			}},
			"two sources": {person: func(p *peoplev1.Person) {
				p.Employments = []*peoplev1.Employment{ended("hr", 0), ended("idp", time.Hour)}
			}, passes: true},
			"one source twice": {person: func(p *peoplev1.Person) {
				p.Employments = []*peoplev1.Employment{ended("hr", 0), ended("hr", time.Hour)}
			}},
			"two sources, long ago one": {person: func(p *peoplev1.Person) {
				p.Employments = []*peoplev1.Employment{ended("hr", 0), ended("idp", 1000*time.Hour)}
			}},
		} {
			p := w.hire(s, 1)
			if c.person != nil {
				c.person(p[0])
			}
			if c.event == nil {
				c.event = func(*eventv1.Lifecycle) {}
			}
			w.terminate(s, p, c.event)
			if passes := len(w.gone(s, p)) == 1; passes != c.passes {
				t.Errorf("%s: passes %v, want %v", name, passes, c.passes)
			}
		}
		p := w.hire(s, 1)[0]
		p.Record.Department = "d001"
		w.hear(s, w.event(mover, p, byOperator))
		if got := w.show(s, p.GetId())["code"]; got != "[developers]" {
			t.Errorf("a mover whom nobody but one operator moved has %s in code: who does not leave is not corroborated", got)
		}
	})
}

func TestReplicasShareTheCount(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		first, second := w.service(braked("7", "100%", nil)), w.service(braked("7", "100%", nil))
		w.apply(first, company)
		everybody := w.hire(first, 60)
		events := make([]bus.Event, len(everybody))
		for i, p := range everybody {
			p.Status, p.EndedAt = terminated, timestamppb.Now()
			events[i] = w.event(leaver, p)
		}
		var all sync.WaitGroup
		for i, s := range []*policy.Service{first, second, first, second} {
			all.Go(func() {
				for _, e := range events[15*i : 15*i+15] {
					if err := s.Hear(t.Context(), e); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		if gone := w.gone(first, everybody); len(gone) != 7 {
			t.Errorf("two replicas took access from %d people, and 7 may lose it", len(gone))
		}
	})
}

func TestAModelThatTakesTooMuchIsHeld(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		s := w.service(braked("5", "100%", nil))
		w.apply(s, company)
		people := w.hire(s, 12)
		applied := w.apply(s, strings.ReplaceAll(company, `person.department == "d005"`, `person.department == "d00S"`)[:strings.Index(company, "tests:")])
		if applied.GetHeld() != 7 {
			t.Errorf("applying it says that %d people would be held, want 7", applied.GetHeld())
		}
		if err := s.Compare(t.Context()); err != nil {
			t.Fatal(err)
		}
		keep := 0
		for _, p := range people {
			if w.show(s, p.GetId())["code"] == "[developers]" {
				keep++
			}
		}
		if diff := cmp.Diff([]string{"7 of 7: model 1 → 2"}, w.holds(s)); diff != "" || keep != 7 {
			t.Errorf("%d keep what they had, want 7; holds (-want +got):\n%s", keep, diff)
		}
	})
}

func TestWhateverComesNoWindowLosesMoreThanItsLimit(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		now := time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)
		s := w.service(braked("3", "8", &now))
		w.apply(s, company)
		rapid.Check(t, func(t *rapid.T) {
			now = now.Add(72 * time.Hour) // nothing of before counts
			people := w.hire(s, 14)
			var at []time.Time
			for len(people) > 0 {
				now = now.Add(time.Duration(rapid.IntRange(0, 150).Draw(t, "minutes")) * time.Minute)
				n := min(rapid.IntRange(1, 6).Draw(t, "leavers"), len(people))
				w.terminate(s, people[:n])
				gone := len(w.gone(s, people[:n]))
				room := min(3-within(at, now, time.Hour), 8-within(at, now, 24*time.Hour), n)
				if gone != room {
					t.Fatalf("at %s %d of %d lost access, and there was room for %d: %v", now, gone, n, room, at)
				}
				for range gone {
					at = append(at, now)
				}
				people = people[n:]
			}
		})
	})
}

// within is how many of these lie in the window that ends now.
func within(at []time.Time, now time.Time, window time.Duration) int {
	n := 0
	for _, then := range at {
		if now.Sub(then) < window {
			n++
		}
	}
	return n
}
