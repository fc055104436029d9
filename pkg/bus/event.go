package bus

import (
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
)

// MaxData is the largest body, in bytes, that may be published. Facts are a few hundred bytes; the limit keeps an
// event that could never be sent from getting in front of those that can.
const MaxData = 256 << 10

// factPackage is the only package whose messages are facts: a type name from the wire must not pick any other.
const factPackage = "tenure.event.v1."

// Event is one fact with its envelope.
type Event struct {
	ID      string    // UUIDv7; the stream stores an id once within its duplicates window
	Type    string    // full name of the message in Data
	Origin  string    // who made it true: ingest, policy, audit, provision/<application>
	Subject string    // what it is published on
	Seq     uint64    // gap-free from 1 per origin; 0 until the outbox's relay has numbered it
	Time    time.Time // when it became true, UTC, to the microsecond

	CorrelationID string // the same for everything that one accepted delivery or command led to
	CausationID   string // ID of the event that led to this one; empty at the start of a chain
	TraceParent   string // W3C Trace Context

	Data []byte // one message of tenure.event.v1
}

// Cause is what an event inherits from what led to it.
type Cause struct{ CorrelationID, CausationID, TraceParent string }

// NewEvent makes the event that says fact on subject. The outbox sets Time and Origin when it takes the event, and
// Seq when it sends it. A cause without correlation starts a chain: the event's own ID correlates it.
//
// It panics when fact cannot be encoded, which only a string that is not UTF-8 can bring about: facts hold ids and
// codes, never what somebody sent.
func NewEvent(subject string, fact proto.Message, cause Cause) Event {
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(fact)
	if err != nil {
		panic(fmt.Sprintf("bus: encode %s: %v", fact.ProtoReflect().Descriptor().FullName(), err))
	}
	id := uuid.Must(uuid.NewV7()).String()
	correlation := cause.CorrelationID
	if correlation == "" {
		correlation = id
	}
	return Event{
		ID:            id,
		Type:          string(fact.ProtoReflect().Descriptor().FullName()),
		Subject:       subject,
		CorrelationID: correlation,
		CausationID:   cause.CausationID,
		TraceParent:   cause.TraceParent,
		Data:          data,
	}
}

// Cause is what an event that e leads to inherits.
func (e Event) Cause() Cause {
	correlation := e.CorrelationID
	if correlation == "" {
		correlation = e.ID
	}
	return Cause{CorrelationID: correlation, CausationID: e.ID, TraceParent: e.TraceParent}
}

// Decode returns the fact in Data as the message that Type names, e.g. *eventv1.Lifecycle. Its error is Permanent:
// trying again cannot help, and the error's text quotes nothing of the body.
func (e Event) Decode() (proto.Message, error) {
	if !strings.HasPrefix(e.Type, factPackage) {
		return nil, Permanent(fmt.Errorf("event type %q is not a fact", e.Type))
	}
	messageType, err := protoregistry.GlobalTypes.FindMessageByName(protoreflect.FullName(e.Type))
	if err != nil {
		return nil, Permanent(fmt.Errorf("event type %q is not known", e.Type))
	}
	fact := messageType.New().Interface()
	if err := proto.Unmarshal(e.Data, fact); err != nil {
		return nil, Permanent(fmt.Errorf("event body is not a %s", e.Type))
	}
	return fact, nil
}

// Proto returns e in the form of event logs and the audit log.
func (e Event) Proto() *eventv1.Event {
	p := &eventv1.Event{
		Id:            e.ID,
		Type:          e.Type,
		Origin:        e.Origin,
		Seq:           e.Seq,
		Subject:       e.Subject,
		CorrelationId: e.CorrelationID,
		CausationId:   e.CausationID,
		Traceparent:   e.TraceParent,
		Data:          e.Data,
	}
	if !e.Time.IsZero() {
		p.Time = timestamppb.New(e.Time)
	}
	return p
}

// FromProto is the inverse of Proto.
func FromProto(p *eventv1.Event) Event {
	e := Event{
		ID:            p.GetId(),
		Type:          p.GetType(),
		Origin:        p.GetOrigin(),
		Subject:       p.GetSubject(),
		Seq:           p.GetSeq(),
		CorrelationID: p.GetCorrelationId(),
		CausationID:   p.GetCausationId(),
		TraceParent:   p.GetTraceparent(),
		Data:          p.GetData(),
	}
	if p.GetTime() != nil {
		e.Time = p.GetTime().AsTime()
	}
	return e
}
