package scim_test

import (
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/tenurehq/tenure/pkg/connector"
	"github.com/tenurehq/tenure/pkg/connector/connectortest"
	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
	"github.com/tenurehq/tenure/services/connectors/scim"
	"github.com/tenurehq/tenure/services/connectors/scim/scimtest"
)

// server is a real application of somebody else's, seen by itself and through the connector.
type server struct {
	*scimtest.Server
	client connectortest.Client
}

// TestAgainstARealServer holds every test that needs one; they share it, and keep to names of their own.
func TestAgainstARealServer(t *testing.T) {
	t.Parallel()
	suite := scimtest.Start(t)
	cfg := scim.Config{URL: suite.URL(), TokenFile: tokenFile(t, suite.Token()), Protected: []string{"Root"}, CorrelatedBy: workEmail}
	s := server{suite, open(t, cfg)}
	for name, test := range map[string]func(*testing.T, server){
		"each step a second time changes nothing":           eachStepTwice,
		"every hard name is just a name":                    hardNames,
		"an update touches what is listed and nothing else": updates,
		"a rename keeps the account":                        rename,
		"a taken name is told and not taken over":           takenName,
		"an account with our marker is found, not made":     markedIsFound,
		"adoption writes the marker":                        adoption,
		"what is another's or protected is never altered":   notOurs,
		"entitlements are never made":                       missingEntitlement,
		"a group shows its members":                         groupMembers,
		"twenty grants of one group at once lose none":      concurrentGrants,
		"twenty creates of one account at once make one":    concurrentCreates,
		"what SCIM does not know is said":                   unknowns,
		"the token's owner is named":                        owner,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, s)
		})
	}
}

func eachStepTwice(t *testing.T, s server) {
	s.AddGroup(t, "twice")
	joiner := []*connectorv1.Step{
		named("twice"),
		set(opUpdate, map[string]string{"userName": "twice", "title": "Engineer", workEmail: "twice@acme.example", department: "d005"}),
		step(opGrant, "group:twice"), step(opEnable, ""),
	}
	first := s.client.Want(t, "", "p:twice", "CCCC", joiner...)
	again := s.client.Want(t, "", "p:twice", "UUUU", joiner...)
	if first.GetAccountId() != again.GetAccountId() || first.GetAccountId() == "" {
		t.Fatalf("ids %q and %q", first.GetAccountId(), again.GetAccountId())
	}
	id := first.GetAccountId()
	if diff := cmp.Diff(first.GetObserved(), again.GetObserved(), protocmp.Transform()); diff != "" {
		t.Errorf("what was read back differs:\n%s", diff)
	}
	o := again.GetObserved()
	if o.GetStatus() != connectorv1.AccountStatus_ACCOUNT_STATUS_ENABLED || grants(o) != "group:twice" || !o.GetGrantsComplete() || o.GetMarker() != "p:twice" {
		t.Errorf("after a joiner's plan there is %v", o)
	}
	leaver := []*connectorv1.Step{step(opDisable, ""), step(opRevoke, "group:twice")}
	o = s.client.Want(t, id, "p:twice", "CC", leaver...).GetObserved()
	if o.GetStatus() != connectorv1.AccountStatus_ACCOUNT_STATUS_DISABLED || grants(o) != "" || !o.GetGrantsComplete() {
		t.Errorf("after a leaver's plan there is still %v", o)
	}
	s.client.Want(t, id, "p:twice", "UU", leaver...)
	s.client.Want(t, id, "p:twice", "C", step(opDelete, ""))
	if gone := s.client.Want(t, id, "p:twice", "U", step(opDelete, "")); gone.GetObserved() != nil {
		t.Errorf("a user who was deleted was read back: %v", gone.GetObserved())
	}
	var ops []string
	for _, change := range s.Journal(t) {
		if change.ID == id {
			ops = append(ops, strings.TrimSpace(change.Op+" "+change.Group))
		}
	}
	if got := strings.Join(ops, ", "); got != "create, grant twice, enable, disable, revoke twice, delete" {
		t.Errorf("the application's own journal says %s", got)
	}
}

// hardNames: scimmy cannot search for a quote, and finds by externalId and id all the same.
func hardNames(t *testing.T, s server) {
	s.AddGroup(t, "hard")
	for i, name := range []string{
		`o"neil`, `back\slash`, "Żółć Ćma", "李小龍", "a b", "a+b@acme.example", "a&b=c;d", "x) or (id pr", `" or userName pr or "`, "100%", "a/b?c#d", "null", "true", strings.Repeat("n", 255),
	} {
		marker := fmt.Sprintf("p:hard%d", i)
		s.AddGroup(t, "hard "+name)
		first := s.client.Want(t, "", marker, "CCC", named(name), step(opGrant, "group:hard"), step(opEnable, ""))
		if !strings.ContainsAny(name, `"\`) {
			s.client.Want(t, first.GetAccountId(), marker, "CU", step(opGrant, "group:hard "+name), step(opGrant, "group:hard "+name))
			if got := s.client.Found(t, byName(name)).GetAccounts(); len(got) != 1 || got[0].GetId() != first.GetAccountId() {
				t.Errorf("by the name %q there is %v", name, got)
			}
		}
		again := s.client.Want(t, "", marker, "U", named(name))
		if again.GetAccountId() != first.GetAccountId() || again.GetObserved().GetName() != name {
			t.Errorf("%q became %v", name, again)
		}
		if other := s.client.Do(t, "", "p:other", named(name)); outcomes(other) != "F" {
			t.Errorf("%q was made twice: %v", name, other)
		}
	}
}

func updates(t *testing.T, s server) {
	id := account(t, s.client, "updated")
	all := map[string]string{
		"name.givenName": "Ann", "name.familyName": "Żak", "displayName": "Ann Żak", "title": "Engineer", workEmail: "ann@acme.example",
		`phoneNumbers[type eq "mobile"].value`: "+48 1", department: "d005",
		"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:employeeNumber": "10001",
	}
	s.client.Want(t, id, "p:updated", "C", set(opUpdate, all))
	s.client.Want(t, id, "p:updated", "U", set(opUpdate, all))
	o := s.client.Want(t, id, "p:updated", "C", set(opUpdate, map[string]string{workEmail: "a.zak@acme.example", department: "d006"}, "title", "name.givenName")).GetObserved()
	all[workEmail], all[department], all["userName"] = "a.zak@acme.example", "d006", "updated"
	all["emails[primary eq true].value"] = all[workEmail]
	delete(all, "title")
	delete(all, "name.givenName")
	if diff := cmp.Diff(all, o.GetAttributes()); diff != "" {
		t.Errorf("the attributes differ (-want +got):\n%s", diff)
	}
	s.client.Want(t, id, "p:updated", "CU", set(opUpdate, nil, workEmail), set(opUpdate, nil, workEmail))
	got := s.client.Want(t, id, "p:updated", "F", set(opUpdate, map[string]string{"shoeSize": "42"}))
	wantProblem(t, got, connectorv1.Code_CODE_INVALID, "scim.attribute")
	got = s.client.Want(t, id, "p:updated", "F", set(opUpdate, nil, "userName"))
	wantProblem(t, got, connectorv1.Code_CODE_INVALID, "scim.user_name")
}

func rename(t *testing.T, s server) {
	id := account(t, s.client, "before")
	account(t, s.client, "occupied")
	o := s.client.Want(t, id, "p:before", "C", set(opUpdate, map[string]string{"userName": "after"})).GetObserved()
	if o.GetId() != id || o.GetName() != "after" {
		t.Errorf("renamed, there is %v", o)
	}
	got := s.client.Want(t, id, "p:before", "F", set(opUpdate, map[string]string{"userName": "occupied"}))
	p := wantProblem(t, got, connectorv1.Code_CODE_ALREADY_EXISTS, "scim.uniqueness")
	if other := s.client.Found(t, byName("occupied")).GetAccounts()[0].GetId(); p.GetExistingAccountId() != other {
		t.Errorf("the name is said to be %s's, it is %s's", p.GetExistingAccountId(), other)
	}
}

func takenName(t *testing.T, s server) {
	id := s.AddResource(t, "/Users", map[string]any{"schemas": []string{"urn:ietf:params:scim:schemas:core:2.0:User"}, "userName": "theirs", "title": "CEO"})
	got := s.client.Want(t, "", "p:theirs", "F--", named("theirs"), step(opGrant, "group:x"), step(opEnable, ""))
	if p := got.GetResults()[0].GetProblem(); p.GetCode() != connectorv1.Code_CODE_ALREADY_EXISTS || p.GetExistingAccountId() != id {
		t.Errorf("%v, want ALREADY_EXISTS with %s", p, id)
	}
	if a := one(t, s.client, id); a.GetMarker() != "" || a.GetAttributes()["title"] != "CEO" {
		t.Errorf("an account that was in the way was altered: %v", a)
	}
}

func markedIsFound(t *testing.T, s server) {
	id := account(t, s.client, "marked")
	got := s.client.Want(t, "", "p:marked", "U", named("another name"))
	if got.GetAccountId() != id {
		t.Errorf("%s, want %s", got.GetAccountId(), id)
	}
	if found := s.client.Found(t, byMarker("p:marked")).GetAccounts(); len(found) != 1 || found[0].GetId() != id {
		t.Errorf("by the marker there is %v", found)
	}
	if found := s.client.Found(t, byMarker("P:MARKED")).GetAccounts(); len(found) != 0 {
		t.Errorf("by another marker there is %v", found)
	}
}

func adoption(t *testing.T, s server) {
	id := s.AddResource(t, "/Users", map[string]any{
		"schemas": []string{"urn:ietf:params:scim:schemas:core:2.0:User"}, "userName": "adopted", "active": true, "emails": []any{
			map[string]any{"type": "home", "value": "home@example.org"}, map[string]any{"type": "work", "value": "adopted@acme.example"},
		},
	})
	if found := s.client.Found(t, byKey("Adopted@acme.example")).GetAccounts(); len(found) != 0 && found[0].GetId() != id {
		t.Errorf("by an address in capitals there is %v", found)
	}
	if found := s.client.Found(t, byKey("home@example.org")).GetAccounts(); len(found) != 0 {
		t.Errorf("by another address there is %v", found)
	}
	found := s.client.Found(t, byKey("adopted@acme.example")).GetAccounts()
	if len(found) != 1 || found[0].GetId() != id || found[0].GetMarker() != "" {
		t.Fatalf("by the address there is %v", found)
	}
	o := s.client.Want(t, id, "p:adopted", "C", set(opUpdate, map[string]string{})).GetObserved()
	if o.GetMarker() != "p:adopted" {
		t.Errorf("adopted, there is %v", o)
	}
	s.client.Want(t, id, "p:adopted", "U", set(opUpdate, map[string]string{}))
}

func notOurs(t *testing.T, s server) {
	s.AddGroup(t, "not ours")
	for name, externalID := range map[string]string{"foreign": "00u1abc", "root": ""} {
		body := map[string]any{"schemas": []string{"urn:ietf:params:scim:schemas:core:2.0:User"}, "userName": name, "active": true}
		if externalID != "" {
			body["externalId"] = externalID
		}
		id := s.AddResource(t, "/Users", body)
		before := one(t, s.client, id)
		for _, st := range []*connectorv1.Step{
			step(opDisable, ""), step(opDelete, ""), step(opGrant, "group:not ours"), set(opUpdate, map[string]string{"title": "x"}), step(opRevoke, "group:not ours"),
		} {
			wantProblem(t, s.client.Want(t, id, "p:"+name, "F", st), connectorv1.Code_CODE_DENIED, "scim.")
		}
		if diff := cmp.Diff(before, one(t, s.client, id), protocmp.Transform()); diff != "" {
			t.Errorf("%s was altered:\n%s", name, diff)
		}
	}
}

func missingEntitlement(t *testing.T, s server) {
	id := account(t, s.client, "granted")
	for _, name := range []string{"group:none", "role:staff", "group:"} {
		got := s.client.Want(t, id, "p:granted", "F", step(opGrant, name))
		wantProblem(t, got, connectorv1.Code_CODE_NOT_FOUND, connector.ReasonNoEntitlement)
		s.client.Want(t, id, "p:granted", "U", step(opRevoke, name))
		if got := s.client.Found(t, byEntitlement(name)); got.GetEntitlement() != nil {
			t.Errorf("%s exists: %v", name, got)
		}
	}
}

func groupMembers(t *testing.T, s server) {
	s.AddGroup(t, "shown")
	id := account(t, s.client, "shown")
	s.client.Want(t, id, "p:shown", "C", step(opGrant, "group:shown"))
	got := s.client.Found(t, byEntitlement("group:shown"))
	if !got.GetEntitlement().GetAssignable() || len(got.GetAccounts()) != 1 || got.GetAccounts()[0].GetId() != id {
		t.Errorf("%v", got)
	}
}

// members asks the application itself; a member who is there twice counts twice.
func (s server) members(t *testing.T, group string) (ids []string) {
	t.Helper()
	var got struct {
		Resources []struct{ Members []struct{ Value string } }
	}
	s.Read(t, "/Groups?filter="+url.QueryEscape(`displayName eq "`+group+`"`), &got)
	for _, m := range got.Resources[0].Members {
		ids = append(ids, m.Value)
	}
	return ids
}

func concurrentGrants(t *testing.T, s server) {
	s.AddGroup(t, "crowd")
	var ids []string
	for i := range 20 {
		ids = append(ids, account(t, s.client, fmt.Sprintf("crowd%d", i)))
	}
	for _, op := range []*connectorv1.Step{step(opGrant, "group:crowd"), step(opRevoke, "group:crowd")} {
		var all sync.WaitGroup
		for i, id := range ids {
			all.Go(func() {
				if got := s.client.Do(t, id, fmt.Sprintf("p:crowd%d", i), step(op.GetOp(), op.GetTarget())); outcomes(got) != "C" {
					t.Errorf("%s: %v", op.GetOp(), got.GetResults())
				}
			})
		}
		all.Wait()
		left := s.members(t, "crowd")
		slices.Sort(left)
		if op.GetOp() == opGrant && !slices.Equal(left, slices.Sorted(slices.Values(ids))) || op.GetOp() == opRevoke && len(left) > 0 {
			t.Errorf("after %s the members are %d: %v", op.GetOp(), len(left), left)
		}
	}
}

func concurrentCreates(t *testing.T, s server) {
	ids := make([]string, 20)
	var all sync.WaitGroup
	for i := range ids {
		all.Go(func() {
			got := s.client.Do(t, "", "p:once", named("once"))
			if letters := outcomes(got); letters != "C" && letters != "U" {
				t.Errorf("%v", got.GetResults())
			}
			ids[i] = got.GetAccountId()
		})
	}
	all.Wait()
	if ids = slices.Compact(ids); len(ids) != 1 || ids[0] == "" {
		t.Errorf("twenty creates made %v", ids)
	}
}

func unknowns(t *testing.T, s server) {
	id := account(t, s.client, "unknowns")
	req := byID(id)
	req.Credentials, req.Sessions = true, true
	a := s.client.Found(t, req).GetAccounts()[0]
	if a.GetLiveSessions() != -1 || a.GetCredentialsComplete() || len(a.GetCredentials()) > 0 {
		t.Errorf("of sessions and credentials it says %v", a)
	}
	got := s.client.Want(t, id, "p:unknowns", "F", step(opKill, ""))
	wantProblem(t, got, connectorv1.Code_CODE_UNSUPPORTED, "tenure.unsupported")
}

func TestAListingOfARealServerIsWhole(t *testing.T) {
	t.Parallel()
	suite := scimtest.Start(t)
	client := open(t, scim.Config{URL: suite.URL(), TokenFile: tokenFile(t, suite.Token()), Profile: scim.Profile{PageSize: 300}})
	suite.AddGroup(t, "even")
	suite.AddGroup(t, "odd")
	const many = 1050
	ids := map[string]string{}
	for i := range many {
		name := fmt.Sprintf("user%d", i)
		ids[suite.AddResource(t, "/Users", map[string]any{
			"schemas": []string{"urn:ietf:params:scim:schemas:core:2.0:User"}, "userName": name, "externalId": "p:" + name, "active": i%3 == 0,
		})] = name
	}
	for id, name := range ids {
		if strings.HasSuffix(name, "00") {
			client.Want(t, id, "p:"+name, "C", step(opGrant, "group:even"))
		}
	}
	l := list(t, client)
	if !l.end.GetComplete() || len(l.accounts) != many || len(l.entitlements) != 2 || len(l.members) != 10 || l.end.GetAccounts() != many {
		t.Fatalf("%d accounts, %d entitlements, %d memberships, %v", len(l.accounts), len(l.entitlements), len(l.members), l.end)
	}
	for id, name := range ids {
		if l.accounts[id].GetName() != name {
			t.Fatalf("%s is listed as %v", name, l.accounts[id])
		}
	}
	for membership := range l.members {
		id, entitlement, _ := strings.Cut(membership, " ")
		if a := one(t, client, id); grants(a) != entitlement || !a.GetGrantsComplete() || a.GetName() != l.accounts[id].GetName() {
			t.Errorf("listed %s, read %v", membership, a)
		}
	}
}

func TestCheckTellsAWrongTokenFromAServerThatIsAway(t *testing.T) {
	t.Parallel()
	suite := scimtest.Start(t)
	file := tokenFile(t, suite.Token())
	client := open(t, scim.Config{URL: suite.URL(), TokenFile: file})
	if problems, identity := check(t, client); len(problems) > 0 || identity != "scim:"+suite.Address()+suite.Path() {
		t.Errorf("%v of %s", problems, identity)
	}
	if err := os.WriteFile(file, []byte("canary-of-a-token"), 0o600); err != nil { // it is read at each request
		t.Fatal(err)
	}
	if problems, _ := check(t, client); len(problems) != 1 || problems[0] != "AUTH http.401" {
		t.Errorf("of a wrong token it says %v", problems)
	}
	away := open(t, scim.Config{URL: "http://127.0.0.1:1", TokenFile: file})
	if problems, _ := check(t, away); len(problems) != 1 || problems[0] != "TARGET_UNAVAILABLE scim.connection" {
		t.Errorf("of a server that is away it says %v", problems)
	}
	refused := away.Do(t, "", "p:a", named("a"), step(opEnable, ""))
	if p := refused.GetResults()[0].GetProblem(); outcomes(refused) != "F-" || p.GetCode() != connectorv1.Code_CODE_TARGET_UNAVAILABLE {
		t.Errorf("what was never sent came to %v", refused.GetResults())
	}
}

func TestThrottledIsSaidWithItsTime(t *testing.T) {
	t.Parallel()
	suite := scimtest.Start(t)
	client := open(t, scim.Config{URL: suite.URL(), TokenFile: tokenFile(t, suite.Token())})
	id := account(t, client, "ann")
	suite.Throttle(1)
	got := client.Do(t, id, "p:ann", step(opDisable, ""), step(opRevoke, "group:x"))
	p := got.GetResults()[0].GetProblem()
	if outcomes(got) != "F-" || p.GetCode() != connectorv1.Code_CODE_RATE_LIMITED || p.GetRetryAfter().AsDuration().Seconds() != 1 {
		t.Errorf("%v", got.GetResults())
	}
	client.Want(t, id, "p:ann", "C", step(opDisable, ""))
}

// owner belongs to the token from now on: before, and to others, scimmy says that it does not know.
func owner(t *testing.T, s server) {
	s.client.Want(t, "", "p:owner", "C", named("owner"))
	id := only(t, s.client.Found(t, byName("owner"))).GetId()
	if got := checked(t, s.client); got.GetCredentialOwner() != "" || !strings.Contains(strings.Join(got.GetNotes(), "\n"), "GET /Me: 501") {
		t.Errorf("before there is one, Check says %v", got)
	}
	s.Belongs(t, id)
	if got := checked(t, s.client); got.GetCredentialOwner() != "owner" || len(got.GetNotes()) > 0 {
		t.Errorf("Check says %v", got)
	}
}

// TestARealServerWithoutPATCH says so in its ServiceProviderConfig, and nobody else does.
func TestARealServerWithoutPATCH(t *testing.T) {
	t.Parallel()
	suite := scimtest.Start(t, "no-patch")
	s := server{suite, open(t, scim.Config{URL: suite.URL(), TokenFile: tokenFile(t, suite.Token())})}
	eachStepTwice(t, s)
	concurrentGrants(t, s)
	if notes := checked(t, s.client).GetNotes(); !strings.Contains(notes[0], "no PATCH") {
		t.Errorf("Check notes %q", notes)
	}
}
