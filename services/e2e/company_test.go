package e2e

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/tenurehq/tenure/services/e2e/employees"
)

// company is a real company's history, and how it ends.
type company struct {
	postings []posting // in order of their dates
	records  []record  // what each of them says
}

// readCompany turns each event of the history into a webhook with the whole record as of its date.
func readCompany(t *testing.T) (c company) {
	t.Helper()
	history, err := employees.History()
	if err != nil {
		t.Fatal(err)
	}
	for n, e := range history {
		r := record{
			ExternalID: e.Number, Status: "active", GivenName: e.GivenName, FamilyName: e.FamilyName, Email: e.Email,
			Department: e.Department, Title: e.Title, StartDate: e.HireDate, EffectiveDate: e.Date,
		}
		if e.Left() {
			r.Status = "terminated"
		}
		c.records = append(c.records, r)
		c.postings = append(c.postings, says(t, fmt.Sprintf("row-%04d", n+1), e.At, r))
	}
	return c
}

// oneIn is the history of one in n of the people.
func (c company) oneIn(n int) (some company) {
	for i, r := range c.records {
		if number, err := strconv.Atoi(r.ExternalID); err == nil && number%n == 0 {
			some.records, some.postings = append(some.records, r), append(some.postings, c.postings[i])
		}
	}
	return some
}

// after are all people by external id, as they are after the first n events.
func (c company) after(n int) map[string]record {
	people := map[string]record{}
	for _, r := range c.records[:n] {
		people[r.ExternalID] = r
	}
	return people
}

// posted are the records of postings, in this order, each once.
func (c company) posted(postings []posting) (all []posted) {
	byID := map[string]record{}
	for n, p := range c.postings {
		byID[p.id] = c.records[n]
	}
	seen := map[string]bool{}
	for _, p := range postings {
		if !seen[p.id] {
			seen[p.id] = true
			all = append(all, posted{p.id, byID[p.id]})
		}
	}
	return all
}

// shuffledTwice are all postings twice, in an order that is the same for the same seed.
func (c company) shuffledTwice(seed uint64) []posting {
	all := slices.Concat(c.postings, c.postings)
	random := rand.New(rand.NewPCG(seed, 0)) // an order that can be had again
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

// roles is the model of the company: by department and title, some by both.
const roles = `
roles:
  - name: everybody
    members: person.status == "active"
    grants:
      - {app: wiki, entitlement: "group:staff"}
  - name: department
    for_each: {d: "[person.department]"}
    members: d != ""
    grants:
      - {app: wiki, entitlement: "group:dept-${d}"}
      - {app: warehouse, entitlement: "role:dept_${d}"}
  - name: title
    for_each: {t: "[person.title.lowerAscii().replace(' ', '_')]"}
    members: t != ""
    grants:
      - {app: warehouse, entitlement: "role:title_${t}"}
  - name: reviewer
    members: person.department in ["d004", "d005"] && person.title.startsWith("Senior")
    grants:
      - {app: wiki, entitlement: "group:reviewers"}
      - {app: warehouse, entitlement: "role:reviewers"}
tests:
  - given: {department: d005, title: Senior Engineer}
    expect:
      wiki: ["group:staff", "group:dept-d005", "group:reviewers"]
      warehouse: ["role:dept_d005", "role:title_senior_engineer", "role:reviewers"]
`

var (
	departments = []string{"d001", "d002", "d003", "d004", "d005", "d006", "d007", "d008", "d009"}
	titles      = []string{"assistant_engineer", "engineer", "senior_engineer", "senior_staff", "staff", "technique_leader"}
)

// should is what the model gives an active person, worked out here and not by Tenure.
func should(r record) (groups, databaseRoles []string) {
	groups = []string{"group:staff", "group:dept-" + r.Department}
	databaseRoles = []string{"dept_" + r.Department, "title_" + strings.ReplaceAll(strings.ToLower(r.Title), " ", "_")}
	if (r.Department == "d004" || r.Department == "d005") && strings.HasPrefix(r.Title, "Senior") {
		groups, databaseRoles = append(groups, "group:reviewers"), append(databaseRoles, "reviewers")
	}
	slices.Sort(groups)
	slices.Sort(databaseRoles)
	return groups, databaseRoles
}

// groups are all that the wiki has.
func groups() []string {
	all := []string{"group:staff", "group:reviewers"}
	for _, d := range departments {
		all = append(all, "group:dept-"+d)
	}
	return all
}
