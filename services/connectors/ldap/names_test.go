package ldap_test

import (
	"slices"
	"strings"
	"testing"

	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
	"github.com/tenurehq/tenure/services/connectors/ldap/ldaptest"
)

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
		id := s.client.Want(t, "", mark, "CCC", named(name), step(opGrant, g), step(opEnable, "")).GetAccountId()
		for how, req := range map[string]*connectorv1.ReadRequest{"id": byID(id), "name": byName(name), "marker": byMarker(mark)} {
			a := only(t, s.client.Found(t, req))
			if a.GetId() != id || a.GetName() != name || a.GetMarker() != mark || a.GetAttributes()["cn"] != "C "+name ||
				len(a.GetGrants()) != 1 || a.GetGrants()[0].GetEntitlementId() != g {
				t.Errorf("%q by %s is %v", name, how, a)
			}
		}
		if got := s.client.Found(t, byEntitlement(g)); only(t, got).GetId() != id {
			t.Errorf("%q is not found as a member of %q", name, g)
		}
		s.client.Want(t, id, mark, "C", s.client.Rotation(t, "password", "of "+name))
		if err := s.Bind(t, name, "of "+name); err != nil {
			t.Errorf("%q cannot bind: %v", name, err)
		}
		steps := []*connectorv1.Step{
			set(opUpdate, map[string]string{"uid": name + "_"}), step(opDisable, ""), step(opCut, ""), step(opRevoke, g),
		}
		if got := s.client.Want(t, id, mark, "CCCC", steps...); got.GetObserved().GetName() != name+"_" || len(got.GetObserved().GetGrants()) > 0 {
			t.Errorf("%q was renamed to %v", name, got.GetObserved())
		}
		s.client.Want(t, id, mark, "UUUU", steps...)
		s.client.Want(t, id, mark, "CU", step(opDelete, ""), step(opDelete, ""))
	}
}

// listed is the id of the group with that name, as a listing shows it.
func listed(t *testing.T, s server, name string) string {
	t.Helper()
	var found []string
	for _, item := range s.client.Listed(t) {
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
		got := s.client.Want(t, "", "p:refused", "F", set(opCreate, attributes))
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
		if got := s.client.Found(t, byID(id)); len(got.GetAccounts()) != 0 {
			t.Errorf("%q finds %v", id, got.GetAccounts())
		}
	}
	if got := s.client.Found(t, byName("requir*")); len(got.GetAccounts()) != 0 {
		t.Errorf("a pattern finds %v", got.GetAccounts())
	}
}

func renameKeepsID(t *testing.T, s server) {
	s.AddGroups(t, "wedding")
	id := account(t, s.client, "maiden")
	s.client.Want(t, id, "p:maiden", "C", step(opGrant, group("wedding")))
	s.Rename(t, "uid=maiden,"+ldaptest.PeopleBase, "uid=married")
	if a := only(t, s.client.Found(t, byID(id))); a.GetName() != "married" || a.GetMarker() != "p:maiden" || len(a.GetGrants()) != 1 {
		t.Fatalf("by id: %v", a)
	}
	if got := s.client.Found(t, byName("maiden")); len(got.GetAccounts()) != 0 {
		t.Errorf("the old name still finds %v", got.GetAccounts())
	}
	s.client.Want(t, id, "p:maiden", "CCCU", step(opDisable, ""), step(opEnable, ""),
		set(opUpdate, map[string]string{"uid": "remarried"}), set(opUpdate, map[string]string{"uid": "remarried"}))
	s.client.Want(t, id, "p:maiden", "CU", set(opUpdate, map[string]string{"uid": "Remarried"}), set(opUpdate, map[string]string{"uid": "Remarried"}))
	a := only(t, s.client.Found(t, byName("Remarried")))
	if a.GetId() != id || len(a.GetGrants()) != 1 {
		t.Errorf("%v, want the id %s and its group", a, id)
	}
}

func severalValuesName(t *testing.T, s server) {
	s.Add(t, "cn=Ann B\\, C+employeeNumber=7,"+ldaptest.PeopleBase, map[string][]string{
		"objectClass": {"inetOrgPerson"}, "cn": {"Ann B, C"}, "sn": {"B"}, "uid": {"annb"}, "employeeNumber": {"7"},
	})
	id := only(t, s.client.Found(t, byName("annb"))).GetId()
	both := set(opUpdate, map[string]string{"cn": "Ann + C", "uid": "annc", "title": "Dr"})
	got := s.client.Want(t, id, "p:annb", "CU", both, both).GetObserved()
	if got.GetAttributes()["cn"] != "Ann + C" || got.GetName() != "annc" || got.GetAttributes()["employeeNumber"] != "7" || got.GetMarker() != "p:annb" {
		t.Errorf("it is now %v", got)
	}
	wantProblem(t, s.client, id, "p:annb", &connectorv1.Step{Op: opUpdate, Clear: []string{"employeeNumber"}}, connectorv1.Code_CODE_INVALID, "ldap.naming")

	// A group may be named so, too; which value comes first is the same to the server, and one spelling is Tenure's.
	s.Add(t, "ou=Ünited\\+1+cn=several,"+ldaptest.GroupsBase, map[string][]string{
		"objectClass": {"groupOfNames"}, "cn": {"several"}, "ou": {"Ünited+1"}, "member": {s.EmptyGroupMember()},
	})
	g := listed(t, s, "several")
	if g != "cn=several+ou=Ünited\\+1,"+ldaptest.GroupsBase {
		t.Errorf("it is listed as %q", g)
	}
	s.client.Want(t, id, "p:annb", "CU", step(opGrant, g), step(opGrant, g))
	wantProblem(t, s.client, id, "p:annb", step(opGrant, "ou=Ünited\\+1+cn=several,"+ldaptest.GroupsBase), connectorv1.Code_CODE_INVALID, "ldap.spelling")
	s.client.Want(t, id, "p:annb", "CC", set(opUpdate, map[string]string{"cn": "Ann, #1"}), step(opDisable, ""))
	if a := only(t, s.client.Found(t, byEntitlement(g))); a.GetId() != id || len(a.GetGrants()) != 1 || a.GetStatus() != connectorv1.AccountStatus_ACCOUNT_STATUS_DISABLED {
		t.Errorf("renamed again, its member is %v", a)
	}
	s.client.Want(t, id, "p:annb", "CU", step(opRevoke, g), step(opRevoke, g))
	s.client.Want(t, id, "p:annb", "CCU", step(opGrant, g), step(opDelete, ""), step(opDelete, ""))
	if got := s.client.Found(t, byEntitlement(g)); len(got.GetAccounts()) > 0 {
		t.Errorf("the group still has %v", got.GetAccounts())
	}
}

func takenName(t *testing.T, s server) {
	s.Add(t, "uid=taken,"+ldaptest.PeopleBase, map[string][]string{
		"objectClass": {"inetOrgPerson"}, "cn": {"T"}, "sn": {"T"}, "uid": {"taken"}, "description": {"the old batch user"},
	})
	existing := only(t, s.client.Found(t, byName("taken"))).GetId()
	for _, login := range []string{"taken", "TAKEN"} {
		got := s.client.Want(t, "", "p:new", "F-", named(login), step(opEnable, ""))
		if p := got.GetResults()[0].GetProblem(); p.GetCode() != connectorv1.Code_CODE_ALREADY_EXISTS || p.GetExistingAccountId() != existing {
			t.Errorf("problem %v, want ALREADY_EXISTS of %s", p, existing)
		}
	}
	id := account(t, s.client, "wants_taken")
	got := s.client.Want(t, id, "p:wants_taken", "F", set(opUpdate, map[string]string{"uid": "taken"}))
	if p := got.GetResults()[0].GetProblem(); p.GetCode() != connectorv1.Code_CODE_ALREADY_EXISTS || p.GetExistingAccountId() != existing {
		t.Errorf("rename: problem %v, want ALREADY_EXISTS of %s", p, existing)
	}
	if got := s.Search(t, "(uid=taken)", "description")[0].GetAttributeValues("description"); !slices.Equal(got, []string{"the old batch user"}) {
		t.Errorf("its description is now %q", got)
	}
}
