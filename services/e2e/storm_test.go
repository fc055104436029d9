package e2e

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/go-ldap/ldap/v3"
	"github.com/google/go-cmp/cmp"

	"github.com/tenurehq/tenure/pkg/sqldb"
	"github.com/tenurehq/tenure/pkg/sqldb/sqltest"
	provisionv1 "github.com/tenurehq/tenure/proto/gen/tenure/provision/v1"
	"github.com/tenurehq/tenure/services/audit/evidence"
)

// Whatever happens on the way, the end is the same: in three real applications everybody has exactly what the model says,
// nothing was done there twice with effect, and the log has no gap.

func TestTheEndIsTheSame(t *testing.T) {
	if testing.Short() {
		t.Skip("a company's history, six times")
	}
	t.Parallel()
	c := readCompany(t)
	if !whole() {
		c = c.oneIn(5)
	}
	seed := seed(t)
	for name, way := range map[string]func(*storm, *testing.T){
		"in order of date":                        (*storm).inOrder,
		"shuffled, each delivery twice":           (*storm).shuffled,
		"killed nine times":                       (*storm).killed,
		"the stream's store deleted":              (*storm).storeDeleted,
		"applications down, busy, losing replies": (*storm).applicationsAway,
		"five processes, each killed three times": (*storm).processesKilled,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			t.Logf("the seed is %d", seed)
			s := &storm{company: c, random: rand.New(rand.NewPCG(seed, 1)), order: c.posted(c.postings)} // a storm that can be had again
			s.mix = newMix(t)
			way(s, t)
			s.check(t)
		})
	}
}

// storm is a Tenure that has a company's history and three real applications, and what happens meanwhile.
type storm struct {
	*mix
	company company
	random  *rand.Rand
	order   []posted // in which things become known, per person

	door func(*testing.T) operators      // to look at Tenure
	cli  func(*testing.T, ...string) ran // as an operator
}

// serve starts Tenure in one process on that engine, with the mix.
func (s *storm) serve(t *testing.T, engine string) *tenure {
	t.Helper()
	p := plan{applications: s.applications(t), logLevel: "warn"}
	if engine == sqldb.Postgres {
		p.database = sqltest.PostgresServer(t)
	}
	tn := serve(t, p)
	tn.applyModel(t, mixModel)
	s.door, s.cli = tn.dial, tn.cli
	return tn
}

func (s *storm) settle(t *testing.T) {
	t.Helper()
	s.door(t).settle(t)
}

func (s *storm) inOrder(t *testing.T) {
	hr := s.serve(t, sqldb.SQLite).hr(t)
	half := len(s.company.postings) / 2
	hr.postAll(t, s.company.postings[:half], true)
	s.settle(t)
	s.compare(t, half)
	passwords := s.givePasswords(t)
	hr.postAll(t, s.company.postings[half:], true)
	s.settle(t)
	s.tryPasswords(t, passwords)
	s.readClocks(t)
}

// readClocks looks at both clocks of everybody who has left, in each application in which they had an account.
func (s *storm) readClocks(t *testing.T) {
	t.Helper()
	people, o, read := s.company.after(len(s.company.postings)), s.door(t), 0
	for _, p := range o.everybody(t) {
		if people[p.GetRecord().GetExternalId()].Status == "active" {
			continue
		}
		shown, err := o.provision.ShowAccounts(t.Context(), &provisionv1.ShowAccountsRequest{PersonId: p.GetId()})
		if err != nil {
			t.Fatal(err)
		}
		for _, target := range shown.GetTargets() {
			if target.GetObserved() == nil {
				continue
			}
			ended, known, cut := target.GetEndedAt(), target.GetEndKnownAt(), target.GetCutOffAt()
			if ended == nil || known == nil || cut == nil || !ended.AsTime().Before(known.AsTime()) || cut.AsTime().Before(known.AsTime()) {
				t.Errorf("%s left %v, which was known %v, and was cut off from %s %v", p.GetUserName(), ended, known, target.GetApplication(), cut)
			}
			read++
		}
	}
	if read == 0 {
		t.Error("nobody who has left had an account")
	}
	t.Logf("both clocks of %d accounts of people who have left", read)
}

func (s *storm) shuffled(t *testing.T) {
	hr := s.serve(t, sqldb.Postgres).hr(t)
	all := s.company.shuffledTwice(s.random.Uint64())
	s.order = s.company.posted(all)
	hr.postAll(t, all, true)
	s.settle(t)
}

// killed kills the process at nine points of the history and starts it again; HR repeats what it got no answer to.
func (s *storm) killed(t *testing.T) {
	tn := s.serve(t, sqldb.SQLite)
	s.meanwhile(t, tn.hr(t), 9, func(int) {
		_ = tn.cmd.Process.Kill()
		<-tn.done
		tn.start(t)
	})
}

// meanwhile lets HR tell the whole history, and does something after each of so many webhooks on the way.
func (s *storm) meanwhile(t *testing.T, hr *hr, times int, do func(n int)) {
	t.Helper()
	var points []int
	for range times {
		points = append(points, 1+s.random.IntN(len(s.company.postings)))
	}
	slices.Sort(points)
	t.Logf("it happens after %v webhooks", points)
	var posted atomic.Int64
	var happening sync.WaitGroup
	happening.Go(func() {
		for n, point := range points {
			await(t, fmt.Sprintf("webhook %d", point), func() (bool, string) { return int(posted.Load()) >= point, fmt.Sprint(posted.Load()) })
			do(n)
		}
	})
	hr.insist(t, s.company.postings, &posted)
	happening.Wait()
	s.settle(t)
}

// processesKilled has each service in a process of its own, over NATS and PostgreSQL, and kills each of them three times.
func (s *storm) processesKilled(t *testing.T) {
	c := newCluster(t)
	c.replaceApplications(t, s.applications(t))
	c.openBrake(t)
	var services []string
	for service := range processes {
		services = append(services, service, service, service)
		c.launch(t, service)
	}
	for service, p := range c.running {
		p.awaitReady(t, c.at[service][2])
	}
	write(t, filepath.Join(c.dir, "model", "roles.yaml"), mixModel)
	s.door, s.cli = c.door, c.ada
	c.ada(t, "model", "apply", "model", "--yes").want(t, 0)
	slices.Sort(services)
	s.random.Shuffle(len(services), func(i, j int) { services[i], services[j] = services[j], services[i] })
	t.Logf("killed: %v", services)
	s.meanwhile(t, c.hr(t), len(services), func(n int) {
		p := c.running[services[n]]
		_ = p.cmd.Process.Kill()
		<-p.done
		c.launch(t, services[n])
		c.running[services[n]].awaitReady(t, c.at[services[n]][2])
	})
}

// storeDeleted deletes what JetStream keeps, once under a live server and once while it is stopped.
func (s *storm) storeDeleted(t *testing.T) {
	tn := s.serve(t, sqldb.SQLite)
	third := len(s.company.postings) / 3
	store := filepath.Join(tn.dir, "data", "jetstream")
	if _, err := os.Stat(store); err != nil {
		t.Fatal(err)
	}
	remove := func() {
		await(t, "the store to be gone", func() (bool, string) { // a live server goes on writing into it meanwhile
			err := os.RemoveAll(store)
			return err == nil, fmt.Sprint(err)
		})
	}
	tn.hr(t).postAll(t, s.company.postings[:third], true)
	if there := len(s.inSuite(t)); there >= third {
		t.Errorf("the suite has %d accounts after %d words: nothing is under way any more", there, third)
	}
	remove() // much is still under way
	tn.hr(t).postAll(t, s.company.postings[third:2*third], true)
	_ = tn.cmd.Process.Kill()
	<-tn.done
	tn.start(t)
	tn.hr(t).postAll(t, s.company.postings[2*third:], true)
	tn.stop(t)
	remove()
	tn.start(t)
	s.settle(t)
}

// troubles is how often an application loses a reply, or says that it is asked too often.
const troubles = 12

// applicationsAway lets each application be down for a while, lose replies and say that it is asked too often, in its own way,
// while the history goes on: the directory is busy, the suite answers 429, the warehouse takes no more connections.
func (s *storm) applicationsAway(t *testing.T) {
	hr := s.serve(t, sqldb.SQLite).hr(t)
	postings := s.company.postings
	tenth := len(postings) / 10
	wires := []*wire{s.toDirectory, s.toSuite, s.toWarehouse}
	for _, w := range wires {
		hr.postAll(t, postings[:tenth], true)
		w.setDown(true)
		before := w.refused()
		hr.postAll(t, postings[tenth:2*tenth], true)
		await(t, "somebody to find it down", func() (bool, string) { return w.refused() > before, fmt.Sprint(w.refused()) })
		w.setDown(false)
		w.loseReplies(troubles)
		postings = postings[2*tenth:]
	}
	s.suite.Throttle(troubles)
	s.toDirectory.setBusy(true)
	s.warehouse.sql(t, `ALTER ROLE tenure_worker CONNECTION LIMIT 0`)
	s.toWarehouse.setDown(true) // what is open would stay so
	s.toWarehouse.setDown(false)
	hr.postAll(t, postings[:tenth], true)
	await(t, "the directory and the warehouse to have turned requests away", func() (bool, string) {
		_, turned := s.toDirectory.counts()
		refused := strings.Count(read(t, s.warehouse.log(t)), "FATAL:  too many connections for role \"tenure_worker\"")
		return turned > 0 && refused > 0, fmt.Sprintf("%d and %d", turned, refused)
	})
	s.toDirectory.setBusy(false)
	s.warehouse.sql(t, `ALTER ROLE tenure_worker CONNECTION LIMIT -1`)
	hr.postAll(t, postings[tenth:], true)
	s.settle(t)
	for n, w := range wires {
		if lost, _ := w.counts(); lost < troubles {
			t.Errorf("application %d lost %d replies, want %d", n, lost, troubles)
		}
	}
	if _, turned := s.toSuite.counts(); turned == 0 { // of these replies, too, some may be lost
		t.Error("the suite never answered 429")
	}
}

// check compares the end with the model, the journals with what could be right, and reads the log whole.
func (s *storm) check(t *testing.T) {
	t.Helper()
	s.compare(t, len(s.company.postings))
	s.checkJournals(t)
	report := answer[evidence.Report](t, s.cli(t, "audit", "verify", "-o", "json"))
	if len(report.Missing) > 0 || report.Origins["provision/directory"] == 0 {
		t.Errorf("the log is not whole: %+v", report)
	}
}

// names are the people's user names by external id, as Tenure gave them.
func (s *storm) names(t *testing.T) map[string]string {
	t.Helper()
	names := map[string]string{}
	for _, p := range s.door(t).everybody(t) {
		names[p.GetRecord().GetExternalId()] = p.GetUserName()
	}
	return names
}

// compare reads all applications and compares everybody with the model, as it is after the first n events.
func (s *storm) compare(t *testing.T, n int) {
	t.Helper()
	names, has := s.names(t), s.holdings(t)
	active, left := 0, 0
	for id, r := range s.company.after(n) {
		name := names[id]
		// Who had left before anything else was heard of them never got a name.
		if (r.Status == "active" || name != "") && !userName(r).MatchString(name) {
			t.Errorf("%s has the user name %q", id, name)
		}
		for app, wish := range wishes {
			want := holding{}
			if r.Status == "active" {
				wished := wish(r)
				want = holding{wished.enabled, slices.Sorted(slices.Values(wished.grants))}
			}
			got, there := has[app][name]
			delete(has[app], name)
			switch {
			case want.enabled && !there:
				t.Errorf("%s has no account in %s", id, app)
			case cmp.Diff(want.grants, got.grants) != "" && len(want.grants)+len(got.grants) > 0, want.enabled != got.enabled:
				t.Errorf("%s (%s) has %+v in %s, want %+v", id, r.Status, got, app, want)
			case want.enabled:
				active++
			case there:
				left++
			}
		}
	}
	for app, others := range has {
		if len(others) > 0 {
			t.Errorf("%s has accounts of nobody: %v", app, slices.Collect(maps.Keys(others)))
		}
	}
	t.Logf("after %d events %d accounts of active people have exactly what the model says, %d of others nothing", n, active, left)
}

// givePasswords gives everybody with an entry in the directory, and with a login in the warehouse, a password of their own.
func (s *storm) givePasswords(t *testing.T) (logins []string) {
	t.Helper()
	has := s.holdings(t)
	for name := range has["directory"] {
		s.directory.SetPassword(t, name, "of "+name)
		logins = append(logins, name)
	}
	var all bytes.Buffer
	for name := range has["warehouse"] {
		fmt.Fprintf(&all, "ALTER ROLE %q PASSWORD 'of %s';\n", name, name)
	}
	s.warehouse.sql(t, all.String())
	return logins
}

// tryPasswords binds and logs in as everybody: who has left is let in nowhere, the others everywhere they should.
func (s *storm) tryPasswords(t *testing.T, logins []string) {
	t.Helper()
	has := s.holdings(t)
	refused := 0
	for _, name := range logins {
		err := s.directory.Bind(t, name, "of "+name)
		if err != nil && !ldap.IsErrorWithCode(err, ldap.LDAPResultInvalidCredentials) {
			t.Fatal(err)
		}
		if want := has["directory"][name].enabled; want != (err == nil) {
			t.Errorf("%s (active: %v) binds: %v", name, want, err)
		}
		if err != nil {
			refused++
		}
		role, there := has["warehouse"][name]
		if !there {
			continue
		}
		conn, err := s.warehouse.login(t, name, "of "+name)
		if err == nil {
			_ = conn.Close(t.Context())
		}
		if role.enabled != (err == nil) {
			t.Errorf("%s (active: %v) logs in: %v", name, role.enabled, err)
		}
	}
	if refused == 0 || refused == len(logins) {
		t.Errorf("%d of %d cannot bind: that shows little", refused, len(logins))
	}
	t.Logf("of %d people with a password %d cannot bind any more", len(logins), refused)
}

// checkJournals reads the applications' own journals.
func (s *storm) checkJournals(t *testing.T) {
	t.Helper()
	names := s.names(t)
	perPerson := map[string][]posted{}
	for _, p := range s.order {
		perPerson[p.record.ExternalID] = append(perPerson[p.record.ExternalID], p)
	}
	for app, journal := range map[string][]effect{
		"directory": s.directoryJournal(t), "suite": s.suiteJournal(t), "warehouse": s.warehouseJournal(t),
	} {
		right := map[effect]int{}
		for id, arrived := range perPerson {
			maps.Copy(right, most(arrived, names[id], wishes[app]))
		}
		nothingTwice(t, app, journal, right)
	}
}

// logged is a line of PostgreSQL's log: the session, and either a statement or what was said of the one before.
var logged = regexp.MustCompile(`^(\S+) (LOG:  (?:statement|execute [^:]+): (.*)|NOTICE:|WARNING:)`)

// warehouseJournal reads what PostgreSQL logged of every statement: what was in a transaction that was committed had effect,
// unless it was so already.
func (s *storm) warehouseJournal(t *testing.T) (journal []effect) {
	t.Helper()
	under := map[string][]effect{} // by session
	for line := range strings.Lines(read(t, s.warehouse.log(t))) {
		said := logged.FindStringSubmatch(strings.TrimSpace(line))
		if said == nil {
			continue
		}
		session, statement := said[1], said[3]
		done := under[session]
		switch e, ok := warehouseEffect(statement); {
		case statement == "": // of the statement before: it was so already
			under[session] = done[:max(len(done)-1, 0)]
		case statement == "begin", statement == "rollback":
			under[session] = nil
		case statement == "commit":
			journal, under[session] = append(journal, done...), nil
		case ok:
			under[session] = append(done, e)
		}
	}
	return journal
}

// warehouseEffect reads a statement of the connector's.
func warehouseEffect(statement string) (effect, bool) {
	word := strings.Fields(strings.ReplaceAll(statement, `"`, ""))
	switch {
	case len(word) < 4:
	case word[0] == "CREATE" && word[1] == "ROLE":
		return effect{word[2], "create", ""}, true
	case word[0] == "DROP" && word[1] == "ROLE":
		return effect{word[2], "delete", ""}, true
	case word[0] == "ALTER" && word[1] == "ROLE" && word[3] == "LOGIN":
		return effect{word[2], "enable", ""}, true
	case word[0] == "ALTER" && word[1] == "ROLE" && word[3] == "NOLOGIN":
		return effect{word[2], "disable", ""}, true
	case word[0] == "GRANT" && word[2] == "TO":
		return effect{word[3], "grant", word[1]}, true
	case word[0] == "REVOKE" && word[2] == "FROM":
		return effect{word[3], "revoke", word[1]}, true
	}
	return effect{}, false
}
