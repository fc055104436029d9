package store_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tenurehq/tenure/services/provision/internal/store"
)

// setBack sets the clock back by an hour to now, and returns after that was mended.
func setBack(t *testing.T, s *store.Store) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var asked, done atomic.Bool
	clock := func() time.Time {
		if asked.Swap(true) {
			return now
		}
		return now.Add(time.Hour)
	}
	err := s.WhenSetBack(ctx, clock, func(time.Duration, int64) { done.Store(true); cancel() })
	if err != nil || !done.Load() {
		t.Fatal("not mended", err)
	}
}

// TestWhatIsHeldWhileTheClockIsSetBackIsDueWhateverItsHolderWrites: who holds them goes by the time of before. Bob had been due for two hours when
// he was claimed: nothing of him lies ahead.
func TestWhatIsHeldWhileTheClockIsSetBackIsDueWhateverItsHolderWrites(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store) {
		before := now.Add(time.Hour)
		mark(t, s, before, store.Mark{Person: "ann", Generation: 1, Lane: normal}, store.Mark{Person: "eve", Generation: 1, Lane: normal})
		mark(t, s, now.Add(-time.Hour), store.Mark{Person: "bob", Generation: 1, Lane: normal})
		held := claim(t, s, "one", normal, before)
		if len(held) != 3 {
			t.Fatalf("claimed %+v", held)
		}
		setBack(t, s)
		for _, c := range held {
			if c.Person == "eve" {
				if err := s.GiveBack(t.Context(), "one", []store.Claimed{c}, before.Add(time.Second)); err != nil {
					t.Fatal(err)
				}
				continue
			}
			c.State, c.DueAt, c.QuietUntil = store.Retrying, before.Add(8*time.Second), before.Add(8*time.Second)
			if !finish(t, s, "one", c.Target) {
				t.Errorf("what became of %s is not written", c.Person)
			}
		}
		if got := claim(t, s, "two", normal, now); len(got) != 3 {
			t.Errorf("due: %+v, want all", got)
		}
	})
}

// TestADeadHoldersLeaseEndsAlthoughTheClockWasSetBackDuringACall.
func TestADeadHoldersLeaseEndsAlthoughTheClockWasSetBackDuringACall(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store) {
		before := now.Add(time.Hour)
		mark(t, s, before, store.Mark{Person: "ann", Generation: 1, Lane: normal})
		c := claim(t, s, "dead", normal, before)[0]
		err := s.InTx(t.Context(), func(tx store.Tx) error {
			_, err := tx.Intend(t.Context(), "dead", []store.Intent{{Entry: store.Entry{
				Operation: "1", Person: "ann", Generation: 1, Epoch: c.Epoch, NotAfter: before.Add(8 * time.Second), IntentAt: before, IntentEvent: "e",
			}}})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		setBack(t, s)
		err = s.InTx(t.Context(), func(tx store.Tx) error {
			_, err := tx.Free(t.Context(), now, 2*time.Second)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := claim(t, s, "new", normal, now.Add(time.Minute)); len(got) != 1 || !got[0].Abandoned {
			t.Errorf("after the length of a lease %+v, want ann's, abandoned", got)
		}
	})
}
