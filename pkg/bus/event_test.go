package bus_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/tenurehq/tenure/pkg/bus"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
)

func TestSubjects(t *testing.T) {
	t.Parallel()
	const urgent, normal = eventv1.Lane_LANE_URGENT, eventv1.Lane_LANE_NORMAL
	for want, got := range map[string]string{
		"tenure.lifecycle.urgent.leaver.p1":            bus.LifecycleSubject(urgent, eventv1.LifecycleKind_LIFECYCLE_KIND_LEAVER, "p1"),
		"tenure.lifecycle.normal.leave-started.p1":     bus.LifecycleSubject(normal, eventv1.LifecycleKind_LIFECYCLE_KIND_LEAVE_STARTED, "p1"),
		"tenure.lifecycle.normal.contract-extended.p1": bus.LifecycleSubject(normal, eventv1.LifecycleKind_LIFECYCLE_KIND_CONTRACT_EXTENDED, "p1"),
		"tenure.lifecycle.urgent.cut.>":                bus.LifecycleSubject(urgent, eventv1.LifecycleKind_LIFECYCLE_KIND_CUT, ""),
		"tenure.lifecycle.urgent.>":                    bus.LifecycleSubject(urgent, 0, ""),
		"tenure.access.urgent.code.p1":                 bus.AccessSubject(urgent, "code", "p1"),
		"tenure.access.normal.code.>":                  bus.AccessSubject(normal, "code", ""),
		"tenure.intent.code.p1":                        bus.IntentSubject("code", "p1"),
		"tenure.outcome.code.p1":                       bus.OutcomeSubject("code", "p1"),
		"tenure.finding.code.p1":                       bus.FindingSubject("code", "p1"),
		"tenure.operator.replay":                       bus.OperatorSubject("replay"),
	} {
		if got != want {
			t.Errorf("subject is %q, want %q", got, want)
		}
	}
}

func TestAnEventCarriesItsFactAndItsCause(t *testing.T) {
	t.Parallel()
	fact := &eventv1.Lifecycle{PersonId: "p1", PersonVersion: 7, Kind: eventv1.LifecycleKind_LIFECYCLE_KIND_LEAVER}
	first := bus.NewEvent("tenure.lifecycle.urgent.leaver.p1", fact, bus.Cause{CorrelationID: "delivery-1", TraceParent: "00-a-b-01"})
	if first.Type != "tenure.event.v1.Lifecycle" {
		t.Errorf("type is %q", first.Type)
	}
	decoded, err := first.Decode()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(fact, decoded, protocmp.Transform()); diff != "" {
		t.Errorf("the fact changed (-want +got):\n%s", diff)
	}
	second := bus.NewEvent("tenure.access.urgent.code.p1", &eventv1.Access{PersonId: "p1"}, first.Cause())
	if diff := cmp.Diff(bus.Cause{CorrelationID: "delivery-1", CausationID: second.ID, TraceParent: "00-a-b-01"}, second.Cause()); diff != "" {
		t.Errorf("the chain broke (-want +got):\n%s", diff)
	}
	if second.CausationID != first.ID {
		t.Errorf("caused by %q, want %q", second.CausationID, first.ID)
	}
	alone := bus.NewEvent(bus.ModelApplied, &eventv1.ModelApplied{}, bus.Cause{})
	if alone.CorrelationID != alone.ID {
		t.Errorf("the start of a chain is correlated by %q, want its own id %q", alone.CorrelationID, alone.ID)
	}
	second.Origin, second.Seq, second.Time = "policy", 12, time.Date(2026, 11, 22, 10, 0, 0, 123000, time.UTC)
	if diff := cmp.Diff(second, bus.FromProto(second.Proto())); diff != "" {
		t.Errorf("an event changes in its log (-want +got):\n%s", diff)
	}
}

func TestWhatIsNoFactIsPermanentlyUndecodable(t *testing.T) {
	t.Parallel()
	for name, e := range map[string]bus.Event{
		"no type":            {},
		"another package":    {Type: "google.protobuf.Timestamp"},
		"unknown fact":       {Type: "tenure.event.v1.Nonsense"},
		"a service's name":   {Type: "tenure.event.v1.EventLog"},
		"body is not a fact": {Type: "tenure.event.v1.Lifecycle", Data: []byte("canary@acme.example")},
	} {
		if _, err := e.Decode(); !bus.IsPermanent(err) {
			t.Errorf("%s: error is %v, want a permanent one", name, err)
		}
	}
}
