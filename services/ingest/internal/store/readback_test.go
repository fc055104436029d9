package store_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenurehq/tenure/pkg/sqldb"
	"github.com/tenurehq/tenure/pkg/sqldb/sqltest"
	"github.com/tenurehq/tenure/services/ingest/internal/store"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// ids are the employees of a claim.
func ids(claimed []store.Readback) []string {
	var all []string
	for _, b := range claimed {
		all = append(all, b.ExternalID)
	}
	return all
}

func TestAClaimThatWasLostFinishesNothing(t *testing.T) {
	t.Parallel()
	sqltest.Run(t, []sqldb.Migrations{store.Migrations()}, func(t *testing.T, db *sqldb.DB) {
		s := store.New(db)
		in := func(f func(store.Tx) error) {
			t.Helper()
			if err := s.InTx(t.Context(), f); err != nil {
				t.Fatal(err)
			}
		}
		claim := func(who string, at time.Time, limit int) (claimed []store.Readback) {
			t.Helper()
			in(func(tx store.Tx) (err error) {
				claimed, err = tx.ClaimReadbacks(t.Context(), "hr", who, at, at.Add(time.Minute), limit)
				return err
			})
			return claimed
		}
		in(func(tx store.Tx) error { return tx.AddNotice(t.Context(), "d1", "hr", []string{"1", "2"}, noon, noon) })
		if diff := cmp.Diff([]string{"1"}, ids(claim("a", noon, 1))); diff != "" {
			t.Errorf("the first claim takes (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"2"}, ids(claim("b", noon, 9))); diff != "" {
			t.Errorf("another takes what is left (-want +got):\n%s", diff)
		}
		if got := claim("c", noon.Add(59*time.Second), 9); got != nil {
			t.Errorf("what is claimed is given out: %v", ids(got))
		}
		late := claim("c", noon.Add(time.Minute), 9)
		if len(late) != 2 {
			t.Fatalf("what was not finished in time is %v, want both", ids(late))
		}
		for _, b := range late {
			in(func(tx store.Tx) error {
				if mine, err := tx.FinishReadback(t.Context(), "hr", "a", b, noon, time.Time{}); mine || err != nil {
					t.Errorf("%s is finished under a lost claim: %t, %v", b.ExternalID, mine, err)
				}
				if mine, err := tx.PutOffReadback(t.Context(), "hr", "b", b, noon, "no"); mine || err != nil {
					t.Errorf("%s is put off under a lost claim: %t, %v", b.ExternalID, mine, err)
				}
				return nil
			})
		}

		// What is said during the read is not done by it.
		in(func(tx store.Tx) error {
			return tx.AddNotice(t.Context(), "d2", "hr", []string{"2"}, noon.Add(time.Minute), noon.Add(time.Minute))
		})
		for _, b := range late {
			in(func(tx store.Tx) error {
				mine, err := tx.FinishReadback(t.Context(), "hr", "c", b, noon.Add(2*time.Minute), time.Time{})
				if !mine {
					t.Errorf("%s is not finished under its claim", b.ExternalID)
				}
				return err
			})
		}
		for delivery, want := range map[string][]string{"d1": {"", ""}, "d2": {"reading back"}} {
			items, err := s.Noticed(t.Context(), delivery)
			var held []string
			for _, item := range items {
				held = append(held, item.Held)
			}
			if diff := cmp.Diff(want, held); diff != "" || err != nil {
				t.Errorf("%s (-want +got):\n%s%v", delivery, diff, err)
			}
		}
		if open, oldest, err := s.OpenReadbacks(t.Context(), "hr"); open != 1 || oldest.IsZero() || err != nil {
			t.Errorf("%d are open since %v: %v", open, oldest, err)
		}
		if diff := cmp.Diff([]string{"2"}, ids(claim("d", noon.Add(2*time.Minute), 9))); diff != "" {
			t.Errorf("due is (-want +got):\n%s", diff)
		}
	})
}
