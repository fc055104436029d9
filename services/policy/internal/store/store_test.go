package store_test

import (
	"context"
	"maps"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenurehq/tenure/pkg/sqldb"
	"github.com/tenurehq/tenure/pkg/sqldb/sqltest"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	"github.com/tenurehq/tenure/services/policy/decide"
	"github.com/tenurehq/tenure/services/policy/internal/store"
	"github.com/tenurehq/tenure/services/policy/model"
)

func onBoth(t *testing.T, test func(t *testing.T, s *store.Store)) {
	t.Helper()
	sqltest.Run(t, []sqldb.Migrations{store.Migrations()}, func(t *testing.T, db *sqldb.DB) { test(t, store.New(db)) })
}

// claim claims in a transaction of its own and returns whom it got.
func claim(t *testing.T, s *store.Store, decisions ...store.Decision) []string {
	t.Helper()
	var taken map[string]bool
	err := s.InTx(t.Context(), func(tx store.Tx) (err error) {
		taken, err = tx.Claim(t.Context(), decisions)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return slices.Sorted(maps.Keys(taken))
}

func decision(person string, n, version, modelSeq int64) store.Decision {
	return store.Decision{
		Person: person, N: n, Basis: store.Basis{PersonVersion: version, ModelSeq: modelSeq}, At: time.Unix(1, 0), Nonce: []byte("n"),
	}
}

func TestADecisionIsClaimedOnlyByWhoReadTheLastOneAndNeverFromOlderFacts(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *store.Store) {
		if got := claim(t, s, decision("ann", 1, 5, 3), decision("bob", 1, 1, 3)); !cmp.Equal(got, []string{"ann", "bob"}) {
			t.Fatalf("people seen first: claimed %v", got)
		}
		for name, c := range map[string]store.Decision{
			"began before the last decision":     decision("ann", 1, 6, 3),
			"thinks the person was never seen":   decision("ann", 1, 5, 3),
			"began from a decision not made":     decision("ann", 3, 6, 3),
			"from an older version":              decision("ann", 2, 4, 4),
			"by an older model":                  decision("ann", 2, 6, 2),
			"both older, and a stranger's claim": decision("ann", 2, 1, 1),
		} {
			if got := claim(t, s, c); len(got) != 0 {
				t.Errorf("%s: claimed %v", name, got)
			}
		}
		if got := claim(t, s, decision("ann", 2, 5, 3), decision("bob", 1, 9, 9)); !cmp.Equal(got, []string{"ann"}) {
			t.Errorf("one of two: claimed %v, want ann alone", got)
		}
		decided, err := s.Decided(t.Context(), []string{"ann", "bob", "eve"})
		want := map[string]store.Decided{
			"ann": {N: 2, Basis: store.Basis{PersonVersion: 5, ModelSeq: 3}},
			"bob": {N: 1, Basis: store.Basis{PersonVersion: 1, ModelSeq: 3}},
		}
		if diff := cmp.Diff(want, decided); diff != "" || err != nil {
			t.Errorf("decided, %v (-want +got):\n%s", err, diff)
		}
	})
}

func TestOfEightWritersAtOnceOneClaimsEachDecision(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *store.Store) {
		const writers, rounds = 8, 10
		won := make(chan int64, writers*rounds*2)
		done := make(chan struct{}, writers)
		for range writers {
			go func() {
				defer func() { done <- struct{}{} }()
				for n := int64(1); n <= rounds; n++ {
					for _, person := range []string{"ann", "bob"} {
						if len(claim(t, s, decision(person, n, n, 1))) == 1 {
							won <- n
						}
					}
				}
			}()
		}
		for range writers {
			<-done
		}
		close(won)
		wins := map[int64]int{}
		for n := range won {
			wins[n]++
		}
		for n, count := range wins {
			if count > 2 {
				t.Errorf("decision %d of two people was claimed %d times", n, count)
			}
		}
		if len(wins) == 0 {
			t.Error("nobody claimed anything")
		}
	})
}

func TestModelsAreNumberedWithoutGapAndOnceEach(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *store.Store) {
		add := func(seq int64) bool {
			added := false
			err := s.InTx(t.Context(), func(tx store.Tx) (err error) {
				added, err = tx.AddModel(t.Context(), store.Model{
					Seq: seq, SHA256: []byte{1}, Files: []model.File{{Name: "a.yaml", Content: []byte("x")}},
					AppliedBy: "operator:ada", AppliedAt: time.Unix(7, 0).UTC(),
				})
				if err == nil && !added {
					return context.Canceled // as the service does: nothing of it stays
				}
				return err
			})
			return err == nil && added
		}
		if current, err := s.CurrentModel(t.Context()); err != nil || current.Seq != 0 {
			t.Errorf("before the first: %+v, %v", current, err)
		}
		for _, c := range []struct {
			seq  int64
			want bool
		}{{2, false}, {1, true}, {1, false}, {3, false}, {2, true}} {
			if got := add(c.seq); got != c.want {
				t.Errorf("model %d: added=%v, want %v", c.seq, got, c.want)
			}
		}
		current, err := s.CurrentModel(t.Context())
		want := store.Model{
			Seq: 2, SHA256: []byte{1}, Files: []model.File{{Name: "a.yaml", Content: []byte("x")}},
			AppliedBy: "operator:ada", AppliedAt: time.Unix(7, 0).UTC(),
		}
		if diff := cmp.Diff(want, current); diff != "" || err != nil {
			t.Errorf("current model, %v (-want +got):\n%s", err, diff)
		}
	})
}

func TestDesiredAccessAndHistoryComeBackAsTheyWereSaved(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *store.Store) {
		row := store.Desired{
			Person: "ann", Application: "wiki", Generation: 1, Lane: eventv1.Lane_LANE_URGENT, Release: "r", EventID: "e",
			CorrelationID: "c", DecidedAt: time.Unix(5, 1000).UTC(), Since: time.Unix(4, 0).UTC(), Announced: true,
			Access: decide.Access{
				State: decide.Disabled, Entitlements: []string{"a", "b"}, Account: map[string]string{"mail": "ann@acme.example"},
				Reasons: []decide.Reason{
					{Entitlement: "a", Role: "r1", Bindings: []string{"d=d005"}}, {Entitlement: "b", Role: "r2", Standing: true},
				},
			},
		}
		d := decision("ann", 1, 2, 3)
		d.Trigger, d.Changes = "t", []store.Desired{row}
		d.Errors = []model.RuleError{{Role: "r2", Code: "no_such_key", Message: "no such key"}}
		err := s.InTx(t.Context(), func(tx store.Tx) error {
			if _, err := tx.Claim(t.Context(), []store.Decision{d}); err != nil {
				return err
			}
			if err := tx.PutDesired(t.Context(), d.Changes); err != nil {
				return err
			}
			return tx.AddHistory(t.Context(), []store.Decision{d})
		})
		if err != nil {
			t.Fatal(err)
		}
		want := row
		want.Announced = false
		want.Decided = store.Decided{N: 1, Basis: store.Basis{PersonVersion: 2, ModelSeq: 3}}
		found, err := s.OfPeople(t.Context(), []string{"ann", "bob"})
		if diff := cmp.Diff(map[string]map[string]store.Desired{"ann": {"wiki": want}}, found); diff != "" || err != nil {
			t.Errorf("desired, %v (-want +got):\n%s", err, diff)
		}
		_, errs, err := s.Latest(t.Context(), "ann")
		if diff := cmp.Diff(d.Errors, errs); diff != "" || err != nil {
			t.Errorf("errors, %v (-want +got):\n%s", err, diff)
		}
		past, err := s.History(t.Context(), "ann")
		wantPast := []store.Past{{
			Person: "ann", N: 1, Basis: d.Basis, Trigger: "t", At: d.At.UTC(), Nonce: []byte("n"),
			Changes: []store.Desired{{Application: "wiki", Generation: 1, EventID: "e", Access: row.Access}},
		}}
		if diff := cmp.Diff(wantPast, past); diff != "" || err != nil {
			t.Errorf("history, %v (-want +got):\n%s", err, diff)
		}
	})
}

func TestTheSQLMeansTheSameOnBothEngines(t *testing.T) {
	t.Parallel()
	sqltest.CheckPortable(t, os.DirFS("."))
}
