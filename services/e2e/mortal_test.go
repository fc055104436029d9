//go:build crashpoints

package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	provisionv1 "github.com/tenurehq/tenure/proto/gen/tenure/provision/v1"
)

// mortal is a Tenure of which processes may die, with the applications wiki and code.
type mortal struct {
	apps     map[string]wiki
	operator func(*testing.T, ...string) ran // the command line, in the folder of that Tenure
}

// insistOnModel makes a model take effect, though who is asked may die. dir is the folder of this Tenure.
func (m mortal) insistOnModel(t *testing.T, dir, text string) {
	t.Helper()
	write(t, filepath.Join(dir, "model", "roles.yaml"), text)
	await(t, "the model to be applied", func() (bool, string) {
		r := m.operator(t, "model", "apply", "model", "--yes")
		return r.code == 0, r.stderr
	})
}

const crashRoles = `
roles:
  - name: staff
    members: person.status == "active"
    grants:
      - {app: wiki, entitlement: "group:staff"}
  - name: developers
    members: person.department == "d005"
    grants:
      - {app: wiki, entitlement: "group:developers"}
      - {app: code, entitlement: "group:developers"}
  - name: rota
    members: person.title == "Senior Engineer"
    grants:
      - {app: code, entitlement: "group:rota"}
tests:
  - given: {department: d005}
    expect: {wiki: ["group:staff", "group:developers"], code: ["group:developers"]}
`

// crashWishes are what the model gives a person, by application, worked out here.
var crashWishes = map[string]func(record) wish{
	"wiki": func(r record) wish {
		grants := []string{"group:staff"}
		if r.Department == "d005" {
			grants = append(grants, "group:developers")
		}
		return wish{true, grants}
	},
	"code": func(r record) wish {
		var grants []string
		if r.Department == "d005" {
			grants = append(grants, "group:developers")
		}
		if r.Title == "Senior Engineer" {
			grants = append(grants, "group:rota")
		}
		return wish{len(grants) > 0, grants}
	},
}

// crashStory is what happens to three people, in order: they have the external ids from first on.
func crashStory(t *testing.T, first int) company {
	t.Helper()
	made, story := time.Now(), company{}
	say := func(r record) {
		n := len(story.records)
		r.EffectiveDate = made.Add(time.Duration(n-100) * time.Second).UTC().Format(time.RFC3339)
		story.records = append(story.records, r)
		story.postings = append(story.postings, says(t, fmt.Sprintf("word-%d-%d", first, n), made.Add(time.Duration(n)*time.Millisecond), r))
	}
	person := func(n int, department, title string) record {
		id := fmt.Sprint(first + n)
		return record{ExternalID: id, Status: "active", GivenName: "Pat", FamilyName: "Person" + id, Email: "p" + id + "@acme.example", Department: department, Title: title}
	}
	ann, bo, cy := person(0, "d005", "Engineer"), person(1, "d005", "Senior Engineer"), person(2, "d001", "Staff")
	for _, r := range []record{ann, bo, cy} {
		say(r)
	}
	ann.Title = "Senior Engineer"
	say(ann)
	bo.Department, bo.Title = "d004", "Staff"
	say(bo)
	cy.Department = "d005"
	say(cy)
	cy.Status = "terminated"
	say(cy)
	ann.Status = "terminated"
	say(ann)
	return story
}

// chapter is how many words there are before everything is waited for.
const chapter = 3

// tell has HR tell a story, the first that this Tenure hears.
func (m mortal) tell(t *testing.T, hr *hr, o operators, story company) {
	t.Helper()
	var posted atomic.Int64
	for n := 0; n < len(story.postings); n = int(posted.Load()) { // in chapters, so that nobody is overtaken by their own future
		to := min(n+chapter, len(story.postings))
		hr.insist(t, story.postings[n:to], &posted)
		await(t, "everybody to be settled", func() (bool, string) { return m.settled(t, o, story, to) })
	}
}

// settled says whether the applications show what the model gives after so many words, and nothing is under way. While a
// process is away it is not.
func (m mortal) settled(t *testing.T, o operators, story company, words int) (bool, string) {
	t.Helper()
	apps, err := o.provision.ListApplications(t.Context(), &provisionv1.ListApplicationsRequest{})
	if err != nil {
		return false, err.Error()
	}
	for _, app := range apps.GetApplications() {
		if _, ours := m.apps[app.GetName()]; !ours { // known of before this Tenure was given its own
			continue
		}
		if app.GetDue() > 0 || app.GetStuck() > 0 || app.GetSettled() < app.GetPeople() || app.GetPeople() == 0 {
			return false, app.String()
		}
	}
	for name, wiki := range m.apps {
		status, body, err := get(t.Context(), "http://"+wiki.address+"/accounts")
		if err != nil || status != 200 {
			return false, fmt.Sprint(status, err)
		}
		if diff := m.difference(name, body, story.after(words)); diff != "" {
			return false, name + ": " + diff
		}
	}
	return true, ""
}

// difference is how an application differs from what everybody should have.
func (m mortal) difference(app string, listing []byte, people map[string]record) string {
	var accounts []wikiAccount
	if err := json.Unmarshal(listing, &accounts); err != nil {
		return err.Error()
	}
	has, wants := map[string]holding{}, map[string]holding{}
	for _, a := range accounts {
		email := a.Attributes["email"]
		if _, twice := has[email]; twice {
			return "two accounts for " + email
		}
		has[email] = holding{a.Status == "enabled", slices.Sorted(slices.Values(a.Entitlements))}
	}
	for _, r := range people {
		want := holding{}
		if wished := crashWishes[app](r); r.Status == "active" && wished.enabled {
			want = holding{true, slices.Sorted(slices.Values(wished.grants))}
		}
		if _, there := has[r.Email]; there || want.enabled {
			wants[r.Email] = want
		}
	}
	return cmp.Diff(wants, has, cmp.AllowUnexported(holding{}))
}

// checkJournals reads the applications' own journals: nothing was done there more often than it can be right.
func (m mortal) checkJournals(t *testing.T, story company) {
	t.Helper()
	said := map[string][]posted{}
	for _, p := range story.posted(story.postings) {
		said[p.record.Email] = append(said[p.record.Email], p)
	}
	for name, wiki := range m.apps {
		right := map[effect]int{}
		for email, words := range said {
			maps.Copy(right, most(words, email, crashWishes[name]))
		}
		nothingTwice(t, name, demoJournal(t, wiki), right)
	}
}

// checkLog waits until the log is whole, audit's own first checkpoint in it, and looks for operations without an outcome. The
// process may die meanwhile: some points are reached by the second and not by the word.
func (m mortal) checkLog(t *testing.T, o operators) {
	t.Helper()
	await(t, "the log to be whole", func() (bool, string) {
		report, err := verified(t, m.operator)
		if err != nil {
			return false, err.Error()
		}
		return len(report.Missing) == 0 && report.Origins["provision/wiki"] > 0 && report.Origins["provision/code"] > 0 && report.Origins["audit"] > 0, fmt.Sprintf("%+v", report)
	})
	await(t, "every operation to have an outcome", func() (bool, string) { return o.outcomes(t, slices.Sorted(maps.Keys(m.apps))...) })
	var aside struct{ Parked []any }
	await(t, "what was set aside to be told", func() (bool, string) {
		r := m.operator(t, "events", "parked", "-o", "json")
		return r.code == 0 && json.Unmarshal([]byte(r.stdout), &aside) == nil, r.stderr + r.stdout
	})
	if len(aside.Parked) > 0 {
		t.Errorf("events were set aside: %v", aside.Parked)
	}
}
