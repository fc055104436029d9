package ingest_test

import (
	"context"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenurehq/tenure/pkg/bus"
	pkgconfig "github.com/tenurehq/tenure/pkg/config"
	"github.com/tenurehq/tenure/pkg/sqldb"
	"github.com/tenurehq/tenure/pkg/sqldb/sqltest"
	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
	"github.com/tenurehq/tenure/services/ingest"
	"github.com/tenurehq/tenure/services/ingest/mapping"
	"github.com/tenurehq/tenure/services/ingest/source/bamboohr"
	"github.com/tenurehq/tenure/services/ingest/source/hibob"
	"github.com/tenurehq/tenure/services/ingest/source/vendorapi"
	"github.com/tenurehq/tenure/services/ingest/source/vendortest"
)

// hr is a company whose people are in a vendor's HR system.
type hr struct {
	*world
	server *vendortest.Server
	cfg    ingest.Config
	sign   func(at time.Time, body []byte) http.Header
	worker vendortest.Fields            // one who works, by the vendor's names
	event  func(kind string) []byte     // the webhook about employee 7
	said   map[string]vendortest.Fields // what the vendor writes when somebody is hired for later, moves, is on leave, leaves
}

const (
	vendorKey = "the-private-key-of-the-webhook"
	vendorID  = "7"
)

func vendorKeys(t *testing.T) vendorapi.Keys {
	t.Helper()
	keys, err := vendorapi.ParseKeys([]byte(vendorKey))
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func compiled(t *testing.T, text []byte) *mapping.Mapping {
	t.Helper()
	m, err := mapping.Compile("default", text, time.UTC)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func withBambooHR(t *testing.T, db *sqldb.DB) *hr {
	t.Helper()
	server := vendortest.NewBambooHR("api-key")
	t.Cleanup(server.Close)
	vendor, err := bamboohr.New(bamboohr.Config{
		Keys: vendorKeys(t), API: vendorapi.Config{URL: server.URL + "/api/v1", Password: pkgconfig.NewSecret([]byte("api-key"))},
	})
	if err != nil {
		t.Fatal(err)
	}
	h := &hr{server: server, sign: vendor.Sign, worker: vendortest.BambooEmployee("Ann", "Archer"), said: map[string]vendortest.Fields{
		"hired":  {"hireDate": "2026-12-01"},
		"moved":  {"department": "Sales", "jobTitle": "Seller", "supervisorEId": "9"},
		"leaves": {"terminationDate": "2026-11-30"},
		"left":   {"status": "Inactive", "terminationDate": "2026-11-22"},
	}}
	h.event = func(kind string) []byte { return vendortest.BambooEvent(kind, vendorID, h.clock(), "department") }
	h.start(t, db, ingest.Source{Name: "vendor", Kind: ingest.KindBambooHR, Vendor: vendor, Mapping: compiled(t, bamboohr.Mapping)})
	return h
}

func withHiBob(t *testing.T, db *sqldb.DB) *hr {
	t.Helper()
	server := vendortest.NewHiBob("SERVICE-1", "token")
	t.Cleanup(server.Close)
	vendor, err := hibob.New(hibob.Config{
		Keys: vendorKeys(t), API: vendorapi.Config{URL: server.URL + "/v1", User: "SERVICE-1", Password: pkgconfig.NewSecret([]byte("token"))},
	})
	if err != nil {
		t.Fatal(err)
	}
	h := &hr{server: server, sign: vendor.Sign, worker: vendortest.BobEmployee("Ann", "Archer"), said: map[string]vendortest.Fields{
		"hired": {"work.startDate": "2026-12-01", "internal.lifecycleStatus": "hired"},
		"moved": {
			"work.department": "255490002", "humanReadable:work.department": "Sales", "humanReadable:work.title": "Seller",
			"work.reportsTo": map[string]any{"id": "9"},
		},
		"leaves":       {"internal.terminationDate": "2026-11-30"},
		"left":         {"internal.lifecycleStatus": "terminated", "internal.status": "Inactive", "internal.terminationDate": "2026-11-22"},
		"leave":        {"internal.lifecycleStatus": "Parental leave", "internal.status": "Inactive"},
		"garden leave": {"internal.lifecycleStatus": "Garden leave", "internal.status": "Inactive"},
	}}
	h.event = func(kind string) []byte { return vendortest.BobEvent(kind, vendorID, h.clock()) }
	h.start(t, db, ingest.Source{Name: "vendor", Kind: ingest.KindHiBob, Vendor: vendor, Mapping: compiled(t, hibob.Mapping)})
	return h
}

func (h *hr) start(t *testing.T, db *sqldb.DB, src ingest.Source) {
	t.Helper()
	h.cfg = config(t)
	h.cfg.Sources = append(h.cfg.Sources, src)
	h.world = newWorldWith(t, db, h.cfg)
}

// onVendors runs a test with each vendor on each engine.
func onVendors(t *testing.T, test func(t *testing.T, h *hr)) {
	t.Helper()
	for name, with := range map[string]func(*testing.T, *sqldb.DB) *hr{"bamboohr": withBambooHR, "hibob": withHiBob} {
		t.Run(name, func(t *testing.T) {
			sqltest.Run(t, ingest.Migrations(), func(t *testing.T, db *sqldb.DB) { test(t, with(t, db)) })
		})
	}
}

// notify posts a body as the vendor does and returns the answer.
func (h *hr) notify(body []byte) reply {
	h.tb.Helper()
	r := httptest.NewRequestWithContext(h.tb.Context(), http.MethodPost, "/v1/webhooks/vendor", strings.NewReader(string(body)))
	maps.Copy(r.Header, h.sign(h.clock(), body))
	return h.send(r)
}

// tell notifies of a change; the answer must be good.
func (h *hr) tell(kind string) reply {
	h.tb.Helper()
	answer := h.notify(h.event(kind))
	if answer.status != http.StatusOK || answer.Held != nil || answer.Delivery == "" {
		h.tb.Fatalf("%s was answered %d %s, want it taken", kind, answer.status, answer.text)
	}
	return answer
}

// read lets everybody who is due be read.
func (h *hr) read() {
	h.tb.Helper()
	if err := h.svc.ReadDue(h.tb.Context()); err != nil {
		h.tb.Fatalf("read back: %v", err)
	}
}

// happens changes the employee in the HR system, tells of it and has it read.
func (h *hr) happens(kind string, said string) reply {
	h.tb.Helper()
	h.pass(time.Minute)
	h.server.Change(vendorID, h.said[said])
	answer := h.tell(kind)
	h.read()
	return answer
}

// item is what is shown of the one employee whom a notice names.
func (h *hr) item(delivery string) *peoplev1.ItemResult {
	h.tb.Helper()
	answer, err := h.svc.ShowDelivery(h.operator(), &peoplev1.ShowDeliveryRequest{Id: delivery})
	if err != nil {
		h.tb.Fatal(err)
	}
	if len(answer.GetItems()) != 1 {
		h.tb.Fatalf("delivery %s has items %v, want one", delivery, answer.GetItems())
	}
	return answer.GetItems()[0]
}

func (*hr) ref() string { return vendorID }

func (h *hr) unknown() bool {
	h.tb.Helper()
	_, err := h.svc.FindPerson(h.operator(), &peoplev1.FindPersonRequest{Ref: h.ref()})
	return err != nil
}

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

// Not even when it is the only one to be asked about for long.
func TestOneEmployeeWhomTheAPICannotAnswerAboutKeepsNobodyWaiting(t *testing.T) {
	t.Parallel()
	onVendors(t, func(t *testing.T, h *hr) {
		h.server.Set(vendorID, h.worker)
		h.server.Refuse("13", http.StatusInternalServerError)
		if answer := h.notify([]byte(`{"data":{"employeeId":"13"}}`)); answer.status != http.StatusOK {
			t.Fatalf("answered %d", answer.status)
		}
		for range 20 {
			h.read()
			h.pass(12 * time.Minute)
		}
		h.read()
		if n := h.server.Requests(); n > 40 {
			t.Errorf("in four hours %d requests about one employee", n)
		}
		h.pass(time.Second)
		h.tell("employee.created")
		h.read()
		if h.unknown() {
			t.Error("another employee was not read at once")
		}
	})
}

// The clocks of two replicas need not agree.
func TestALaterReadWinsEvenIfTheClockWasSetBack(t *testing.T) {
	t.Parallel()
	onVendors(t, func(t *testing.T, h *hr) {
		h.server.Set(vendorID, h.worker)
		h.happens("employee.created", "")
		h.pass(-10 * time.Minute)
		h.happens("employee.updated", "left")
		h.pass(10 * time.Minute)
		if err := h.svc.Fire(t.Context()); err != nil {
			t.Fatal(err)
		}
		if p := h.find(h.ref()); p.GetStatus() != peoplev1.PersonStatus_PERSON_STATUS_TERMINATED {
			t.Errorf("the leaver is %v", p.GetStatus())
		}
	})
}

func TestCredentialsThatAreRefusedAreNotTriedAllTheTime(t *testing.T) {
	t.Parallel()
	onVendors(t, func(t *testing.T, h *hr) {
		h.server.Set(vendorID, h.worker)
		h.server.Fail(-1, http.StatusUnauthorized)
		told := h.tell("employee.created")
		for range 720 {
			h.read()
			h.pass(5 * time.Second)
		}
		if n := h.server.Requests(); n > 20 {
			t.Errorf("refused credentials were tried %d times in an hour", n)
		}
		if item := h.item(told.Delivery); item.GetHeld() != "the API answered 401" {
			t.Errorf("the item is %v", item)
		}
	})
}

func TestFiguresShowWhoWaits(t *testing.T) {
	t.Parallel()
	onVendors(t, func(t *testing.T, h *hr) {
		h.server.Fail(-1, http.StatusServiceUnavailable)
		h.tell("employee.created")
		h.read()
		h.pass(time.Minute)
		h.read()
		due, oldest := h.figure("tenure_ingest_readbacks_due", "source", "vendor"), h.figure("tenure_ingest_oldest_readback_seconds", "source", "vendor")
		if due != 1 || oldest != 60 {
			t.Errorf("%g due, the oldest for %g s; want one for 60 s", due, oldest)
		}
		if n := h.figure("tenure_ingest_readbacks_total", "source", "vendor", "result", "failed"); n != 2 {
			t.Errorf("%g reads failed, want 2", n)
		}
	})
}

func TestAnAPIIsLeftAloneForAsLongAsItAsks(t *testing.T) {
	t.Parallel()
	onVendors(t, func(t *testing.T, h *hr) {
		h.server.Set(vendorID, h.worker)
		h.server.Throttle(1, 90*time.Second)
		h.tell("employee.created")
		h.read()
		h.pass(89 * time.Second)
		h.tell("employee.updated") // nothing makes it ask earlier
		h.read()
		if n := h.server.Requests(); n != 1 {
			t.Errorf("%d requests before the 90 seconds were over", n)
		}
		h.pass(time.Minute)
		h.read()
		if h.unknown() {
			t.Error("not read after the 90 seconds")
		}
	})
}

// That somebody is not there is no evidence that they left.
func TestAbsenceIsNoLeave(t *testing.T) {
	t.Parallel()
	onVendors(t, func(t *testing.T, h *hr) {
		h.server.Set(vendorID, h.worker)
		h.happens("employee.created", "")
		h.server.Delete(vendorID)
		told := h.tell("employee.deleted")
		for range 5 {
			h.read()
			h.pass(15 * time.Minute)
		}
		if p := h.find(h.ref()); p.GetStatus() != peoplev1.PersonStatus_PERSON_STATUS_ACTIVE {
			t.Errorf("who is absent is %v", p.GetStatus())
		}
		held := h.deliveries(&peoplev1.ListDeliveriesRequest{HeldOnly: true})
		if len(held) != 1 || held[0].GetId() != told.Delivery || held[0].GetItemsHeld() != 1 {
			t.Fatalf("held are %v, want the webhook", held)
		}
		if item := h.item(told.Delivery); item.GetHeld() != "the API has no such employee" {
			t.Errorf("the item is %v", item)
		}
		requests := h.server.Requests()
		h.pass(24 * time.Hour)
		h.read()
		if h.server.Requests() != requests {
			t.Error("who is kept for review is read again by itself")
		}

		h.server.Set(vendorID, h.worker)
		if _, err := h.svc.ReplayDelivery(h.operator(), &peoplev1.ReplayDeliveryRequest{Id: told.Delivery}); err != nil {
			t.Fatalf("replay: %v", err)
		}
		h.read()
		if held := h.deliveries(&peoplev1.ListDeliveriesRequest{HeldOnly: true}); len(held) != 0 {
			t.Errorf("after the replay held are %v", held)
		}
	})
}

func TestAJoinerWhomTheAPIDoesNotKnowYetIsFound(t *testing.T) {
	t.Parallel()
	onVendors(t, func(t *testing.T, h *hr) {
		told := h.tell("employee.created")
		h.read()
		if item := h.item(told.Delivery); item.GetHeld() != "the API has no such employee" {
			t.Errorf("meanwhile the item is %v", item)
		}
		h.server.Set(vendorID, h.worker)
		h.pass(11 * time.Second)
		h.read()
		if h.unknown() {
			t.Error("the joiner is not known")
		}
	})
}

// A field that the API key may not see is missing without a word. An empty department would take things away.
func TestAnAnswerWithoutAFieldIsHeldAndCanBeReplayed(t *testing.T) {
	t.Parallel()
	onVendors(t, func(t *testing.T, h *hr) {
		h.server.Set(vendorID, h.worker)
		h.happens("employee.created", "")
		less := maps.Clone(h.worker)
		for name := range less {
			if strings.HasSuffix(name, "department") {
				delete(less, name)
			}
		}
		h.server.Set(vendorID, less)
		h.happens("employee.updated", "")
		if r := h.find(h.ref()).GetRecord(); r.GetDepartment() != "Engineering" {
			t.Errorf("the department became %q", r.GetDepartment())
		}
		held := h.deliveries(&peoplev1.ListDeliveriesRequest{HeldOnly: true})
		if len(held) != 1 || held[0].GetHeld() != "department: a key that the mapping reads is missing" {
			t.Fatalf("held are %v", held)
		}

		cfg := h.cfg
		cfg.Sources = slices.Clone(cfg.Sources)
		last := len(cfg.Sources) - 1
		cfg.Sources[last].Mapping = ownMapping(t, `{external_id: string(data.id), status: '"active"', department: '"Sales"'}`)
		h.restart(cfg)
		if _, err := h.svc.ReplayDelivery(h.operator(), &peoplev1.ReplayDeliveryRequest{Id: held[0].GetId()}); err != nil {
			t.Fatalf("replay: %v", err)
		}
		if r := h.find(h.ref()).GetRecord(); r.GetDepartment() != "Sales" {
			t.Errorf("after the replay the department is %q", r.GetDepartment())
		}
	})
}

// Whoever dies between the webhook and the read, or during the read, leaves it to the next.
func TestWhatAProcessThatDiedHadToReadIsRead(t *testing.T) {
	t.Parallel()
	onVendors(t, func(t *testing.T, h *hr) {
		h.server.Set(vendorID, h.worker)
		h.tell("employee.created")
		h.restart(h.cfg)
		h.read()
		if h.unknown() {
			t.Error("died after the webhook: not read")
		}

		h.server.Change(vendorID, h.said["left"])
		h.pass(time.Minute)
		h.tell("employee.updated")
		if n, err := h.svc.ClaimAndDie(t.Context(), "vendor"); n != 1 || err != nil {
			t.Fatalf("claimed %d: %v", n, err)
		}
		h.restart(h.cfg)
		h.read()
		if p := h.find(h.ref()); p.GetStatus() != peoplev1.PersonStatus_PERSON_STATUS_ACTIVE {
			t.Fatalf("read although it is claimed: %v", p.GetStatus())
		}
		h.pass(2 * time.Minute)
		h.read()
		if p := h.find(h.ref()); p.GetStatus() != peoplev1.PersonStatus_PERSON_STATUS_TERMINATED {
			t.Errorf("died during the read: the leaver is %v", p.GetStatus())
		}
	})
}

// The tasks do all this by themselves, in two replicas at once.
func TestReplicasReadEachEmployeeOnce(t *testing.T) {
	t.Parallel()
	onVendors(t, func(t *testing.T, h *hr) {
		h.server.Set(vendorID, h.worker)
		ctx, stop := context.WithCancel(t.Context())
		first, other := make(chan error, 1), h.svc
		go func() { first <- other.Run(ctx) }()
		defer func() {
			stop()
			if err := <-first; err != nil {
				t.Errorf("the first replica ended with %v", err)
			}
		}()
		h.restart(h.cfg)
		events := h.run()
		h.tell("employee.created")
		for e := next(t, events); e.Type != "tenure.event.v1.Lifecycle"; e = next(t, events) {
			if e.Type == bus.DeliveryHeld {
				t.Fatal("held")
			}
		}
		if n := h.server.Reads(vendorID); n != 1 {
			t.Errorf("read %d times", n)
		}
	})
}
