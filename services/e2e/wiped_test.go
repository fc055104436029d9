package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/tenurehq/tenure/pkg/sqldb"
	"github.com/tenurehq/tenure/pkg/sqldb/sqltest"
	provisionv1 "github.com/tenurehq/tenure/proto/gen/tenure/provision/v1"
	"github.com/tenurehq/tenure/services/promises/table"
)

// However the stream's store goes away, each event under way comes to its end by itself, once, and is in the log.
func TestAWipedStreamLosesNothing(t *testing.T) {
	underWay := 0 // as many as there are after a hundred people
	if tabled() {
		underWay = 5_000
	}
	for _, engine := range []string{sqldb.SQLite, sqldb.Postgres} {
		for _, how := range []string{"under a live server", "stop, delete, start"} {
			if (engine == sqldb.SQLite) != (how == "under a live server") && !whole() {
				continue // each engine and each way once
			}
			t.Run(engine+", "+how, func(t *testing.T) {
				if !tabled() {
					t.Parallel()
				}
				newWiped(t, engine, "").run(t, how, underWay)
			})
		}
	}
}

// A stream that is far too small for what is under way takes all that is new, and who missed a message that left comes to the same
// end.
func TestAFullStreamStopsNobody(t *testing.T) {
	t.Parallel()
	w := newWiped(t, sqldb.SQLite, "nats: {max_bytes: 262144}") // about 20 people
	hr, o := w.hr(t), w.dial(t)
	for range 4 {
		if _, err := hr.post(t, w.join(t, 100)); err != nil {
			t.Fatal(err)
		}
	}
	awaitFor(t, 4*time.Minute, "everybody to be at their end", func() (bool, string) {
		n := w.arrived(t, o)
		return n == w.joined, fmt.Sprintf("%d of %d", n, w.joined)
	})
	await(t, "nothing to wait for room in the stream", func() (bool, string) {
		now := figures{}
		if err := readFrom(t.Context(), w.metrics, now); err != nil {
			t.Fatal(err)
		}
		oldest := now.greatest("tenure_outbox_oldest_seconds")
		return oldest == 0, fmt.Sprintf("since %.0f s", oldest)
	})
	w.check(t)
}

// wiped is a Tenure whose stream loses what it holds.
type wiped struct {
	*tenure
	engine string
	apps   map[string]wiki
	joined int
}

func newWiped(t *testing.T, engine, more string) *wiped {
	t.Helper()
	w := &wiped{engine: engine, apps: map[string]wiki{}}
	applications, grants := "", ""
	for n, at := range freeAddresses(t, 3) {
		name := fmt.Sprintf("app%d", n+1)
		w.apps[name] = wiki{at}
		applications += demoApplication(name, at, []string{"group:staff"}, "")
		grants += fmt.Sprintf("      - {app: %s, entitlement: \"group:staff\"}\n", name)
	}
	p := plan{applications: applications, logLevel: "warn", more: more}
	if engine == sqldb.Postgres {
		p.database = sqltest.PostgresServer(t)
	}
	w.tenure = serve(t, p)
	w.applyModel(t, "roles:\n  - name: staff\n    members: person.status == \"active\"\n    grants:\n"+grants)
	return w
}

func (w *wiped) run(t *testing.T, how string, underWay int) {
	t.Helper()
	r := table.Row{Promise: "P2", Tried: "stream wiped, " + how + ", " + w.engine, Violations: 1, Figure: "not at the end"}
	defer func() {
		r.N = w.joined
		promised(t, r)
	}()
	left, took := w.wipe(t, how, underWay)
	if r.Figure = fmt.Sprintf("%d people under way, at their end %s later", left, took); !t.Failed() {
		r.Violations = 0
	}
	t.Log(w.joined, "joined;", r.Figure)
}

// wipe deletes the store as soon as so many people are under way, and returns how many were and how long it took from then
// until everybody was at their end.
func (w *wiped) wipe(t *testing.T, how string, underWay int) (left int, took time.Duration) {
	t.Helper()
	o := w.dial(t)
	for hr := w.hr(t); w.joined == 0 || left < underWay; left = w.joined - w.arrived(t, o) {
		if w.joined > 4*underWay {
			t.Fatalf("%d of %d people are under way: HR is no faster than Tenure", left, w.joined)
		}
		if _, err := hr.post(t, w.join(t, max(100, underWay/10))); err != nil {
			t.Fatal(err)
		}
	}
	store := filepath.Join(w.dir, "data", "jetstream")
	if _, err := os.Stat(store); err != nil {
		t.Fatal(err)
	}
	if how == "stop, delete, start" {
		_ = w.cmd.Process.Kill()
		<-w.done
	}
	await(t, "the store to be gone", func() (bool, string) { // a live server goes on writing into it meanwhile
		err := os.RemoveAll(store)
		return err == nil, fmt.Sprint(err)
	})
	began := time.Now()
	if how == "stop, delete, start" {
		w.start(t)
	}
	o = w.dial(t)
	awaitFor(t, 4*time.Minute, "everybody to be at their end", func() (bool, string) {
		n := w.arrived(t, o)
		return n == w.joined, fmt.Sprintf("%d of %d", n, w.joined)
	})
	took = time.Since(began).Round(100 * time.Millisecond)
	w.check(t)
	return left, took
}

// join is a delivery about the next people.
func (w *wiped) join(t *testing.T, n int) posting {
	t.Helper()
	var people []record
	for range n {
		w.joined++
		id := fmt.Sprint(w.joined)
		people = append(people, record{
			ExternalID: id, Status: "active", GivenName: "Pat" + id, FamilyName: "Person", Email: "p" + id + "@acme.example", Department: "d001", StartDate: "2020-01-01",
		})
	}
	body, err := json.Marshal(map[string]any{"type": "person.batch", "timestamp": time.Now().UTC(), "data": map[string]any{"people": people}})
	if err != nil {
		t.Fatal(err)
	}
	return posting{id: fmt.Sprint("join-", w.joined), body: body}
}

// arrived is how many people have what they should in every application.
func (w *wiped) arrived(t *testing.T, o operators) int {
	t.Helper()
	said, err := o.provision.ListApplications(t.Context(), &provisionv1.ListApplicationsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var settled []int
	for _, app := range said.GetApplications() {
		settled = append(settled, int(app.GetSettled()))
	}
	return slices.Min(settled)
}

// check looks into the applications and into the log: nothing lost, nothing twice, no gap, nothing set aside.
func (w *wiped) check(t *testing.T) {
	t.Helper()
	for name, wiki := range w.apps {
		accounts := wiki.accounts(t)
		right := map[effect]int{}
		for n := range w.joined {
			email := fmt.Sprintf("p%d@acme.example", n+1)
			if a := accounts[email]; a.Status != "enabled" || !slices.Equal(a.Entitlements, []string{"group:staff"}) {
				t.Errorf("%s has %+v in %s", email, a, name)
			}
			for _, e := range []effect{{email, "create", ""}, {email, "enable", ""}, {email, "grant", "group:staff"}} {
				right[e] = 1
			}
		}
		if len(accounts) != w.joined {
			t.Errorf("%s has %d accounts of %d people", name, len(accounts), w.joined)
		}
		nothingTwice(t, name, demoJournal(t, wiki), right)
	}
	await(t, "the log to be whole", func() (bool, string) {
		report, err := verified(t, w.cli)
		if err != nil {
			return false, err.Error()
		}
		whole := len(report.Missing) == 0 && int(report.Origins["ingest"]) >= w.joined
		for name := range w.apps {
			whole = whole && int(report.Origins["provision/"+name]) >= 2*w.joined // an intent and an outcome
		}
		return whole, fmt.Sprintf("%+v", report)
	})
	if said := ask[struct{ Parked []any }](t, w.tenure, "events", "parked"); len(said.Parked) > 0 {
		t.Errorf("events were set aside: %v", said.Parked)
	}
}
