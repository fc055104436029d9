package provision_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/tenurehq/tenure/pkg/connector"
	"github.com/tenurehq/tenure/services/provision/internal/store"
)

// TestWhatAnOperatorAsksForDuringAnAttemptIsDone: the attempt fails in a way that is tried again in an hour.
func TestWhatAnOperatorAsksForDuringAnAttemptIsDone(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, engine string) {
		m := newMemory("a")
		asked, goOn := make(chan struct{}), make(chan struct{})
		first := true
		m.misbehave(func(_ context.Context, op string) error {
			if op != "CREATE" || !first {
				return nil
			}
			first = false
			close(asked)
			<-goOn
			return connector.Precondition("memory.licence", "no licence left")
		})
		w := newWorld(t, engine, one("code", m))
		svc, _ := w.start()
		w.publish(want{app: "code", person: "ann", state: enabled, entitlements: []string{"a"}})
		<-asked
		retry(t, svc, "code", "ann")
		close(goOn)
		w.done("code", "ann")
	})
}

// TestAReplicaOfOlderSettingsMakesWay: what it settled, the others would never look at again.
func TestAReplicaOfOlderSettingsMakesWay(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, engine string) {
		m := newMemory("a")
		a := one("code", m)
		a.Enforce = "observe"
		w := newWorld(t, engine, a)
		w.start()
		var wants []want
		for i := range 20 {
			wants = append(wants, want{app: "code", person: fmt.Sprintf("p%02d", i), state: enabled, entitlements: []string{"a"}})
		}
		w.publish(wants[:10]...)
		for _, x := range wants[:10] {
			w.outcome("code", x.person, notDone)
		}
		w.cfg.Applications = slices.Clone(w.cfg.Applications)
		w.cfg.Applications[0].Enforce = "full"
		w.start()
		w.done("code", wants[0].person)
		w.publish(wants[10:]...)
		for _, x := range wants {
			w.done("code", x.person)
		}
	})
}

func TestWhatADeadProcessHeldIsTakenOverAtOnceByTheOnlyOneThatLives(t *testing.T) {
	t.Parallel()
	m := newMemory("a")
	w := newWorld(t, "sqlite", one("code", m))
	w.sole = map[string]bool{"code": true}
	w.policy.decide(want{app: "code", person: "ann", state: enabled, entitlements: []string{"a"}})
	s, now := store.New(w.dbs["code"]), time.Now()
	err := s.InTx(t.Context(), func(tx store.Tx) error {
		_, err := tx.MarkDue(t.Context(), []store.Mark{{Person: "ann", Generation: 1, Lane: store.Lane(normal)}}, now)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	held, err := s.Claim(t.Context(), store.Claim{Lane: store.Lane(normal), Limit: 1, Holder: "dead", Now: now, Until: now.Add(time.Hour)})
	if err != nil || len(held) != 1 {
		t.Fatalf("held %v, %v", held, err)
	}
	w.start()
	w.done("code", "ann")
	journalIs(t, m, "CREATE ann", "GRANT ann a", "ENABLE ann")
}

// TestWhatSomebodyElseChangesIsFoundByLookingAgain: nothing is desired anew, and nobody tells.
func TestWhatSomebodyElseChangesIsFoundByLookingAgain(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, engine string) {
		m := newMemory("a", "b")
		a := one("code", m)
		a.LookAgain, a.WhenUnwanted.DeleteAfter = time.Millisecond, time.Hour
		w := newWorld(t, engine, a)
		_, stop := w.start()
		hire(t, w, "ann", "bob")
		w.publish(want{app: "code", person: "ann", state: none})
		w.done("code", "ann")
		stop()
		m.mu.Lock()
		for _, x := range m.accounts {
			x.Status = connector.Enabled // ann's, who has left
			x.Grants = nil               // bob's
		}
		m.mu.Unlock()
		w.start()
		until(t, "accounts to be as they should be", func() bool {
			return slices.Equal(m.shownAll(), []string{"id-1 ann tenure:ann", "id-2 bob tenure:bob enabled a"}) ||
				slices.Equal(m.shownAll(), []string{"id-1 bob tenure:bob enabled a", "id-2 ann tenure:ann"})
		})
	})
}

func TestAnApplicationThatIsNotConfiguredAnyMoreIsMentioned(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "sqlite", one("code", newMemory("a")))
	w.cfg.Unconfigured = []string{"gone"}
	svc, _ := w.start()
	answer, err := svc.ListApplications(t.Context(), nil)
	if err != nil || len(answer.GetApplications()) != 2 || answer.GetApplications()[1].GetName() != "gone" || answer.GetApplications()[1].GetHealth() != "not configured" {
		t.Errorf("listed %v, %v", answer, err)
	}
}
