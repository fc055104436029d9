package provision_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tenurehq/tenure/services/connectors/scim"
	"github.com/tenurehq/tenure/services/connectors/scim/scimtest"
	"github.com/tenurehq/tenure/services/provision/internal/store"
)

// TestSCIMApplications asks the applications themselves. In the second one nobody can see who is disabled.
func TestSCIMApplications(t *testing.T) {
	t.Parallel()
	suite := scimtest.Start(t)
	hiding := scimtest.StartOdd(t, scimtest.Quirks{HidesDisabled: true, DeleteDisables: true, ShowsGroups: true, NoSearchBy: "members.value"})
	for _, group := range []string{"readers", "writers"} {
		suite.AddGroup(t, group)
		hiding.AddGroup(group)
	}
	open := func(url, token, profile string) *scim.Application {
		file := filepath.Join(t.TempDir(), "token")
		if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
			t.Fatal(err)
		}
		application, err := scim.Open(scim.Config{URL: url, TokenFile: file, Dialect: profile})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = application.Close() })
		return application
	}
	w := newWorld(t, "sqlite",
		one("suite", open(suite.URL(), suite.Token(), "generic").Connector()), one("hiding", open(hiding.URL(), hiding.Token(), "atlassian").Connector()))
	w.policy.plain, w.policy.name = true, "userName"
	svc, _ := w.start()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("stuck: %v", stuckItems(t, svc))
		}
	})
	everywhere := func(x want) {
		t.Helper()
		for _, name := range []string{"suite", "hiding"} {
			x.app, x.person = name, "ann"
			w.publish(x)
			w.done(name, "ann")
			w.untilState(name, "ann", store.Settled)
		}
	}
	members := func() string {
		return strings.Join(hiding.Members("readers"), " ") + "|" + strings.Join(hiding.Members("writers"), " ")
	}
	everywhere(want{state: enabled, entitlements: []string{"group:readers"}, run: 1})
	id := hiding.Members("readers")[0]
	everywhere(want{state: enabled, entitlements: []string{"group:writers"}})
	if got := members(); got != "|"+id {
		t.Errorf("after the move the members are %s", got)
	}
	everywhere(want{state: disabled, entitlements: []string{"group:writers"}})
	if got := members(); got != "|"+id || hiding.User(id)["active"] != false {
		t.Errorf("on leave: %s and %v", got, hiding.User(id))
	}
	everywhere(want{state: none, ended: time.Now(), known: time.Now()})
	if got := members(); got != "|" || hiding.User(id)["active"] != false {
		t.Errorf("who has left: %s and %v", got, hiding.User(id))
	}
	everywhere(want{state: enabled, entitlements: []string{"group:readers"}, login: "ann.lee", run: 2})
	if got := members(); got != id+"|" || hiding.User(id)["active"] != true || hiding.User(id)["userName"] != "ann.lee" || hiding.Users() != 1 {
		t.Errorf("who is back: %s and %v of %d", got, hiding.User(id), hiding.Users())
	}
	var journal []string
	for _, change := range suite.Journal(t) {
		journal = append(journal, strings.TrimSpace(change.Op+" "+change.Group))
	}
	want := []string{
		"create", "grant readers", "enable", "grant writers", "revoke readers", "disable", "revoke writers", "grant readers", "enable",
	}
	if !slices.Equal(journal, want) {
		t.Errorf("the suite's own journal says %v, want %v", journal, want)
	}
}

// Writes are done and their replies lost, again and again: the end is the same, and nobody is there twice.
func TestLostSCIMRepliesMakeNobodyTwice(t *testing.T) {
	t.Parallel()
	const people = 40
	suite := scimtest.StartOdd(t, scimtest.Quirks{KeepsTwice: true})
	suite.AddGroup("readers")
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(suite.Token()), 0o600); err != nil {
		t.Fatal(err)
	}
	application, err := scim.Open(scim.Config{URL: suite.URL(), TokenFile: file})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = application.Close() })
	w := newWorld(t, "sqlite", one("suite", application.Connector()))
	w.policy.plain, w.policy.name = true, "userName"
	w.start()
	everybody := func(generation int64, x want) {
		t.Helper()
		var wants []want
		for n := range people {
			x.app, x.person = "suite", fmt.Sprintf("p%d", n)
			wants = append(wants, x)
		}
		w.publish(wants...)
		for _, x := range wants {
			suite.LoseReplies(1)
			w.untilMarked("suite", x.person, generation)
			w.untilState("suite", x.person, store.Settled)
		}
	}
	suite.LoseReplies(3)
	everybody(1, want{state: enabled, entitlements: []string{"group:readers"}})
	members := suite.Members("readers")
	slices.Sort(members)
	if len(members) != people || len(slices.Compact(members)) != people || suite.Users() != people {
		t.Errorf("%d members of %d users, want %d of each", len(members), suite.Users(), people)
	}
	everybody(2, want{state: none, ended: time.Now(), known: time.Now()})
	for _, id := range members {
		if suite.User(id)["active"] != false {
			t.Errorf("%v can still log in", suite.User(id))
		}
	}
	if left := suite.Members("readers"); len(left) > 0 {
		t.Errorf("members are left: %v", left)
	}
}
