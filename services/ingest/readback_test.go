package ingest_test

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenurehq/tenure/pkg/sqldb/sqltest"
	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
	"github.com/tenurehq/tenure/services/ingest"
	"github.com/tenurehq/tenure/services/ingest/source/vendortest"
)

func TestAJoinerAMoverAndALeaver(t *testing.T) {
	t.Parallel()
	onVendors(t, func(t *testing.T, h *hr) {
		h.server.Set(vendorID, h.worker)
		joined := h.happens("employee.created", "")
		p := h.find(h.ref())
		want := &peoplev1.Record{
			ExternalId: vendorID, Status: "active", GivenName: "Ann", FamilyName: "Archer", Email: "ann.archer@acme.example",
			Department: "Engineering", Title: "Engineer", Location: "Berlin", StartDate: "2020-01-01",
		}
		got := p.GetRecord()
		want.EmploymentType, want.Attributes = got.GetEmploymentType(), got.GetAttributes() // in each vendor's own words
		if diff := cmp.Diff(want.String(), got.String()); diff != "" || got.GetEmploymentType() == "" || got.GetAttributes()["employee_number"] == "" {
			t.Errorf("the joiner's record is %v (-want +got):\n%s", got, diff)
		}
		if item := h.item(joined.Delivery); item.GetHeld() != "" || item.GetPersonId() != p.GetId() || item.GetExternalId() != vendorID {
			t.Errorf("the webhook's item is %v, want it read", item)
		}

		h.happens("employee.updated", "moved")
		if r := h.find(h.ref()).GetRecord(); r.GetDepartment() != "Sales" || r.GetTitle() != "Seller" || r.GetManagerExternalId() != "9" {
			t.Errorf("the mover's record is %v", r)
		}
		h.happens("employee.updated", "left")
		if p := h.find(h.ref()); p.GetStatus() != peoplev1.PersonStatus_PERSON_STATUS_TERMINATED {
			t.Errorf("the leaver is %v", p.GetStatus())
		}
		if diff := cmp.Diff([]string{"joiner", "mover", "leaver"}, kinds(h.timeline(h.ref()))); diff != "" {
			t.Errorf("what happened (-want +got):\n%s", diff)
		}
	})
}

func TestDatesOfTheFutureWaitForTheirDay(t *testing.T) {
	t.Parallel()
	onVendors(t, func(t *testing.T, h *hr) {
		h.server.Set(vendorID, h.worker)
		h.happens("employee.created", "hired")
		p := h.find(h.ref())
		if p.GetStatus() != peoplev1.PersonStatus_PERSON_STATUS_PENDING || !p.GetNextDue().AsTime().Equal(time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)) {
			t.Errorf("who begins on 1 December is %v until %v", p.GetStatus(), p.GetNextDue().AsTime())
		}
		h.server.Set(vendorID, h.worker)
		h.happens("employee.updated", "leaves")
		p = h.find(h.ref())
		if p.GetStatus() != peoplev1.PersonStatus_PERSON_STATUS_ACTIVE || !p.GetNextDue().AsTime().Equal(time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)) {
			t.Errorf("whose last day is 30 November is %v until %v", p.GetStatus(), p.GetNextDue().AsTime())
		}
	})
}

func TestEveryKindOfLeaveIsALeave(t *testing.T) {
	t.Parallel()
	h := withHiBob(t, sqltest.New(t, "sqlite", ingest.Migrations()...))
	h.server.Set(vendorID, h.worker)
	h.happens("employee.created", "")
	for _, leave := range []string{"leave", "garden leave"} {
		h.happens("employee.inactivated", leave)
		if p := h.find(h.ref()); p.GetStatus() != peoplev1.PersonStatus_PERSON_STATUS_ON_LEAVE {
			t.Errorf("%s: %v", leave, p.GetStatus())
		}
	}
}

// Nothing that a webhook says about somebody is believed, whoever signed it.
func TestWhatTheWebhookSaysIsNotTaken(t *testing.T) {
	t.Parallel()
	h := withBambooHR(t, sqltest.New(t, "sqlite", ingest.Migrations()...))
	h.server.Set(vendorID, h.worker)
	h.happens("employee.created", "")
	h.pass(time.Minute)
	lie := vendortest.BambooFields(h.clock(), vendortest.Fields{"status": "Inactive", "department": "Board"}, vendorID)
	if answer := h.notify(lie); answer.status != http.StatusOK {
		t.Fatalf("answered %d", answer.status)
	}
	h.read()
	if p := h.find(h.ref()); p.GetStatus() != peoplev1.PersonStatus_PERSON_STATUS_ACTIVE || p.GetRecord().GetDepartment() != "Engineering" {
		t.Errorf("the webhook was believed: %v", p)
	}
}

func TestNoWebhookWithoutSignatureHasAnEffect(t *testing.T) {
	t.Parallel()
	onVendors(t, func(t *testing.T, h *hr) {
		h.server.Set(vendorID, h.worker)
		body := h.event("employee.created")
		for what, change := range map[string]func(r *http.Request){
			"unsigned": func(r *http.Request) { r.Header = http.Header{} },
			"altered": func(r *http.Request) {
				maps.Copy(r.Header, h.sign(h.clock(), append(slices.Clone(body), ' ')))
			},
		} {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/webhooks/vendor", strings.NewReader(string(body)))
			change(r)
			if answer := h.send(r); answer.status != http.StatusUnauthorized || answer.Error != "signature refused" {
				t.Errorf("%s: %d %s", what, answer.status, answer.text)
			}
		}
		h.read()
		if n := h.server.Requests(); n != 0 || !h.unknown() {
			t.Errorf("a forged webhook had the API asked %d times", n)
		}
	})
}

func TestAPingIsAnsweredAndMeansNothing(t *testing.T) {
	t.Parallel()
	h := withHiBob(t, sqltest.New(t, "sqlite", ingest.Migrations()...))
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/webhooks/vendor", strings.NewReader("Ping test"))
	if answer := h.send(r); answer.status != http.StatusOK || strings.TrimSpace(answer.text) != "{}" {
		t.Errorf("answered %d %s", answer.status, answer.text)
	}
	if all := h.deliveries(&peoplev1.ListDeliveriesRequest{}); len(all) != 0 {
		t.Errorf("a ping is listed: %v", all)
	}
}

// The vendor does not repeat what was answered with 4xx.
func TestWhatIsSignedAndNotUnderstoodIsKept(t *testing.T) {
	t.Parallel()
	onVendors(t, func(t *testing.T, h *hr) {
		answer := h.notify([]byte("employees[7][First+name]=Ann"))
		if answer.status != http.StatusOK || !strings.HasPrefix(answer.held(), "not the JSON of a ") {
			t.Fatalf("answered %d %s", answer.status, answer.text)
		}
		all := h.deliveries(&peoplev1.ListDeliveriesRequest{HeldOnly: true})
		if len(all) != 1 || all[0].GetId() != answer.Delivery {
			t.Errorf("held are %v", all)
		}
		if _, err := h.svc.ReplayDelivery(h.operator(), &peoplev1.ReplayDeliveryRequest{Id: answer.Delivery}); err == nil {
			t.Error("a replay of what is not understood says nothing")
		}
	})
}

func TestTheSameWebhookAgainIsTheSameDelivery(t *testing.T) {
	t.Parallel()
	onVendors(t, func(t *testing.T, h *hr) {
		h.server.Set(vendorID, h.worker)
		body := h.event("employee.created")
		first := h.notify(body)
		h.read()
		rows := len(h.deliveries(&peoplev1.ListDeliveriesRequest{}))
		reads := h.server.Reads(vendorID)
		for range 1000 {
			if again := h.notify(body); again.Delivery != first.Delivery || again.status != http.StatusOK || again.Held != nil {
				t.Fatalf("again: %d %s", again.status, again.text)
			}
			h.read()
		}
		if n := h.server.Reads(vendorID) - reads; n != 0 {
			t.Errorf("1000 replays cost %d reads at once", n)
		}
		h.pass(2 * time.Minute)
		h.read()
		if n := h.server.Reads(vendorID) - reads; n != 1 {
			t.Errorf("1000 replays cost %d reads, want one a minute at most", n)
		}
		if n := len(h.deliveries(&peoplev1.ListDeliveriesRequest{})); n != rows || len(kinds(h.timeline(h.ref()))) != 1 {
			t.Errorf("%d deliveries after %d replays, %d before", n, 1000, rows)
		}
	})
}

func TestManyWebhooksAboutOneEmployeeCauseOneRead(t *testing.T) {
	t.Parallel()
	onVendors(t, func(t *testing.T, h *hr) {
		h.server.Set(vendorID, h.worker)
		var told []reply
		for range 10 {
			h.pass(time.Second)
			told = append(told, h.tell("employee.updated"))
		}
		if item := h.item(told[0].Delivery); item.GetHeld() != "reading back" {
			t.Errorf("before the read an item is %v", item)
		}
		h.read()
		if n := h.server.Reads(vendorID); n != 1 {
			t.Errorf("read %d times, want once", n)
		}
		for _, answer := range told {
			if item := h.item(answer.Delivery); item.GetHeld() != "" || item.GetPersonId() == "" {
				t.Errorf("after the read an item is %v", item)
			}
		}
	})
}

// A webhook that comes while the API is being asked may speak of what the answer has not got yet.
func TestAWebhookDuringAReadIsReadAfterIt(t *testing.T) {
	t.Parallel()
	onVendors(t, func(t *testing.T, h *hr) {
		h.server.Set(vendorID, h.worker)
		h.tell("employee.created")
		h.server.Freeze()
		begun, release := h.server.Hang()
		done := make(chan error, 1)
		go func() { done <- h.svc.ReadDue(t.Context()) }()
		<-begun
		h.pass(time.Second)
		h.server.Change(vendorID, h.said["left"])
		late := h.tell("employee.updated")
		if item := h.item(late.Delivery); item.GetHeld() != "reading back" {
			t.Errorf("the late webhook is %v", item)
		}
		release()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		h.server.Thaw()
		h.pass(time.Minute)
		h.read()
		if p := h.find(h.ref()); p.GetStatus() != peoplev1.PersonStatus_PERSON_STATUS_TERMINATED {
			t.Errorf("the leaver is %v: the late webhook was lost", p.GetStatus())
		}
	})
}

func TestAnAPIThatAnswersWithThePastIsAskedAgain(t *testing.T) {
	t.Parallel()
	onVendors(t, func(t *testing.T, h *hr) {
		h.server.Set(vendorID, h.worker)
		h.happens("employee.created", "")
		h.server.Freeze()
		h.happens("employee.updated", "left")
		if p := h.find(h.ref()); p.GetStatus() != peoplev1.PersonStatus_PERSON_STATUS_ACTIVE {
			t.Fatalf("a frozen API says %v", p.GetStatus())
		}
		h.pass(9 * time.Second)
		h.read()
		h.server.Thaw()
		h.pass(2 * time.Second)
		h.read()
		if p := h.find(h.ref()); p.GetStatus() != peoplev1.PersonStatus_PERSON_STATUS_TERMINATED {
			t.Errorf("once the API knows, the leaver is %v", p.GetStatus())
		}
		reads := h.server.Reads(vendorID)
		for range 10 {
			h.pass(time.Hour)
			h.read()
		}
		if n := h.server.Reads(vendorID) - reads; n > 0 {
			t.Errorf("who was found changed is read %d times more", n)
		}
	})
}

func TestAnAPIThatIsAwayIsTriedUntilItIsBack(t *testing.T) {
	t.Parallel()
	onVendors(t, func(t *testing.T, h *hr) {
		h.server.Set(vendorID, h.worker)
		h.server.Fail(-1, http.StatusInternalServerError)
		told := h.tell("employee.created")
		for range 20 { // four hours
			h.read()
			h.pass(12 * time.Minute)
		}
		if item := h.item(told.Delivery); item.GetHeld() != "the API answered 500" {
			t.Errorf("meanwhile the item is %v", item)
		}
		if n := h.server.Requests(); n < 10 || n > 40 {
			t.Errorf("an API that was away for four hours was asked %d times", n)
		}
		h.server.Fail(0, 0)
		h.read()
		if item := h.item(told.Delivery); item.GetHeld() != "" || h.unknown() {
			t.Errorf("once it is back the item is %v", item)
		}
		if due := h.figure("tenure_ingest_readbacks_due", "source", "vendor"); due != 0 {
			t.Errorf("%g are shown as due", due)
		}
	})
}
