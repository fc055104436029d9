package policy_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenurehq/tenure/pkg/bus"
	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
	"github.com/tenurehq/tenure/services/policy"
)

// onCall is the company with on-call called privileged.
var onCall = strings.Replace(company, "roles:", "  - {app: code, id: on-call, level: admin, can: [edit], privileged: true}\nroles:", 1)

// fewPrivileged lets two people a day be given something privileged, and everybody lose what they lose.
func fewPrivileged(now *time.Time) func(*policy.Config, *policy.Deps) {
	return func(cfg *policy.Config, deps *policy.Deps) {
		braked("100%", "100%", now)(cfg, deps)
		cfg.Brake.PrivilegedPerDay = limits("2", "0", "0").PerHour
	}
}

// onRota is HR's word that these people are on the rota, in one delivery.
func (w *world) onRota(s *policy.Service, people []*peoplev1.Person) {
	w.t.Helper()
	events := make([]bus.Event, len(people))
	for i, p := range people {
		p.Record.EmploymentType, p.Record.Attributes = "employee", map[string]string{"rota": "yes"}
		events[i] = w.event(mover, p)
	}
	w.hear(s, events...)
}

// privileged returns how many of these are on call. The others must have what they had.
func (w *world) privileged(s *policy.Service, people []*peoplev1.Person) int {
	w.t.Helper()
	n := 0
	for _, p := range people {
		switch got := w.show(s, p.GetId())["code"]; got {
		case "[developers on-call]":
			n++
		case "[developers]":
		default:
			w.t.Errorf("%s has %s in code", p.GetId(), got)
		}
	}
	return n
}

func TestOnlySoManyADayAreGivenSomethingPrivileged(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		now := time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)
		s := w.service(fewPrivileged(&now))
		w.apply(s, onCall)
		people := w.hire(s, 9)
		w.onRota(s, people[:6])
		w.onRota(w.service(fewPrivileged(&now)), people[6:8]) // another replica counts the same
		if n := w.privileged(s, people); n != 2 {
			t.Errorf("%d people are on call, want 2", n)
		}
		if diff := cmp.Diff([]string{"6 of 6: mover, source hr"}, w.holds(s)); diff != "" {
			t.Errorf("holds (-want +got):\n%s", diff)
		}
		_, held := w.hold(s)
		if want := "privileged_per_day: 2 were given something privileged already, and 2 may be"; held[0].GetLimit() != want {
			t.Errorf("the limit is told as %q, want %q", held[0].GetLimit(), want)
		}
		w.terminate(s, people[5:6]) // nothing privileged keeps a leaver
		if gone := w.gone(s, people[5:6]); len(gone) != 1 {
			t.Error("a leaver who was to be given something privileged is held")
		}
		now = now.Add(25 * time.Hour)
		w.onRota(s, people[8:])
		if n := w.privileged(s, append(people[:5:5], people[6:]...)); n != 3 {
			t.Errorf("a day later %d people are on call, want 3: there is room, and what is held waits for two people", n)
		}
		w.release(s)
		if err := s.ReleaseHeld(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := w.privileged(s, append(people[:5:5], people[6:]...)); n != 8 {
			t.Errorf("released, %d people are on call, want all 8", n)
		}
	})
}

func TestAModelThatMakesEverybodyPrivilegedIsHeld(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		s := w.service(fewPrivileged(nil))
		w.apply(s, onCall)
		people := w.hire(s, 7)
		everybody := strings.Replace(onCall, `person.attributes["rota"] == "yes" && person.employment_type == "employee"`, `person.department == "d005"`, 1)
		if held := w.apply(s, everybody[:strings.Index(everybody, "tests:")]).GetHeld(); held != 5 {
			t.Errorf("applying it says that %d people would be held, want 5", held)
		}
		if err := s.Compare(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := w.privileged(s, people); n != 2 {
			t.Errorf("%d people are on call, want 2", n)
		}
		if diff := cmp.Diff([]string{"5 of 5: model 1 → 2"}, w.holds(s)); diff != "" {
			t.Errorf("holds (-want +got):\n%s", diff)
		}
	})
}
