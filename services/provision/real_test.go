package provision_test

import (
	"context"
	"crypto/rand"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tenurehq/tenure/pkg/sqldb/sqltest"
	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
	provisionv1 "github.com/tenurehq/tenure/proto/gen/tenure/provision/v1"
	"github.com/tenurehq/tenure/services/connectors/demo"
	"github.com/tenurehq/tenure/services/connectors/postgres"
	"github.com/tenurehq/tenure/services/provision/internal/store"
)

// TestWithARealDatabaseAndTheDemoApplication asks the applications themselves, not Tenure, what a person has.
func TestWithARealDatabaseAndTheDemoApplication(t *testing.T) {
	t.Parallel()
	dsn := sqltest.Postgres(t)
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	// Roles are the whole server's, and other tests share it.
	suffix := strings.ToLower(rand.Text())
	person, groups := "ann_"+suffix, []string{"reader_" + suffix, "writer_" + suffix}
	for _, role := range groups {
		if _, err := conn.Exec(t.Context(), "CREATE ROLE "+role+" NOLOGIN"); err != nil {
			t.Fatal(err)
		}
	}
	defer func() {
		_, err := conn.Exec(context.WithoutCancel(t.Context()), "DROP ROLE IF EXISTS "+strings.Join(append(groups, person), ", "))
		if err != nil {
			t.Errorf("the test leaves roles behind: %v", err)
		}
	}()
	warehouse, err := postgres.Open(t.Context(), postgres.Config{URL: dsn})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = warehouse.Close() })
	chat, err := demo.Open(t.Context(), demo.Config{Entitlements: []string{"group:staff"}, File: filepath.Join(t.TempDir(), "chat")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = chat.Close() })

	w := newWorld(t, "sqlite", one("warehouse", warehouse), one("chat", chat))
	w.policy.plain = true // the database knows no mail
	svc, _ := w.start()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("stuck: %v", stuckItems(t, svc))
		}
	})
	both := func(role string) []want {
		return []want{
			{app: "warehouse", person: person, state: enabled, entitlements: []string{"role:" + role}},
			{app: "chat", person: person, state: enabled, entitlements: []string{"group:staff"}},
		}
	}
	member := func() (roles []string, login bool) {
		err := conn.QueryRow(t.Context(), `
SELECT ARRAY(SELECT g.rolname FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid WHERE m.member = r.oid), r.rolcanlogin
FROM   pg_roles r WHERE r.rolname = $1`, person).Scan(&roles, &login)
		if err != nil {
			t.Fatal(err)
		}
		return roles, login
	}
	for _, role := range groups {
		w.publish(both(role)...)
		w.done("warehouse", person)
		w.done("chat", person)
		if roles, login := member(); len(roles) != 1 || roles[0] != role || !login {
			t.Errorf("a member of %v who can log in: %v; want %s", roles, login, role)
		}
	}
	w.publish(want{app: "warehouse", person: person, state: none}, want{app: "chat", person: person, state: none})
	w.done("warehouse", person)
	w.done("chat", person)
	if roles, login := member(); len(roles) != 0 || login {
		t.Errorf("the leaver is a member of %v and can log in: %v", roles, login)
	}
}

// TestANewNameAndARehireInARealDatabaseAndTheDemoApplication asks by the ids that the applications gave.
func TestANewNameAndARehireInARealDatabaseAndTheDemoApplication(t *testing.T) {
	t.Parallel()
	dsn := sqltest.Postgres(t)
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	suffix := strings.ToLower(rand.Text()) // roles are the whole server's
	ann, lee := "ann_"+suffix, "lee_"+suffix
	defer func() {
		if _, err := conn.Exec(context.WithoutCancel(t.Context()), `DROP ROLE IF EXISTS `+ann+`, `+lee+`, "`+lee+`-former1"`); err != nil {
			t.Errorf("the test leaves roles behind: %v", err)
		}
	}()
	warehouse, err := postgres.Open(t.Context(), postgres.Config{URL: dsn})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = warehouse.Close() })
	chat, err := demo.Open(t.Context(), demo.Config{File: filepath.Join(t.TempDir(), "chat")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = chat.Close() })
	apps := []app{one("warehouse", warehouse), one("chat", chat)}
	for i := range apps {
		apps[i].Rehired = "new"
	}
	w := newWorld(t, "sqlite", apps...)
	w.policy.plain = true
	svc, _ := w.start()
	everywhere := func(x want) map[string]*connectorv1.Account {
		t.Helper()
		seen := map[string]*connectorv1.Account{}
		for _, a := range apps {
			x.app, x.person = a.Name, ann
			w.publish(x)
			w.done(a.Name, ann)
			w.untilState(a.Name, ann, store.Settled)
		}
		answer, err := svc.ShowAccounts(t.Context(), &provisionv1.ShowAccountsRequest{PersonId: ann})
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range answer.GetTargets() {
			seen[x.GetApplication()] = x.GetObserved()
		}
		return seen
	}
	first := everywhere(want{state: enabled, run: 1})
	renamed := everywhere(want{state: enabled, login: lee})
	everywhere(want{state: none, login: lee, ended: time.Now(), known: time.Now()})
	second := everywhere(want{state: enabled, login: lee, run: 2})
	for _, a := range apps {
		if first[a.Name].GetId() != renamed[a.Name].GetId() || first[a.Name].GetName() != ann || renamed[a.Name].GetName() != lee {
			t.Errorf("%s: renamed from %v to %v; want the same account", a.Name, first[a.Name], renamed[a.Name])
		}
		if second[a.Name].GetId() == first[a.Name].GetId() || second[a.Name].GetName() != lee {
			t.Errorf("%s: who came back has %v; want a new account", a.Name, second[a.Name])
		}
		found, err := w.connectors[a.Name].Read(t.Context(), &connectorv1.ReadRequest{By: &connectorv1.ReadRequest_AccountId{AccountId: first[a.Name].GetId()}})
		if err != nil || len(found.GetAccounts()) != 1 {
			t.Fatalf("%s: the old account: %v, %v", a.Name, found, err)
		}
		old := found.GetAccounts()[0]
		if old.GetName() != lee+"-former1" || old.GetStatus() != connectorv1.AccountStatus_ACCOUNT_STATUS_DISABLED {
			t.Errorf("%s: the old account did not make way: %v", a.Name, old)
		}
	}
}
