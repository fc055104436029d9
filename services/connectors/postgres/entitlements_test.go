package postgres_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
	"github.com/tenurehq/tenure/services/connectors/postgres"
)

func ungrantable(t *testing.T, s server) {
	s.sql(t, `CREATE ROLE root_group SUPERUSER`, `CREATE ROLE somebody LOGIN`, `CREATE ROLE circle`)
	id := account(t, s.client, "climber")
	s.sql(t, `GRANT climber TO circle`)
	for name, code := range map[string]connectorv1.Code{
		"root_group": connectorv1.Code_CODE_DENIED, "pg_execute_server_program": connectorv1.Code_CODE_DENIED,
		"somebody": connectorv1.Code_CODE_PRECONDITION, "climber": connectorv1.Code_CODE_PRECONDITION,
		"circle": connectorv1.Code_CODE_PRECONDITION,
	} {
		got := s.client.Do(t, id, "p:climber", step(opGrant, "role:"+name))
		if p := got.GetResults()[0].GetProblem(); outcomes(got) != "F" || p.GetCode() != code {
			t.Errorf("grant of %s: %v, want %v", name, got.GetResults(), code)
		}
	}
	if a := only(t, s.client.Found(t, byID(id))); len(a.GetGrants()) != 0 {
		t.Errorf("grants: %v", a.GetGrants())
	}
	if e := s.client.Found(t, byEntitlement("role:root_group")).GetEntitlement(); e == nil || e.GetAssignable() {
		t.Errorf("%v: exists, and cannot be granted", e)
	}
	// Taking away is another matter, whoever gave it.
	s.sql(t, `GRANT root_group, pg_execute_server_program, somebody TO climber`)
	s.client.Want(t, id, "p:climber", "CCC", step(opRevoke, "role:root_group"), step(opRevoke, "role:pg_execute_server_program"), step(opRevoke, "role:somebody"))

	allowed := open(t, postgres.Config{URL: s.dsn, Predefined: []string{"pg_read_all_data"}})
	allowed.Want(t, id, "p:climber", "CC", step(opGrant, "role:pg_read_all_data"), step(opRevoke, "role:pg_read_all_data"))
}

func missingEntitlement(t *testing.T, s server) {
	id := account(t, s.client, "hopeful")
	for _, entitlement := range []string{"role:no_such_group", "no_such_group", "group:x", "role:", "role:\x00"} {
		got := s.client.Do(t, id, "p:hopeful", step(opGrant, entitlement), step(opRevoke, entitlement))
		if p := got.GetResults()[0].GetProblem(); outcomes(got) != "FU" || p.GetCode() != connectorv1.Code_CODE_NOT_FOUND {
			t.Errorf("%q: %v, want NOT_FOUND, and nothing to revoke", entitlement, got.GetResults())
		}
		if got := s.client.Found(t, byEntitlement(entitlement)); got.GetEntitlement() != nil || len(got.GetAccounts()) != 0 {
			t.Errorf("%q is read as %v", entitlement, got)
		}
	}
}

func inherited(t *testing.T, s server) {
	s.sql(t, `CREATE ROLE outer_group`, `CREATE ROLE inner_group IN ROLE outer_group`, `CREATE ROLE innermost IN ROLE inner_group`)
	id := account(t, s.client, "heir")
	got := s.client.Want(t, id, "p:heir", "C", step(opGrant, "role:innermost"))
	expected := []*connectorv1.Grant{
		{EntitlementId: "role:inner_group", Inherited: true}, {EntitlementId: "role:innermost"}, {EntitlementId: "role:outer_group", Inherited: true},
	}
	if diff := cmp.Diff(expected, got.GetObserved().GetGrants(), protocmp.Transform()); diff != "" {
		t.Fatalf("grants (-want +got):\n%s", diff)
	}
	s.client.Want(t, id, "p:heir", "U", step(opRevoke, "role:outer_group"))
	got = s.client.Want(t, id, "p:heir", "CC", step(opGrant, "role:outer_group"), step(opRevoke, "role:innermost"))
	if diff := cmp.Diff([]*connectorv1.Grant{{EntitlementId: "role:outer_group"}}, got.GetObserved().GetGrants(), protocmp.Transform()); diff != "" {
		t.Fatalf("a grant that was also inherited went with the other one (-want +got):\n%s", diff)
	}
}

func members(t *testing.T, s server) {
	s.sql(t, `CREATE ROLE club`, `CREATE ROLE subclub IN ROLE club`)
	direct, indirect := account(t, s.client, "direct"), account(t, s.client, "indirect")
	s.client.Want(t, direct, "p:direct", "C", step(opGrant, "role:club"))
	s.client.Want(t, indirect, "p:indirect", "C", step(opGrant, "role:subclub"))
	got := s.client.Found(t, byEntitlement("role:club"))
	var ids []string
	for _, a := range got.GetAccounts() {
		ids = append(ids, a.GetId())
	}
	if diff := cmp.Diff([]string{direct, indirect}, ids); diff != "" || !got.GetEntitlement().GetAssignable() {
		t.Fatalf("members (-want +got):\n%s%v", diff, got.GetEntitlement())
	}
}

func listingEqualsReads(t *testing.T, s server) {
	s.sql(t, `CREATE ROLE listed_outer`, `CREATE ROLE listed_inner IN ROLE listed_outer`, `CREATE ROLE listed_orphan LOGIN IN ROLE listed_inner`)
	id := account(t, s.client, "listed")
	s.client.Want(t, id, "p:listed", "CC", step(opGrant, "role:listed_outer"), step(opDisable, ""))
	mine := func(name string) bool { return strings.HasPrefix(name, "listed") } // others make and drop theirs meanwhile

	accounts := map[string]*connectorv1.Account{}
	entitlements := map[string]*connectorv1.Entitlement{}
	for _, item := range s.client.Listed(t) {
		if a := item.GetAccount(); a != nil && mine(a.GetName()) {
			a.GrantsComplete = true
			accounts[a.GetId()] = a
		}
		if e := item.GetEntitlement(); e != nil && mine(e.GetDisplayName()) {
			entitlements[e.GetId()] = e
		}
		if m := item.GetMembership(); m != nil && accounts[m.GetAccountId()] != nil {
			a := accounts[m.GetAccountId()]
			a.Grants = append(a.Grants, &connectorv1.Grant{EntitlementId: m.GetEntitlementId(), Inherited: m.GetInherited()})
		}
	}
	if len(accounts) != 2 || len(entitlements) != 2 {
		t.Fatalf("listed %v and %v", accounts, entitlements)
	}
	for id, listed := range accounts {
		one := only(t, s.client.Found(t, &connectorv1.ReadRequest{By: &connectorv1.ReadRequest_AccountId{AccountId: id}})) // what a listing shows
		if diff := cmp.Diff(one, listed, protocmp.Transform()); diff != "" {
			t.Errorf("read and listing differ (-read +listed):\n%s", diff)
		}
	}
	for id, listed := range entitlements {
		if diff := cmp.Diff(s.client.Found(t, byEntitlement(id)).GetEntitlement(), listed, protocmp.Transform()); diff != "" {
			t.Errorf("read and listing differ (-read +listed):\n%s", diff)
		}
	}
}

func concurrentGrants(t *testing.T, s server) {
	const n = 20
	s.sql(t, `CREATE ROLE crowd`)
	// Each with connections of its own: as many workers as accounts.
	client := open(t, postgres.Config{URL: s.dsn, Connections: n})
	ids := make([]string, n)
	for i := range ids {
		ids[i] = account(t, client, fmt.Sprintf("crowd_%d", i))
	}
	all := func(st *connectorv1.Step) {
		var wait sync.WaitGroup
		for i, id := range ids {
			wait.Go(func() {
				// A Conflict is known not to be done, and a worker's next attempt.
				for try := range 20 {
					got, err := client.Apply(t.Context(), &connectorv1.ApplyRequest{
						AccountId: id, Marker: fmt.Sprintf("p:crowd_%d", i), NotAfter: timestamppb.New(time.Now().Add(time.Minute)),
						Steps: []*connectorv1.Step{st},
					})
					if err == nil && outcomes(got) == "C" {
						return
					}
					if code := got.GetResults()[0].GetProblem().GetCode(); err != nil || code != connectorv1.Code_CODE_CONFLICT || try == 19 {
						t.Errorf("%v, %v", got.GetResults(), err)
						return
					}
				}
			})
		}
		wait.Wait()
	}
	all(step(opGrant, "role:crowd"))
	if got := client.Found(t, byEntitlement("role:crowd")); len(got.GetAccounts()) != n {
		t.Fatalf("%d members after %d grants at once", len(got.GetAccounts()), n)
	}
	all(step(opRevoke, "role:crowd"))
	if got := client.Found(t, byEntitlement("role:crowd")); len(got.GetAccounts()) != 0 {
		t.Fatalf("%d members after %d revocations at once", len(got.GetAccounts()), n)
	}
}

func check(t *testing.T, s server) {
	got, err := s.client.Check(t.Context(), &connectorv1.CheckRequest{})
	if err != nil || len(got.GetProblems()) != 0 || !strings.HasPrefix(got.GetProduct(), "PostgreSQL ") {
		t.Fatalf("%v, %v", got, err)
	}
	if id := s.ask(t, `SELECT system_identifier::text FROM pg_control_system()`); got.GetTargetIdentity() != "postgres:"+id {
		t.Errorf("identity %s, want that of system %s", got.GetTargetIdentity(), id)
	}
	s.sql(t, `CREATE ROLE powerless LOGIN PASSWORD 'pw'`)
	weak, err := open(t, postgres.Config{URL: s.as(t, "powerless", "pw")}).Check(t.Context(), &connectorv1.CheckRequest{})
	if err != nil || weak.GetTargetIdentity() != got.GetTargetIdentity() {
		t.Fatalf("%v, %v", weak, err)
	}
	var missing []string
	for _, p := range weak.GetProblems() {
		missing = append(missing, p.GetReason())
		if p.GetCode() != connectorv1.Code_CODE_DENIED || p.GetScope() != connectorv1.Scope_SCOPE_INSTANCE {
			t.Errorf("%v", p)
		}
	}
	if diff := cmp.Diff([]string{"postgres.createrole", "postgres.pg_signal_backend"}, missing); diff != "" {
		t.Errorf("missing privileges (-want +got):\n%s", diff)
	}
}

func checkFailures(t *testing.T, s server) {
	s.sql(t, `CREATE ROLE forgetful LOGIN PASSWORD 'right'`)
	const canary = "wr0ng-canary"
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte(canary+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	away := strings.NewReplacer("127.0.0.1", "127.0.0.2").Replace(s.as(t, "forgetful", canary))
	for name, c := range map[string]struct {
		cfg  postgres.Config
		code connectorv1.Code
	}{
		"wrong password in the URL": {postgres.Config{URL: s.as(t, "forgetful", canary)}, connectorv1.Code_CODE_AUTH},
		"wrong password in a file":  {postgres.Config{URL: s.as(t, "forgetful", "right"), PasswordFile: file}, connectorv1.Code_CODE_AUTH},
		"nobody listens":            {postgres.Config{URL: away}, connectorv1.Code_CODE_TARGET_UNAVAILABLE},
	} {
		client := open(t, c.cfg)
		got, err := client.Check(t.Context(), &connectorv1.CheckRequest{})
		if err != nil || len(got.GetProblems()) != 1 {
			t.Fatalf("%s: %v, %v", name, got, err)
		}
		p := got.GetProblems()[0]
		if p.GetCode() != c.code || p.GetScope() != connectorv1.Scope_SCOPE_INSTANCE || strings.Contains(p.GetMessage(), canary) {
			t.Errorf("%s: %v, want %v of the whole instance", name, p, c.code)
		}
		applied := client.Do(t, "", "p:x", named("never_made"))
		if outcomes(applied) != "F" || applied.GetResults()[0].GetProblem().GetCode() != c.code {
			t.Errorf("%s: a step says %v, want FAILED: it was never sent", name, applied.GetResults())
		}
	}
	if err := os.WriteFile(file, []byte("right\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	client := open(t, postgres.Config{URL: s.as(t, "forgetful", ""), PasswordFile: file})
	if got, err := client.Check(t.Context(), &connectorv1.CheckRequest{}); err != nil || got.GetTargetIdentity() == "" {
		t.Errorf("the password of the file: %v, %v", got, err)
	}
}

func ordinaryAdministrator(t *testing.T, s server) {
	s.sql(t, `CREATE ROLE administrator LOGIN CREATEROLE PASSWORD 'pw' IN ROLE pg_signal_backend`, `CREATE ROLE admin_group`)
	client := open(t, postgres.Config{URL: s.as(t, "administrator", "pw")})
	if got, err := client.Check(t.Context(), &connectorv1.CheckRequest{}); err != nil || len(got.GetProblems()) != 0 {
		t.Fatalf("%v, %v", got, err)
	}
	id := client.Want(t, "", "p:managed", "CCC", named("managed"), step(opGrant, "role:admin_group"), step(opEnable, "")).GetAccountId()
	client.Want(t, id, "p:managed", "C", client.Rotation(t, "password", "pw"))
	conn, err := s.login(t, "managed", "pw")
	if err != nil {
		t.Fatal(err)
	}
	a := only(t, client.Found(t, byID(id)))
	if a.GetCredentialsComplete() || len(a.GetCredentials()) != 0 {
		t.Errorf("who may not see passwords claims to have seen all: %v", a)
	}
	if a.GetLiveSessions() != 1 {
		t.Errorf("%d live sessions, want 1", a.GetLiveSessions())
	}
	client.Want(t, id, "p:managed", "CCCC", step(opDisable, ""), step(opKill, ""), step(opCut, ""), step(opRevoke, "role:admin_group"))
	if err := conn.Ping(t.Context()); err == nil {
		t.Error("the session lives on")
	}
	client.Want(t, id, "p:managed", "C", step(opDelete, ""))
	s.sql(t, `CREATE ROLE admin_boss SUPERUSER LOGIN`)
	self := s.ask(t, `SELECT oid::text FROM pg_roles WHERE rolname = 'administrator'`)
	got := client.Do(t, self, "p:managed", step(opDisable, ""))
	if p := got.GetResults()[0].GetProblem(); p.GetCode() != connectorv1.Code_CODE_DENIED {
		t.Errorf("the connector's own role: %v", got.GetResults())
	}
}
