package provision_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenurehq/tenure/pkg/bus"
	"github.com/tenurehq/tenure/pkg/connector"
	"github.com/tenurehq/tenure/pkg/fault"
	"github.com/tenurehq/tenure/pkg/rpc"
	authv1 "github.com/tenurehq/tenure/proto/gen/tenure/auth/v1"
	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	provisionv1 "github.com/tenurehq/tenure/proto/gen/tenure/provision/v1"
	"github.com/tenurehq/tenure/services/provision"
	"github.com/tenurehq/tenure/services/provision/plan"
)

func stuckItems(t *testing.T, svc *provision.Service) []*provisionv1.ListStuckResponse {
	t.Helper()
	out := &sink[provisionv1.ListStuckResponse]{ctx: context.WithoutCancel(t.Context())}
	if err := svc.ListStuck(&provisionv1.ListStuckRequest{}, out); err != nil {
		t.Fatal(err)
	}
	return out.sent
}

func plans(t *testing.T, svc *provision.Service, app, person string) []*provisionv1.PlanResponse {
	t.Helper()
	out := &sink[provisionv1.PlanResponse]{ctx: t.Context()}
	if err := svc.Plan(&provisionv1.PlanRequest{Application: app, PersonId: person}, out); err != nil {
		t.Fatal(err)
	}
	return out.sent
}

func retry(t *testing.T, svc *provision.Service, app, person string) {
	t.Helper()
	ctx := rpc.WithCaller(t.Context(), rpc.Caller{Operator: "ada", Role: authv1.Role_ROLE_OPERATOR})
	if _, err := svc.Retry(ctx, &provisionv1.RetryRequest{Application: app, PersonId: person}); err != nil {
		t.Fatal(err)
	}
}

func TestObserveShowsAndDoesNothing(t *testing.T) {
	t.Parallel()
	m := newMemory("a")
	a := one("code", m)
	a.Enforce = "observe"
	w := newWorld(t, "sqlite", a)
	svc, _ := w.start()
	w.publish(want{app: "code", person: "ann", state: enabled, entitlements: []string{"a"}})
	o := w.outcome("code", "ann", notDone)
	if len(o.GetSteps()) != 0 || o.GetObserved() != none {
		t.Errorf("outcome %v", o)
	}
	journalIs(t, m)
	shown, err := svc.ShowAccounts(t.Context(), &provisionv1.ShowAccountsRequest{PersonId: "ann"})
	if err != nil || len(shown.GetTargets()) != 1 || shown.GetTargets()[0].GetState() != provisionv1.TargetState_TARGET_STATE_OBSERVING {
		t.Fatalf("shown %v, %v", shown, err)
	}
	want := []string{"would CREATE: enforce is observe"}
	if diff := cmp.Diff(want, shown.GetTargets()[0].GetNotes()); diff != "" {
		t.Errorf("notes (-want +got):\n%s", diff)
	}
}

func TestPlanIsADryRun(t *testing.T) {
	t.Parallel()
	m := newMemory("a")
	w := newWorld(t, "sqlite", one("code", m))
	svc, stop := w.start()
	w.publish(want{app: "code", person: "ann", state: enabled, entitlements: []string{"a"}})
	w.done("code", "ann")
	before := m.journal()
	stop()
	w.policy.decide(want{app: "code", person: "ann", state: none}, want{app: "code", person: "bob", state: enabled})
	for _, person := range []string{"ann", ""} {
		got := plans(t, svc, "code", person)
		if len(got) != 1 {
			t.Fatalf("%d plans, want ann's", len(got))
		}
		var steps []string
		for _, s := range got[0].GetSteps() {
			if !s.GetDestructive() {
				t.Errorf("%s is not shown as destructive", s.GetOp())
			}
			steps = append(steps, strings.TrimSpace(strings.TrimPrefix(s.GetOp().String(), "OP_")+" "+s.GetTarget()))
		}
		if diff := cmp.Diff([]string{"DISABLE", "REVOKE_CREDENTIAL password", "REVOKE a"}, steps); diff != "" {
			t.Errorf("another plan (-want +got):\n%s", diff)
		}
	}
	if got := plans(t, svc, "code", "bob"); len(got) != 1 || len(got[0].GetSteps()) != 2 {
		t.Errorf("who has no target yet is planned for as %v", got)
	}
	err := svc.Plan(&provisionv1.PlanRequest{Application: "code", PersonId: "nobody"}, &sink[provisionv1.PlanResponse]{ctx: t.Context()})
	if fault.KindOf(err) != fault.NotFound {
		t.Errorf("a plan for nobody: %v", err)
	}
	journalIs(t, m, before...)
}

func TestAnAccountOfTheSameNameIsNeverTakenSilently(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, engine string) {
		careful, trusting := newMemory("a"), newMemory("a")
		one1, two := one("careful", careful), one("trusting", trusting)
		two.Adopt, two.Correlate = "correlated", "mail"
		w := newWorld(t, engine, one1, two)
		for _, m := range []*memory{careful, trusting} {
			m.mu.Lock()
			m.add("ann", "ann@acme.example", "")
			m.mu.Unlock()
		}
		svc, _ := w.start()
		w.publish(want{app: "careful", person: "ann", state: enabled, entitlements: []string{"a"}},
			want{app: "trusting", person: "ann", state: enabled, entitlements: []string{"a"}})
		w.done("trusting", "ann")
		w.finding(stuck)
		journalIs(t, careful)
		if got := trusting.only(t).Marker; got != plan.Marker("ann") {
			t.Errorf("the account that was taken over is marked %q", got)
		}
		items := stuckItems(t, svc)
		if len(items) != 1 || items[0].GetApplication() != "careful" || items[0].GetProblem() != "ALREADY_EXISTS" || !strings.Contains(items[0].GetAdvice(), "adopt") {
			t.Errorf("stuck list %v", items)
		}
	})
}

func TestTheJournalTellsWhatWasIntendedAndSeen(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, engine string) {
		m := newMemory("a")
		w := newWorld(t, engine, one("code", m))
		svc, _ := w.start()
		w.publish(want{app: "code", person: "ann", state: enabled, entitlements: []string{"a"}})
		w.done("code", "ann")
		w.publish(want{app: "code", person: "ann", state: enabled, entitlements: []string{"a"}}) // nothing new
		w.done("code", "ann")
		journal, err := svc.Journal(t.Context(), &provisionv1.JournalRequest{PersonId: "ann", Application: "code"})
		if err != nil || len(journal.GetEntries()) != 2 {
			t.Fatalf("journal %v, %v", journal, err)
		}
		idle, busy := journal.GetEntries()[0], journal.GetEntries()[1]
		if len(idle.GetSteps()) != 0 || idle.GetIntentEventId() != "" || idle.GetOutcomeEventId() == "" || idle.GetGeneration() != 2 {
			t.Errorf("what needed no call is kept as %v", idle)
		}
		if len(busy.GetSteps()) != 3 || len(busy.GetResults()) != 3 || busy.GetState() != eventv1.OutcomeState_OUTCOME_STATE_DONE ||
			busy.GetObserved().GetStatus() != connectorv1.AccountStatus_ACCOUNT_STATUS_ENABLED || busy.GetIntentEventId() == "" {
			t.Errorf("what was called is kept as %v", busy)
		}
		shown, err := svc.ShowApplication(t.Context(), &provisionv1.ShowApplicationRequest{Application: "code"})
		if err != nil || shown.GetApplication().GetSettled() != 1 || shown.GetApplication().GetHealth() != "ok" ||
			shown.GetDescribe().GetType() != "memory" || shown.GetCheck().GetTargetIdentity() != "memory" {
			t.Errorf("shown %v, %v", shown, err)
		}
	})
}

func TestALeaverComesBackOnlyForAHigherPersonVersion(t *testing.T) {
	t.Parallel()
	m := newMemory("a")
	w := newWorld(t, "sqlite", one("code", m))
	w.start()
	w.publish(want{app: "code", person: "ann", state: enabled})
	w.done("code", "ann")
	w.publish(want{app: "code", person: "ann", state: none})
	w.done("code", "ann")
	w.publish(want{app: "code", person: "ann", state: enabled, sameVersion: true})
	w.outcome("code", "ann", notDone)
	if got := m.only(t).Status; got != connector.Disabled {
		t.Error("a leaver was revived by a decision from the same person version")
	}
	w.publish(want{app: "code", person: "ann", state: enabled})
	w.done("code", "ann")
	if got := m.only(t).Status; got != connector.Enabled {
		t.Error("a rehire was not let in")
	}
}

func TestAnUnwantedAccountIsDeletedAfterItsTime(t *testing.T) {
	t.Parallel()
	m := newMemory("a")
	a := one("code", m)
	a.WhenUnwanted.DeleteAfter = 300 * time.Millisecond
	w := newWorld(t, "sqlite", a)
	w.start()
	w.publish(want{app: "code", person: "ann", state: enabled})
	w.done("code", "ann")
	w.publish(want{app: "code", person: "ann", state: none})
	w.done("code", "ann")
	w.until("the deletion", func(events []bus.Event) bool {
		return len(facts(events, func(o *eventv1.Outcome) bool {
			return len(o.GetSteps()) == 1 && o.GetSteps()[0].GetOp() == eventv1.Op_OP_DELETE && o.GetObserved() == none
		})) == 1
	})
	journalIs(t, m, "CREATE ann", "ENABLE ann", "DISABLE ann", "REVOKE_CREDENTIAL ann password", "DELETE ann")
}
