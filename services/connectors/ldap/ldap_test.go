package ldap_test

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	goldap "github.com/go-ldap/ldap/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
	"github.com/tenurehq/tenure/services/connectors/ldap/ldaptest"
)

// TestAgainstARealServer holds every test that needs the usual server; they share it, and keep to names of their own.
func TestAgainstARealServer(t *testing.T) {
	t.Parallel()
	s := start(t, ldaptest.Config{})
	for name, test := range map[string]func(*testing.T, server){
		"each step a second time changes nothing":               eachStepTwice,
		"disabled means cannot bind":                            disabledCannotBind,
		"what the server locked for wrong passwords is its own": ownLocks,
		"a lock under a policy of its own is tried under it":    ownPolicy,
		"a new password leaves the lock":                        rotatedStaysLocked,
		"every hard name is just a name":                        hardNames,
		"what cannot be an account is refused":                  refused,
		"a rename keeps the account and its groups":             renameKeepsID,
		"a name of several values stays one":                    severalValuesName,
		"a taken name is told and not taken over":               takenName,
		"an account with our marker is found, not made again":   markedIsFound,
		"adoption writes the marker and keeps people's texts":   adoption,
		"what carries another marker is never altered":          othersStay,
		"only listed attributes are changed":                    listedOnly,
		"groups are never made, and spelled in one way":         spelling,
		"the last member can go":                                lastMember,
		"twenty grants of one group at once lose none":          concurrentGrants,
		"twenty creates of one account at once make one":        concurrentCreates,
		"an old version is a conflict":                          versions,
		"memberOf follows":                                      memberOf,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, s)
		})
	}
}

func eachStepTwice(t *testing.T, s server) {
	s.AddGroups(t, "twice")
	joiner := []*connectorv1.Step{
		named("twice"), set(opUpdate, map[string]string{"uid": "twice", "title": "Dr"}), step(opGrant, group("twice")), step(opEnable, ""),
	}
	first := want(t, s.client, "", "p:twice", "CCCC", joiner...)
	again := want(t, s.client, "", "p:twice", "UUUU", joiner...)
	if first.GetAccountId() != again.GetAccountId() || first.GetAccountId() == "" {
		t.Fatalf("ids %q and %q", first.GetAccountId(), again.GetAccountId())
	}
	id := first.GetAccountId()
	if diff := cmp.Diff(first.GetObserved(), again.GetObserved(), protocmp.Transform()); diff != "" {
		t.Errorf("what was read back differs:\n%s", diff)
	}
	want(t, s.client, id, "p:twice", "C", rotation(t, s.client, "secret"))
	leaver := []*connectorv1.Step{step(opDisable, ""), step(opCut, ""), step(opRevoke, group("twice"))}
	o := want(t, s.client, id, "p:twice", "CCC", leaver...).GetObserved()
	if o.GetStatus() != connectorv1.AccountStatus_ACCOUNT_STATUS_DISABLED || len(o.GetGrants()) != 0 || !o.GetGrantsComplete() || len(o.GetCredentials()) != 0 {
		t.Errorf("after a leaver's plan there is still %v", o)
	}
	if o.GetLiveSessions() != -1 {
		t.Errorf("%d live sessions are claimed; LDAP cannot tell", o.GetLiveSessions())
	}
	want(t, s.client, id, "p:twice", "UUU", leaver...)
	want(t, s.client, id, "p:twice", "C", step(opDelete, ""))
	if gone := want(t, s.client, id, "p:twice", "U", step(opDelete, "")); gone.GetObserved() != nil {
		t.Errorf("a deleted entry was read back: %v", gone.GetObserved())
	}
}

// out says whether the server turned a bind down.
func out(err error) bool { return goldap.IsErrorWithCode(err, goldap.LDAPResultInvalidCredentials) }

func disabledCannotBind(t *testing.T, s server) {
	id := account(t, s.client, "locked")
	want(t, s.client, id, "p:locked", "C", rotation(t, s.client, "correct horse"))
	if err := s.Bind(t, "locked", "correct horse"); err != nil {
		t.Fatalf("an enabled account cannot bind: %v", err)
	}
	want(t, s.client, id, "p:locked", "C", step(opDisable, ""))
	if err := s.Bind(t, "locked", "correct horse"); !out(err) {
		t.Fatalf("a disabled account binds (%v)", err)
	}
	want(t, s.client, id, "p:locked", "C", step(opEnable, ""))
	if err := s.Bind(t, "locked", "correct horse"); err != nil {
		t.Fatalf("an account that was enabled again cannot bind, or its password was touched: %v", err)
	}
	if left := s.Search(t, "(cn=tenure-lock-probe-*)"); len(left) > 0 {
		t.Errorf("a probe was left: %v", left[0].DN)
	}
}

func ownLocks(t *testing.T, s server) {
	id := account(t, s.client, "clumsy")
	lock := goldap.NewModifyRequest("uid=clumsy,"+ldaptest.PeopleBase, nil)
	lock.Replace("pwdAccountLockedTime", []string{"20260101000000Z"})
	s.Modify(t, lock)
	if a := only(t, read(t, s.client, byID(id))); a.GetStatus() != connectorv1.AccountStatus_ACCOUNT_STATUS_ENABLED {
		t.Errorf("a lock that ends by itself counts as disabled")
	}
	want(t, s.client, id, "p:clumsy", "U", step(opEnable, ""))
	if got := s.Search(t, "(uid=clumsy)", "pwdAccountLockedTime")[0].GetAttributeValue("pwdAccountLockedTime"); got != "20260101000000Z" {
		t.Errorf("the server's lock is now %q", got)
	}
	want(t, s.client, id, "p:clumsy", "CU", step(opDisable, ""), step(opDisable, ""))
}

func ownPolicy(t *testing.T, s server) {
	lax := "cn=lax,ou=policies," + ldaptest.Base
	s.AddPolicy(t, lax, "FALSE")
	id := account(t, s.client, "special")
	under := goldap.NewModifyRequest("uid=special,"+ldaptest.PeopleBase, nil)
	under.Replace("pwdPolicySubentry", []string{lax})
	s.Modify(t, under)
	p := wantProblem(t, s.client, id, "p:special", step(opDisable, ""), connectorv1.Code_CODE_PRECONDITION, "ldap.lock")
	if !strings.Contains(p.GetMessage(), lax) {
		t.Errorf("it does not say which policy: %s", p.GetMessage())
	}
	if a := only(t, read(t, s.client, byID(id))); a.GetStatus() != connectorv1.AccountStatus_ACCOUNT_STATUS_ENABLED {
		t.Error("a lock that keeps nobody out was set all the same, and would be read as disabled")
	}
}

func rotatedStaysLocked(t *testing.T, s server) {
	id := account(t, s.client, "turning")
	for _, password := range []string{"plain one", `it's "quoted" \ $$`, "café au lait", "emoji 🔑", strings.Repeat("long", 50)} {
		want(t, s.client, id, "p:turning", "C", rotation(t, s.client, password))
		if err := s.Bind(t, "turning", password); err != nil {
			t.Errorf("%q: %v", password, err)
		}
	}
	stored := s.Search(t, "(uid=turning)", "userPassword")[0].GetAttributeValue("userPassword")
	if !strings.HasPrefix(stored, "{") {
		t.Error("the password is stored as it is")
	}
	want(t, s.client, id, "p:turning", "CC", step(opDisable, ""), rotation(t, s.client, "another one"))
	if err := s.Bind(t, "turning", "another one"); !out(err) {
		t.Errorf("a new password unlocked the account: %v", err)
	}
	if a := only(t, read(t, s.client, byID(id))); len(a.GetCredentials()) != 1 || !a.GetCredentialsComplete() || a.GetCredentials()[0].GetKind() != "password" {
		t.Errorf("credentials: %v", a)
	}
	got := want(t, s.client, id, "p:turning", "UCU", step(opCut, "api_key"), step(opCut, "password"), step(opCut, ""))
	if got.GetObserved().GetStatus() != connectorv1.AccountStatus_ACCOUNT_STATUS_DISABLED || len(got.GetObserved().GetCredentials()) != 0 {
		t.Errorf("without its password the account is %v", got.GetObserved())
	}
	want(t, s.client, id, "p:turning", "C", step(opEnable, ""))
	if err := s.Bind(t, "turning", "another one"); err == nil {
		t.Error("a revoked password opens again")
	}
}

// hard are names that have broken a connector somewhere.
var hard = []string{
	`o'brien`, `"quoted"`, `back\slash`, `semi;colon--`, `a b`, `plus+plus`, `comma,comma`, `a=b`, `<angle>`, `#hash`, `%s`, `new` + "\n" + `line`,
	`Ünïcødé`, `名前`, `🔑`, `e` + "\u0301", `*)(uid=*`, `(&(a=b))`, `star*`, `user@example.com`, `{"json": true}`,
	"tab\there", strings.Repeat("ö", 120), `x\2c y`, `uid=root,dc=acme`, " leading", "trailing ", " both ", "two  blanks",
}

func hardNames(t *testing.T, s server) {
	for _, name := range hard {
		s.AddGroups(t, "g"+name)
		g := listed(t, s, "g"+name)
		mark := strings.NewReplacer("\n", " ").Replace(name)
		id := want(t, s.client, "", mark, "CCC", named(name), step(opGrant, g), step(opEnable, "")).GetAccountId()
		for how, req := range map[string]*connectorv1.ReadRequest{"id": byID(id), "name": byName(name), "marker": byMarker(mark)} {
			a := only(t, read(t, s.client, req))
			if a.GetId() != id || a.GetName() != name || a.GetMarker() != mark || a.GetAttributes()["cn"] != "C "+name ||
				len(a.GetGrants()) != 1 || a.GetGrants()[0].GetEntitlementId() != g {
				t.Errorf("%q by %s is %v", name, how, a)
			}
		}
		if got := read(t, s.client, byEntitlement(g)); only(t, got).GetId() != id {
			t.Errorf("%q is not found as a member of %q", name, g)
		}
		want(t, s.client, id, mark, "C", rotation(t, s.client, "of "+name))
		if err := s.Bind(t, name, "of "+name); err != nil {
			t.Errorf("%q cannot bind: %v", name, err)
		}
		steps := []*connectorv1.Step{
			set(opUpdate, map[string]string{"uid": name + "_"}), step(opDisable, ""), step(opCut, ""), step(opRevoke, g),
		}
		if got := want(t, s.client, id, mark, "CCCC", steps...); got.GetObserved().GetName() != name+"_" || len(got.GetObserved().GetGrants()) > 0 {
			t.Errorf("%q was renamed to %v", name, got.GetObserved())
		}
		want(t, s.client, id, mark, "UUUU", steps...)
		want(t, s.client, id, mark, "CU", step(opDelete, ""), step(opDelete, ""))
	}
}

// listed is the id of the group with that name, as a listing shows it.
func listed(t *testing.T, s server, name string) string {
	t.Helper()
	var found []string
	for _, item := range listing(t, s.client) {
		if e := item.GetEntitlement(); e.GetDisplayName() == name {
			found = append(found, e.GetId())
		}
	}
	if len(found) != 1 {
		t.Fatalf("the group %q is listed as %q", name, found)
	}
	return found[0]
}

func refused(t *testing.T, s server) {
	for field, attributes := range map[string]map[string]string{
		"uid":      {"cn": "C", "sn": "S"},
		"sn":       {"uid": "refused", "cn": "C"},
		"cn":       {"uid": "refused", "sn": "S", "cn": ""},
		"shoeSize": {"uid": "refused", "cn": "C", "sn": "S", "shoeSize": "44"},
		"mail":     {"uid": "refused", "cn": "C", "sn": "S", "mail": "nul\x00"},
	} {
		got := want(t, s.client, "", "p:refused", "F", set(opCreate, attributes))
		if p := got.GetResults()[0].GetProblem(); p.GetCode() != connectorv1.Code_CODE_INVALID || !slices.Equal(p.GetFields(), []string{field}) {
			t.Errorf("%v: %v", attributes, p)
		}
	}
	wantProblem(t, s.client, "", "p:refused", set(opCreate, map[string]string{"uid": "refused", "cn": "C", "sn": "S", "mail": "naïve@acme.example"}),
		connectorv1.Code_CODE_INVALID, "ldap.21")
	wantProblem(t, s.client, "", "two\nlines", named("two_lines"), connectorv1.Code_CODE_INVALID, "ldap.marker")
	id := account(t, s.client, "required")
	wantProblem(t, s.client, id, "p:required", &connectorv1.Step{Op: opUpdate, Clear: []string{"uid"}}, connectorv1.Code_CODE_INVALID, "ldap.required")
	for _, id := range []string{"uid=required," + ldaptest.PeopleBase, "*", "00000000-0000-0000-0000-00000000000", "00000000-0000-0000-0000-000000000000"} {
		if got := read(t, s.client, byID(id)); len(got.GetAccounts()) != 0 {
			t.Errorf("%q finds %v", id, got.GetAccounts())
		}
	}
	if got := read(t, s.client, byName("requir*")); len(got.GetAccounts()) != 0 {
		t.Errorf("a pattern finds %v", got.GetAccounts())
	}
}

func renameKeepsID(t *testing.T, s server) {
	s.AddGroups(t, "wedding")
	id := account(t, s.client, "maiden")
	want(t, s.client, id, "p:maiden", "C", step(opGrant, group("wedding")))
	s.Rename(t, "uid=maiden,"+ldaptest.PeopleBase, "uid=married")
	if a := only(t, read(t, s.client, byID(id))); a.GetName() != "married" || a.GetMarker() != "p:maiden" || len(a.GetGrants()) != 1 {
		t.Fatalf("by id: %v", a)
	}
	if got := read(t, s.client, byName("maiden")); len(got.GetAccounts()) != 0 {
		t.Errorf("the old name still finds %v", got.GetAccounts())
	}
	want(t, s.client, id, "p:maiden", "CCCU", step(opDisable, ""), step(opEnable, ""),
		set(opUpdate, map[string]string{"uid": "remarried"}), set(opUpdate, map[string]string{"uid": "remarried"}))
	want(t, s.client, id, "p:maiden", "CU", set(opUpdate, map[string]string{"uid": "Remarried"}), set(opUpdate, map[string]string{"uid": "Remarried"}))
	a := only(t, read(t, s.client, byName("Remarried")))
	if a.GetId() != id || len(a.GetGrants()) != 1 {
		t.Errorf("%v, want the id %s and its group", a, id)
	}
}

func severalValuesName(t *testing.T, s server) {
	s.Add(t, "cn=Ann B\\, C+employeeNumber=7,"+ldaptest.PeopleBase, map[string][]string{
		"objectClass": {"inetOrgPerson"}, "cn": {"Ann B, C"}, "sn": {"B"}, "uid": {"annb"}, "employeeNumber": {"7"},
	})
	id := only(t, read(t, s.client, byName("annb"))).GetId()
	both := set(opUpdate, map[string]string{"cn": "Ann + C", "uid": "annc", "title": "Dr"})
	got := want(t, s.client, id, "p:annb", "CU", both, both).GetObserved()
	if got.GetAttributes()["cn"] != "Ann + C" || got.GetName() != "annc" || got.GetAttributes()["employeeNumber"] != "7" || got.GetMarker() != "p:annb" {
		t.Errorf("it is now %v", got)
	}
	wantProblem(t, s.client, id, "p:annb", &connectorv1.Step{Op: opUpdate, Clear: []string{"employeeNumber"}}, connectorv1.Code_CODE_INVALID, "ldap.naming")
}

func takenName(t *testing.T, s server) {
	s.Add(t, "uid=taken,"+ldaptest.PeopleBase, map[string][]string{
		"objectClass": {"inetOrgPerson"}, "cn": {"T"}, "sn": {"T"}, "uid": {"taken"}, "description": {"the old batch user"},
	})
	existing := only(t, read(t, s.client, byName("taken"))).GetId()
	for _, login := range []string{"taken", "TAKEN"} {
		got := want(t, s.client, "", "p:new", "F-", named(login), step(opEnable, ""))
		if p := got.GetResults()[0].GetProblem(); p.GetCode() != connectorv1.Code_CODE_ALREADY_EXISTS || p.GetExistingAccountId() != existing {
			t.Errorf("problem %v, want ALREADY_EXISTS of %s", p, existing)
		}
	}
	id := account(t, s.client, "wants_taken")
	got := want(t, s.client, id, "p:wants_taken", "F", set(opUpdate, map[string]string{"uid": "taken"}))
	if p := got.GetResults()[0].GetProblem(); p.GetCode() != connectorv1.Code_CODE_ALREADY_EXISTS || p.GetExistingAccountId() != existing {
		t.Errorf("rename: problem %v, want ALREADY_EXISTS of %s", p, existing)
	}
	if got := s.Search(t, "(uid=taken)", "description")[0].GetAttributeValues("description"); !slices.Equal(got, []string{"the old batch user"}) {
		t.Errorf("its description is now %q", got)
	}
}

func markedIsFound(t *testing.T, s server) {
	id := account(t, s.client, "mine")
	s.Rename(t, "uid=mine,"+ldaptest.PeopleBase, "uid=still mine")
	if got := want(t, s.client, "", "p:mine", "U", named("mine")); got.GetAccountId() != id {
		t.Errorf("a second account %s was made beside %s", got.GetAccountId(), id)
	}
	for login, text := range map[string]string{"impostor": "not managed by Tenure: p:mine", "shouting": "MANAGED BY TENURE: P:MINE"} {
		s.Add(t, "uid="+login+","+ldaptest.PeopleBase, map[string][]string{
			"objectClass": {"inetOrgPerson"}, "cn": {"I"}, "sn": {"I"}, "uid": {login}, "description": {text},
		})
	}
	if a := only(t, read(t, s.client, byMarker("p:mine"))); a.GetId() != id {
		t.Errorf("%v", a)
	}
}

func adoption(t *testing.T, s server) {
	s.Add(t, "uid=veteran,"+ldaptest.PeopleBase, map[string][]string{
		"objectClass": {"inetOrgPerson"}, "cn": {"V"}, "sn": {"V"}, "uid": {"veteran"}, "mail": {"v@acme.example"}, "description": {"ask Ruth first"},
	})
	a := only(t, read(t, s.client, &connectorv1.ReadRequest{By: &connectorv1.ReadRequest_CorrelationKey{CorrelationKey: "v@acme.example"}}))
	if a.GetMarker() != "" || a.GetCorrelationKey() != "v@acme.example" {
		t.Fatalf("%v", a)
	}
	want(t, s.client, a.GetId(), "p:ruth", "CU", set(opUpdate, nil), set(opUpdate, map[string]string{"uid": "veteran"}))
	if b := only(t, read(t, s.client, byMarker("p:ruth"))); b.GetId() != a.GetId() {
		t.Errorf("the adopted account is not found by its marker: %v", b)
	}
	got := s.Search(t, "(uid=veteran)", "description")[0].GetAttributeValues("description")
	slices.Sort(got)
	if !slices.Equal(got, []string{"ask Ruth first", "managed by Tenure: p:ruth"}) {
		t.Errorf("the description is now %q", got)
	}
}

func othersStay(t *testing.T, s server) {
	s.AddGroups(t, "others")
	s.Add(t, "uid=someones,"+ldaptest.PeopleBase, map[string][]string{
		"objectClass": {"inetOrgPerson"}, "cn": {"S"}, "sn": {"S"}, "uid": {"someones"}, "description": {"managed by Tenure: p:somebody else"},
	})
	version := only(t, read(t, s.client, byName("someones"))).GetVersion()
	id := only(t, read(t, s.client, byName("someones"))).GetId()
	for _, st := range []*connectorv1.Step{
		set(opUpdate, map[string]string{"uid": "mine now"}), step(opEnable, ""), step(opDisable, ""), step(opDelete, ""),
		step(opGrant, group("others")), step(opRevoke, group("others")), step(opCut, ""), rotation(t, s.client, "secret"),
	} {
		wantProblem(t, s.client, id, "p:me", st, connectorv1.Code_CODE_DENIED, "ldap.marker")
	}
	if a := only(t, read(t, s.client, byID(id))); a.GetVersion() != version {
		t.Errorf("it was altered: %v", a)
	}
}

func listedOnly(t *testing.T, s server) {
	id := account(t, s.client, "stable")
	given := goldap.NewModifyRequest("uid=stable,"+ldaptest.PeopleBase, nil)
	given.Replace("telephoneNumber", []string{"+49 30 1", "+49 30 2"})
	given.Replace("homePhone", []string{"+49 30 3"})
	s.Modify(t, given)
	before := only(t, read(t, s.client, byID(id))).GetAttributes()
	want(t, s.client, id, "p:stable", "C", set(opUpdate, map[string]string{"title": "Dr"}))
	after := only(t, read(t, s.client, byID(id))).GetAttributes()
	before["title"] = "Dr"
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("more was changed than was asked for:\n%s", diff)
	}
	cleared := &connectorv1.Step{Op: opUpdate, Clear: []string{"title", "telephoneNumber"}}
	got := want(t, s.client, id, "p:stable", "CU", cleared, cleared).GetObserved().GetAttributes()
	if _, ok := got["title"]; ok || got["telephoneNumber"] != "" || got["mail"] == "" {
		t.Errorf("after clearing: %v", got)
	}
	if e := s.Search(t, "(uid=stable)", "homePhone")[0]; e.GetAttributeValue("homePhone") != "+49 30 3" {
		t.Error("what is no attribute of accounts was changed")
	}
}

func spelling(t *testing.T, s server) {
	s.AddGroups(t, "Spelled", "Über, alles")
	id := account(t, s.client, "speller")
	over := "cn=Über\\, alles," + ldaptest.GroupsBase
	want(t, s.client, id, "p:speller", "CUCU", step(opGrant, group("Spelled")), step(opGrant, group("Spelled")), step(opGrant, over), step(opGrant, over))
	for _, other := range []string{"CN=spelled, ou=Groups,dc=acme,dc=example", "cn=spelled,ou=groups,dc=acme,dc=example"} {
		p := wantProblem(t, s.client, id, "p:speller", step(opGrant, other), connectorv1.Code_CODE_INVALID, "ldap.spelling")
		if !strings.Contains(p.GetMessage(), group("Spelled")) {
			t.Errorf("it does not say how to write it: %s", p.GetMessage())
		}
		if got := read(t, s.client, byEntitlement(other)); only(t, got).GetId() != id || got.GetEntitlement().GetId() != group("Spelled") {
			t.Errorf("%s is %v", other, got)
		}
	}
	want(t, s.client, id, "p:speller", "CU", step(opRevoke, "CN=spelled, ou=Groups,dc=acme,dc=example"), step(opRevoke, group("Spelled")))
	for _, missing := range []string{group("no such"), "staff", "ou=groups,dc=acme,dc=example", "cn=admin,dc=acme,dc=example", "uid=speller," + ldaptest.PeopleBase, "cn=\\"} {
		wantProblem(t, s.client, id, "p:speller", step(opGrant, missing), connectorv1.Code_CODE_NOT_FOUND, "tenure.no_entitlement")
		want(t, s.client, id, "p:speller", "U", step(opRevoke, missing))
		if got := read(t, s.client, byEntitlement(missing)); got.GetEntitlement() != nil {
			t.Errorf("%q is %v", missing, got.GetEntitlement())
		}
	}
}

func lastMember(t *testing.T, s server) {
	id := account(t, s.client, "lonely")
	dn := "uid=lonely," + ldaptest.PeopleBase
	s.Add(t, group("tiny"), map[string][]string{"objectClass": {"groupOfNames"}, "cn": {"tiny"}, "member": {dn}})
	want(t, s.client, id, "p:lonely", "CUCUCU", step(opRevoke, group("tiny")), step(opRevoke, group("tiny")), step(opGrant, group("tiny")),
		step(opGrant, group("tiny")), step(opRevoke, group("tiny")), step(opRevoke, group("tiny")))
	if got := read(t, s.client, byEntitlement(group("tiny"))); len(got.GetAccounts()) != 0 || got.GetEntitlement().GetMinMembers() != 0 {
		t.Errorf("%v", got)
	}
	cfg := s.config(t)
	cfg.EmptyGroupMember = ""
	strict := open(t, cfg)
	s.Add(t, group("tiny2"), map[string][]string{"objectClass": {"groupOfNames"}, "cn": {"tiny2"}, "member": {dn}})
	wantProblem(t, strict, id, "p:lonely", step(opRevoke, group("tiny2")), connectorv1.Code_CODE_PRECONDITION, "ldap.65")
	if got := read(t, strict, byEntitlement(group("tiny2"))); got.GetEntitlement().GetMinMembers() != 1 {
		t.Errorf("%v", got.GetEntitlement())
	}
	want(t, s.client, id, "p:lonely", "C", step(opDelete, ""))
	if got := s.Search(t, "(cn=tiny2)", "member")[0].GetAttributeValues("member"); !slices.Equal(got, []string{s.EmptyGroupMember()}) {
		t.Errorf("the group still has %v", got)
	}
}

func concurrentGrants(t *testing.T, s server) {
	s.AddGroups(t, "busy")
	client := s.client
	var ids []string
	for n := range 20 {
		ids = append(ids, account(t, client, "busy"+string(rune('a'+n))))
	}
	for _, round := range []struct {
		st   *connectorv1.Step
		left int
	}{{step(opGrant, group("busy")), 20}, {step(opRevoke, group("busy")), 0}} {
		var wait sync.WaitGroup
		for n, id := range ids {
			wait.Go(func() {
				got, err := client.Apply(t.Context(), &connectorv1.ApplyRequest{
					AccountId: id, Marker: marker("busy" + string(rune('a'+n))), NotAfter: timestamppb.New(time.Now().Add(time.Minute)), Steps: []*connectorv1.Step{round.st},
				})
				if err != nil || outcomes(got) != "C" {
					t.Errorf("%v, %v", got.GetResults(), err)
				}
			})
		}
		wait.Wait()
		if got := read(t, client, byEntitlement(group("busy"))); len(got.GetAccounts()) != round.left {
			t.Errorf("%d members after 20 times %s, want %d", len(got.GetAccounts()), round.st.GetOp(), round.left)
		}
	}
}

func concurrentCreates(t *testing.T, s server) {
	var (
		mu   sync.Mutex
		ids  = map[string]int{}
		made int
		wait sync.WaitGroup
	)
	for range 20 {
		wait.Go(func() {
			got, err := s.client.Apply(t.Context(), &connectorv1.ApplyRequest{
				Marker: "p:race", NotAfter: timestamppb.New(time.Now().Add(time.Minute)), Steps: []*connectorv1.Step{named("race")},
			})
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			ids[got.GetAccountId()]++
			if outcomes(got) == "C" {
				made++
			} else if outcomes(got) != "U" {
				t.Errorf("%v", got.GetResults())
			}
		})
	}
	wait.Wait()
	if made != 1 || len(ids) != 1 {
		t.Fatalf("%d were made, ids %v", made, ids)
	}
}

func versions(t *testing.T, s server) {
	id := account(t, s.client, "versioned")
	old := only(t, read(t, s.client, byID(id))).GetVersion()
	want(t, s.client, id, "p:versioned", "C", set(opUpdate, map[string]string{"title": "Dr"}))
	for _, version := range []string{old, "20200101000000.000000Z#000000#000#000000"} {
		got, err := s.client.Apply(t.Context(), &connectorv1.ApplyRequest{
			AccountId: id, Marker: "p:versioned", IfVersion: version, NotAfter: timestamppb.New(time.Now().Add(time.Minute)),
			Steps: []*connectorv1.Step{set(opUpdate, map[string]string{"title": "Prof"})},
		})
		if err != nil || outcomes(got) != "F" || got.GetResults()[0].GetProblem().GetCode() != connectorv1.Code_CODE_CONFLICT {
			t.Errorf("%v, %v; want CONFLICT", got.GetResults(), err)
		}
	}
	got, err := s.client.Apply(t.Context(), &connectorv1.ApplyRequest{
		AccountId: id, Marker: "p:versioned", IfVersion: only(t, read(t, s.client, byID(id))).GetVersion(), NotAfter: timestamppb.New(time.Now().Add(time.Minute)),
		Steps: []*connectorv1.Step{set(opUpdate, map[string]string{"title": "Prof", "uid": "reversioned"}), step(opDisable, "")},
	})
	if err != nil || outcomes(got) != "CC" {
		t.Errorf("%v, %v", got.GetResults(), err)
	}
}

func memberOf(t *testing.T, s server) {
	s.AddGroups(t, "followed")
	id := account(t, s.client, "follower")
	want(t, s.client, id, "p:follower", "C", step(opGrant, group("followed")))
	if got := s.Search(t, "(uid=follower)", "memberOf")[0].GetAttributeValues("memberOf"); !slices.Equal(got, []string{group("followed")}) {
		t.Errorf("memberOf is %v", got)
	}
}
