//go:build crashpoints

package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenurehq/tenure/pkg/config"
	"github.com/tenurehq/tenure/pkg/crash"
	"github.com/tenurehq/tenure/pkg/rpc"
	"github.com/tenurehq/tenure/pkg/sqldb"
	"github.com/tenurehq/tenure/pkg/sqldb/sqltest"
	provisionv1 "github.com/tenurehq/tenure/proto/gen/tenure/provision/v1"
	"github.com/tenurehq/tenure/services/promises/table"
)

// hits is how often each point is died at: at its first hit, at its second, …
func hits() int {
	if whole() {
		return 3
	}
	return 1
}

// where are the points of an engine at which processes die when there is no time for all: of two applications those of one, and on
// PostgreSQL, where the leases of the dead last a minute, those where something is decided, begun, or said to be done.
var where = map[string]*regexp.Regexp{
	sqldb.SQLite:   regexp.MustCompile(`^(ingest|policy|audit|provision[-_/]wiki|wiki)`),
	sqldb.Postgres: regexp.MustCompile(`^(ingest|policy|provision[-_/]wiki|wiki).*(accept|saveOnce|write|apply: after)`),
}

// Wherever a process dies, the end is the same: nothing that was accepted is lost, nothing is done twice with effect, and
// the log has no gap. The points are those that a first run of the same story reaches.
func TestWhereverAProcessDiesTheEndIsTheSame(t *testing.T) {
	for _, engine := range sqltest.Engines {
		t.Run(engine, func(t *testing.T) { dieEverywhere(t, engine) })
	}
}

func dieEverywhere(t *testing.T, engine string) {
	reached := map[string]int{}
	t.Run("nobody dies", func(t *testing.T) {
		list := filepath.Join(t.TempDir(), "points")
		c := newCrash(t, engine)
		c.run(t, crash.EnvList+"="+list)
		if c.died.Load() {
			t.Fatal("somebody died all the same")
		}
		for line := range strings.Lines(read(t, list)) {
			reached[strings.TrimSpace(line)]++
		}
	})
	if len(reached) < 100 {
		t.Fatalf("the story reaches %d points only: %v", len(reached), slices.Sorted(maps.Keys(reached)))
	}
	if !whole() {
		maps.DeleteFunc(reached, func(point string, _ int) bool { return !where[engine].MatchString(point) })
	}
	var cells, died, failed atomic.Int64
	t.Run("somebody dies", func(t *testing.T) {
		for point, times := range reached {
			for hit := range min(hits(), times) {
				name := fmt.Sprintf("%s#%d", point, hit+1)
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					cells.Add(1)
					t.Cleanup(func() {
						if t.Failed() {
							failed.Add(1)
						}
					})
					c := newCrash(t, engine)
					c.run(t, crash.EnvPoint+"="+name)
					if c.died.Load() {
						died.Add(1)
					}
				})
			}
		}
	})
	t.Logf("%d points, %d times a point and a hit, at %d of which the process died there; the others were not reached so often this time", len(reached), cells.Load(), died.Load())
	if died.Load()*10 < cells.Load()*8 {
		t.Errorf("the process died at %d of %d only", died.Load(), cells.Load())
	}
	promised(t, table.Row{
		Promise: "P1 P2 P6 P8", Tried: fmt.Sprintf("a death at each of %d points, hits 1 to %d, %s", len(reached), hits(), engine), N: int(cells.Load()), Violations: int(failed.Load()),
		Figure: fmt.Sprintf("the process died at %d", died.Load()),
	})
}

// crashing is a Tenure that may die once, is started again, and goes on.
type crashing struct {
	*tenure
	apps map[string]wiki
	died atomic.Bool
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

func newCrash(t *testing.T, engine string) *crashing {
	t.Helper()
	at := freeAddresses(t, 2)
	c := &crashing{apps: map[string]wiki{"wiki": {at[0]}, "code": {at[1]}}}
	applications := ""
	for _, app := range []string{"wiki", "code"} {
		applications += demoApplication(app, c.apps[app].address, smallGroups, "") + "    limits: {timeout: 2s}\n" // after it no call can come late
	}
	p := plan{applications: applications, logLevel: "warn", more: "audit: {checkpoint_every: 1s}"}
	if engine == sqldb.Postgres {
		p.database = sqltest.Postgres(t)
	}
	c.tenure = configure(t, p)
	return c
}

// run tells the story with a process of that environment, and looks at the end.
func (c *crashing) run(t *testing.T, env string) {
	t.Helper()
	story := c.story(t)
	stopped, gone := make(chan struct{}), make(chan struct{})
	c.process = launchIn(t, append(environment(), env), c.dir, "tenure", "serve", "-c", "tenure.yaml")
	go func() { // who sees to it that it runs
		defer close(gone)
		for p := c.process; ; {
			select {
			case <-stopped:
				return
			case <-p.done:
			}
			if status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL || c.died.Swap(true) {
				t.Errorf("the process ended: %v\n%s", p.err, tail(p.stderr))
				return
			}
			p = launch(t, c.dir, "tenure", "serve", "-c", "tenure.yaml")
		}
	}()
	defer func() {
		close(stopped)
		<-gone
	}()
	write(t, filepath.Join(c.dir, "model", "roles.yaml"), crashRoles)
	await(t, "the model to be applied", func() (bool, string) {
		r := c.cli(t, "model", "apply", "model", "--yes")
		return r.code == 0, r.stderr
	})
	var posted atomic.Int64
	hr, o := c.hr(t), c.door(t)
	for n := 0; n < len(story.postings); n = int(posted.Load()) { // in chapters, so that nobody is overtaken by their own future
		to := min(n+chapter, len(story.postings))
		hr.insist(t, story.postings[n:to], &posted)
		await(t, "everybody to be settled", func() (bool, string) { return c.settled(t, o, story, to) })
	}
	c.checkJournals(t, story)
	c.checkLog(t, o)
}

// chapter is how many words there are before everything is waited for.
const chapter = 3

// story is what happens to a few people, in order.
func (c *crashing) story(t *testing.T) company {
	t.Helper()
	made, story := time.Now(), company{}
	say := func(r record) {
		n := len(story.records)
		r.EffectiveDate = made.Add(time.Duration(n-100) * time.Second).UTC().Format(time.RFC3339)
		story.records = append(story.records, r)
		story.postings = append(story.postings, says(t, fmt.Sprintf("word-%02d", n), made.Add(time.Duration(n)*time.Millisecond), r))
	}
	person := func(id, department, title string) record {
		return record{ExternalID: id, Status: "active", GivenName: "Pat", FamilyName: "Person" + id, Email: "p" + id + "@acme.example", Department: department, Title: title}
	}
	ann, bo, cy := person("1", "d005", "Engineer"), person("2", "d005", "Senior Engineer"), person("3", "d001", "Staff")
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

func (c *crashing) door(t *testing.T) operators {
	t.Helper()
	secret, err := config.ReadSecret(filepath.Join(c.dir, "data", "operators", "vic"))
	if err != nil {
		t.Fatal(err)
	}
	return dial(t, rpc.PeerConfig{Address: c.grpc, Token: secret, Patience: 10 * time.Second})
}

// settled says whether the applications show what the model gives after so many words, and nothing is under way. While a
// process is away it is not.
func (c *crashing) settled(t *testing.T, o operators, story company, words int) (bool, string) {
	t.Helper()
	apps, err := o.provision.ListApplications(t.Context(), &provisionv1.ListApplicationsRequest{})
	if err != nil {
		return false, err.Error()
	}
	for _, app := range apps.GetApplications() {
		if app.GetDue() > 0 || app.GetStuck() > 0 || app.GetSettled() < app.GetPeople() || app.GetPeople() == 0 {
			return false, app.String()
		}
	}
	for name, wiki := range c.apps {
		status, body, err := get(t.Context(), "http://"+wiki.address+"/accounts")
		if err != nil || status != 200 {
			return false, fmt.Sprint(status, err)
		}
		if diff := c.difference(name, body, story.after(words)); diff != "" {
			return false, name + ": " + diff
		}
	}
	return true, ""
}

// difference is how an application differs from what everybody should have.
func (c *crashing) difference(app string, listing []byte, people map[string]record) string {
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
func (c *crashing) checkJournals(t *testing.T, story company) {
	t.Helper()
	said := map[string][]posted{}
	for _, p := range story.posted(story.postings) {
		said[p.record.Email] = append(said[p.record.Email], p)
	}
	for name, wiki := range c.apps {
		right := map[effect]int{}
		for email, words := range said {
			maps.Copy(right, most(words, email, crashWishes[name]))
		}
		nothingTwice(t, name, demoJournal(t, wiki), right)
	}
}

// checkLog waits until the log is whole, audit's own first checkpoint in it, and looks for operations without an outcome. The
// process may die meanwhile: some points are reached by the second and not by the word.
func (c *crashing) checkLog(t *testing.T, o operators) {
	t.Helper()
	await(t, "the log to be whole", func() (bool, string) {
		report, err := verified(t, c.cli)
		if err != nil {
			return false, err.Error()
		}
		return len(report.Missing) == 0 && report.Origins["provision/wiki"] > 0 && report.Origins["provision/code"] > 0 && report.Origins["audit"] > 0, fmt.Sprintf("%+v", report)
	})
	await(t, "every operation to have an outcome", func() (bool, string) { return o.outcomes(t, slices.Sorted(maps.Keys(c.apps))...) })
	var aside struct{ Parked []any }
	await(t, "what was set aside to be told", func() (bool, string) {
		r := c.cli(t, "events", "parked", "-o", "json")
		return r.code == 0 && json.Unmarshal([]byte(r.stdout), &aside) == nil, r.stderr + r.stdout
	})
	if len(aside.Parked) > 0 {
		t.Errorf("events were set aside: %v", aside.Parked)
	}
}
