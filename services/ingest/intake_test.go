package ingest_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenurehq/tenure/pkg/sqldb"
	"github.com/tenurehq/tenure/pkg/sqldb/sqltest"
	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
	"github.com/tenurehq/tenure/services/ingest"
	"github.com/tenurehq/tenure/services/ingest/source"
	"github.com/tenurehq/tenure/services/ingest/source/standardwebhooks"
)

func TestADeliveryIsAnswered202WhenItIsCommittedAndUnderstood(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		answer := w.deliver("msg-1", changed(ann()))
		if want := fmt.Sprintf(`{"delivery":%q,"held":null}`, answer.Delivery); strings.TrimSpace(answer.text) != want {
			t.Errorf("answer is %s, want %s", answer.text, want)
		}
		person := w.find("10001")
		if person.GetStatus() != peoplev1.PersonStatus_PERSON_STATUS_ACTIVE || person.GetRecord().GetDepartment() != "d005" {
			t.Errorf("after the answer the person is %v in %q", person.GetStatus(), person.GetRecord().GetDepartment())
		}
		shown, err := w.svc.ShowDelivery(w.operator(), &peoplev1.ShowDeliveryRequest{Id: answer.Delivery})
		if err != nil {
			t.Fatal(err)
		}
		if string(shown.GetBody()) != changed(ann()) {
			t.Errorf("the body is not kept as it was received: %s", shown.GetBody())
		}
		if len(shown.GetItems()) != 1 || shown.GetItems()[0].GetPersonId() != person.GetId() {
			t.Errorf("the delivery's items are %v", shown.GetItems())
		}
		if shown.GetDelivery().GetActor() != "source:acme-hr" || shown.GetDelivery().GetKey() != "msg-1" {
			t.Errorf("the delivery is %v", shown.GetDelivery())
		}
	})
}

func TestTheSameDeliveryAgainHasNoSecondEffectAtAnyLaterTime(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		first := w.deliver("msg-1", changed(ann()))
		for _, later := range []time.Duration{0, time.Minute, 365 * 24 * time.Hour} {
			w.pass(later)
			if err := w.svc.DropRaw(t.Context()); err != nil {
				t.Fatal(err)
			}
			if again := w.deliver("msg-1", changed(ann())); again.Delivery != first.Delivery {
				t.Errorf("%v later the same delivery is another one", later)
			}
		}
		if all := w.deliveries(&peoplev1.ListDeliveriesRequest{}); len(all) != 1 {
			t.Errorf("%d deliveries are stored", len(all))
		}
		timeline := w.timeline("10001")
		if len(timeline.GetFacts()) != 1 || len(timeline.GetHappenings()) != 1 || timeline.GetPerson().GetVersion() != 1 {
			t.Errorf("%d facts, %d events, version %d after repeats of one delivery", len(timeline.GetFacts()),
				len(timeline.GetHappenings()), timeline.GetPerson().GetVersion())
		}
		if n := w.figure("tenure_ingest_deliveries_total", "result", "duplicate"); n != 3 {
			t.Errorf("%v duplicates are counted", n)
		}
	})
}

func TestTheSameDeliveryManyTimesAtOnceHasOneEffect(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		const senders = 32
		requests := make([]*http.Request, senders)
		for i := range requests {
			requests[i] = w.signed("acme-hr", "msg-1", changed(ann()))
		}
		answers := make([]reply, senders)
		var all sync.WaitGroup
		for i := range senders {
			all.Go(func() { answers[i] = w.send(requests[i]) })
		}
		all.Wait()
		for _, answer := range answers {
			if answer.status != http.StatusAccepted || answer.Held != nil || answer.Delivery != answers[0].Delivery {
				t.Errorf("one of the same deliveries was answered %d %s", answer.status, answer.text)
			}
		}
		timeline := w.timeline("10001")
		if len(timeline.GetFacts()) != 1 || len(timeline.GetHappenings()) != 1 {
			t.Errorf("%d facts and %d events came of one delivery", len(timeline.GetFacts()), len(timeline.GetHappenings()))
		}
	})
}

func TestAnotherBodyUnderTheSameIDIsKeptForReview(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		first := w.deliver("msg-1", changed(ann()))
		other := changed(ann().with("department", "d004"))
		second := w.post("msg-1", other)
		if second.status != http.StatusAccepted || second.held() != "id reused with another body" || second.Delivery == first.Delivery {
			t.Fatalf("another body was answered %d %s", second.status, second.text)
		}
		if again := w.post("msg-1", other); again.Delivery != second.Delivery || again.held() != second.held() {
			t.Errorf("the other body again was answered %s, want the same as before", again.text)
		}
		if again := w.deliver("msg-1", changed(ann())); again.Delivery != first.Delivery {
			t.Error("the first body is no longer the same delivery")
		}
		if got := w.find("10001").GetRecord().GetDepartment(); got != "d005" {
			t.Errorf("what is kept for review had effect: department %s", got)
		}
		if held := w.deliveries(&peoplev1.ListDeliveriesRequest{HeldOnly: true}); len(held) != 1 || held[0].GetId() != second.Delivery {
			t.Errorf("held deliveries are %v", held)
		}
	})
}

func TestWhoeverIsNotProvenGetsOneAndTheSameAnswer(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		stranger, err := standardwebhooks.ParseKeys([]byte(otherSecret))
		if err != nil {
			t.Fatal(err)
		}
		body := changed(ann())
		unsigned := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/webhooks/acme-hr", strings.NewReader(body))
		tampered := w.signed("acme-hr", "msg-1", body)
		tampered.Body = http.NoBody
		want := `{"error":"signature refused"}` + "\n"
		for what, r := range map[string]*http.Request{
			"another's signature":          w.signedAt(stranger, "acme-hr", "msg-1", noon, body),
			"a timestamp 301 s behind":     w.signedAt(w.keys, "acme-hr", "msg-1", noon.Add(-301*time.Second), body),
			"a timestamp 301 s ahead":      w.signedAt(w.keys, "acme-hr", "msg-1", noon.Add(301*time.Second), body),
			"an unknown source":            w.signed("nobody", "msg-1", body),
			"a source without a signature": w.signed("operators", "msg-1", body),
			"no signature":                 unsigned,
			"another body":                 tampered,
			"no JSON, not signed": httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/webhooks/acme-hr",
				strings.NewReader("{")),
		} {
			if answer := w.send(r); answer.status != http.StatusUnauthorized || answer.text != want {
				t.Errorf("%s was answered %d %s, want 401 %s", what, answer.status, answer.text, want)
			}
		}
		if all := w.deliveries(&peoplev1.ListDeliveriesRequest{}); len(all) != 0 {
			t.Errorf("%d deliveries of strangers are stored", len(all))
		}
		if n := w.figure("tenure_ingest_auth_failures_total", "source", "acme-hr", "reason", "timestamp"); n != 2 {
			t.Errorf("%v wrong timestamps are counted, want 2", n)
		}
		if n := w.figure("tenure_ingest_auth_failures_total", "source", "unknown"); n != 1 {
			t.Errorf("%v requests for unknown sources are counted, want 1", n)
		}
		for i, skew := range []time.Duration{-299 * time.Second, 299 * time.Second} {
			r := w.signedAt(w.keys, "acme-hr", fmt.Sprint("in-time-", i), noon.Add(skew), body)
			if answer := w.send(r); answer.status != http.StatusAccepted {
				t.Errorf("a timestamp %v off was answered %d, want 202", skew, answer.status)
			}
		}
	})
}

func TestABodyThatIsNotWhatItMustBeIsRefusedWithAPointer(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		for i, c := range []struct{ what, body, pointer string }{
			{"no JSON", `hello`, ""},
			{"half of it", `{"type":"person.changed","data":{`, "/data"},
			{"a key twice", `{"type":"person.changed","data":{"status":"active","status":"terminated"}}`, "/data/status"},
			{"an unknown key at the top", `{"type":"person.changed","data":{},"surprise":1}`, "/surprise"},
		} {
			answer := w.post(fmt.Sprint("msg-", i), c.body)
			if answer.status != http.StatusBadRequest || answer.Pointer == nil || *answer.Pointer != c.pointer || answer.Error == "" {
				t.Errorf("%s was answered %d %s, want 400 with pointer %q", c.what, answer.status, answer.text, c.pointer)
			}
		}
		if all := w.deliveries(&peoplev1.ListDeliveriesRequest{}); len(all) != 0 {
			t.Errorf("%d refused deliveries are stored", len(all))
		}
	})
}

func TestABodyOverTheLimitIsRefusedWhetherItSaysSoOrNot(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		fill := source.MaxBody - len(changed(ann().with("title", "")))
		fits := w.post("fits", changed(ann().with("title", strings.Repeat("x", fill))))
		if fits.status != http.StatusAccepted {
			t.Errorf("a body of exactly 1 MiB was answered %d", fits.status)
		}
		over := changed(ann().with("title", strings.Repeat("x", fill+1)))
		if answer := w.post("over", over); answer.status != http.StatusRequestEntityTooLarge || answer.Pointer == nil {
			t.Errorf("a body of 1 MiB and a byte was answered %d %s", answer.status, answer.text)
		}
		unsaid := w.signed("acme-hr", "unsaid", over)
		unsaid.ContentLength = -1
		if answer := w.send(unsaid); answer.status != http.StatusRequestEntityTooLarge {
			t.Errorf("a long body without a length was answered %d", answer.status)
		}
	})
}

func TestARecordThatCannotBeUnderstoodIsKeptForReview(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		for i, c := range []struct{ what, body, in string }{
			{"no id", changed(ann().with("external_id", nil)), "external_id"},
			{"a bad date", changed(ann().with("start_date", "2026-13-01")), "start_date"},
			{"an unknown status", changed(ann().with("status", "retired")), "status"},
			{"NUL in text", changed(ann().with("given_name", "A\x00nn")), "given_name"},
			{"an unknown type", `{"type":"person.deleted","data":{}}`, "type"},
			{"a roster", `{"type":"person.batch","data":{"people":[{}],"roster":{"id":"r"}}}`, "roster: parts"},
		} {
			answer := w.post(fmt.Sprint("msg-", i), c.body)
			if answer.status != http.StatusAccepted || !strings.Contains(answer.held(), c.in) {
				t.Errorf("%s was answered %d %s, want 202 held for %s", c.what, answer.status, answer.text, c.in)
				continue
			}
			if again := w.post(fmt.Sprint("msg-", i), c.body); again.text != answer.text {
				t.Errorf("%s again was answered %s, before %s", c.what, again.text, answer.text)
			}
			shown, err := w.svc.ShowDelivery(w.operator(), &peoplev1.ShowDeliveryRequest{Id: answer.Delivery})
			if err != nil || string(shown.GetBody()) != c.body || shown.GetDelivery().GetHeld() != answer.held() {
				t.Errorf("%s: the held delivery is shown as %v (%v)", c.what, shown.GetDelivery(), err)
			}
		}
		if held := w.deliveries(&peoplev1.ListDeliveriesRequest{HeldOnly: true}); len(held) != 6 {
			t.Errorf("%d deliveries are held, want 6", len(held))
		}
		people := &stream[peoplev1.ListPeopleResponse]{ctx: w.operator()}
		if err := w.svc.ListPeople(&peoplev1.ListPeopleRequest{}, people); err != nil || len(people.sent) != 0 {
			t.Errorf("records that are held made people: %v (%v)", people.sent, err)
		}
	})
}

func TestABatchIsAnsweredPerItem(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		body := batch(ann(), ann().with("external_id", "10002", "start_date", "soon"), ann().with("external_id", "10003"))
		answer := w.post("msg-1", body)
		if answer.status != http.StatusAccepted || answer.Held != nil || len(answer.Items) != 3 {
			t.Fatalf("a batch was answered %d %s", answer.status, answer.text)
		}
		for i, item := range answer.Items {
			if held := item.Held != nil; item.Item != i || held != (i == 1) {
				t.Errorf("item %d was answered %+v", i, item)
			}
		}
		if again := w.post("msg-1", body); again.text != answer.text {
			t.Errorf("the batch again was answered %s, before %s", again.text, answer.text)
		}
		if w.find("10001").GetUserName() == "" || w.find("10003").GetUserName() == "" {
			t.Error("the items that were understood made no people")
		}
		if n := w.figure("tenure_ingest_held_items_total", "source", "acme-hr"); n != 1 {
			t.Errorf("%v held items are counted, want 1", n)
		}
	})
}

func TestOfTwoItemsAboutOnePersonTheLaterOneHolds(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		answer := w.deliver("msg-1", batch(ann(), ann().with("department", "d004")))
		timeline := w.timeline("10001")
		if len(answer.Items) != 2 || len(timeline.GetFacts()) != 2 || timeline.GetPerson().GetRecord().GetDepartment() != "d004" {
			t.Errorf("%d items, %d facts, department %s", len(answer.Items), len(timeline.GetFacts()), timeline.GetPerson().GetRecord().GetDepartment())
		}
		shown, err := w.svc.ShowDelivery(w.operator(), &peoplev1.ShowDeliveryRequest{Id: answer.Delivery})
		if err != nil || len(shown.GetItems()) != 2 || shown.GetItems()[0].GetPersonId() != shown.GetItems()[1].GetPersonId() {
			t.Errorf("the delivery shows %v (%v)", shown.GetItems(), err)
		}
	})
}

func TestAThousandPeopleInOneBatchAreOneTransaction(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		people := make([]data, source.MaxItems)
		for i := range people {
			people[i] = ann().with("external_id", fmt.Sprint(20000+i), "email", fmt.Sprintf("p%d@acme.example", i))
		}
		if answer := w.deliver("msg-1", batch(people...)); len(answer.Items) != len(people) {
			t.Fatalf("%d items are answered", len(answer.Items))
		}
		for i := range people {
			people[i] = people[i].with("department", "d004")
		}
		w.deliver("msg-2", batch(people...))
		versions := &stream[peoplev1.VersionsResponse]{ctx: w.operator()}
		if err := w.svc.Versions(&peoplev1.VersionsRequest{}, versions); err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, page := range versions.sent {
			for _, pair := range page.GetPairs() {
				if n++; pair.GetVersion() != 2 {
					t.Fatalf("%s has version %d after two records", pair.GetId(), pair.GetVersion())
				}
			}
		}
		if n != len(people) {
			t.Errorf("%d people have a version, want %d", n, len(people))
		}
		if diff := cmp.Diff([]string{"joiner", "mover"}, kinds(w.timeline("20999"))); diff != "" {
			t.Errorf("events of the last one (-want +got):\n%s", diff)
		}
	})
}

func TestStrangersCannotFillTheMemory(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		begun, arrive := make(chan struct{}), make(chan struct{})
		var waiting sync.WaitGroup
		answers := make([]reply, ingest.MaxUnproven)
		for i := range answers {
			r := w.signed("acme-hr", fmt.Sprint("slow-", i), changed(ann()))
			r.Body = &slowReader{body: r.Body, begun: begun, arrive: arrive}
			waiting.Go(func() { answers[i] = w.send(r) })
		}
		for range answers {
			<-begun
		}
		answer := w.post("one-more", changed(ann()))
		if answer.status != http.StatusTooManyRequests || answer.retryAfter == "" {
			t.Errorf("body number 65 was answered %d", answer.status)
		}
		close(arrive)
		waiting.Wait()
		for _, answer := range answers {
			if answer.status != http.StatusAccepted {
				t.Fatalf("a body that was let in was answered %d %s", answer.status, answer.text)
			}
		}
		w.deliver("one-more", changed(ann()))
	})
}

func TestOnlyPOSTIsAnswered(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqltest.New(t, "sqlite", ingest.Migrations()...))
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/webhooks/acme-hr", http.NoBody)
	if answer := w.send(r); answer.status != http.StatusMethodNotAllowed {
		t.Errorf("GET was answered %d, want 405", answer.status)
	}
}

func TestADatabaseThatIsAwayIsOurFault(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		w.deliver("msg-1", changed(ann()))
		if err := w.db.Close(); err != nil {
			t.Fatal(err)
		}
		answer := w.post("msg-2", changed(ann()))
		if answer.status != http.StatusServiceUnavailable || answer.retryAfter == "" {
			t.Errorf("without a database a delivery was answered %d, Retry-After %q", answer.status, answer.retryAfter)
		}
		if n := w.figure("tenure_ingest_deliveries_total", "result", "unavailable"); n != 1 {
			t.Errorf("%v are counted as unavailable", n)
		}
	})
}

func TestNothingThatWasAnswered202IsLostWhenTheDiskIsFull(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqltest.New(t, "sqlite", ingest.Migrations()...))
	w.deliver("first", changed(ann()))
	limitPages(t, w.db, 40)
	const senders, each = 8, 40
	var mu sync.Mutex
	accepted := map[string]string{}
	full := 0
	var all sync.WaitGroup
	for sender := range senders {
		all.Go(func() {
			for n := range each {
				id := fmt.Sprintf("msg-%d-%d", sender, n)
				answer := w.post(id, changed(ann().with("external_id", id, "title", strings.Repeat("x", 900))))
				mu.Lock()
				switch answer.status {
				case http.StatusAccepted:
					accepted[id] = answer.Delivery
				case http.StatusServiceUnavailable:
					if full++; answer.retryAfter == "" {
						t.Error("503 without Retry-After")
					}
				default:
					t.Errorf("with a full disk %s was answered %d %s", id, answer.status, answer.text)
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	if full == 0 || len(accepted) == 0 {
		t.Fatalf("%d were answered 503 and %d 202: the disk was never full, or always", full, len(accepted))
	}
	limitPages(t, w.db, 1<<20)
	for id, delivery := range accepted {
		if again := w.post(id, changed(ann().with("external_id", id, "title", strings.Repeat("x", 900)))); again.Delivery != delivery {
			t.Errorf("%s was answered 202 and is gone", id)
		}
		if w.find(id).GetStatus() != peoplev1.PersonStatus_PERSON_STATUS_ACTIVE {
			t.Errorf("%s was answered 202 and is not active", id)
		}
	}
	w.deliver("after", changed(ann().with("external_id", "after")))
}

// limitPages lets the SQLite file grow by so many pages and no more.
func limitPages(t *testing.T, db *sqldb.DB, more int64) {
	t.Helper()
	err := db.InTx(t.Context(), func(tx *sqldb.Tx) error {
		var pages int64
		if err := tx.QueryRow(context.WithoutCancel(t.Context()), `PRAGMA page_count`).Scan(&pages); err != nil {
			return err
		}
		_, err := tx.Exec(t.Context(), fmt.Sprintf(`PRAGMA max_page_count = %d`, pages+more))
		return err
	})
	if err != nil {
		t.Fatalf("limit the file: %v", err)
	}
}
