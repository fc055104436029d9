package ingest_test

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

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
