package provision_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenurehq/tenure/pkg/bus"
	"github.com/tenurehq/tenure/pkg/connector"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	provisionv1 "github.com/tenurehq/tenure/proto/gen/tenure/provision/v1"
	"github.com/tenurehq/tenure/services/provision/internal/store"
)

// hire gives people an account with the entitlement a, from version 1 of each.
func hire(t *testing.T, w *world, people ...string) {
	t.Helper()
	var wants []want
	for _, p := range people {
		for _, a := range w.cfg.Applications {
			wants = append(wants, want{app: a.Name, person: p, state: enabled, entitlements: []string{"a"}, run: 1})
		}
	}
	w.publish(wants...)
	for _, x := range wants {
		w.done(x.app, x.person)
	}
}

// gone waits until a worker has seen that somebody who is cut can get in no more.
func (w *world) gone(app, person string) {
	w.t.Helper()
	w.untilTarget(app, person, "cut off", func(t store.Target) bool {
		return !t.CutOffAt.IsZero() && t.State == store.Settled && t.DueAt.IsZero()
	})
}

// keyKnown waits until the workers know the key that signs cuts.
func (w *world) keyKnown() {
	w.t.Helper()
	for _, a := range w.cfg.Applications {
		until(w.t, "key to be known to the worker of "+a.Name, func() bool {
			key, err := store.New(w.dbs[a.Name]).CutKey(w.t.Context())
			return err == nil && len(key) > 0
		})
	}
}

// noted is what a worker knows of a person's cuts.
func (w *world) noted(app, person string) store.Cut {
	w.t.Helper()
	cuts, err := store.New(w.dbs[app]).Cuts(w.t.Context(), []string{person})
	if err != nil {
		w.t.Fatal(err)
	}
	return cuts[person]
}

func (m *memory) isEnabled(login string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, a := range m.accounts {
		if a.Name == login {
			return a.Status == connector.Enabled
		}
	}
	return false
}

var (
	hired   = []string{"CREATE ann", "GRANT ann a", "ENABLE ann"}
	cutOff  = append(slices.Clone(hired), "DISABLE ann", "REVOKE_CREDENTIAL ann password", "REVOKE ann a")
	letBack = append(slices.Clone(cutOff), "GRANT ann a", "ENABLE ann")
)

func TestACutIsCarriedOutWhilePolicyIsStopped(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, engine string) {
		code, wiki := newMemory("a"), newMemory("a")
		w := newWorld(t, engine, one("code", code), one("wiki", wiki))
		svc, _ := w.start()
		hire(t, w, "ann")
		w.policy.leave(true)
		at := w.ingest.order(kindCut, "ann", 2)
		for _, app := range []string{"code", "wiki"} {
			w.gone(app, "ann")
		}
		journalIs(t, code, cutOff...)
		journalIs(t, wiki, cutOff...)

		shown, err := svc.ShowAccounts(t.Context(), &provisionv1.ShowAccountsRequest{PersonId: "ann"})
		if err != nil || len(shown.GetTargets()) != 2 {
			t.Fatalf("shown %v, %v", shown, err)
		}
		for _, target := range shown.GetTargets() {
			if !target.GetEndedAt().AsTime().Equal(at) || !target.GetEndKnownAt().AsTime().Equal(at) || target.GetCutOffAt().AsTime().Before(at) {
				t.Errorf("%s: ended %v, known %v, cut off %v; the cut was at %s", target.GetApplication(), target.GetEndedAt(), target.GetEndKnownAt(), target.GetCutOffAt(), at)
			}
		}
		until(t, "tenure_leaver_seconds to have four observations, by both clocks, in both applications", func() bool { return leavers(t, w) == 4 })
		w.until("the cut is what released it and what led to it", func(events []bus.Event) bool {
			intents := facts(events, func(i *eventv1.Intent) bool { return slices.Contains(i.GetOps(), eventv1.Op_OP_DISABLE) })
			for _, i := range intents {
				if i.GetRelease() != "cut-2" || i.GetPersonVersion() != 2 {
					t.Fatalf("intent %v", i)
				}
			}
			return len(intents) == 2
		})
		everyIntentHasOneOutcome(t, w)
	})
}

// leavers counts the observations of tenure_leaver_seconds.
func leavers(t *testing.T, w *world) uint64 {
	t.Helper()
	families, err := w.figure.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var n uint64
	for _, f := range families {
		if f.GetName() == "tenure_leaver_seconds" {
			for _, m := range f.GetMetric() {
				n += m.GetHistogram().GetSampleCount()
			}
		}
	}
	return n
}

func TestNothingLetsWhoIsCutBackButALiftAndPolicysWordAfterIt(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, engine string) {
		m := newMemory("a", "b")
		w := newWorld(t, engine, one("code", m))
		_, stop := w.start()
		hire(t, w, "ann")
		w.ingest.order(kindCut, "ann", 5)
		w.gone("code", "ann")

		// Policy's older word, in a generation of its own, and then one that is newer than the cut and knows nothing of it.
		for _, version := range []uint64{4, 5, 8} {
			w.publish(want{app: "code", person: "ann", state: enabled, entitlements: []string{"a", "b"}, version: version})
			if o := w.done("code", "ann"); o.GetObserved() != disabled {
				t.Errorf("decided from version %d: the outcome shows %s", version, o.GetObserved())
			}
		}
		stop() // nor does another process
		w.start()
		w.publish(want{app: "code", person: "ann", state: enabled, entitlements: []string{"a"}, version: 8})
		w.done("code", "ann")
		journalIs(t, m, cutOff...)

		w.ingest.order(kindLift, "ann", 9)
		w.untilTarget("code", "ann", "waiting for policy", func(t store.Target) bool { return t.Reason == "tenure.policy_before_lift" })
		journalIs(t, m, cutOff...)
		// Policy decides the same again, from the lift's version: there is no new generation, and no event.
		w.policy.mu.Lock()
		w.policy.desired["code/ann"].PersonVersion = 9
		w.policy.mu.Unlock()
		w.untilTarget("code", "ann", "settled", func(t store.Target) bool {
			return t.State == store.Settled && t.DueAt.IsZero() && t.CutOffAt.IsZero() && t.EndedAt.IsZero()
		})
		journalIs(t, m, letBack...)

		// And once more: what was cut for this generation is cut again.
		w.ingest.order(kindCut, "ann", 10)
		w.gone("code", "ann")
		journalIs(t, m, append(slices.Clone(letBack), "DISABLE ann", "REVOKE ann a")...)
	})
}

func TestWhileIngestIsSilentASignedEventIsActedOn(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, engine string) {
		m := newMemory("a")
		w := newWorld(t, engine, one("code", m))
		w.start()
		hire(t, w, "ann")
		w.keyKnown()
		w.ingest.leave(true)
		w.policy.leave(true)
		w.ingest.order(kindCut, "ann", 2)
		w.gone("code", "ann")
		journalIs(t, m, cutOff...)
		w.policy.decide(want{app: "code", person: "ann", state: enabled, entitlements: []string{"a"}, version: 3})
		w.policy.leave(false)
		w.ingest.order(kindLift, "ann", 3)
		w.untilTarget("code", "ann", "settled again", func(t store.Target) bool { return t.State == store.Settled && t.CutOffAt.IsZero() })
		journalIs(t, m, letBack...)
	})
}

func TestAnEventThatIngestDidNotSignIsNotActedOn(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, engine string) {
		m := newMemory("a")
		w := newWorld(t, engine, one("code", m))
		w.start()
		hire(t, w, "ann", "bea", "cem")
		w.keyKnown()
		w.ingest.leave(true)
		now := time.Now()
		unsigned, foreign, altered, lift := lifecycle(kindCut, "ann", 2, now), lifecycle(kindCut, "ann", 3, now), lifecycle(kindCut, "bea", 4, now), lifecycle(kindLift, "ann", 9, now)
		w.ingest.sign(newKey(t), foreign)
		w.ingest.sign(w.ingest.key, altered)
		altered.PersonId = "ann"
		w.ingest.sign(newKey(t), lift)
		for _, l := range []*eventv1.Lifecycle{unsigned, foreign, altered, lift} {
			w.ingest.say(l)
		}
		w.ingest.order(kindCut, "bea", 2) // after them, and signed
		w.gone("code", "bea")
		if c := w.noted("code", "ann"); c.Version != 0 || !m.isEnabled("ann") {
			t.Fatalf("a forged event is believed: %+v", c)
		}

		w.ingest.leave(false) // ingest knows of no cut of ann
		w.ingest.untilAsked("ann")
		w.ingest.order(kindCut, "cem", 2)
		w.gone("code", "cem")
		if c := w.noted("code", "ann"); c.Version != 0 || !m.isEnabled("ann") {
			t.Errorf("against ingest's word a forged event is believed: %+v", c)
		}
	})
}

func TestWithoutAKeyAnEventWaitsForIngest(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, engine string) {
		m := newMemory("a")
		w := newWorld(t, engine, one("code", m))
		w.ingest.leave(true)
		w.start()
		hire(t, w, "ann")
		w.ingest.order(kindCut, "ann", 2)
		w.publish(want{app: "code", person: "bea", state: none}) // in the same lane, after it
		w.untilMarked("code", "bea", 1)
		if c := w.noted("code", "ann"); c.Version != 0 || !m.isEnabled("ann") {
			t.Fatalf("an event that nobody can verify is acted on: %+v", c)
		}
		w.ingest.leave(false)
		w.gone("code", "ann")
		journalIs(t, m, cutOff...)
	})
}

func TestACutWhoseEventWasLostIsFound(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, engine string) {
		m := newMemory("a")
		w := newWorld(t, engine, one("code", m))
		w.cfg.Timing.Repair = 100 * time.Millisecond
		_, stop := w.start()
		hire(t, w, "ann")
		w.ingest.know(kindCut, "ann", 2)
		w.gone("code", "ann")
		stop()
		w.ingest.know(kindLift, "ann", 3)
		w.policy.decide(want{app: "code", person: "ann", state: enabled, entitlements: []string{"a"}, version: 3})
		w.start()
		until(t, "account to work again", func() bool { return m.only(t).Status == connector.Enabled }) // perhaps policy was heard before the lift
		journalIs(t, m, letBack...)
	})
}

func TestWhoIsCutBeforeAnythingWasDesiredGetsNothing(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, engine string) {
		m := newMemory("a")
		w := newWorld(t, engine, one("code", m))
		svc, _ := w.start()
		w.ingest.order(kindCut, "ann", 2)
		until(t, "cut to be noted", func() bool { return w.noted("code", "ann").Version > 0 })
		w.publish(want{app: "code", person: "ann", state: enabled, entitlements: []string{"a"}, version: 1})
		if o := w.done("code", "ann"); o.GetObserved() != none {
			t.Errorf("the outcome shows %s", o.GetObserved())
		}
		for _, p := range plans(t, svc, "code", "ann") {
			if len(p.GetSteps()) != 0 {
				t.Errorf("a dry run would do %v", p.GetSteps())
			}
		}
	})
}

func TestACutNeedsNoReleaseOfPolicys(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, engine string) {
		m := newMemory("a")
		w := newWorld(t, engine, one("code", m))
		w.start()
		hire(t, w, "ann")
		w.publish(want{app: "code", person: "ann", state: none, noRelease: true}) // held by the brake
		w.untilState("code", "ann", store.Stuck)
		w.policy.leave(true)
		w.ingest.order(kindCut, "ann", 3)
		w.untilTarget("code", "ann", "cut off", func(t store.Target) bool { return !t.CutOffAt.IsZero() })
		journalIs(t, m, cutOff...)
		w.policy.leave(false)
		w.gone("code", "ann")
	})
}

func TestACutOvertakesWhatWaitsForPolicy(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, engine string) {
		m := newMemory("a")
		w := newWorld(t, engine, one("code", m))
		w.start()
		people := []string{"ann"}
		for i := range 40 {
			people = append(people, "p"+string(rune('a'+i%26))+string(rune('a'+i/26)))
		}
		hire(t, w, people...)
		w.policy.leave(true)
		var wants []want
		for _, p := range people[1:] {
			wants = append(wants, want{app: "code", person: p, state: none})
		}
		w.publish(wants...) // forty leavers whom nobody can work on
		w.untilMarked("code", people[len(people)-1], 2)
		w.ingest.order(kindCut, "ann", 2)
		w.gone("code", "ann")
		if diff := cmp.Diff([]string{"DISABLE ann", "REVOKE_CREDENTIAL ann password", "REVOKE ann a"}, m.journal()[3*len(people):]); diff != "" {
			t.Errorf("what was done meanwhile (-want +got):\n%s", diff)
		}
	})
}
