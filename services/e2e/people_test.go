package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tenurehq/tenure/pkg/config"
	"github.com/tenurehq/tenure/services/ingest/source/bamboohr"
	"github.com/tenurehq/tenure/services/ingest/source/hibob"
	"github.com/tenurehq/tenure/services/ingest/source/vendorapi"
	"github.com/tenurehq/tenure/services/ingest/source/vendortest"
)

// vendorSigned are the headers of a vendor's webhook.
type vendorSigned func(at time.Time, body []byte) http.Header

// notify posts a vendor's webhook, which names an employee and says nothing of them.
func (tn *tenure) notify(t *testing.T, source string, sign vendorSigned, body []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+tn.http+"/v1/webhooks/"+source, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = sign(time.Now(), body)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s is answered %d", source, resp.StatusCode)
	}
}

func TestEmployeesOfBambooHRAndHiBobComeAndGo(t *testing.T) {
	t.Parallel()
	const key = "the private key of a webhook"
	keys, err := vendorapi.ParseKeys([]byte(key))
	if err != nil {
		t.Fatal(err)
	}
	bamboo, bob := vendortest.NewBambooHR("bamboo-key"), vendortest.NewHiBob("SERVICE-1", "bob-token")
	t.Cleanup(bamboo.Close)
	t.Cleanup(bob.Close)
	secret := func(text string) vendorapi.Config { // only to sign as the vendor does
		return vendorapi.Config{URL: "https://hr.example", Password: config.NewSecret([]byte(text))}
	}
	bambooSource, err := bamboohr.New(bamboohr.Config{Keys: keys, API: secret("x")})
	if err != nil {
		t.Fatal(err)
	}
	bobAPI := secret("x")
	bobAPI.User = "SERVICE-1"
	bobSource, err := hibob.New(hibob.Config{Keys: keys, API: bobAPI})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, content := range map[string]string{"webhook": key, "bamboo": "bamboo-key", "bob": "bob-token"} {
		write(t, filepath.Join(dir, name), content+"\n")
	}
	w := wiki{freeAddresses(t, 1)[0]}
	tn := serve(t, plan{
		applications: demoApplication("wiki", w.address, smallGroups, ""),
		sources: fmt.Sprintf(`  - {name: bamboo, kind: bamboohr, secret_file: %[1]q, api: {url: %[2]q, token_file: %[3]q}}
  - {name: bob, kind: hibob, secret_file: %[1]q, api: {url: %[4]q, user: SERVICE-1, token_file: %[5]q}}`,
			filepath.Join(dir, "webhook"), bamboo.URL+"/api/v1", filepath.Join(dir, "bamboo"), bob.URL+"/v1", filepath.Join(dir, "bob")),
	})
	tn.applyModel(t, strings.ReplaceAll(smallRoles, "d005", "Engineering"))

	bamboo.Set("7", vendortest.BambooEmployee("Ann", "Archer"))
	bob.Set("7", vendortest.BobEmployee("Bea", "Baker"))
	tell := func(kind string) {
		t.Helper()
		tn.notify(t, "bamboo", bambooSource.Sign, vendortest.BambooEvent("employee."+kind, "7", time.Now()))
		tn.notify(t, "bob", bobSource.Sign, vendortest.BobEvent("employee."+kind, "7", time.Now()))
	}
	tell("created")
	w.await(t, "aarcher enabled[group:developers group:staff], bbaker enabled[group:developers group:staff]")
	bamboo.Change("7", vendortest.Fields{"department": "Sales"})
	bob.Change("7", vendortest.Fields{"internal.lifecycleStatus": "Parental leave", "internal.status": "Inactive"})
	tell("updated")
	w.await(t, "aarcher enabled[group:staff], bbaker disabled[group:developers]")
	bamboo.Change("7", vendortest.Fields{"status": "Inactive", "terminationDate": "2026-01-02"})
	bob.Change("7", vendortest.Fields{"internal.lifecycleStatus": "terminated", "internal.terminationDate": "2026-01-02"})
	tell("left")
	w.await(t, "aarcher disabled[], bbaker disabled[]")
}

func TestARosterThatLeavesOutACompanyIsHeldAndTakesNothing(t *testing.T) {
	t.Parallel()
	w := wiki{freeAddresses(t, 1)[0]}
	tn := serve(t, plan{applications: demoApplication("wiki", w.address, smallGroups, "")})
	tn.applyModel(t, smallRoles)
	hr := tn.hr(t)
	var everybody []record
	for n := range 10 {
		r := record{ExternalID: fmt.Sprint(n), Status: "active", GivenName: "P", FamilyName: fmt.Sprintf("Q%d", n), Email: fmt.Sprintf("q%d@acme.example", n)}
		everybody = append(everybody, r)
		hr.tell(t, r.ExternalID, r)
	}
	tn.settle(t)
	// send posts a roster in two signed parts.
	send := func(id string, people []record) {
		t.Helper()
		made := time.Now().UTC().Format(time.RFC3339Nano)
		for part, some := range [][]record{people[:1], people[1:]} {
			body, err := json.Marshal(map[string]any{"type": "person.batch", "timestamp": made, "data": map[string]any{
				"people": some, "roster": map[string]any{"id": id, "part": part + 1, "parts": 2, "total": len(people)},
			}})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := hr.post(t, posting{id: fmt.Sprint(id, part), body: body}); err != nil {
				t.Fatal(err)
			}
		}
	}
	verdict := func(id, word string) string {
		t.Helper()
		said := ""
		await(t, "the roster "+id+" to be "+word, func() (bool, string) {
			said = tn.cli(t, "rosters", "show", "hr", id).want(t, 0).stdout
			return strings.Contains(said, word), said
		})
		return said
	}
	enabled := func() (n int) {
		for _, account := range w.accounts(t) {
			if account.Status == "enabled" {
				n++
			}
		}
		return n
	}
	send("broken", everybody[:3])
	if said := verdict("broken", "held"); !strings.Contains(said, "min_rows") || !strings.Contains(said, "key_stability") {
		t.Errorf("why it is held is not said:\n%s", said)
	}
	if said := tn.cli(t, "deliveries", "list", "--held").want(t, 0).stdout; strings.Count(said, "roster: ") != 2 {
		t.Errorf("the two parts are not listed:\n%s", said)
	}
	everybody[0].Department = "d005" // a webhook that was lost
	send("good", everybody[:9])
	verdict("good", "taken")
	tn.settle(t)
	if got := w.account(t, everybody[0].Email); !slices.Contains(got.Entitlements, "group:developers") {
		t.Errorf("what only the roster said is not so: %+v", got)
	}
	if said := tn.cli(t, "people", "findings", "--kind", "absent").want(t, 0).stdout; !strings.Contains(said, "hr:9") || strings.Contains(said, "hr:8") {
		t.Errorf("who is absent:\n%s", said)
	}
	if n := enabled(); n != 10 {
		t.Errorf("%d have an account that works, want 10: absence is no leave", n)
	}
	if said := tn.cli(t, "audit", "log").want(t, 0).stdout; strings.Contains(said, "leaver") {
		t.Errorf("somebody is said to have left:\n%s", said)
	}
}

func TestTwoEmploymentsAreOnePersonAndTwoPeopleAreMadeOneByAnOperator(t *testing.T) {
	t.Parallel()
	tn, w, ann := small(t)
	hr := tn.hr(t)
	second := record{ExternalID: "2", Status: "active", GivenName: "Ann", FamilyName: "Lee", Email: "lee@acme.example", Department: "d001"}
	hr.tell(t, "second", second)
	w.await(t, "alee enabled[group:developers group:staff], ann.lee enabled[group:staff]") // without a person_key they are two
	tn.cliAs(t, "vic", "people", "merge", "1", "2").want(t, 4)
	tn.cliAs(t, "olga", "people", "merge", "1", "2").want(t, 0)
	w.await(t, "alee enabled[group:developers group:staff], ann.lee disabled[]")
	ann.Status = "terminated"
	hr.tell(t, "first-ends", ann)
	w.await(t, "alee enabled[group:staff], ann.lee disabled[]") // what the other employment gives
	second.Status = "terminated"
	hr.tell(t, "second-ends", second)
	w.await(t, "alee disabled[], ann.lee disabled[]")
	second.Status = "active"
	hr.tell(t, "second-returns", second)
	tn.cliAs(t, "olga", "people", "split", "1", "hr:2").want(t, 0)
	w.await(t, "alee disabled[], alee2 enabled[group:staff], ann.lee disabled[]") // another person, with an account of their own
}
