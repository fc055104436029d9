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

	"github.com/tenurehq/tenure/pkg/connector/connectortest"
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
	first := s.client.Want(t, "", "p:twice", "CCCC", joiner...)
	again := s.client.Want(t, "", "p:twice", "UUUU", joiner...)
	if first.GetAccountId() != again.GetAccountId() || first.GetAccountId() == "" {
		t.Fatalf("ids %q and %q", first.GetAccountId(), again.GetAccountId())
	}
	id := first.GetAccountId()
	if diff := cmp.Diff(first.GetObserved(), again.GetObserved(), protocmp.Transform()); diff != "" {
		t.Errorf("what was read back differs:\n%s", diff)
	}
	s.client.Want(t, id, "p:twice", "C", s.client.Rotation(t, "password", "secret"))
	leaver := []*connectorv1.Step{step(opDisable, ""), step(opCut, ""), step(opRevoke, group("twice"))}
	o := s.client.Want(t, id, "p:twice", "CCC", leaver...).GetObserved()
	if o.GetStatus() != connectorv1.AccountStatus_ACCOUNT_STATUS_DISABLED || len(o.GetGrants()) != 0 || !o.GetGrantsComplete() || len(o.GetCredentials()) != 0 {
		t.Errorf("after a leaver's plan there is still %v", o)
	}
	if o.GetLiveSessions() != -1 {
		t.Errorf("%d live sessions are claimed; LDAP cannot tell", o.GetLiveSessions())
	}
	s.client.Want(t, id, "p:twice", "UUU", leaver...)
	s.client.Want(t, id, "p:twice", "C", step(opDelete, ""))
	if gone := s.client.Want(t, id, "p:twice", "U", step(opDelete, "")); gone.GetObserved() != nil {
		t.Errorf("a deleted entry was read back: %v", gone.GetObserved())
	}
}

// out says whether the server turned a bind down.
func out(err error) bool { return goldap.IsErrorWithCode(err, goldap.LDAPResultInvalidCredentials) }

func disabledCannotBind(t *testing.T, s server) {
	id := account(t, s.client, "locked")
	s.client.Want(t, id, "p:locked", "C", s.client.Rotation(t, "password", "correct horse"))
	if err := s.Bind(t, "locked", "correct horse"); err != nil {
		t.Fatalf("an enabled account cannot bind: %v", err)
	}
	s.client.Want(t, id, "p:locked", "C", step(opDisable, ""))
	if err := s.Bind(t, "locked", "correct horse"); !out(err) {
		t.Fatalf("a disabled account binds (%v)", err)
	}
	s.client.Want(t, id, "p:locked", "C", step(opEnable, ""))
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
	if a := only(t, s.client.Found(t, byID(id))); a.GetStatus() != connectorv1.AccountStatus_ACCOUNT_STATUS_ENABLED {
		t.Errorf("a lock that ends by itself counts as disabled")
	}
	s.client.Want(t, id, "p:clumsy", "U", step(opEnable, ""))
	if got := s.Search(t, "(uid=clumsy)", "pwdAccountLockedTime")[0].GetAttributeValue("pwdAccountLockedTime"); got != "20260101000000Z" {
		t.Errorf("the server's lock is now %q", got)
	}
	s.client.Want(t, id, "p:clumsy", "CU", step(opDisable, ""), step(opDisable, ""))
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
	if a := only(t, s.client.Found(t, byID(id))); a.GetStatus() != connectorv1.AccountStatus_ACCOUNT_STATUS_ENABLED {
		t.Error("a lock that keeps nobody out was set all the same, and would be read as disabled")
	}
}

func rotatedStaysLocked(t *testing.T, s server) {
	id := account(t, s.client, "turning")
	for _, password := range []string{"plain one", `it's "quoted" \ $$`, "café au lait", "emoji 🔑", strings.Repeat("long", 50)} {
		s.client.Want(t, id, "p:turning", "C", s.client.Rotation(t, "password", password))
		if err := s.Bind(t, "turning", password); err != nil {
			t.Errorf("%q: %v", password, err)
		}
	}
	stored := s.Search(t, "(uid=turning)", "userPassword")[0].GetAttributeValue("userPassword")
	if !strings.HasPrefix(stored, "{") {
		t.Error("the password is stored as it is")
	}
	s.client.Want(t, id, "p:turning", "CC", step(opDisable, ""), s.client.Rotation(t, "password", "another one"))
	if err := s.Bind(t, "turning", "another one"); !out(err) {
		t.Errorf("a new password unlocked the account: %v", err)
	}
	if a := only(t, s.client.Found(t, byID(id))); len(a.GetCredentials()) != 1 || !a.GetCredentialsComplete() || a.GetCredentials()[0].GetKind() != "password" {
		t.Errorf("credentials: %v", a)
	}
	got := s.client.Want(t, id, "p:turning", "UCU", step(opCut, "api_key"), step(opCut, "password"), step(opCut, ""))
	if got.GetObserved().GetStatus() != connectorv1.AccountStatus_ACCOUNT_STATUS_DISABLED || len(got.GetObserved().GetCredentials()) != 0 {
		t.Errorf("without its password the account is %v", got.GetObserved())
	}
	s.client.Want(t, id, "p:turning", "C", step(opEnable, ""))
	if err := s.Bind(t, "turning", "another one"); err == nil {
		t.Error("a revoked password opens again")
	}
}

func markedIsFound(t *testing.T, s server) {
	id := account(t, s.client, "mine")
	s.Rename(t, "uid=mine,"+ldaptest.PeopleBase, "uid=still mine")
	if got := s.client.Want(t, "", "p:mine", "U", named("mine")); got.GetAccountId() != id {
		t.Errorf("a second account %s was made beside %s", got.GetAccountId(), id)
	}
	for login, text := range map[string]string{"impostor": "not managed by Tenure: p:mine", "shouting": "MANAGED BY TENURE: P:MINE"} {
		s.Add(t, "uid="+login+","+ldaptest.PeopleBase, map[string][]string{
			"objectClass": {"inetOrgPerson"}, "cn": {"I"}, "sn": {"I"}, "uid": {login}, "description": {text},
		})
	}
	if a := only(t, s.client.Found(t, byMarker("p:mine"))); a.GetId() != id {
		t.Errorf("%v", a)
	}
}

func adoption(t *testing.T, s server) {
	s.Add(t, "uid=veteran,"+ldaptest.PeopleBase, map[string][]string{
		"objectClass": {"inetOrgPerson"}, "cn": {"V"}, "sn": {"V"}, "uid": {"veteran"}, "mail": {"v@acme.example"}, "description": {"ask Ruth first"},
	})
	a := only(t, s.client.Found(t, connectortest.ByKey("v@acme.example")))
	if a.GetMarker() != "" || a.GetCorrelationKey() != "v@acme.example" {
		t.Fatalf("%v", a)
	}
	s.client.Want(t, a.GetId(), "p:ruth", "CU", set(opUpdate, nil), set(opUpdate, map[string]string{"uid": "veteran"}))
	if b := only(t, s.client.Found(t, byMarker("p:ruth"))); b.GetId() != a.GetId() {
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
	version := only(t, s.client.Found(t, byName("someones"))).GetVersion()
	id := only(t, s.client.Found(t, byName("someones"))).GetId()
	for _, st := range []*connectorv1.Step{
		set(opUpdate, map[string]string{"uid": "mine now"}), step(opEnable, ""), step(opDisable, ""), step(opDelete, ""),
		step(opGrant, group("others")), step(opRevoke, group("others")), step(opCut, ""), s.client.Rotation(t, "password", "secret"),
	} {
		wantProblem(t, s.client, id, "p:me", st, connectorv1.Code_CODE_DENIED, "ldap.marker")
	}
	if a := only(t, s.client.Found(t, byID(id))); a.GetVersion() != version {
		t.Errorf("it was altered: %v", a)
	}
}

func listedOnly(t *testing.T, s server) {
	id := account(t, s.client, "stable")
	given := goldap.NewModifyRequest("uid=stable,"+ldaptest.PeopleBase, nil)
	given.Replace("telephoneNumber", []string{"+49 30 1", "+49 30 2"})
	given.Replace("homePhone", []string{"+49 30 3"})
	s.Modify(t, given)
	before := only(t, s.client.Found(t, byID(id))).GetAttributes()
	s.client.Want(t, id, "p:stable", "C", set(opUpdate, map[string]string{"title": "Dr"}))
	after := only(t, s.client.Found(t, byID(id))).GetAttributes()
	before["title"] = "Dr"
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("more was changed than was asked for:\n%s", diff)
	}
	cleared := &connectorv1.Step{Op: opUpdate, Clear: []string{"title", "telephoneNumber"}}
	got := s.client.Want(t, id, "p:stable", "CU", cleared, cleared).GetObserved().GetAttributes()
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
	s.client.Want(t, id, "p:speller", "CUCU", step(opGrant, group("Spelled")), step(opGrant, group("Spelled")), step(opGrant, over), step(opGrant, over))
	for _, other := range []string{"CN=spelled, ou=Groups,dc=acme,dc=example", "cn=spelled,ou=groups,dc=acme,dc=example"} {
		p := wantProblem(t, s.client, id, "p:speller", step(opGrant, other), connectorv1.Code_CODE_INVALID, "ldap.spelling")
		if !strings.Contains(p.GetMessage(), group("Spelled")) {
			t.Errorf("it does not say how to write it: %s", p.GetMessage())
		}
		if got := s.client.Found(t, byEntitlement(other)); only(t, got).GetId() != id || got.GetEntitlement().GetId() != group("Spelled") {
			t.Errorf("%s is %v", other, got)
		}
	}
	s.client.Want(t, id, "p:speller", "CU", step(opRevoke, "CN=spelled, ou=Groups,dc=acme,dc=example"), step(opRevoke, group("Spelled")))
	for _, missing := range []string{group("no such"), "staff", "ou=groups,dc=acme,dc=example", "cn=admin,dc=acme,dc=example", "uid=speller," + ldaptest.PeopleBase, "cn=\\"} {
		wantProblem(t, s.client, id, "p:speller", step(opGrant, missing), connectorv1.Code_CODE_NOT_FOUND, "tenure.no_entitlement")
		s.client.Want(t, id, "p:speller", "U", step(opRevoke, missing))
		if got := s.client.Found(t, byEntitlement(missing)); got.GetEntitlement() != nil {
			t.Errorf("%q is %v", missing, got.GetEntitlement())
		}
	}
}

func lastMember(t *testing.T, s server) {
	id := account(t, s.client, "lonely")
	dn := "uid=lonely," + ldaptest.PeopleBase
	s.Add(t, group("tiny"), map[string][]string{"objectClass": {"groupOfNames"}, "cn": {"tiny"}, "member": {dn}})
	s.client.Want(t, id, "p:lonely", "CUCUCU", step(opRevoke, group("tiny")), step(opRevoke, group("tiny")), step(opGrant, group("tiny")),
		step(opGrant, group("tiny")), step(opRevoke, group("tiny")), step(opRevoke, group("tiny")))
	if got := s.client.Found(t, byEntitlement(group("tiny"))); len(got.GetAccounts()) != 0 || got.GetEntitlement().GetMinMembers() != 0 {
		t.Errorf("%v", got)
	}
	cfg := s.config(t)
	cfg.EmptyGroupMember = ""
	strict := open(t, cfg)
	s.Add(t, group("tiny2"), map[string][]string{"objectClass": {"groupOfNames"}, "cn": {"tiny2"}, "member": {dn}})
	wantProblem(t, strict, id, "p:lonely", step(opRevoke, group("tiny2")), connectorv1.Code_CODE_PRECONDITION, "ldap.65")
	if got := strict.Found(t, byEntitlement(group("tiny2"))); got.GetEntitlement().GetMinMembers() != 1 {
		t.Errorf("%v", got.GetEntitlement())
	}
	s.client.Want(t, id, "p:lonely", "C", step(opDelete, ""))
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
		if got := client.Found(t, byEntitlement(group("busy"))); len(got.GetAccounts()) != round.left {
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
	old := only(t, s.client.Found(t, byID(id))).GetVersion()
	s.client.Want(t, id, "p:versioned", "C", set(opUpdate, map[string]string{"title": "Dr"}))
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
		AccountId: id, Marker: "p:versioned", IfVersion: only(t, s.client.Found(t, byID(id))).GetVersion(), NotAfter: timestamppb.New(time.Now().Add(time.Minute)),
		Steps: []*connectorv1.Step{set(opUpdate, map[string]string{"title": "Prof", "uid": "reversioned"}), step(opDisable, "")},
	})
	if err != nil || outcomes(got) != "CC" {
		t.Errorf("%v, %v", got.GetResults(), err)
	}
}

func memberOf(t *testing.T, s server) {
	s.AddGroups(t, "followed")
	id := account(t, s.client, "follower")
	s.client.Want(t, id, "p:follower", "C", step(opGrant, group("followed")))
	if got := s.Search(t, "(uid=follower)", "memberOf")[0].GetAttributeValues("memberOf"); !slices.Equal(got, []string{group("followed")}) {
		t.Errorf("memberOf is %v", got)
	}
}
