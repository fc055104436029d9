package provision_test

import (
	"context"
	"crypto/rand"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/tenurehq/tenure/pkg/sqldb/sqltest"
	"github.com/tenurehq/tenure/services/connectors/demo"
	"github.com/tenurehq/tenure/services/connectors/postgres"
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
