package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/tenurehq/tenure/pkg/connector"
	"github.com/tenurehq/tenure/services/connectors/demo"
)

// ensure is a job: make a person's account in one application as it should be.
type ensure struct {
	Webhook     string `json:"webhook"`
	Person      string `json:"person"`
	Application string `json:"application"`
}

// Kind implements river.JobArgs.
func (ensure) Kind() string { return "ensure" }

// role grants an entitlement to a department.
type role struct{ application, department, entitlement string }

// roles are as many as the Tenure beside it has: one for each department and application.
func roles(o options) map[role]bool {
	all := map[role]bool{}
	for n := range o.applications {
		for d := range o.departments {
			all[role{fmt.Sprintf("app%d", n+1), department(d), "group:" + department(d)}] = true
		}
	}
	return all
}

func department(d int) string { return fmt.Sprintf("d%03d", d) }

// ensurer works the jobs. River runs a job again that fails.
type ensurer struct {
	river.WorkerDefaults[ensure]
	pool         *pgxpool.Pool
	roles        map[role]bool
	applications map[string]*demo.Application
}

// Work implements river.Worker.
func (e *ensurer) Work(ctx context.Context, job *river.Job[ensure]) error {
	var record []byte
	if err := e.pool.QueryRow(ctx, "SELECT record FROM people WHERE id = $1", job.Args.Person).Scan(&record); err != nil {
		return err
	}
	var p person
	if err := json.Unmarshal(record, &p); err != nil {
		return err
	}
	app := e.applications[job.Args.Application]
	want := e.wanted(job.Args.Application, p)
	found, err := makeSo(ctx, app, p, want)
	if err != nil {
		return err
	}
	readAt := time.Now().UnixMicro()
	return pgx.BeginFunc(ctx, e.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "INSERT INTO audit (job, webhook, person, application, wanted, found, read_at) VALUES ($1, $2, $3, $4, $5, $6, $7)",
			job.ID, job.Args.Webhook, p.ID, job.Args.Application, want.String(), found.String(), readAt); err != nil {
			return err
		}
		_, err := river.JobCompleteTx[*riverpgxv5.Driver](ctx, tx, job)
		return err
	})
}

// access is what somebody has in an application.
type access struct {
	enabled bool
	grants  []string
}

// String is for the auditors.
func (a access) String() string {
	return fmt.Sprintf("enabled=%t grants=%s", a.enabled, strings.Join(a.grants, ","))
}

// wanted is what a person should have: those who left, nothing.
func (e *ensurer) wanted(application string, p person) access {
	if p.Status != "active" {
		return access{}
	}
	var grants []string
	for r := range e.roles {
		if r.application == application && r.department == p.Department {
			grants = append(grants, r.entitlement)
		}
	}
	slices.Sort(grants)
	return access{enabled: true, grants: grants}
}

// makeSo makes an account right and returns what the application shows then, which is what was wanted.
func makeSo(ctx context.Context, app *demo.Application, p person, want access) (access, error) {
	marker := "river:" + p.ID
	account, found, err := read(ctx, app, marker)
	if err != nil {
		return access{}, err
	}
	login, _, _ := strings.Cut(p.Email, "@")
	attributes := map[string]string{"login": login, "email": p.Email}
	ref := connector.Ref{ID: account.ID, Marker: marker}
	switch {
	case !found && !want.enabled:
		return access{}, nil
	case !found:
		if ref.ID, _, err = app.Create(ctx, connector.NewAccount{Marker: marker, Attributes: attributes}); err != nil {
			return access{}, err
		}
	case want.enabled && (account.Attributes["login"] != login || account.Attributes["email"] != p.Email):
		if _, err := app.Update(ctx, ref, attributes, nil); err != nil {
			return access{}, err
		}
	}
	if err := change(ctx, app, ref, of(account), want); err != nil {
		return access{}, err
	}
	account, found, err = read(ctx, app, marker)
	if err != nil {
		return access{}, err
	}
	if got := of(account); !found || got.String() != want.String() {
		return access{}, fmt.Errorf("the account shows %s, wanted is %s", got, want)
	}
	return of(account), nil
}

// change takes first, then gives, and lets in last.
func change(ctx context.Context, app *demo.Application, ref connector.Ref, has, want access) error {
	var errs []error
	if has.enabled && !want.enabled {
		_, err := app.Disable(ctx, ref)
		_, _, killed := app.KillSessions(ctx, ref)
		_, _, revoked := app.RevokeCredential(ctx, ref, "")
		errs = append(errs, err, killed, revoked)
	}
	for _, g := range has.grants {
		if !slices.Contains(want.grants, g) {
			_, err := app.Revoke(ctx, ref, g)
			errs = append(errs, err)
		}
	}
	for _, g := range want.grants {
		if !slices.Contains(has.grants, g) {
			_, err := app.Grant(ctx, ref, g)
			errs = append(errs, err)
		}
	}
	if !has.enabled && want.enabled && errors.Join(errs...) == nil {
		_, err := app.Enable(ctx, ref)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func read(ctx context.Context, app *demo.Application, marker string) (connector.Account, bool, error) {
	found, err := app.Read(ctx, connector.Query{By: connector.ByMarker, Value: marker})
	switch {
	case err != nil:
		return connector.Account{}, false, err
	case len(found.Accounts) > 1:
		return connector.Account{}, false, errors.New("two accounts carry one marker")
	case len(found.Accounts) == 0:
		return connector.Account{}, false, nil
	}
	return found.Accounts[0], true, nil
}

func of(a connector.Account) access {
	has := access{enabled: a.Status == connector.Enabled}
	for _, g := range a.Grants {
		has.grants = append(has.grants, g.Entitlement)
	}
	slices.Sort(has.grants)
	return has
}
