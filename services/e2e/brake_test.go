package e2e

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"
)

// awaitHold waits until the only hold keeps back so many people, and returns its id.
func (tn *tenure) awaitHold(t *testing.T, people int) (id string) {
	t.Helper()
	type listed struct {
		Holds []struct{ ID, Words, People string }
	}
	await(t, fmt.Sprintf("a hold of %d people", people), func() (bool, string) {
		holds := ask[listed](t, tn, "holds", "list").Holds
		if len(holds) != 1 || holds[0].People != fmt.Sprint(people) {
			return false, fmt.Sprint(holds)
		}
		id = holds[0].ID
		return true, ""
	})
	return id
}

// An HR system that says of everybody that they have left does harm to five, until two people say that it is so.
func TestOfEverybodyWhoIsSaidToHaveLeftOnlyTheLimitLosesAccess(t *testing.T) {
	t.Parallel()
	const people = 30
	w := wiki{freeAddresses(t, 1)[0]}
	tn := serve(t, plan{applications: demoApplication("wiki", w.address, smallGroups, ""), brake: "{}"}) // the default limits
	tn.applyModel(t, smallRoles)
	var join, leave []posting
	for n := range people {
		r := record{ExternalID: fmt.Sprint(n), Status: "active", GivenName: "Pat", FamilyName: fmt.Sprintf("Person%d", n), Email: fmt.Sprintf("p%d@acme.example", n)}
		join = append(join, says(t, fmt.Sprint("join-", n), time.Now(), r))
		r.Status = "terminated"
		leave = append(leave, says(t, fmt.Sprint("leave-", n), time.Now().Add(time.Second), r))
	}
	tn.hr(t).postAll(t, join, true)
	tn.settle(t)
	usable := func() (n int) {
		for _, a := range w.accounts(t) {
			if a.Status == "enabled" {
				n++
			}
		}
		return n
	}
	if n := usable(); n != people {
		t.Fatalf("%d of %d have an account that works", n, people)
	}
	tn.hr(t).postAll(t, leave, true)
	hold := tn.awaitHold(t, people-5)
	await(t, "five accounts to be disabled", func() (bool, string) { n := usable(); return n == people-5, fmt.Sprint(n) })
	shown := tn.cli(t, "holds", "show", hold).want(t, 0).stdout
	if !strings.Contains(shown, "25 of 25: leaver, source hr") || !strings.Contains(shown, "-wiki/account -wiki/group:staff") || !strings.Contains(shown, "per_hour: 5 have lost access already, and 5 may") {
		t.Errorf("the hold is shown as\n%s", shown)
	}
	await(t, "the figure", func() (bool, string) {
		_, page, err := get(t.Context(), "http://"+tn.metrics+"/metrics")
		return err == nil && strings.Contains(string(page), "tenure_holds_open 1") && strings.Contains(string(page), "tenure_held_people 25"), ""
	})

	tn.cliAs(t, "olga", "holds", "release", hold).want(t, 4) // who is no approver
	tn.cliAs(t, "bob", "holds", "release", hold, "--shown", strings.Repeat("0", 64)).want(t, 1)
	tn.cliAs(t, "bob", "holds", "release", hold).want(t, 0)
	tn.cliAs(t, "bob", "holds", "release", hold).want(t, 4) // another one has to
	// What is held outlives the process.
	if err := tn.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-tn.done
	tn.start(t)
	if n := usable(); tn.awaitHold(t, people-5) != hold || n != people-5 {
		t.Errorf("after a kill %d accounts work, and another hold is open", n)
	}
	tn.cliAs(t, "ada", "holds", "release", hold).want(t, 0)
	await(t, "what two people released", func() (bool, string) { n := usable(); return n == 0, fmt.Sprint(n, " accounts still work") })
	tn.settle(t)
	for _, want := range []string{"opened", "release-requested by operator:bob: 25 people", "released by operator:ada: 25 people"} {
		await(t, "the record of "+want, func() (bool, string) {
			log := tn.cli(t, "audit", "log").want(t, 0).stdout
			return strings.Contains(log, "hold "+hold+" "+want), log
		})
	}
}
