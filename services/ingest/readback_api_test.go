package ingest_test

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tenurehq/tenure/pkg/bus"
	"github.com/tenurehq/tenure/pkg/sqldb"
	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
)

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

// Who is due is read although the clock that they were due by was an hour ahead and has been set right.
func TestWhoIsDueIsReadAlthoughTheClockWasSetBack(t *testing.T) {
	t.Parallel()
	onVendors(t, func(t *testing.T, h *hr) {
		err := h.db.InTx(t.Context(), func(tx *sqldb.Tx) error { // as noted by who ran then
			_, err := tx.Exec(t.Context(), `INSERT INTO clock (id, latest) VALUES (1, $1)`, sqldb.Micros(h.clock()))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		h.server.Set(vendorID, h.worker)
		h.tell("employee.created")
		h.pass(-time.Hour)
		events := h.run()
		for e := next(t, events); e.Type != "tenure.event.v1.Lifecycle"; {
			e = next(t, events)
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
