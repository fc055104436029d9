package policy_test

import (
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tenurehq/tenure/pkg/bus"
	"github.com/tenurehq/tenure/pkg/sqldb"
	"github.com/tenurehq/tenure/pkg/sqldb/sqltest"
	accessv1 "github.com/tenurehq/tenure/proto/gen/tenure/access/v1"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
	"github.com/tenurehq/tenure/services/e2e/employees"
	"github.com/tenurehq/tenure/services/policy"
	"github.com/tenurehq/tenure/services/policy/brake"
	"github.com/tenurehq/tenure/services/promises/table"
)

// byDepartmentAndTitle gives what goes with a department and a title, so that whoever changes either loses something.
const byDepartmentAndTitle = `
roles:
  - {name: everybody, members: person.status == "active", grants: [{app: wiki, entitlement: staff}]}
  - name: department
    for_each: {d: "[person.department]"}
    members: d != ""
    grants: [{app: wiki, entitlement: "dept-${d}"}, {app: warehouse, entitlement: "dept_${d}"}]
  - name: title
    for_each: {t: "[person.title.lowerAscii().replace(' ', '_')]"}
    members: t != ""
    grants: [{app: code, entitlement: "title_${t}"}]
`

// said is what HR said about one person of a real company.
type said struct {
	at     time.Time
	kind   eventv1.LifecycleKind
	person string
	record *peoplev1.Record
}

// yearsOfACompany are 1,771 events of 1,000 people.
func yearsOfACompany(t *testing.T) (all []said) {
	t.Helper()
	history, err := employees.History()
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]eventv1.LifecycleKind{
		"joiner": eventv1.LifecycleKind_LIFECYCLE_KIND_JOINER, "mover_dept": mover, "mover_title": mover, "leaver": leaver,
	}
	for _, e := range history {
		all = append(all, said{e.At, kinds[e.Kind], e.Number, &peoplev1.Record{ExternalId: e.Number, Department: e.Department, Title: e.Title}})
	}
	return all
}

// TestTheYearsOfACompanyAreNotHeld: nobody is held for what a real company did, nor does anybody keep for an instant what they
// should lose, at the limits that hold where nobody says others.
func TestTheYearsOfACompanyAreNotHeld(t *testing.T) {
	t.Parallel()
	history := yearsOfACompany(t)
	first, last := history[0].at, history[len(history)-1].at
	var years, falsely atomic.Int64
	t.Cleanup(func() { // after all of them
		file := os.Getenv(table.EnvFile)
		if file == "" {
			return
		}
		if err := table.Add(file, table.Row{
			Promise: "P11", Tried: "a company's years, by the month and by the day", N: int(years.Load()), Violations: int(falsely.Load()),
			Figure: fmt.Sprintf("%d people held in as many years", falsely.Load()),
		}); err != nil {
			t.Error(err)
		}
	})
	for name, c := range map[string]struct {
		when  func(time.Time) time.Time // HR says what happened then
		holds bool
	}{
		"each month in one delivery": {when: func(at time.Time) time.Time {
			return time.Date(at.Year(), at.Month()+1, 1, 0, 0, 0, 0, time.UTC)
		}},
		"all years in one": {when: func(at time.Time) time.Time {
			return first.Add(time.Duration(float64(at.Sub(first)) / float64(last.Sub(first)) * float64(365*24*time.Hour)))
		}},
		"each year in one delivery": {holds: true, when: func(at time.Time) time.Time {
			return time.Date(at.Year()+1, 1, 1, 0, 0, 0, 0, time.UTC)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, sqltest.New(t, sqldb.SQLite, policy.Migrations()...))
			now := first
			s := w.service(braked("0", "0", &now), func(cfg *policy.Config, _ *policy.Deps) { cfg.Brake = brake.Defaults() })
			w.apply(s, byDepartmentAndTitle)
			people := map[string]*peoplev1.Person{}
			deliveries, losses, held := 0, 0, 0
			for from := 0; from < len(history); {
				now = c.when(history[from].at)
				var events []bus.Event
				var leavers []*peoplev1.Person
				for ; from < len(history) && c.when(history[from].at).Equal(now); from++ {
					h := history[from]
					if people[h.person] == nil {
						people[h.person] = person(active, "")
					}
					p := people[h.person]
					p.Record = h.record
					if h.kind == leaver {
						p.Status, p.EndedAt = terminated, timestamppb.New(now)
						leavers = append(leavers, p)
					}
					if h.kind == leaver || h.kind == mover {
						losses++
					}
					events = append(events, w.event(h.kind, p))
				}
				w.hear(s, events...)
				deliveries++
				kept := w.releaseAll(s)
				held += kept
				for _, p := range leavers {
					if kept == 0 && w.has(s, p) {
						t.Errorf("on %s somebody left, and keeps something", now.Format(time.DateOnly))
					}
				}
			}
			t.Logf("%d people lost something %d times in %d deliveries; %d were held", len(people), losses, deliveries, held)
			if !c.holds {
				years.Add(int64(last.Year() - first.Year()))
				falsely.Add(int64(held))
			}
			if (held > 0) != c.holds {
				t.Errorf("%d people were held", held)
			}
		})
	}
}

// has says whether a person should have an account anywhere that works.
func (w *world) has(s *policy.Service, p *peoplev1.Person) bool {
	for _, has := range w.show(s, p.GetId()) {
		if !strings.HasPrefix(has, "ACCESS_STATE_NONE") {
			return true
		}
	}
	return false
}

// releaseAll has two operators release everything, and returns how many people were held.
func (w *world) releaseAll(s *policy.Service) (people int) {
	w.t.Helper()
	listed, err := s.ListHolds(w.t.Context(), &accessv1.ListHoldsRequest{})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, h := range listed.GetHolds() {
		people += int(h.GetPeople())
		for _, name := range []string{"ada", "bob"} {
			if _, err := s.ReleaseHold(w.as(name), &accessv1.ReleaseHoldRequest{Id: h.GetId(), Hash: h.GetHash()}); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	if people > 0 {
		if err := s.ReleaseHeld(w.t.Context()); err != nil {
			w.t.Fatal(err)
		}
	}
	return people
}
