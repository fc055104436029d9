package store_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tenurehq/tenure/pkg/sqldb"
	"github.com/tenurehq/tenure/pkg/sqldb/sqltest"
	"github.com/tenurehq/tenure/services/provision/internal/store"
	"github.com/tenurehq/tenure/services/provision/plan"
)

const (
	urgent = store.Lane(1)
	normal = store.Lane(2)
)

var now = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

func each(t *testing.T, test func(t *testing.T, s *store.Store)) {
	t.Helper()
	t.Parallel()
	sqltest.Run(t, []sqldb.Migrations{store.Migrations()}, func(t *testing.T, db *sqldb.DB) {
		t.Parallel()
		test(t, store.New(db))
	})
}

func mark(t *testing.T, s *store.Store, at time.Time, marks ...store.Mark) int64 {
	t.Helper()
	var n int64
	err := s.InTx(t.Context(), func(tx store.Tx) (err error) {
		n, err = tx.MarkDue(t.Context(), marks, at)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func claim(t *testing.T, s *store.Store, holder string, lane store.Lane, at time.Time) []store.Claimed {
	t.Helper()
	claimed, err := s.Claim(t.Context(), store.Claim{Lane: lane, Limit: 10, Holder: holder, Now: at, Until: at.Add(time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	return claimed
}

// ann is her target.
func ann(t *testing.T, s *store.Store) store.Target {
	t.Helper()
	got, found, err := s.Target(t.Context(), "ann")
	if err != nil || !found {
		t.Fatalf("ann's target: found %v, %v", found, err)
	}
	return got
}

func finish(t *testing.T, s *store.Store, holder string, x store.Target) bool {
	t.Helper()
	var held bool
	err := s.InTx(t.Context(), func(tx store.Tx) (err error) {
		all, err := tx.Finish(t.Context(), holder, []store.Finished{{Target: x}})
		held = err == nil && all[0]
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return held
}

func TestTheGreatestGenerationWins(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store) {
		if n := mark(t, s, now, store.Mark{Person: "ann", Generation: 5, Lane: urgent}); n != 1 {
			t.Fatalf("%d targets marked", n)
		}
		for _, generation := range []int64{4, 5} {
			if n := mark(t, s, now.Add(time.Hour), store.Mark{Person: "ann", Generation: generation, Lane: normal}); n != 0 {
				t.Errorf("generation %d marks a target that knows 5", generation)
			}
		}
		if got := ann(t, s); got.Generation != 5 || got.Lane != urgent || !got.MarkedAt.Equal(now) || got.State != store.Due {
			t.Errorf("target %+v", got)
		}
	})
}

func TestAMarkOfManyPeopleIsOneCall(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store) {
		var marks []store.Mark
		var people []string
		for i := range 1203 {
			marks = append(marks, store.Mark{Person: fmt.Sprintf("p%04d", i), Generation: int64(i + 1), Lane: normal})
			people = append(people, marks[i].Person)
		}
		if n := mark(t, s, now, marks...); n != 1203 {
			t.Errorf("%d of 1203 targets marked", n)
		}
		known, err := s.Generations(t.Context(), append(people, "nobody"))
		if err != nil || len(known) != 1203 || known["p1202"] != 1203 {
			t.Errorf("%d generations known, %v", len(known), err)
		}
	})
}

func TestOneHolderAtATime(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store) {
		mark(t, s, now, store.Mark{Person: "ann", Generation: 1, Lane: normal})
		if got := claim(t, s, "one", urgent, now); len(got) != 0 {
			t.Error("a target was claimed in another lane")
		}
		first := claim(t, s, "one", normal, now)
		if len(first) != 1 || first[0].Epoch != 1 || first[0].Abandoned {
			t.Fatalf("claimed %+v", first)
		}
		if got := claim(t, s, "two", normal, now.Add(59*time.Second)); len(got) != 0 {
			t.Error("claimed under somebody's lease")
		}
		second := claim(t, s, "two", normal, now.Add(61*time.Second))
		if len(second) != 1 || second[0].Epoch != 2 || !second[0].Abandoned {
			t.Fatalf("after the lease: %+v", second)
		}
		if finish(t, s, "one", first[0].Target) {
			t.Error("a lost lease was finished")
		}
		if ok, err := s.Renew(t.Context(), "one", first[0], now, now.Add(time.Hour)); err != nil || ok {
			t.Errorf("a lost lease was renewed: %v", err)
		}
		if !finish(t, s, "two", second[0].Target) {
			t.Error("the holder could not finish")
		}
	})
}

func TestEightClaimersShareTheWork(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store) {
		var marks []store.Mark
		for i := range 200 {
			marks = append(marks, store.Mark{Person: fmt.Sprintf("p%04d", i), Generation: 1, Lane: normal})
		}
		mark(t, s, now, marks...)
		var mu sync.Mutex
		taken := map[string]int{}
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				for range 100 {
					got, err := s.Claim(context.WithoutCancel(t.Context()), store.Claim{
						Lane: normal, Limit: 10, Holder: fmt.Sprint(i), Now: now, Until: now.Add(time.Minute),
					})
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					for _, c := range got {
						taken[c.Person]++
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		for person, n := range taken {
			if n != 1 {
				t.Errorf("%s was claimed by %d", person, n)
			}
		}
		if len(taken) != 200 {
			t.Errorf("%d of 200 were claimed", len(taken))
		}
	})
}

func TestWhatIsFinishedIsKept(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store) {
		mark(t, s, now, store.Mark{Person: "ann", Generation: 3, Lane: urgent})
		x := claim(t, s, "one", urgent, now)[0].Target
		x.State, x.DueAt, x.Attempts, x.Lane = store.Retrying, now.Add(time.Minute), 2, normal
		x.SettledGeneration, x.PersonVersion, x.ModelSeq = 2, 7, 8
		x.Problem, x.Reason, x.Detail, x.Removal = "DENIED", "sqlstate.42501", "no", true
		x.StuckSince, x.QuietUntil, x.Notes, x.Pending = now, now.Add(time.Second), []string{"a\nb", ""}, "op"
		x.Record = plan.Record{
			AccountID: "1", Made: plan.TakenOver, Gave: []string{"a", "b"}, Decision: 9, DisabledForLeaver: true, DisabledVersion: 6,
			CutGeneration: 2, UnwantedSince: now, Deleted: true, DeletedVersion: 4, CreateTried: now, Creating: true,
			Run: 2,
		}
		x.TakingUntil = now.Add(2 * time.Second)
		x.EndedAt, x.EndKnownAt, x.CutOffAt = now, now.Add(time.Second), now.Add(time.Minute)
		x.Observed, x.ObservedAt = []byte{0, 1}, now
		if !finish(t, s, "one", x) {
			t.Fatal("the lease was lost")
		}
		x.Was = store.Stuckness{Since: now, Problem: "DENIED", Removal: true}
		if diff := cmp.Diff(x, ann(t, s), cmpopts.IgnoreUnexported(store.Target{})); diff != "" {
			t.Errorf("kept otherwise (-want +got):\n%s", diff)
		}
		stuck, err := s.StuckTargets(t.Context())
		if err != nil || len(stuck) != 1 {
			t.Errorf("%d stuck, %v", len(stuck), err)
		}
	})
}

func TestANewerGenerationStaysDue(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store) {
		mark(t, s, now, store.Mark{Person: "ann", Generation: 1, Lane: normal})
		x := claim(t, s, "one", normal, now)[0].Target
		mark(t, s, now.Add(time.Second), store.Mark{Person: "ann", Generation: 2, Lane: urgent})
		e := store.Entry{Operation: "op", Person: "ann", Generation: 1, Epoch: x.Epoch, IntentEvent: "e", IntentAt: now}
		err := s.InTx(t.Context(), func(tx store.Tx) error {
			written, err := tx.Intend(t.Context(), "one", []store.Intent{{Entry: e}})
			if written["op"] {
				t.Error("an intent of an older generation was written")
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		x.State, x.DueAt, x.SettledGeneration = store.Settled, time.Time{}, 1
		finish(t, s, "one", x)
		got := ann(t, s)
		if got.Generation != 2 || got.State != store.Due || got.Lane != urgent || !got.DueAt.Equal(now.Add(time.Second)) || got.SettledGeneration != 1 {
			t.Errorf("target %+v", got)
		}
		if len(claim(t, s, "one", urgent, now.Add(time.Second))) != 1 {
			t.Error("the newer generation is not claimed at once")
		}
	})
}

func TestACutThatIsHeardOfInTheInstantOfTheClaimStaysDue(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store) {
		mark(t, s, now, store.Mark{Person: "ann", Generation: 1, Lane: normal})
		x := claim(t, s, "one", normal, now)[0].Target
		err := s.InTx(t.Context(), func(tx store.Tx) error {
			_, err := tx.PutCuts(t.Context(), []store.Cut{{Person: "ann", Version: 2, Stands: true, At: now}}, urgent, normal, now)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		x.State, x.DueAt, x.SettledGeneration = store.Settled, time.Time{}, 1
		if !finish(t, s, "one", x) {
			t.Fatal("the holder could not finish")
		}
		if got := ann(t, s); got.State != store.Due || !got.DueAt.Equal(now) || got.Lane != urgent {
			t.Errorf("after a cut the target is %+v", got)
		}
	})
}

func TestAnIntentHasOneOutcome(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store) {
		mark(t, s, now, store.Mark{Person: "ann", Generation: 1, Lane: normal})
		x := claim(t, s, "one", normal, now)[0].Target
		e := store.Entry{
			Operation: "op", Person: "ann", Generation: 1, Decision: 2, PersonVersion: 3, ModelSeq: 4, Epoch: x.Epoch, Wanted: 3, NotAfter: now,
			Intent: []byte("i"), IntentNonce: []byte("n"), IntentEvent: "e", Correlation: "c", IntentAt: now,
		}
		write := func(f func(store.Tx) (map[string]bool, error)) bool {
			var written map[string]bool
			err := s.InTx(t.Context(), func(tx store.Tx) (err error) { written, err = f(tx); return err })
			if err != nil {
				t.Fatal(err)
			}
			return written["op"]
		}
		intend := func(holder string) bool {
			return write(func(tx store.Tx) (map[string]bool, error) {
				return tx.Intend(t.Context(), holder, []store.Intent{{Entry: e}})
			})
		}
		conclude := func() bool {
			return write(func(tx store.Tx) (map[string]bool, error) { return tx.Conclude(t.Context(), []store.Entry{e}) })
		}
		if intend("two") {
			t.Error("an intent was written by who does not hold the lease")
		}
		if !intend("one") {
			t.Fatal("the holder's intent was refused")
		}
		open, err := s.OpenIntents(t.Context(), []string{"ann", "bob"})
		if err != nil || len(open) != 1 || open[0].Operation != "op" {
			t.Fatalf("open intents %v, %v", open, err)
		}
		e.Results, e.State, e.Observed, e.OutcomeNonce, e.OutcomeEvent, e.OutcomeAt = []byte("r"), 1, []byte("o"), []byte("m"), "f", now
		if !conclude() {
			t.Error("the outcome was refused")
		}
		if conclude() {
			t.Error("a second outcome was written")
		}
		journal, err := s.Journal(t.Context(), "ann", 10)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]store.Entry{e}, journal); diff != "" {
			t.Errorf("kept otherwise (-want +got):\n%s", diff)
		}
	})
}

func TestLateUrgentWorkIsEscalatedOnce(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store) {
		mark(t, s, now, store.Mark{Person: "ann", Generation: 1, Lane: urgent}, store.Mark{Person: "bob", Generation: 1, Lane: normal})
		late, err := s.Late(t.Context(), urgent, now)
		if err != nil || len(late) != 1 || late[0].Person != "ann" {
			t.Fatalf("late: %v, %v", late, err)
		}
		for i := range 2 {
			err := s.InTx(t.Context(), func(tx store.Tx) error {
				late[0].Problem = "TARGET_UNAVAILABLE"
				found, err := tx.Escalate(t.Context(), late, now)
				if found["ann"] != (i == 0) {
					t.Errorf("escalation %d found it: %v", i+1, found)
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if got := ann(t, s); !got.Removal || got.State != store.Stuck || got.DueAt.IsZero() {
			t.Errorf("escalated to %+v", got)
		}
		if len(claim(t, s, "one", urgent, now)) != 1 {
			t.Error("what was escalated is not tried any more")
		}
	})
}

func TestWhatIsFinishedMustNotOverlookThatItWasEscalated(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store) {
		mark(t, s, now, store.Mark{Person: "ann", Generation: 1, Lane: urgent})
		x := claim(t, s, "one", urgent, now)[0].Target
		err := s.InTx(t.Context(), func(tx store.Tx) error {
			late := ann(t, s)
			late.Problem = "DENIED"
			_, err := tx.Escalate(t.Context(), []store.Target{late}, now.Add(time.Second))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if finish(t, s, "one", x) {
			t.Error("an attempt that knew nothing of the escalation overwrote it")
		}
		err = s.InTx(t.Context(), func(tx store.Tx) error {
			was, held, err := tx.Stuck(t.Context(), "one", x)
			if want := (store.Stuckness{Since: now.Add(time.Second), Problem: "DENIED", Removal: true}); was != want || !held {
				t.Errorf("stuck %+v, held %v", was, held)
			}
			x.Was = was
			if _, held, err := tx.Stuck(t.Context(), "two", x); err != nil || held {
				t.Errorf("held by somebody else, too: %v", err)
			}
			return err
		})
		if err != nil || !finish(t, s, "one", x) {
			t.Errorf("who knows of it could not finish: %v", err)
		}
	})
}

func TestManyAreGivenBackAtOnceAndEachAsItWas(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store) {
		marks := []store.Mark{{Person: "ann", Generation: 1, Lane: normal}, {Person: "bob", Generation: 1, Lane: normal}, {Person: "eve", Generation: 1, Lane: normal}}
		mark(t, s, now, marks...)
		taken := claim(t, s, "one", normal, now)
		mark(t, s, now.Add(time.Second), store.Mark{Person: "bob", Generation: 2, Lane: normal}) // heard of meanwhile
		for i := range taken {
			taken[i].Abandoned = taken[i].Person == "eve"
		}
		later := now.Add(time.Hour)
		if err := s.GiveBack(t.Context(), "two", taken, later); err != nil {
			t.Fatal(err)
		}
		if got := claim(t, s, "three", normal, now.Add(2*time.Second)); len(got) != 0 {
			t.Error("given back by somebody who does not hold them")
		}
		if err := s.GiveBack(t.Context(), "one", taken, later); err != nil {
			t.Fatal(err)
		}
		if got := claim(t, s, "three", normal, now.Add(2*time.Second)); len(got) != 1 || got[0].Person != "bob" {
			t.Errorf("due at once: %+v, want bob alone, of whom more was heard", got)
		}
		for _, c := range claim(t, s, "three", normal, later) {
			if c.Person != "bob" && c.Abandoned != (c.Person == "eve") {
				t.Errorf("%s is abandoned: %v", c.Person, c.Abandoned)
			}
		}
	})
}

func TestWhatIsSettledAndLongUnreadIsLookedAtAgainWhileNobodyWaits(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store) {
		settle := func(person string, readAt, due time.Time) {
			mark(t, s, now, store.Mark{Person: person, Generation: 1, Lane: normal})
			x := claim(t, s, "one", normal, now)[0].Target
			x.State, x.DueAt, x.SettledGeneration, x.ObservedAt = store.Settled, due, 1, readAt
			if !finish(t, s, "one", x) {
				t.Fatal("the holder could not finish")
			}
		}
		settle("ann", now.Add(2*time.Second), time.Time{})
		settle("bob", now.Add(time.Second), now.Add(time.Hour)) // to be deleted later
		settle("cleo", now.Add(time.Minute), time.Time{})
		unread := func(at time.Time, limit int) []string {
			t.Helper()
			people, err := s.Unread(t.Context(), now.Add(10*time.Second), at, limit)
			if err != nil {
				t.Fatal(err)
			}
			return people
		}
		if diff := cmp.Diff([]string{"bob", "ann"}, unread(now, 9)); diff != "" {
			t.Errorf("unread (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"bob"}, unread(now, 1)); diff != "" {
			t.Errorf("the longest unread (-want +got):\n%s", diff)
		}
		mark(t, s, now, store.Mark{Person: "dan", Generation: 1, Lane: normal})
		if people := unread(now, 9); len(people) != 0 {
			t.Errorf("while dan waits %v are to be looked at", people)
		}
		if dan := claim(t, s, "one", normal, now); len(dan) != 1 || len(unread(now, 9)) != 2 {
			t.Error("while dan is worked on nobody is to be looked at")
		}
		if err := s.InTx(t.Context(), func(tx store.Tx) error {
			return tx.LookAgain(t.Context(), []string{"bob", "ann", "dan"}, now.Add(time.Second))
		}); err != nil {
			t.Fatal(err)
		}
		var due []string
		for _, c := range claim(t, s, "two", normal, now.Add(time.Second)) {
			due = append(due, c.Person)
		}
		slices.Sort(due)
		if diff := cmp.Diff([]string{"ann", "bob"}, due); diff != "" {
			t.Errorf("due (-want +got):\n%s", diff)
		}
	})
}

func TestADeadHoldersLeasesEndWhenNoCallOfTheirsCanHaveEffect(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store) {
		mark(t, s, now, store.Mark{Person: "ann", Generation: 1, Lane: normal}, store.Mark{Person: "bob", Generation: 1, Lane: normal})
		for _, c := range claim(t, s, "dead", normal, now) {
			if c.Person != "bob" {
				continue
			}
			err := s.InTx(t.Context(), func(tx store.Tx) error {
				_, err := tx.Intend(t.Context(), "dead", []store.Intent{{Entry: store.Entry{
					Operation: "1", Person: "bob", Generation: 1, Epoch: c.Epoch, NotAfter: now.Add(8 * time.Second), IntentAt: now, IntentEvent: "e",
				}}})
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		err := s.InTx(t.Context(), func(tx store.Tx) error {
			freed, err := tx.Free(t.Context(), now.Add(time.Second), 2*time.Second)
			if freed != 2 {
				t.Errorf("%d leases were freed, want 2", freed)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := claim(t, s, "new", normal, now.Add(time.Second)); len(got) != 1 || got[0].Person != "ann" || !got[0].Abandoned {
			t.Errorf("at once %+v, want ann's, abandoned", got)
		}
		if got := claim(t, s, "new", normal, now.Add(9*time.Second)); len(got) != 0 {
			t.Error("taken over while a call of the dead holder may have effect")
		}
		if got := claim(t, s, "new", normal, now.Add(10*time.Second)); len(got) != 1 || got[0].Person != "bob" || !got[0].Abandoned {
			t.Errorf("after the call: %+v, want bob's, abandoned", got)
		}
	})
}
