package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
	provisionv1 "github.com/tenurehq/tenure/proto/gen/tenure/provision/v1"
	"github.com/tenurehq/tenure/services/audit/evidence"
	"github.com/tenurehq/tenure/services/connectors/scim/scimtest"
)

// world is a Tenure with one application in which something can go wrong, and what HR has said to it.
type world struct {
	*mix       // of it the suite alone
	gate *gate // before the suite

	toDatabase *wire

	tenure    *tenure   // one process, where it is
	cluster   *cluster  // five, where they are
	nodes     *nodes    // of NATS, where there are three
	database  *database // where it is stopped and started
	listeners []string  // of figures and probes
	probes    []string  // of other servers
	hr        *hr       // the HR system
	door      operators // to look at Tenure
	cli       func(*testing.T, ...string) ran

	words      []posted          // what HR said, in its order
	first      posting           // of them
	deliveries map[string]string // of what was accepted, by the webhook's id
}

// worldModel gives every active person an account in the suite with a group for everybody and one by department.
const worldModel = `
roles:
  - name: everybody
    members: person.status == "active"
    grants:
      - {app: suite, entitlement: "group:staff"}
  - name: department
    for_each: {d: "[person.department]"}
    members: d != ""
    grants:
      - {app: suite, entitlement: "group:${d}"}
`

// worldWish is what the model gives an active person, worked out here.
func worldWish(r record) wish { return wish{true, []string{r.Department, "staff"}} }

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{mix: &mix{suite: scimtest.Start(t)}, deliveries: map[string]string{}}
	for _, group := range []string{"staff", "d004", "d005"} {
		w.suite.AddGroup(t, group)
	}
	w.gate = newGate(t, w.suite.Address())
	return w
}

// applications is the suite as the configuration has it.
func (w *world) applications(t *testing.T) string {
	t.Helper()
	token := filepath.Join(t.TempDir(), "suite")
	write(t, token, w.suite.Token())
	return fmt.Sprintf(`
  - name: suite
    connector: scim
    environment: prod
    owner: team-suite
    enforce: full
    config: {url: "http://%s%s", token_file: %q}
    account: {userName: person.user_name, name.givenName: person.given_name, name.familyName: person.family_name}
    limits: {timeout: 2s}
`, w.gate.address, w.suite.Path(), token)
}

// inOneProcess is a world of tenure serve.
func inOneProcess(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.tenure = serve(t, plan{applications: w.applications(t), logLevel: "warn", more: "audit: {checkpoint_every: 1s}"})
	w.listeners, w.hr, w.door, w.cli = []string{w.tenure.metrics}, w.tenure.hr(t), w.tenure.dial(t), w.tenure.cli
	w.tenure.applyModel(t, worldModel)
	return w
}

// person is somebody of HR's; the number makes them who they are.
func person(n int) record {
	return record{
		ExternalID: fmt.Sprint(n), Status: "active", GivenName: "Pat", FamilyName: fmt.Sprintf("Person%d", n), Email: fmt.Sprintf("p%d@acme.example", n),
		Department: "d004", Title: "Engineer", StartDate: "2020-01-01",
	}
}

// say begins to say these records, one after the other, each until it is accepted. The channel is closed when all are.
func (w *world) say(t *testing.T, records ...record) <-chan struct{} {
	t.Helper()
	var postings []posting
	for _, r := range records {
		p := says(t, fmt.Sprintf("word-%03d", len(w.words)), time.Now(), r)
		w.words, postings = append(w.words, posted{p.id, r}), append(postings, p)
	}
	if len(w.words) == len(postings) {
		w.first = postings[0]
	}
	accepted := make(chan struct{})
	go func() {
		defer close(accepted)
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for _, p := range postings {
			for {
				if delivery, err := w.hr.post(t, p); err == nil {
					w.deliveries[p.id] = delivery
					break
				}
				select {
				case <-tick.C:
				case <-t.Context().Done():
					return
				}
			}
		}
	}()
	return accepted
}

// settled says whether everybody has what the last word of HR's gives them, and nothing is under way or waits for somebody.
func (w *world) settled(t *testing.T) (bool, string) {
	t.Helper()
	apps, err := w.door.provision.ListApplications(t.Context(), &provisionv1.ListApplicationsRequest{})
	if err != nil {
		return false, err.Error()
	}
	for _, app := range apps.GetApplications() {
		if app.GetDue() > 0 || app.GetStuck() > 0 || app.GetSettled() < app.GetPeople() || app.GetPeople() == 0 {
			return false, app.String()
		}
	}
	diff := w.difference(t)
	return diff == "", diff
}

// difference is how the suite, by its own word, differs from what everybody should have.
func (w *world) difference(t *testing.T) string {
	t.Helper()
	has, wants := w.inSuite(t), map[string]holding{}
	for login, r := range w.lastWords() {
		if r.Status == "active" {
			wants[login] = holding{true, worldWish(r).grants}
		} else if _, there := has[login]; there {
			wants[login] = holding{}
		}
	}
	return cmp.Diff(wants, has, cmp.AllowUnexported(holding{}))
}

// lastWords are the last word about each person, by login: the model of the names is of the configuration's default.
func (w *world) lastWords() map[string]record {
	last := map[string]record{}
	for _, word := range w.words {
		last[loginOf(word.record)] = word.record
	}
	return last
}

// loginOf is the name that Tenure gives a person of this world.
func loginOf(r record) string { return "pperson" + r.ExternalID }

// check looks at the end: nothing that was accepted is lost, nothing was done that could not be right, and the log is whole.
func (w *world) check(t *testing.T) {
	t.Helper()
	for id, delivery := range w.deliveries {
		shown, err := w.door.people.ShowDelivery(t.Context(), &peoplev1.ShowDeliveryRequest{Id: delivery})
		if err != nil || shown.GetDelivery().GetKey() != id {
			t.Errorf("%s was accepted as %s and is gone: %v", id, delivery, err)
		}
	}
	w.checkJournal(t)
	awaitFor(t, settleTime, "the log to be whole", func() (bool, string) {
		report, err := verified(t, w.cli)
		if err != nil {
			return false, err.Error()
		}
		return len(report.Missing) == 0 && report.Origins["ingest"] > 0 && report.Origins["provision/suite"] > 0, fmt.Sprintf("%+v", report)
	})
	awaitFor(t, settleTime, "every operation to have an outcome", func() (bool, string) { return w.door.outcomes(t, "suite") })
	if said := answer[struct{ Parked []any }](t, w.cli(t, "events", "parked", "-o", "json")); len(said.Parked) > 0 {
		t.Errorf("events were set aside: %v", said.Parked)
	}
}

// checkJournal reads the suite's own journal.
func (w *world) checkJournal(t *testing.T) {
	t.Helper()
	perPerson, right := map[string][]posted{}, map[effect]int{}
	for _, word := range w.words {
		perPerson[loginOf(word.record)] = append(perPerson[loginOf(word.record)], word)
	}
	for name, words := range perPerson {
		maps.Copy(right, most(words, name, worldWish))
	}
	journal := w.suiteJournal(t)
	nothingTwice(t, "suite", journal, right)
	last := w.lastWords()
	disabled := map[string]bool{}
	for _, e := range journal {
		switch {
		case e.op == "disable":
			disabled[e.account] = true
		case (e.op == "grant" || e.op == "enable") && disabled[e.account] && last[e.account].Status != "active":
			t.Errorf("%s left, was disabled, and was given %s %s behind it", e.account, e.op, e.target)
		}
	}
}

// suiteJournal reads the suite's own journal: what it says changed something there.
func (m *mix) suiteJournal(t *testing.T) (journal []effect) {
	t.Helper()
	for _, change := range m.suite.Journal(t) {
		journal = append(journal, effect{account: change.Login, op: change.Op, target: change.Group})
	}
	return journal
}

// verified is what an operator is told who has the log verified.
func verified(t *testing.T, cli func(*testing.T, ...string) ran) (report evidence.Report, err error) {
	t.Helper()
	r := cli(t, "audit", "verify", "-o", "json")
	if err := json.Unmarshal([]byte(r.stdout), &report); r.code != 0 || err != nil {
		return report, fmt.Errorf("exit %d: %s%s", r.code, r.stdout, r.stderr)
	}
	return report, nil
}

// outcomes says whether each operation in the applications has an outcome. While a process is away nobody knows.
func (o operators) outcomes(t *testing.T, applications ...string) (bool, string) {
	t.Helper()
	people, err := o.list(t.Context())
	if err != nil {
		return false, err.Error()
	}
	for _, p := range people {
		for _, app := range applications {
			said, err := o.provision.Journal(t.Context(), &provisionv1.JournalRequest{PersonId: p.GetId(), Application: app})
			if err != nil {
				return false, err.Error()
			}
			for _, entry := range said.GetEntries() {
				if entry.GetOutcomeAt() == nil {
					return false, fmt.Sprintf("%s: operation %s of person %s has none", app, entry.GetOperationId(), p.GetId())
				}
			}
		}
	}
	return len(people) > 0, "nobody is known"
}
