package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// lives are a few people with all that can happen to them, in three real applications. Who comes back gets another account in
// the directory, and the old one elsewhere.
type lives struct {
	*mix
	tn *tenure
	hr *hr
	n  int
}

func newLives(t *testing.T) *lives {
	t.Helper()
	m := newMix(t)
	applications := m.applications(t)
	again := strings.Replace(applications, "    enforce: full\n", "    enforce: full\n    when_rehired: new\n", 1)
	if again == applications {
		t.Fatal("the directory has no setting that is known here")
	}
	l := &lives{mix: m, tn: serve(t, plan{applications: again, logLevel: "warn"})}
	l.tn.applyModel(t, mixModel)
	l.hr = l.tn.hr(t)
	return l
}

// say lets HR say something of people, and waits until it is so everywhere.
func (l *lives) say(t *testing.T, people ...record) {
	t.Helper()
	for _, r := range people {
		l.n++
		l.hr.tell(t, fmt.Sprint(r.ExternalID, "-", l.n), r)
	}
	l.tn.settle(t)
}

// are compares all accounts of one application with how they should be: login, and "off" or what it has.
func (l *lives) are(t *testing.T, app string, want map[string]string) {
	t.Helper()
	has := map[string]string{}
	for login, h := range l.holdings(t)[app] {
		has[login] = strings.TrimSpace("on " + strings.Join(h.grants, " "))
		if !h.enabled {
			has[login] = strings.TrimSpace("off " + strings.Join(h.grants, " "))
		}
	}
	if diff := cmp.Diff(want, has); diff != "" {
		t.Errorf("%s (-want +has):\n%s", app, diff)
	}
}

// name is the user name that a person got.
func (l *lives) name(t *testing.T, externalID string) string {
	t.Helper()
	for _, p := range l.tn.dial(t).everybody(t) {
		if p.GetRecord().GetExternalId() == externalID {
			return p.GetUserName()
		}
	}
	return ""
}

// called is what the directory calls a person.
func (l *lives) called(t *testing.T, uid string) (cn, sn string) {
	t.Helper()
	for _, e := range ldif(t, l.search(t, peopleBase, "(uid="+uid+")", "cn", "sn")) {
		return strings.Join(e["cn"], "|"), strings.Join(e["sn"], "|")
	}
	return "", ""
}

func TestLivesInRealApplications(t *testing.T) {
	t.Parallel()
	l := newLives(t)
	day := func(n int) string { return time.Now().AddDate(0, 0, n).Format(time.DateOnly) }
	person := func(id, given, family string) record {
		return record{ExternalID: id, Status: "active", GivenName: given, FamilyName: family, Email: "p" + id + "@acme.example", Department: "d005", Title: "Engineer", StartDate: day(-30)}
	}
	// Names with what means something in a DN, a filter, LDIF, JSON, a URL or SQL, and letters of other scripts.
	zoe, nobody, stays := person("1", "Zoë \\#1", `O’Brien, "x"+y=<z>;*()%27`), person("2", "李", "小龍"), person("3", "  Łukasz", "Şahin'--  ")
	nobody.StartDate = day(30)
	l.say(t, zoe, nobody, stays)
	on := func(logins ...string) (directory, suite, warehouse map[string]string) {
		directory, suite, warehouse = map[string]string{}, map[string]string{}, map[string]string{}
		for _, login := range logins {
			directory[login], suite[login], warehouse[login] = "on d005 staff", "on Engineer", "on dept_d005"
		}
		return directory, suite, warehouse
	}
	everywhere := func(directory, suite, warehouse map[string]string) {
		t.Helper()
		l.are(t, "directory", directory)
		l.are(t, "suite", suite)
		l.are(t, "warehouse", warehouse)
	}
	z, s := l.name(t, "1"), l.name(t, "3")
	if z == "" || s == "" || z == s {
		t.Fatalf("the user names are %q and %q", z, s)
	}
	everywhere(on(z, s)) // who begins in a month has nothing yet
	if cn, sn := l.called(t, z); cn != zoe.GivenName+" "+zoe.FamilyName || sn != zoe.FamilyName {
		t.Errorf("the directory calls %s %q and %q", z, cn, sn)
	}

	// A no-show, another name, and an end that is announced and taken back.
	nobody.Status, zoe.FamilyName, stays.EndDate = "terminated", "de la Cruz-Ñandú", day(1)
	l.say(t, nobody, zoe, stays)
	stays.EndDate = ""
	l.say(t, stays)
	everywhere(on(z, s))
	if _, sn := l.called(t, z); sn != zoe.FamilyName {
		t.Errorf("the directory calls %s %q after the name was changed", z, sn)
	}

	// They leave; one end is taken back, the other is followed by another employment.
	zoe.Status, zoe.EndDate = "terminated", day(-10)
	stays.Status = "terminated"
	l.say(t, zoe, stays)
	everywhere(map[string]string{z: "off", s: "off"}, map[string]string{z: "off", s: "off"}, map[string]string{z: "off", s: "off"})
	stays.Status = "active"
	zoe.Status, zoe.StartDate, zoe.EndDate, zoe.Department = "active", "", "", "d001"
	l.say(t, zoe, stays)
	everywhere(
		map[string]string{z + "-former1": "off", z: "on d001 staff", s: "on d005 staff"},
		map[string]string{z: "on Engineer", s: "on Engineer"},
		map[string]string{z: "off", s: "on dept_d005"},
	)
	made := func(journal []effect) (n int) {
		for _, e := range journal {
			if e == (effect{z, "create", ""}) {
				n++
			}
		}
		return n
	}
	if directory, suite := made((&storm{mix: l.mix}).directoryJournal(t)), made((&storm{mix: l.mix}).suiteJournal(t)); directory != 2 || suite != 1 {
		t.Errorf("who came back had %d accounts in the directory and %d in the suite, want another one and the old one", directory, suite)
	}
}
