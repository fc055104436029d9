package provision_test

import (
	"context"
	"testing"
	"time"

	"github.com/tenurehq/tenure/pkg/connector"
	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
	provisionv1 "github.com/tenurehq/tenure/proto/gen/tenure/provision/v1"
	"github.com/tenurehq/tenure/services/provision"
)

const day = 24 * time.Hour

// warned is what an operator is told of the credential: a problem, and a word in the list of applications.
func warned(t *testing.T, svc *provision.Service) bool {
	t.Helper()
	shown, err := svc.ShowApplication(t.Context(), &provisionv1.ShowApplicationRequest{Application: "code"})
	if err != nil {
		t.Fatal(err)
	}
	const reason = "tenure.credential_expires"
	problems := shown.GetCheck().GetProblems()
	is := len(problems) == 1 && problems[0].GetCode() == connectorv1.Code_CODE_AUTH && problems[0].GetReason() == reason
	if !is && len(problems) > 0 {
		t.Errorf("problems %v", problems)
	}
	listed, err := svc.ListApplications(t.Context(), &provisionv1.ListApplicationsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if a := listed.GetApplications()[0]; a.GetHealth() != "ok" || (a.GetHealthDetail() == "AUTH "+reason) != is {
		t.Errorf("it is listed as %v", a)
	}
	return is
}

// credentialEnds is the figure; 0: there is none.
func (w *world) credentialEnds() int64 {
	w.t.Helper()
	families, err := w.figure.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "tenure_connector_credential_expires_timestamp_seconds" {
			return int64(f.GetMetric()[0].GetGauge().GetValue())
		}
	}
	return 0
}

func TestACredentialThatEndsSoonIsAProblem(t *testing.T) {
	t.Parallel()
	m := newMemory("a")
	w := newWorld(t, "sqlite", one("code", m))
	svc, _ := w.start()
	for _, c := range []struct {
		ends time.Time
		want bool
	}{
		{time.Time{}, false},
		{time.Now().Add(15 * day), false},
		{time.Now().Add(13 * day), true},
		{time.Now().Add(-day), true},
		{time.Now().Add(90 * day), false},
		{time.Now().Add(day), true},
		{time.Time{}, false},
	} {
		m.end(c.ends)
		if got := warned(t, svc); got != c.want {
			t.Errorf("one that ends at %s is a problem: %v", c.ends, got)
		}
		if want := max(c.ends.Unix(), 0); w.credentialEnds() != want {
			t.Errorf("the figure is %d, want %d", w.credentialEnds(), want)
		}
	}
}

// TestACredentialIsLookedAtThoughNobodyAsks, while its application works: at the start, and later again.
func TestACredentialIsLookedAtThoughNobodyAsks(t *testing.T) {
	t.Parallel()
	m := newMemory("a")
	looked := make(chan struct{})
	m.misbehave(func(ctx context.Context, op string) error {
		if op == "CHECK" {
			select {
			case looked <- struct{}{}:
			case <-ctx.Done():
			}
		}
		return nil
	})
	w := newWorld(t, "sqlite", one("code", m))
	w.cfg.Timing.Inspect = time.Millisecond
	w.start()
	for _, ends := range []time.Time{time.Now().Add(day), time.Now().Add(90 * day)} {
		m.end(ends)
		for range 3 { // one may have been under way, and the last one is not over
			select {
			case <-looked:
			case <-time.After(patience):
				t.Fatal("nobody looks")
			}
		}
		if got := w.credentialEnds(); got != ends.Unix() {
			t.Errorf("the figure is %d, want %d", got, ends.Unix())
		}
	}
}

// TestACredentialThatEndsSoonStopsNothing: an application that was away is worked on again, though that is a problem.
func TestACredentialThatEndsSoonStopsNothing(t *testing.T) {
	t.Parallel()
	m := newMemory("a")
	m.end(time.Now().Add(day))
	away := true
	m.misbehave(func(_ context.Context, op string) error {
		if op == "READ" && away {
			away = false
			return connector.Auth("memory.401", "who are you?")
		}
		return nil
	})
	w := newWorld(t, "sqlite", one("code", m))
	w.start()
	w.publish(want{app: "code", person: "ann", state: enabled, entitlements: []string{"a"}})
	w.done("code", "ann")
}

// TestAStepsRateLimitKeepsNobodyElseBack: it asks for an hour, for one kind of step.
func TestAStepsRateLimitKeepsNobodyElseBack(t *testing.T) {
	t.Parallel()
	m := newMemory("a")
	m.misbehave(func(_ context.Context, op string) error {
		if op != "UPDATE" {
			return nil
		}
		limited := connector.RateLimited(time.Hour, "memory.429", "no updates for now")
		limited.Scope = connectorv1.Scope_SCOPE_STEP
		return limited
	})
	w := newWorld(t, "sqlite", one("code", m))
	svc, _ := w.start()
	w.publish(want{app: "code", person: "ann", state: enabled, entitlements: []string{"a"}})
	w.done("code", "ann")
	w.publish(want{app: "code", person: "ann", state: enabled, entitlements: []string{"a"}, login: "ann.lee"})
	w.outcome("code", "ann", notDone)
	w.publish(want{app: "code", person: "bob", state: enabled, entitlements: []string{"a"}})
	w.done("code", "bob")
	w.publish(want{app: "code", person: "ann", state: none}) // also her who waits for her turn
	w.done("code", "ann")
	if warned(t, svc) { // and wants it to be well
		t.Error("it warns of nothing")
	}
}
