package store_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenurehq/tenure/services/provision/internal/store"
)

// Of what is written at once each has its own fate: one in ten was taken by another holder, of one in ten something newer was heard.
func TestWhatIsWrittenTogetherIsJudgedOneByOne(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store) {
		const people = 10
		const lost, newer, concluded = 3, 7, 5
		var marks []store.Mark
		for i := range people {
			marks = append(marks, store.Mark{Person: fmt.Sprintf("p%d", i), Generation: 1, Lane: normal})
		}
		mark(t, s, now, marks...)
		targets := make([]store.Target, people)
		for _, c := range claim(t, s, "one", normal, now) {
			var i int
			if _, err := fmt.Sscanf(c.Person, "p%d", &i); err != nil {
				t.Fatal(err)
			}
			targets[i] = c.Target
		}
		mark(t, s, now.Add(time.Second), store.Mark{Person: "p7", Generation: 2, Lane: urgent})
		targets[lost].Epoch++

		var intents []store.Intent
		for i, x := range targets {
			intents = append(intents, store.Intent{Entry: store.Entry{
				Operation: fmt.Sprintf("op%d", i), Person: x.Person, Generation: 1, Epoch: x.Epoch, NotAfter: now, Intent: []byte{0, byte(i)},
				IntentNonce: []byte("n"), IntentEvent: "e", IntentAt: now,
			}})
		}
		var written, ended map[string]bool
		held := make([]bool, people)
		err := s.InTx(t.Context(), func(tx store.Tx) (err error) {
			if written, err = tx.Intend(t.Context(), "one", intents); err != nil {
				return err
			}
			var entries []store.Entry
			for _, in := range intents {
				in.OutcomeNonce, in.OutcomeEvent, in.OutcomeAt, in.Observed = []byte("m"), "f", now, []byte{0, 1}
				entries = append(entries, in.Entry)
			}
			if _, err = tx.Conclude(t.Context(), entries[concluded:concluded+1]); err != nil {
				return err
			}
			if ended, err = tx.Conclude(t.Context(), entries); err != nil {
				return err
			}
			var finished []store.Finished
			for i, x := range targets {
				x.State, x.DueAt, x.Observed, x.Attempts = store.Settled, time.Time{}, []byte{1, 0, byte(i)}, int64(i)
				x.SettledGeneration, x.Notes = 1, []string{x.Person}
				finished = append(finished, store.Finished{Target: x})
			}
			held, err = tx.Finish(t.Context(), "one", finished)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		for i, x := range targets {
			op := intents[i].Operation
			if want := i != lost && i != newer; written[op] != want {
				t.Errorf("%s: intent written %v, want %v", x.Person, written[op], want)
			}
			if want := i != lost && i != newer && i != concluded; ended[op] != want {
				t.Errorf("%s: outcome written %v, want %v", x.Person, ended[op], want)
			}
			if want := i != lost; held[i] != want {
				t.Errorf("%s: finished %v, want %v", x.Person, held[i], want)
			}
			got, _, err := s.Target(t.Context(), x.Person)
			if err != nil {
				t.Fatal(err)
			}
			switch i {
			case lost:
				if got.State != store.Due || got.SettledGeneration != 0 {
					t.Errorf("the one that is another's was written: %+v", got)
				}
			case newer:
				if got.State != store.Due || got.Generation != 2 || got.Lane != urgent || got.SettledGeneration != 1 {
					t.Errorf("the newer generation does not stay due: %+v", got)
				}
			default:
				if got.State != store.Settled || !got.DueAt.IsZero() || got.Attempts != int64(i) || !cmp.Equal(got.Notes, []string{x.Person}) || !cmp.Equal(got.Observed, []byte{1, 0, byte(i)}) {
					t.Errorf("kept otherwise: %+v", got)
				}
			}
		}
		err = s.InTx(t.Context(), func(tx store.Tx) error {
			return tx.Record(t.Context(), []store.Entry{{Operation: "a", Person: "p1", Observed: []byte{9}}, {Operation: "b", Person: "p1", Results: []byte{8}}})
		})
		if err != nil {
			t.Fatal(err)
		}
		journal, err := s.Journal(t.Context(), "p1", 10)
		if err != nil || len(journal) != 3 || string(journal[0].Intent) != "\x00\x01" || string(journal[1].Results) != "\x08" || string(journal[2].Observed) != "\x09" {
			t.Errorf("journal %+v, %v", journal, err)
		}
	})
}
