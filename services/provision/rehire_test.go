package provision_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tenurehq/tenure/pkg/connector"
	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	provisionv1 "github.com/tenurehq/tenure/proto/gen/tenure/provision/v1"
	"github.com/tenurehq/tenure/services/provision"
	"github.com/tenurehq/tenure/services/provision/internal/store"
	"github.com/tenurehq/tenure/services/provision/plan"
)

// shown are the accounts as "id name marker status grants…".
func (m *memory) shownAll() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []string
	for _, a := range m.accounts {
		line := string(a.ID) + " " + a.Name + " " + a.Marker
		if a.Status == connector.Enabled {
			line += " enabled"
		}
		for _, g := range a.Grants {
			line += " " + g.Entitlement
		}
		out = append(out, line)
	}
	return out
}

func accountsAre(t *testing.T, m *memory, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, m.shownAll()); diff != "" {
		t.Errorf("other accounts (-want +got):\n%s", diff)
	}
}

// leaveAndReturn is ann's: hired, given something by hand, on leave, terminated while on leave, employed again.
func leaveAndReturn(t *testing.T, w *world, m *memory) {
	t.Helper()
	w.publish(want{app: "code", person: "ann", state: enabled, entitlements: []string{"a"}, run: 1})
	w.done("code", "ann")
	m.mu.Lock()
	m.accounts[0].Grants = append(m.accounts[0].Grants, connector.Grant{Entitlement: "by-hand"})
	m.mu.Unlock()
	w.publish(want{app: "code", person: "ann", state: disabled, entitlements: []string{"a"}})
	w.done("code", "ann")
	accountsAre(t, m, "id-1 ann tenure:ann a by-hand") // disabled, with its grants
	now := time.Now()
	w.publish(want{app: "code", person: "ann", state: none, ended: now, known: now})
	w.done("code", "ann")
	accountsAre(t, m, "id-1 ann tenure:ann")
}

func TestWhoComesBackGetsTheOldAccountWithoutWhatItHad(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, engine string) {
		m := newMemory("a", "b")
		w := newWorld(t, engine, one("code", m))
		w.start()
		leaveAndReturn(t, w, m)
		// A decision from the same version of the person, however it came about, lets nobody in who has left.
		w.publish(want{app: "code", person: "ann", state: enabled, sameVersion: true})
		w.outcome("code", "ann", notDone)
		w.publish(want{app: "code", person: "ann", state: enabled, entitlements: []string{"b"}, run: 2})
		w.done("code", "ann")
		accountsAre(t, m, "id-1 ann tenure:ann enabled b")
		if n := len(m.only(t).Credentials); n != 0 {
			t.Errorf("%d credentials of before came back", n)
		}
	})
}

func TestWhoComesBackGetsANewAccountAndTheOldOneMakesWay(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, engine string) {
		for name, c := range map[string]struct {
			deleteAfter time.Duration
			lost        bool // the worker's record
			want        []string
		}{
			"renamed, for accounts are never deleted here": {want: []string{"id-1 ann-former1 tenure:ann", "id-2 ann tenure:ann/2 enabled b"}},
			"deleted, for they are after a while":          {deleteAfter: time.Hour, want: []string{"id-2 ann tenure:ann/2 enabled b"}},
			"renamed, known by its marker alone":           {lost: true, want: []string{"id-1 ann-former1 tenure:ann", "id-2 ann tenure:ann/2 enabled b"}},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				m := newMemory("a", "b")
				a := one("code", m)
				a.Rehired, a.WhenUnwanted.DeleteAfter = "new", c.deleteAfter
				w := newWorld(t, engine, a)
				_, stop := w.start()
				leaveAndReturn(t, w, m)
				if c.lost {
					stop()
					if err := store.New(w.dbs["code"]).InTx(t.Context(), func(tx store.Tx) error {
						_, err := tx.Exec(t.Context(), "DELETE FROM targets")
						return err
					}); err != nil {
						t.Fatal(err)
					}
					w.start()
				}
				w.publish(want{app: "code", person: "ann", state: enabled, entitlements: []string{"b"}, run: 2})
				w.done("code", "ann")
				accountsAre(t, m, c.want...)
				// The termination of the second employment is of the second account.
				w.publish(want{app: "code", person: "ann", state: none, ended: time.Now(), known: time.Now()})
				w.done("code", "ann")
				for _, line := range m.shownAll() {
					if strings.Contains(line, "enabled") {
						t.Errorf("who left for the second time has %s", line)
					}
				}
			})
		}
	})
}

func TestARehireWhoseReplyIsLostGetsOneAccount(t *testing.T) {
	t.Parallel()
	m := newMemory("a", "b")
	a := one("code", m)
	a.Rehired = "new"
	w := newWorld(t, "sqlite", a)
	w.start()
	leaveAndReturn(t, w, m)
	lost := 0
	w.lossy().onApply(func(_ context.Context, _ *connectorv1.ApplyRequest, next func() (*connectorv1.ApplyResponse, error)) (*connectorv1.ApplyResponse, error) {
		response, err := next()
		if lost++; lost <= 2 { // of the rename, and of CREATE
			return nil, status.Error(codes.Unavailable, "connection reset")
		}
		return response, err
	})
	w.publish(want{app: "code", person: "ann", state: enabled, entitlements: []string{"b"}, run: 2})
	w.done("code", "ann")
	accountsAre(t, m, "id-1 ann-former1 tenure:ann", "id-2 ann tenure:ann/2 enabled b")
}

func TestACancelledTerminationGivesTheAccountBackWhateverTheSetting(t *testing.T) {
	t.Parallel()
	m := newMemory("a")
	a := one("code", m)
	a.Rehired = "new"
	w := newWorld(t, "sqlite", a)
	w.start()
	w.publish(want{app: "code", person: "ann", state: enabled, entitlements: []string{"a"}, run: 1})
	w.done("code", "ann")
	w.publish(want{app: "code", person: "ann", state: none, ended: time.Now(), known: time.Now()})
	w.done("code", "ann")
	w.publish(want{app: "code", person: "ann", state: enabled, entitlements: []string{"a"}})
	w.done("code", "ann")
	accountsAre(t, m, "id-1 ann tenure:ann enabled a")
}

func TestANewNameIsGivenToTheSameAccountAndOneThatIsTakenKeepsNothingElseBack(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, engine string) {
		m := newMemory("a", "b")
		w := newWorld(t, engine, one("code", m))
		svc, _ := w.start()
		w.publish(want{app: "code", person: "ann", state: enabled, entitlements: []string{"a"}})
		w.done("code", "ann")
		w.publish(want{app: "code", person: "ann", state: enabled, entitlements: []string{"a"}, login: "ann.lee"})
		w.done("code", "ann")
		accountsAre(t, m, "id-1 ann.lee tenure:ann enabled a")

		m.mu.Lock()
		m.add("lee", "", "") // somebody else's
		m.mu.Unlock()
		w.publish(want{app: "code", person: "ann", state: enabled, entitlements: []string{"b"}, login: "lee"})
		if f := w.finding(stuck); f.GetProblem() != "ALREADY_EXISTS" || f.GetRemoval() {
			t.Errorf("finding %v", f)
		}
		accountsAre(t, m, "id-1 ann.lee tenure:ann enabled b", "id-2 lee  enabled")
		if items := stuckItems(t, svc); len(items) != 1 || !strings.Contains(items[0].GetDetail(), "id-2") {
			t.Errorf("the stuck list does not name the account that is in the way: %v", items)
		}
	})
}

// counted is how many leavers were, and the sum of their seconds.
type counted struct {
	leavers uint64
	sum     float64
}

// leaverSeconds are the figure's, by clock.
func leaverSeconds(t *testing.T, figures *prometheus.Registry) map[string]counted {
	t.Helper()
	families, err := figures.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]counted{}
	for _, f := range families {
		if f.GetName() != "tenure_leaver_seconds" {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "clock" {
					out[l.GetValue()] = counted{m.GetHistogram().GetSampleCount(), m.GetHistogram().GetSampleSum()}
				}
			}
		}
	}
	return out
}

func target(t *testing.T, svc *provision.Service, person string) *provisionv1.Target {
	t.Helper()
	answer, err := svc.ShowAccounts(t.Context(), &provisionv1.ShowAccountsRequest{PersonId: person})
	if err != nil || len(answer.GetTargets()) != 1 {
		t.Fatalf("targets %v, %v", answer, err)
	}
	return answer.GetTargets()[0]
}

func TestBothClocksOfALeaverRunUntilTheApplicationWasSeenToLetThemInNoMore(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, engine string) {
		m := newMemory("a")
		w := newWorld(t, engine, one("code", m))
		svc, _ := w.start()
		w.publish(want{app: "code", person: "ann", state: enabled, entitlements: []string{"a"}})
		w.done("code", "ann")
		began := time.Now()
		// Back-dated by an hour, and REVOKE fails: who cannot get in is cut off, also with a grant left.
		m.misbehave(func(_ context.Context, op string) error {
			if op == "REVOKE" {
				return connector.Precondition("memory.busy", "not now")
			}
			return nil
		})
		w.publish(want{app: "code", person: "ann", state: none, ended: began.Add(-time.Hour), known: began})
		w.finding(stuck)
		x := target(t, svc, "ann")
		if !x.GetEndedAt().AsTime().Equal(began.Add(-time.Hour).Truncate(time.Microsecond)) || x.GetCutOffAt() == nil || x.GetCutOffAt().AsTime().Before(began) {
			t.Fatalf("target %v", x)
		}
		w.untilFigure("effective", 1)
		seconds := leaverSeconds(t, w.figure)
		if got := seconds["effective"].sum; got < 3600 || got > 3600+patience.Seconds() {
			t.Errorf("effective clock %v s, want an hour and a little", got)
		}
		if got := seconds["known"].sum; got < 0 || got > patience.Seconds() {
			t.Errorf("known clock %v s, want a little", got)
		}
		// Settled later: the clocks stand.
		m.misbehave(nil)
		retry(t, svc, "code", "ann")
		w.done("code", "ann")
		w.untilState("code", "ann", store.Settled)
		if y := target(t, svc, "ann"); !y.GetCutOffAt().AsTime().Equal(x.GetCutOffAt().AsTime()) {
			t.Errorf("cut off at %s, and then at %s", x.GetCutOffAt().AsTime(), y.GetCutOffAt().AsTime())
		}
		if n := leaverSeconds(t, w.figure)["known"].leavers; n != 1 {
			t.Errorf("counted %d times", n)
		}
		// They come back, and an end that was known long before counts from the end.
		w.publish(want{app: "code", person: "ann", state: enabled})
		w.done("code", "ann")
		w.untilState("code", "ann", store.Settled)
		if y := target(t, svc, "ann"); y.GetEndedAt() != nil || y.GetCutOffAt() != nil {
			t.Errorf("somebody employed is shown as a leaver: %v", y)
		}
		w.publish(want{app: "code", person: "ann", state: none, ended: time.Now(), known: time.Now().Add(-time.Hour)})
		w.done("code", "ann")
		w.untilFigure("known", 2)
		if got := leaverSeconds(t, w.figure)["known"].sum; got > patience.Seconds() {
			t.Errorf("the known clock of a scheduled end ran before the end: %v s", got)
		}
	})
}

// untilFigure waits until so many leavers were counted: they are, just after it is said that they are gone.
func (w *world) untilFigure(clock string, leavers uint64) {
	w.t.Helper()
	t := w.t.(*testing.T)
	for deadline := time.Now().Add(patience); leaverSeconds(t, w.figure)[clock].leavers < leavers; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never %d leavers by the %s clock", leavers, clock)
		}
	}
}

func TestAnEscalationDuringAnAttemptIsToldOnceAndTakenBack(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, engine string) {
		m := newMemory("a")
		w := newWorld(t, engine, one("code", m))
		w.cfg.Timing.Escalate = 100 * time.Millisecond
		w.start()
		w.publish(want{app: "code", person: "ann", state: enabled, entitlements: []string{"a"}})
		w.done("code", "ann")
		release := make(chan struct{})
		w.lossy().onApply(func(_ context.Context, _ *connectorv1.ApplyRequest, next func() (*connectorv1.ApplyResponse, error)) (*connectorv1.ApplyResponse, error) {
			<-release
			return next()
		})
		w.publish(want{app: "code", person: "ann", state: none})
		// The worker looks every five seconds, and the call hangs for as long: told at a moment at which it is under way.
		s := store.New(w.dbs["code"])
		w.untilTarget("code", "ann", "escalated", func(t store.Target) bool { return !t.StuckSince.IsZero() })
		close(release)
		w.finding(unstuck)
		w.done("code", "ann")
		if x, _, err := s.Target(t.Context(), "ann"); err != nil || !x.StuckSince.IsZero() || x.Removal {
			t.Errorf("it is gone and on the stuck list: %+v, %v", x, err)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if n := len(facts(w.heard, func(f *eventv1.Finding) bool { return true })); n != 2 {
			t.Errorf("%d findings, want stuck and unstuck", n)
		}
	})
}

func TestAPolicyThatWasRestoredFromAnOlderBackupIsNotAskedForEverInSilence(t *testing.T) {
	t.Parallel()
	m := newMemory("a")
	w := newWorld(t, "sqlite", one("code", m))
	svc, _ := w.start()
	w.publish(want{app: "code", person: "ann", state: enabled})
	w.done("code", "ann")
	w.publish(want{app: "code", person: "ann", state: none})
	w.done("code", "ann")
	before := m.journal()
	w.policy.mu.Lock()
	w.policy.desired["code/ann"].Generation = 1
	w.policy.mu.Unlock()
	retry(t, svc, "code", "ann")
	if f := w.finding(stuck); f.GetProblem() != "INCONSISTENT" {
		t.Errorf("finding %v", f)
	}
	if items := stuckItems(t, svc); len(items) != 1 || !strings.Contains(items[0].GetAdvice(), "backup") || items[0].GetAttempts() < 4 {
		t.Errorf("stuck list %v", items)
	}
	journalIs(t, m, before...)
	w.publish(want{app: "code", person: "ann", state: none}, want{app: "code", person: "ann", state: none}) // it decided as often as before
	w.finding(unstuck)
}

// TestAMarkerSaysForWhichEmploymentAnAccountWasMade is the form that stays in applications for years.
func TestAMarkerSaysForWhichEmploymentAnAccountWasMade(t *testing.T) {
	t.Parallel()
	if plan.MarkerOf("p", 0) != "tenure:p" || plan.MarkerOf("p", 1) != plan.Marker("p") || plan.MarkerOf("p", 2) != "tenure:p/2" {
		t.Error("another form than accounts carry already")
	}
}
