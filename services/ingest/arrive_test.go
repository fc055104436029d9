package ingest_test

import (
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenurehq/tenure/pkg/sqldb"
	"github.com/tenurehq/tenure/pkg/sqldb/sqltest"
	"github.com/tenurehq/tenure/services/ingest"
)

func TestDeliveriesThatShareATransactionAreToldApart(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		w.deliver("known", changed(ann()))
		w.deliver("leaver", changed(ann().with("external_id", "10002")))
		events := w.run()
		for range 2 {
			next(t, events)
		}
		w.pass(time.Second)
		together := []ingest.Sent{
			{ID: "d", Body: changed(ann().with("title", "Principal"))},
			{ID: "c", Body: changed(ann().with("external_id", "10002", "status", "terminated"))},
			{ID: "b", Body: changed(ann().with("external_id", "10003"))},
			{ID: "a", Body: changed(ann().with("external_id", "10004"))},
			{ID: "b2", Body: changed(ann().with("external_id", "10003", "title", "Principal"))}, // of one who is spoken of
			{ID: "known", Body: changed(ann().with("external_id", "10005"))},                    // an id that was used
		}
		stored, err := w.svc.AcceptTogether(t.Context(), "acme-hr", together...)
		if err != nil {
			t.Fatal(err)
		}
		for i, sent := range together {
			if (stored[i] != "") != (i < 4) {
				t.Errorf("%s is stored as %q", sent.ID, stored[i])
			}
		}
		for i, want := range [][]string{{"joiner", "mover"}, {"joiner", "leaver"}, {"joiner"}, {"joiner"}} {
			id := []string{"10001", "10002", "10003", "10004"}[i]
			timeline := w.timeline(id)
			got := kinds(timeline)
			if len(want) == 2 && len(got) == 2 { // the first word came before
				if event := timeline.GetHappenings()[1].GetLifecycle(); event.GetDeliveryId() != stored[i] {
					t.Errorf("%s: the event names delivery %s, not %s", id, event.GetDeliveryId(), stored[i])
				}
			}
			if len(got) != len(want) || got[0] != want[0] || got[len(got)-1] != want[len(want)-1] {
				t.Errorf("%s: %v happened, want %v", id, got, want)
			}
		}
		var correlations []string
		for range 4 {
			correlations = append(correlations, next(t, events).CorrelationID)
		}
		slices.Sort(correlations)
		want := slices.Sorted(slices.Values(stored[:4]))
		if diff := cmp.Diff(want, correlations); diff != "" {
			t.Errorf("the events do not say which delivery led to them (-want +got):\n%s", diff)
		}
		for _, sent := range together[4:] { // by itself, each gets the answer that it gets
			if answer := w.post(sent.ID, sent.Body); answer.status != http.StatusAccepted || (answer.held() != "") != (sent.ID == "known") {
				t.Errorf("%s was answered %d %s", sent.ID, answer.status, answer.text)
			}
		}
	})
}

func TestDeliveriesThatTurnOutToSpeakOfOnePersonShareNothing(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		w.deliver("known", changed(ann().with("person_key", "p1")))
		w.pass(time.Second)
		both := []ingest.Sent{
			{ID: "a", Body: changed(ann().with("title", "Principal"))},
			{ID: "b", Body: changed(ann().with("external_id", "20001", "person_key", "p1"))},
		}
		if _, err := w.svc.AcceptTogether(t.Context(), "acme-hr", both...); err == nil {
			t.Error("what two deliveries led to cannot be told apart any more")
		}
		if n := len(w.timeline("10001").GetFacts()); n != 1 {
			t.Errorf("%d facts are stored", n)
		}
		for _, sent := range both {
			w.deliver(sent.ID, sent.Body)
		}
		if n := len(w.timeline("20001").GetFacts()); n != 3 || w.find("20001").GetId() != w.find("10001").GetId() {
			t.Errorf("%d facts are stored of one person", n)
		}
	})
}

func TestOneWhoIsHeldUpHoldsUpTheOthersForAMomentOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqltest.New(t, "postgres", ingest.Migrations()...))
	w.deliver("known", changed(ann()))
	w.pass(time.Second)
	locked, release, over := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		over <- w.db.InTx(t.Context(), func(tx *sqldb.Tx) error {
			if _, err := tx.Exec(t.Context(), `UPDATE people SET version = version`); err != nil {
				return err
			}
			close(locked)
			<-release
			return nil
		})
	}()
	<-locked
	request := func(id, body string) *http.Request { return w.signed("acme-hr", id, body) }
	var all, others sync.WaitGroup
	about := request("ann", changed(ann().with("title", "Principal")))
	all.Go(func() {
		if answer := w.send(about); answer.status != http.StatusAccepted {
			t.Errorf("who was held up was answered %d %s", answer.status, answer.text)
		}
	})
	for n := range 8 {
		id := fmt.Sprint(20_000 + n)
		r := request(id, changed(ann().with("external_id", id)))
		others.Go(func() {
			if answer := w.send(r); answer.status != http.StatusAccepted {
				t.Errorf("%s was answered %d %s", id, answer.status, answer.text)
			}
		})
	}
	others.Wait() // while the one is held up
	close(release)
	all.Wait()
	if err := <-over; err != nil {
		t.Error(err)
	}
	if got := kinds(w.timeline("10001")); len(got) != 2 {
		t.Errorf("%v happened to who was held up", got)
	}
}
