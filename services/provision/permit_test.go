package provision_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/tenurehq/tenure/pkg/bus"
	"github.com/tenurehq/tenure/pkg/connector"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	"github.com/tenurehq/tenure/services/provision/internal/store"
)

// TestAConnectorThatMisreadsEverybodyTakesNoMoreThanPolicyReleases: all accounts show an entitlement that nobody gave.
func TestAConnectorThatMisreadsEverybodyTakesNoMoreThanPolicyReleases(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, engine string) {
		const people, released = 6, 2
		m := newMemory("a", "admin")
		w := newWorld(t, engine, one("code", m))
		svc, _ := w.start()
		var all []want
		for i := range people {
			all = append(all, want{app: "code", person: fmt.Sprint("p", i), state: enabled, entitlements: []string{"a"}, noRelease: true})
		}
		w.publish(all...)
		for _, x := range all {
			w.done("code", x.person)
		}
		m.mu.Lock()
		for _, a := range m.accounts {
			a.Grants = append(a.Grants, connector.Grant{Entitlement: "admin"})
		}
		m.mu.Unlock()
		w.policy.permit(released)
		w.publish(all...)
		stuckOnes := func() (n int) {
			for _, x := range all {
				w.untilState("code", x.person, store.Settled, store.Stuck)
			}
			for _, item := range stuckItems(t, svc) {
				if item.GetProblem() != "PRECONDITION" || !strings.Contains(item.GetDetail(), "hold-1") {
					t.Errorf("stuck with %v", item)
				}
				n++
			}
			return n
		}
		for _, x := range all {
			w.untilMarked("code", x.person, 2)
		}
		if n := stuckOnes(); n != people-released {
			t.Errorf("%d are stuck, want %d", n, people-released)
		}
		revoked := func() int {
			return len(slices.DeleteFunc(m.journal(), func(e string) bool { return !strings.HasPrefix(e, "REVOKE ") }))
		}
		if n := revoked(); n != released {
			t.Errorf("%d accounts lost what they were seen to have, want %d", n, released)
		}
		w.policy.permit(people) // two people released it
		for _, x := range all {
			retry(t, svc, "code", x.person)
		}
		for _, x := range all {
			w.untilState("code", x.person, store.Settled)
		}
		if n := revoked(); n != people {
			t.Errorf("released, %d of %d lost it", n, people)
		}
		withdrawn := map[string]bool{}
		for _, asked := range w.policy.releases() {
			if len(asked.GetSteps()) == 0 {
				withdrawn[asked.GetPersonId()] = true
			} else if s := asked.GetSteps()[0]; len(asked.GetSteps()) != 1 || s.GetOp() != eventv1.Op_OP_REVOKE || s.GetTarget() != "admin" {
				t.Errorf("asked for %v", asked)
			}
		}
		if len(withdrawn) != people-released {
			t.Errorf("of %d who were held policy is told that nothing is asked for any more", len(withdrawn))
		}
		w.until("each is taken away by the permission", func(events []bus.Event) bool {
			takes := facts(events, func(i *eventv1.Intent) bool { return i.GetRelease() == "permission" })
			return len(takes) == people
		})
	})
}
