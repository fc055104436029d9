package e2e

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
)

func TestWhatWasAcceptedIsThereAfterAKill(t *testing.T) {
	t.Parallel()
	const people, killAfter = 300, 120
	w := wiki{freeAddresses(t, 1)[0]}
	tn := serve(t, plan{applications: demoApplication("wiki", w.address, smallGroups, "")})
	tn.applyModel(t, smallRoles)
	postings := make([]posting, people)
	for n := range postings {
		postings[n] = says(t, fmt.Sprintf("join-%d", n), time.Now(), record{
			ExternalID: fmt.Sprint(n), Status: "active", GivenName: "Pat", FamilyName: fmt.Sprintf("Person%d", n), Email: fmt.Sprintf("p%d@acme.example", n),
		})
	}
	var mu sync.Mutex
	deliveries := map[string]string{} // of those that were accepted
	hr := tn.hr(t)
	var senders sync.WaitGroup
	for sender := range 8 {
		senders.Go(func() {
			for n := sender; n < people; n += 8 {
				delivery, err := hr.post(t, postings[n])
				if err != nil {
					return // killed
				}
				mu.Lock()
				deliveries[postings[n].id] = delivery
				if len(deliveries) == killAfter {
					_ = tn.cmd.Process.Kill()
				}
				mu.Unlock()
			}
		})
	}
	senders.Wait()
	<-tn.done
	if len(deliveries) < killAfter || len(deliveries) == people {
		t.Fatalf("%d of %d were accepted before the kill", len(deliveries), people)
	}
	tn.start(t)
	o := tn.dial(t)
	for id, delivery := range deliveries {
		shown, err := o.people.ShowDelivery(t.Context(), &peoplev1.ShowDeliveryRequest{Id: delivery})
		if err != nil || shown.GetDelivery().GetKey() != id {
			t.Errorf("%s was accepted as %s and is gone: %v", id, delivery, err)
		}
	}
	hr = tn.hr(t)
	for _, p := range postings { // as an HR system does that got no answer to some
		delivery, err := hr.post(t, p)
		if err != nil {
			t.Fatal(err)
		}
		if before, accepted := deliveries[p.id]; accepted && delivery != before {
			t.Errorf("%s was accepted as %s, and again as %s", p.id, before, delivery)
		}
	}
	tn.settle(t)
	if accounts := w.accounts(t); len(accounts) != people {
		t.Errorf("%d accounts, want %d", len(accounts), people)
	}
	if created := strings.Count(string(w.fetch(t, "/journal")), `"op":"create"`); created != people {
		t.Errorf("the wiki's journal has %d accounts made, want %d", created, people)
	}
	tn.cli(t, "audit", "verify").want(t, 0)
	tn.stop(t)
}
