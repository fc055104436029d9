package e2e

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	provisionv1 "github.com/tenurehq/tenure/proto/gen/tenure/provision/v1"
	"github.com/tenurehq/tenure/services/promises/table"
)

// What is promised of a leaver, from the word of HR to the read-back that shows the account disabled, in an application that is well.
const (
	mostWithin = 10 * time.Second // half of them at least
	allWithin  = time.Minute      // 99 in 100
)

// queue is a Tenure in which many join just before some leave.
type queue struct {
	hr   *hr
	door operators
	well []string               // applications that work
	in   func() map[string]bool // by login: who has something in any application
	sick func() (heal func())   // makes another application stop answering; nil: there is none
}

// Leavers do not wait: not for those who joined before them, and not for an application that does not answer.
func TestLeaversDoNotWait(t *testing.T) {
	if !whole() && !tabled() {
		t.Skip("it takes a minute or more: make promises")
	}
	for name, queue := range map[string]func(*testing.T) *queue{
		"one process on SQLite, an application hangs":        newQueue,
		"two of every service, PostgreSQL, three NATS nodes": newReplicatedQueue,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			queue(t).try(t, name)
		})
	}
}

// newQueue is one process with two demo applications that take their time, and one that can be made to hang.
func newQueue(t *testing.T) *queue {
	t.Helper()
	w := newWorld(t)
	at := freeAddresses(t, 2)
	apps := map[string]wiki{"wiki": {at[0]}, "code": {at[1]}}
	applications := w.applications(t)
	for name, app := range apps {
		applications += strings.Replace(demoApplication(name, app.address, smallGroups, ""), "temper: plain", "temper: slow", 1)
	}
	tn := serve(t, plan{applications: applications, logLevel: "warn"})
	tn.applyModel(t, worldModel+`
  - name: developers
    members: person.status == "active"
    grants:
      - {app: wiki, entitlement: "group:staff"}
      - {app: code, entitlement: "group:developers"}
`)
	return &queue{
		hr: tn.hr(t), door: tn.dial(t), well: []string{"wiki", "code"},
		in: func() map[string]bool {
			in := whoIsIn(t, apps)
			for login, has := range w.inSuite(t) {
				in[login] = in[login] || has.enabled || len(has.grants) > 0
			}
			return in
		},
		sick: func() func() {
			w.gate.set(hangs)
			return func() { w.gate.set(nil) }
		},
	}
}

// newReplicatedQueue is two of every service; of the example's applications one is slow and one refuses what comes too fast.
func newReplicatedQueue(t *testing.T) *queue {
	t.Helper()
	r := newReplicated(t)
	r.withoutLimits(t)
	return &queue{
		hr: r.hr(t), door: r.door(t), well: []string{"wiki", "code", "warehouse"},
		in: func() map[string]bool { return whoIsIn(t, r.apps) },
	}
}

// whoIsIn says of whom applications let somebody in, or know of a right, by login.
func whoIsIn(t *testing.T, apps map[string]wiki) map[string]bool {
	t.Helper()
	in := map[string]bool{}
	for _, app := range apps {
		for _, a := range app.list(t) {
			in[a.Login] = in[a.Login] || a.Status == "enabled" || len(a.Entitlements) > 0
		}
	}
	return in
}

func (q *queue) try(t *testing.T, name string) {
	t.Helper()
	const leavers = 20
	joiners := 500
	if whole() {
		joiners = 10_000
	}
	r := table.Row{Promise: "P5", Tried: fmt.Sprintf("%d leavers behind %d joiners, %s", leavers, joiners, name), Violations: 1, Figure: "not at the end"}
	defer func() { promised(t, r) }()

	var staff, crowd []record
	for n := range leavers + joiners {
		p := person(n)
		p.Department = "d005"
		if n < leavers {
			staff = append(staff, p)
		} else {
			crowd = append(crowd, p)
		}
	}
	q.join(t, staff)
	q.door.settle(t)
	ids, logins := map[string]string{}, map[string]string{} // by what HR calls them; by id
	for _, p := range q.door.everybody(t) {
		ids[p.GetRecord().GetExternalId()], logins[p.GetId()] = p.GetId(), p.GetUserName()
	}
	in := q.in()
	for _, p := range staff {
		if login := logins[ids[p.ExternalID]]; !in[login] {
			t.Fatalf("%s (%q) has nothing that could be taken away", p.ExternalID, login)
		}
	}

	heal := func() {}
	if q.sick != nil {
		heal = q.sick()
	}
	q.join(t, crowd)
	began := map[string]time.Time{} // by person
	for _, leaver := range staff {
		leaver.Status = "terminated"
		began[ids[leaver.ExternalID]] = time.Now()
		q.hr.tell(t, "leave-"+leaver.ExternalID, leaver)
	}
	var took []time.Duration
	for id, at := range began {
		took = append(took, q.awaitOff(t, id, at)...)
	}
	waiting := q.waiting(t) - len(took) // leavers may have something to come, too
	heal()
	awaitFor(t, settleTime, "leavers to have nothing anywhere", func() (bool, string) {
		in := q.in()
		for id := range began {
			if in[logins[id]] {
				return false, logins[id]
			}
		}
		return true, ""
	})

	slices.Sort(took)
	p50, p99 := took[len(took)/2], took[len(took)*99/100]
	r.N, r.Figure = len(took), fmt.Sprintf("p50 %s, p99 %s; %d accounts of joiners came after", p50.Round(time.Millisecond), p99.Round(time.Millisecond), waiting)
	t.Log(r.Figure)
	switch {
	case waiting <= 0:
		r.Violations = 0 // nor was anything tried
		t.Error("no joiner waited any more: there was nothing to overtake")
	case p50 > mostWithin:
		t.Errorf("half of the leavers took %s or more", p50)
	case p99 > allWithin:
		t.Errorf("the last leaver took %s", p99)
	default:
		r.Violations = 0
	}
}

// join has HR say of all of them that they join.
func (q *queue) join(t *testing.T, records []record) {
	t.Helper()
	postings := make([]posting, len(records))
	for i, r := range records {
		postings[i] = says(t, "join-"+r.ExternalID, time.Now(), r)
	}
	q.hr.insist(t, postings, new(atomic.Int64))
}

// awaitOff waits until somebody was seen to be let in no more by each application that is well, and returns how long that took in
// each, by the clock of who saw it.
func (q *queue) awaitOff(t *testing.T, id string, since time.Time) (took []time.Duration) {
	t.Helper()
	awaitFor(t, 2*allWithin, "a leaver to be out", func() (bool, string) {
		took = nil
		shown, err := q.door.provision.ShowAccounts(t.Context(), &provisionv1.ShowAccountsRequest{PersonId: id})
		if err != nil {
			return false, err.Error()
		}
		for _, target := range shown.GetTargets() {
			if !slices.Contains(q.well, target.GetApplication()) {
				continue
			}
			if target.GetCutOffAt() == nil {
				return false, target.String()
			}
			took = append(took, target.GetCutOffAt().AsTime().Sub(since))
		}
		return len(took) == len(q.well), shown.String()
	})
	return took
}

// waiting is how many accounts have something to come in the applications that are well.
func (q *queue) waiting(t *testing.T) (n int) {
	t.Helper()
	apps, err := q.door.provision.ListApplications(t.Context(), &provisionv1.ListApplicationsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, app := range apps.GetApplications() {
		if slices.Contains(q.well, app.GetName()) {
			n += int(app.GetDue())
		}
	}
	return n
}
