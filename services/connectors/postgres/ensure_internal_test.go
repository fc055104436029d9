package postgres

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/tenurehq/tenure/pkg/connector"
	"github.com/tenurehq/tenure/pkg/sqldb/sqltest"
	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
)

// Steps name a role by its oid, SQL by its name. Between the look and the act somebody moves the name to another role.
func TestANameThatMovesBetweenLookAndActHitsNobody(t *testing.T) {
	t.Parallel()
	dsn := sqltest.PostgresServer(t)
	d, err := Open(t.Context(), Config{URL: dsn})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	dba, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer dba.Close(context.WithoutCancel(t.Context()))
	run := func(sql string) {
		if _, err := dba.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	run(`CREATE ROLE club; CREATE ROLE moving LOGIN`)
	find := func(name string) role {
		r, _, err := roleByName(t.Context(), dba, name)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	club, moving := find("club"), find("moving")
	for name, act := range map[string]func(r role) change{
		"ALTER": func(r role) change { return alter(r, "NOLOGIN") },
		"GRANT": func(r role) change { return membership(club, r, `GRANT club TO moving`) },
		"DROP":  func(r role) change { return change{statements: []string{`DROP ROLE moving`}, gone: r} },
	} {
		_, err := d.mutate(t.Context(), connector.Ref{ID: moving.id()}, func(_ pgx.Tx, r role) (change, error) {
			run(`ALTER ROLE moving RENAME TO moved; CREATE ROLE moving LOGIN`)
			return act(r), nil
		})
		if p := (*connector.Problem)(nil); !errors.As(err, &p) || p.Code != connectorv1.Code_CODE_CONFLICT {
			t.Errorf("%s: %v, want CONFLICT", name, err)
		}
		bystander := find("moving")
		held, err := heldFromWhom(t.Context(), dba, club, bystander)
		if err != nil {
			t.Fatal(err)
		}
		if !bystander.canLogin || len(held) > 0 {
			t.Errorf("%s hit another role that had the name: %+v, %v", name, bystander, held)
		}
		run(`DROP ROLE IF EXISTS moving; ALTER ROLE moved RENAME TO moving`)
	}
}
