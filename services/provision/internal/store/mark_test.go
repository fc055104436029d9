package store_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenurehq/tenure/services/provision/internal/store"
)

// markAndClaim marks targets of generation 2 for holder "one", and returns who was claimed with it and who was not.
func markAndClaim(t *testing.T, s *store.Store, at time.Time, settings string, people ...string) (claimed []store.Claimed, rest []string) {
	t.Helper()
	var marks []store.Mark
	for _, p := range people {
		marks = append(marks, store.Mark{Person: p, Generation: 2, Lane: normal})
	}
	err := s.InTx(t.Context(), func(tx store.Tx) (err error) {
		claimed, marks, err = tx.MarkAndClaim(t.Context(), marks, store.Claim{
			Lane: normal, Limit: 10, Holder: "one", Now: at, Until: at.Add(time.Minute), Settings: settings,
		})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range marks {
		rest = append(rest, m.Person)
	}
	return claimed, rest
}

func TestWhatIsMarkedIsClaimedInTheSameWritingWhereItMayBe(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store) {
		mark(t, s, now, store.Mark{Person: "held", Generation: 1, Lane: normal}, store.Mark{Person: "settled", Generation: 1, Lane: normal})
		for _, c := range claim(t, s, "two", normal, now) {
			if c.Person == "settled" {
				c.State, c.DueAt, c.SettledGeneration = store.Settled, time.Time{}, 1
				finish(t, s, "two", c.Target)
			}
		}
		mark(t, s, now, store.Mark{Person: "newer", Generation: 3, Lane: normal}, store.Mark{Person: "same", Generation: 2, Lane: normal})
		err := s.InTx(t.Context(), func(tx store.Tx) error {
			_, err := tx.PutCuts(t.Context(), []store.Cut{
				{Person: "cut", Version: 2, Stands: true, At: now}, {Person: "lifted", Version: 2, At: now},
			}, urgent, normal, now)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		later := now.Add(time.Second)
		claimed, rest := markAndClaim(t, s, later, "", "cut", "held", "lifted", "new", "newer", "same", "settled")
		if want := []string{"cut", "held", "lifted", "newer", "same"}; !slices.Equal(rest, want) {
			t.Errorf("not claimed: %v, want %v", rest, want)
		}
		epochs := map[string]int64{}
		for _, c := range claimed {
			epochs[c.Person] = c.Epoch
			if c.Abandoned || c.State != store.Due || c.Generation != 2 || !c.DueAt.Equal(later) || !c.MarkedAt.Equal(later) {
				t.Errorf("claimed %+v", c)
			}
		}
		if diff := cmp.Diff(map[string]int64{"new": 1, "settled": 2}, epochs); diff != "" {
			t.Fatalf("epochs of what was claimed (-want +got):\n%s", diff)
		}
		for _, c := range claim(t, s, "two", normal, later) {
			if epochs[c.Person] > 0 {
				t.Errorf("%s was claimed twice", c.Person)
			}
		}
		for _, c := range claimed {
			c.State, c.DueAt, c.SettledGeneration = store.Settled, time.Time{}, 2
			if !finish(t, s, "one", c.Target) {
				t.Errorf("%s is not its holder's", c.Person)
			}
		}
	})
}

func TestAHolderOfOldSettingsClaimsNothingWithAMark(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store) {
		if err := s.InTx(t.Context(), func(tx store.Tx) error { return tx.Apply(t.Context(), "new", now) }); err != nil {
			t.Fatal(err)
		}
		if claimed, rest := markAndClaim(t, s, now, "old", "ann"); len(claimed) != 0 || len(rest) != 1 {
			t.Errorf("claimed %v, left %v", claimed, rest)
		}
		if claimed, _ := markAndClaim(t, s, now, "new", "ann"); len(claimed) != 1 {
			t.Error("who plans by the new ones claimed nothing")
		}
	})
}

func TestNoMoreIsClaimedWithAMarkThanIsAskedFor(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store) {
		marks := []store.Mark{{Person: "ann", Generation: 1, Lane: normal}, {Person: "bob", Generation: 1, Lane: normal}}
		err := s.InTx(t.Context(), func(tx store.Tx) error {
			claimed, rest, err := tx.MarkAndClaim(t.Context(), marks, store.Claim{Lane: normal, Limit: 1, Holder: "one", Now: now, Until: now.Add(time.Minute)})
			if err == nil && (len(claimed) != 1 || claimed[0].Person != "ann" || !slices.Equal(rest, marks[1:])) {
				t.Errorf("claimed %v, left %v", claimed, rest)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

// TestACutThatIsHeardOfInTheInstantOfTheMarkStaysDue: the claim did not know of it.
func TestACutThatIsHeardOfInTheInstantOfTheMarkStaysDue(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store) {
		claimed, _ := markAndClaim(t, s, now, "", "ann")
		var written map[string]bool
		err := s.InTx(t.Context(), func(tx store.Tx) (err error) {
			if _, err = tx.PutCuts(t.Context(), []store.Cut{{Person: "ann", Version: 2, Stands: true, At: now}}, urgent, normal, now); err != nil {
				return err
			}
			written, err = tx.Intend(t.Context(), "one", []store.Intent{{Entry: store.Entry{
				Operation: "op", Person: "ann", Generation: 2, Epoch: claimed[0].Epoch, NotAfter: now, IntentEvent: "e", IntentAt: now,
			}}})
			return err
		})
		if err != nil || written["op"] {
			t.Fatalf("an intent of before the cut was written: %v", err)
		}
		if err := s.GiveBack(t.Context(), "one", claimed, now.Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		if got := ann(t, s); got.State != store.Due || !got.DueAt.Equal(now) || got.Lane != urgent {
			t.Errorf("after a cut the target is %+v", got)
		}
	})
}
