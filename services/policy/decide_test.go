package policy_test

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/tenurehq/tenure/pkg/bus"
	"github.com/tenurehq/tenure/pkg/outbox"
	accessv1 "github.com/tenurehq/tenure/proto/gen/tenure/access/v1"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
	"github.com/tenurehq/tenure/services/policy"
	"github.com/tenurehq/tenure/services/policy/internal/store"
)

func TestAJoinerAMoverAndALeaverHaveWhatTheModelSaysAndItIsAnnounced(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		s, h := w.service(), w.listen()
		w.apply(s, company)
		background(t, s.Run)
		if applied := h.model(); applied.GetActor() != "operator:ada" || applied.GetModelSeq() != 1 {
			t.Errorf("announced %v", applied)
		}
		ann := person(active, "d005")
		joined := w.say(normal, eventv1.LifecycleKind_LIFECYCLE_KIND_JOINER, ann)
		for app, e := range h.access(3) {
			fact := h.fact(e)
			if e.CorrelationID != joined.CorrelationID || e.CausationID != joined.ID {
				t.Errorf("access in %s is not caused by the joiner: %+v", app, e)
			}
			if e.Subject != "tenure.access.normal."+app+"."+ann.GetId() || e.Origin != "policy" {
				t.Errorf("announced on %s by %s", e.Subject, e.Origin)
			}
			if fact.GetGeneration() != 1 || fact.GetDecision() != 1 || fact.GetPersonVersion() != 1 || fact.GetModelSeq() != 1 ||
				fact.GetAdded() != 1 || fact.GetRemoved() != 0 || fact.GetState() != eventv1.AccessState_ACCESS_STATE_ENABLED {
				t.Errorf("access in %s: %v", app, fact)
			}
			if fact.GetRelease() != "" || len(fact.GetCommitment()) != 32 {
				t.Errorf("access in %s with a release, and nothing is taken, or without commitment: %v", app, fact)
			}
		}
		want := map[string]string{"wiki": "[staff]", "code": "[developers]", "warehouse": "[readonly]"}
		if diff := cmp.Diff(want, w.show(s, ann.GetId())); diff != "" {
			t.Errorf("a joiner (-want +got):\n%s", diff)
		}

		ann.Record.Department = "d008"
		w.say(normal, eventv1.LifecycleKind_LIFECYCLE_KIND_MOVER, ann)
		moved := h.access(1)
		if fact := h.fact(moved["code"]); fact.GetState() != eventv1.AccessState_ACCESS_STATE_NONE || fact.GetRemoved() != 1 || fact.GetRelease() == "" {
			t.Errorf("a mover's former application: %v", fact)
		}
		want = map[string]string{"wiki": "[staff]", "code": "ACCESS_STATE_NONE[]", "warehouse": "[readonly]"}
		if diff := cmp.Diff(want, w.show(s, ann.GetId())); diff != "" {
			t.Errorf("a mover keeps what both departments give (-want +got):\n%s", diff)
		}

		ann.Status = terminated
		left := w.say(urgent, eventv1.LifecycleKind_LIFECYCLE_KIND_LEAVER, ann)
		for app, e := range h.access(2) {
			if e.Subject != "tenure.access.urgent."+app+"."+ann.GetId() || e.CausationID != left.ID {
				t.Errorf("a leaver is announced on %s because of %s", e.Subject, e.CausationID)
			}
		}
		want = map[string]string{"wiki": "ACCESS_STATE_NONE[]", "code": "ACCESS_STATE_NONE[]", "warehouse": "ACCESS_STATE_NONE[]"}
		if diff := cmp.Diff(want, w.show(s, ann.GetId())); diff != "" {
			t.Errorf("a leaver (-want +got):\n%s", diff)
		}
	})
}

func TestAWorkerReadsWhatWasAnnouncedWithTheNumbersOfTheLastDecision(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		s, h := w.service(), w.listen()
		w.apply(s, company)
		background(t, s.Run)
		h.model()
		ann, bob := person(active, "d008"), person(pending, "d005")
		joined := w.say(normal, eventv1.LifecycleKind_LIFECYCLE_KIND_JOINER, ann)
		announced := h.access(2)
		// Another e-mail address changes nothing that ann should have.
		ann.Record.Email = "ann@acme.example"
		w.say(normal, eventv1.LifecycleKind_LIFECYCLE_KIND_CORRECTION, ann)
		w.say(normal, eventv1.LifecycleKind_LIFECYCLE_KIND_JOINER, bob)
		until(t, "both are decided about", func() bool {
			a, err := s.ShowAccess(t.Context(), &accessv1.ShowAccessRequest{PersonId: ann.GetId()})
			b, errB := s.ShowAccess(t.Context(), &accessv1.ShowAccessRequest{PersonId: bob.GetId()})
			return errors.Join(err, errB) == nil && a.GetPersonVersion() == 2 && b.GetPersonVersion() == 1
		})
		got, err := s.GetDesired(t.Context(), &accessv1.GetDesiredRequest{
			Application: "wiki", PersonIds: []string{ann.GetId(), bob.GetId(), "nobody"},
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(got.GetDesired()) != 1 {
			t.Fatalf("desired of %d people, and only ann ever had something", len(got.GetDesired()))
		}
		d := got.GetDesired()[0]
		if d.GetGeneration() != 1 || d.GetDecision() != 2 || d.GetPersonVersion() != 2 || d.GetModelSeq() != 1 {
			t.Errorf("numbers of %v: want generation 1, confirmed by decision 2 from version 2 by model 1", d)
		}
		fact := h.fact(announced["wiki"])
		if d.GetRelease() != fact.GetRelease() || d.GetEventId() != announced["wiki"].ID || d.GetCorrelationId() != joined.CorrelationID {
			t.Errorf("desired %v is not what was announced: %v", d, fact)
		}
		if !d.GetSince().AsTime().Equal(joined.Time) {
			t.Errorf("since %v, and the fact was committed at %v", d.GetSince().AsTime(), joined.Time)
		}
		if diff := cmp.Diff(map[string]string{"login": ann.GetUserName()}, d.GetAccount()); diff != "" {
			t.Errorf("account (-want +got):\n%s", diff)
		}

		past, err := store.New(w.db).History(t.Context(), ann.GetId())
		if err != nil || len(past) != 1 || len(past[0].Changes) != 2 {
			t.Fatalf("history %+v, %v: want the one decision that changed two applications", past, err)
		}
		for _, c := range past[0].Changes {
			want := h.fact(announced[c.Application]).GetCommitment()
			if got := policy.Commitment(past[0].Nonce, ann.GetId(), c.Application, c.Generation, c.Access); !bytes.Equal(got, want) {
				t.Errorf("the commitment for %s cannot be opened with what is kept", c.Application)
			}
			c.Access.Entitlements = append(c.Access.Entitlements, "root")
			if bytes.Equal(policy.Commitment(past[0].Nonce, ann.GetId(), c.Application, c.Generation, c.Access), want) {
				t.Errorf("the commitment for %s holds for other facts too", c.Application)
			}
		}

		pairs := &stream[accessv1.GenerationsResponse]{ctx: t.Context()}
		if err := s.Generations(&accessv1.GenerationsRequest{Application: "wiki"}, pairs); err != nil {
			t.Fatal(err)
		}
		if len(pairs.sent) != 1 || len(pairs.sent[0].GetPairs()) != 1 || pairs.sent[0].GetPairs()[0].GetPersonId() != ann.GetId() {
			t.Errorf("generations: %v", pairs.sent)
		}
	})
}

func TestNothingIsDecidedBeforeAModelIsAppliedAndThenEverybodyIs(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		s, h := w.service(), w.listen()
		background(t, s.Run)
		ann := person(active, "d008")
		w.say(normal, eventv1.LifecycleKind_LIFECYCLE_KIND_JOINER, ann)
		shown, err := s.ShowModel(w.admin(), &accessv1.ShowModelRequest{})
		if err != nil || shown.GetModelSeq() != 0 {
			t.Fatalf("model %v, %v", shown, err)
		}
		if err := s.Ready(t.Context()); err == nil {
			t.Error("ready without a model")
		}
		w.apply(s, company)
		applied := h.model()
		if applied.GetPeopleGaining() != 1 || applied.GetPeopleLosing() != 0 {
			t.Errorf("announced %v: want 1 person gaining", applied)
		}
		h.access(2)
		want := map[string]string{"wiki": "[staff]", "warehouse": "[readonly]"}
		if diff := cmp.Diff(want, w.show(s, ann.GetId())); diff != "" {
			t.Errorf("after the model (-want +got):\n%s", diff)
		}
		if err := s.Ready(t.Context()); err != nil {
			t.Errorf("not ready with a model: %v", err)
		}
	})
}

func TestRepeatedEventsChangeNothingAndWriteNothing(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		s, h := w.service(), w.listen()
		w.apply(s, company)
		ann, bob := person(active, "d008"), person(active, "d008")
		e := w.say(normal, eventv1.LifecycleKind_LIFECYCLE_KIND_JOINER, ann)
		background(t, s.Run)
		h.model()
		h.access(2)
		e.ID = "01890000-0000-7000-8000-000000000000" // the stream itself would drop the same id
		w.publish(e)
		w.say(normal, eventv1.LifecycleKind_LIFECYCLE_KIND_JOINER, bob)
		for _, e := range h.access(2) {
			if h.fact(e).GetPersonId() != bob.GetId() {
				t.Errorf("a repeated event was announced again: %v", h.fact(e))
			}
		}
		decided, err := store.New(w.db).Decided(t.Context(), []string{ann.GetId()})
		if err != nil || decided[ann.GetId()].N != 1 {
			t.Errorf("decisions about ann: %+v, %v; want one", decided, err)
		}
	})
}

// stalling is a client whose GetPeople, once it has its answer, waits for go on.
type stalling struct {
	peoplev1.PeopleServiceClient
	asked, goOn chan struct{}
	once        sync.Once
}

func (c *stalling) GetPeople(
	ctx context.Context, r *peoplev1.GetPeopleRequest, o ...grpc.CallOption,
) (*peoplev1.GetPeopleResponse, error) {
	response, err := c.PeopleServiceClient.GetPeople(ctx, r, o...)
	c.once.Do(func() {
		close(c.asked)
		<-c.goOn
	})
	return response, err
}

func TestAReplicaThatStalledDoesNotReviveALeaver(t *testing.T) {
	t.Parallel()
	for name, known := range map[string]bool{"a person decided about before": true, "a person seen first": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onBoth(t, func(t *testing.T, w *world) {
				b := w.service()
				w.apply(b, company)
				ann := person(active, "d005")
				w.people.put(ann)
				if known {
					if err := b.Decide(t.Context(), ann.GetId()); err != nil {
						t.Fatal(err)
					}
					ann.Record.Department = "d008"
					w.people.put(ann)
				}
				client := &stalling{PeopleServiceClient: w.client, asked: make(chan struct{}), goOn: make(chan struct{})}
				a := w.service(func(_ *policy.Config, d *policy.Deps) { d.People = client })
				done := make(chan error, 1)
				go func() { done <- a.Decide(t.Context(), ann.GetId()) }()
				<-client.asked // a holds the active person, and stalls

				ann.Status = terminated
				w.people.put(ann)
				if err := b.Decide(t.Context(), ann.GetId()); err != nil {
					t.Fatal(err)
				}
				close(client.goOn)
				if err := <-done; err != nil {
					t.Fatal(err)
				}

				for app, access := range w.show(b, ann.GetId()) {
					if access != "ACCESS_STATE_NONE[]" {
						t.Errorf("a leaver has %s in %s again", access, app)
					}
				}
				past, err := store.New(w.db).History(t.Context(), ann.GetId())
				if err != nil {
					t.Fatal(err)
				}
				var version int64
				for _, p := range past {
					if p.Basis.PersonVersion < version {
						t.Errorf("decision %d was saved from version %d after one from %d", p.N, p.Basis.PersonVersion, version)
					}
					version = p.Basis.PersonVersion
				}
			})
		})
	}
}

func TestManyReplicasAtOnceEndWithTheNewestPersonAndGrowingGenerations(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		s := w.service()
		w.apply(s, company)
		ann := person(active, "d005")
		w.people.put(ann)
		var wait sync.WaitGroup
		for i := range 8 {
			replica := w.service()
			wait.Go(func() {
				for j := range 5 {
					p := proto.CloneOf(ann)
					p.Record.Department = []string{"d005", "d008", "d004"}[(i+j)%3]
					w.people.put(p)
					if err := replica.Decide(t.Context(), ann.GetId()); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wait.Wait()
		if err := s.Decide(t.Context(), ann.GetId()); err != nil {
			t.Fatal(err)
		}
		now, err := w.client.GetPeople(t.Context(), &peoplev1.GetPeopleRequest{Ids: []string{ann.GetId()}})
		if err != nil {
			t.Fatal(err)
		}
		shown, err := s.ShowAccess(t.Context(), &accessv1.ShowAccessRequest{PersonId: ann.GetId()})
		if err != nil || shown.GetPersonVersion() != now.GetPeople()[0].GetVersion() {
			t.Errorf("decided from version %d, and ingest knows %d (%v)", shown.GetPersonVersion(), now.GetPeople()[0].GetVersion(), err)
		}
		past, err := store.New(w.db).History(t.Context(), ann.GetId())
		if err != nil {
			t.Fatal(err)
		}
		generations := map[string]int64{}
		for _, p := range past {
			for _, c := range p.Changes {
				if c.Generation != generations[c.Application]+1 {
					t.Errorf("%s went from generation %d to %d", c.Application, generations[c.Application], c.Generation)
				}
				generations[c.Application] = c.Generation
			}
		}
	})
}

func TestAnEventThatIsNoLifecycleIsParkedAndStopsNothing(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		s, h := w.service(), w.listen()
		w.apply(s, company)
		background(t, s.Run)
		h.model()
		bad := bus.NewEvent("tenure.lifecycle.normal.joiner.x", &eventv1.CheckpointSigned{Size: 1}, bus.Cause{})
		bad.Origin, bad.Seq, bad.Time = "ingest", 1000, time.Now()
		w.publish(bad)
		w.say(normal, eventv1.LifecycleKind_LIFECYCLE_KIND_JOINER, person(active, "d008"))
		h.access(2)
		until(t, "the event is parked", func() bool {
			parked := &stream[eventv1.ParkedResponse]{ctx: t.Context()}
			err := outbox.NewEventLog(s.Outbox()).Parked(&eventv1.ParkedRequest{}, parked)
			return err == nil && len(parked.sent) == 1 && parked.sent[0].GetEvent().GetId() == bad.ID
		})
	})
}

func TestARuleThatErrsTakesNothingAndIsShown(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		s := w.service()
		w.apply(s, company)
		ann := person(active, "d004")
		ann.Record.EmploymentType = "employee"
		ann.Record.Attributes = map[string]string{"rota": "yes"}
		w.people.put(ann)
		if err := s.Decide(t.Context(), ann.GetId()); err != nil {
			t.Fatal(err)
		}
		ann.Record.Attributes = nil
		w.people.put(ann)
		if err := s.Decide(t.Context(), ann.GetId()); err != nil {
			t.Fatal(err)
		}
		shown, err := s.ShowAccess(t.Context(), &accessv1.ShowAccessRequest{PersonId: ann.GetId()})
		if err != nil {
			t.Fatal(err)
		}
		code := shown.GetApplications()[0]
		if code.GetDesired().GetApplication() != "code" || !cmp.Equal(code.GetDesired().GetEntitlements(), []string{"on-call"}) ||
			!code.GetReasons()[0].GetStanding() || code.GetDesired().GetGeneration() != 1 {
			t.Errorf("what the failing rule gave: %v", code)
		}
		if len(shown.GetErrors()) != 1 || shown.GetErrors()[0].GetRole() != "rota" || shown.GetErrors()[0].GetCode() != "no_such_key" {
			t.Errorf("errors: %v", shown.GetErrors())
		}
	})
}

func TestOnLeaveAccountsAreDisabledAndNothingIsTaken(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		s := w.service()
		w.apply(s, company)
		ann := person(active, "d005")
		w.people.put(ann)
		if err := s.Decide(t.Context(), ann.GetId()); err != nil {
			t.Fatal(err)
		}
		ann.Status = onLeave
		w.people.put(ann)
		if err := s.Decide(t.Context(), ann.GetId()); err != nil {
			t.Fatal(err)
		}
		want := map[string]string{
			"wiki": "ACCESS_STATE_DISABLED[staff]", "code": "ACCESS_STATE_DISABLED[developers]",
			"warehouse": "ACCESS_STATE_DISABLED[readonly]",
		}
		if diff := cmp.Diff(want, w.show(s, ann.GetId())); diff != "" {
			t.Errorf("on leave (-want +got):\n%s", diff)
		}
	})
}

// TestAJoinerIntoFiveApplicationsWritesEightRows: its five events are one.
func TestAJoinerIntoFiveApplicationsWritesEightRows(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		s := w.service(large)
		w.apply(s, largeModel())
		rows := func() map[string]int64 {
			counts := map[string]int64{}
			for _, table := range []string{"decisions", "desired", "history", "outbox"} {
				var count int64
				if err := w.db.QueryRow(t.Context(), "SELECT COUNT(*) FROM "+table).Scan(&count); err != nil {
					t.Fatal(err)
				}
				counts[table] = count
			}
			return counts
		}
		before := rows()
		ann := w.people.put(person(active, "d005"))
		if err := s.Decide(t.Context(), ann.GetId()); err != nil {
			t.Fatal(err)
		}
		after := rows()
		for table := range after {
			after[table] -= before[table]
		}
		want := map[string]int64{"decisions": 1, "desired": 5, "history": 1, "outbox": 1}
		if diff := cmp.Diff(want, after); diff != "" {
			t.Errorf("rows written (-want +got):\n%s", diff)
		}
	})
}
