package provision_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/tenurehq/tenure/pkg/connector"
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
