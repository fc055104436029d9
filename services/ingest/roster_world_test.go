package ingest_test

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tenurehq/tenure/pkg/sqldb"
	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
	"github.com/tenurehq/tenure/services/e2e/employees"
	"github.com/tenurehq/tenure/services/ingest/roster"
)

// agreed makes a world whose HR system has a contract.
func agreed(t *testing.T, db *sqldb.DB, contract roster.Contract) *world {
	t.Helper()
	cfg := config(t)
	cfg.Sources[0].Contract = &contract
	return newWorldWith(t, db, cfg)
}

// list is a full roster, to be sent.
type list struct {
	id     string
	made   time.Time
	people []data
	size   int // records in a part; 0: all
}

// bodies are the roster's parts.
func (l list) bodies() []string {
	chunks := slices.Collect(slices.Chunk(l.people, cmp.Or(l.size, max(1, len(l.people)))))
	if len(chunks) == 0 {
		chunks = [][]data{{}}
	}
	bodies := make([]string, len(chunks))
	for i, people := range chunks {
		said := map[string]any{"id": l.id, "part": i + 1, "parts": len(chunks), "total": len(l.people)}
		bodies[i] = text(map[string]any{"type": "person.batch", "timestamp": l.made, "data": map[string]any{"people": people, "roster": said}})
	}
	return bodies
}

// give sends all parts of a roster, which must be accepted, and has it judged.
func (w *world) give(l list) *peoplev1.RosterState {
	w.tb.Helper()
	for i, body := range l.bodies() {
		if answer := w.post(fmt.Sprintf("%s-%d", l.id, i+1), body); answer.status != http.StatusAccepted || answer.Held != nil {
			w.tb.Fatalf("part %d of the roster %s was answered %d %s", i+1, l.id, answer.status, answer.text)
		}
	}
	w.judge()
	return w.roster(l.id)
}

func (w *world) judge() {
	w.tb.Helper()
	if err := w.svc.JudgeRosters(w.tb.Context()); err != nil {
		w.tb.Fatal(err)
	}
}

// roster is what became of one.
func (w *world) roster(id string) *peoplev1.RosterState {
	w.tb.Helper()
	answer, err := w.svc.ListRosters(w.operator(), &peoplev1.ListRostersRequest{Source: "acme-hr", Id: id})
	if err != nil || len(answer.GetRosters()) != 1 {
		w.tb.Fatalf("the roster %s is listed as %v (%v)", id, answer.GetRosters(), err)
	}
	return answer.GetRosters()[0]
}

// findings of a kind, as "external id since" or, without an external id, "source since".
func (w *world) findings(kind peoplev1.PeopleFindingKind) []string {
	w.tb.Helper()
	s := &stream[peoplev1.ListFindingsResponse]{ctx: w.operator()}
	if err := w.svc.ListFindings(&peoplev1.ListFindingsRequest{Kind: kind}, s); err != nil {
		w.tb.Fatal(err)
	}
	all := []string{}
	for _, page := range s.sent {
		for _, f := range page.GetFindings() {
			since := "never"
			if f.GetSince() != nil {
				since = f.GetSince().AsTime().Format("01-02 15:04")
			}
			all = append(all, cmp.Or(f.GetExternalId(), f.GetSource())+" "+since)
		}
	}
	return all
}

func (w *world) absent() []string {
	w.tb.Helper()
	return w.findings(peoplev1.PeopleFindingKind_PEOPLE_FINDING_KIND_ABSENT)
}

// count is a number that the database knows.
func (w *world) count(query string) (n int) {
	w.tb.Helper()
	if err := w.db.QueryRow(w.tb.Context(), query).Scan(&n); err != nil {
		w.tb.Fatal(err)
	}
	return n
}

// told is how many lifecycle events there are.
func (w *world) told() int {
	w.tb.Helper()
	return w.count(`SELECT count(*) FROM happenings`)
}

// some are n people who work at the company, from a number on.
func some(from, n int) []data {
	all := make([]data, n)
	for i := range all {
		id := fmt.Sprint(from + i)
		all[i] = ann().with("external_id", id, "email", id+"@acme.example")
	}
	return all
}

// row of the company's history.
type row struct {
	person string
	made   time.Time // by HR
	says   data      // the whole record as of the date
}

// history is that of a real company: 1,771 events of 1,000 people.
func history(t *testing.T) (rows []row) {
	t.Helper()
	events, err := employees.History()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		says := data{
			"external_id": e.Number, "status": "active", "effective_date": e.Date, "given_name": e.GivenName, "family_name": e.FamilyName,
			"email": e.Email, "department": e.Department, "title": e.Title, "start_date": e.HireDate,
		}
		if e.Left() {
			says["status"] = "terminated"
		}
		rows = append(rows, row{e.Number, e.At, says})
	}
	return rows
}

// asOf is everybody as of the first n rows of a history, in order of external id.
func asOf(rows []row, n int) []data {
	people := map[string]data{}
	for _, r := range rows[:n] {
		people[r.person] = r.says
	}
	all := make([]data, 0, len(people))
	for _, d := range people {
		all = append(all, d)
	}
	slices.SortFunc(all, func(a, b data) int { return strings.Compare(a["external_id"].(string), b["external_id"].(string)) })
	return all
}

// working are those who are active.
func working(people []data) []data {
	return slices.DeleteFunc(slices.Clone(people), func(d data) bool { return d["status"] != "active" })
}

// everybody by external id, with status, department and title.
func (w *world) everybody() map[string]string {
	w.tb.Helper()
	s := &stream[peoplev1.ListPeopleResponse]{ctx: w.operator()}
	if err := w.svc.ListPeople(&peoplev1.ListPeopleRequest{}, s); err != nil {
		w.tb.Fatal(err)
	}
	all := map[string]string{}
	for _, page := range s.sent {
		for _, p := range page.GetPeople() {
			r, status := p.GetRecord(), strings.ToLower(strings.TrimPrefix(p.GetStatus().String(), "PERSON_STATUS_"))
			all[r.GetExternalId()] = strings.Join([]string{status, r.GetDepartment(), r.GetTitle(), r.GetEmail()}, " ")
		}
	}
	return all
}

// want is everybody as a roster has them.
func want(people []data) map[string]string {
	all := map[string]string{}
	for _, d := range people {
		all[d["external_id"].(string)] = fmt.Sprintf("%v %v %v %v", d["status"], d["department"], d["title"], d["email"])
	}
	return all
}
