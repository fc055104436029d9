package outbox

import (
	"math"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tenurehq/tenure/pkg/fault"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
)

// maxResponse is about how many bytes of events go into one response: below gRPC's limit of 4 MiB whatever the last
// event's size.
const maxResponse = 1 << 20

// eventLog serves a service's outboxes.
type eventLog struct {
	eventv1.UnimplementedEventLogServer
	outboxes []*Outbox
}

// NewEventLog returns the EventLog of all of a service's outboxes.
func NewEventLog(outboxes ...*Outbox) eventv1.EventLogServer {
	return &eventLog{outboxes: outboxes}
}

// Read streams the events of one origin, in order of seq, those not published yet included. What audit has recorded
// may be gone, and what is not numbered yet is not there: then there are fewer than asked for, without an error.
func (l *eventLog) Read(req *eventv1.ReadRequest, stream grpc.ServerStreamingServer[eventv1.ReadResponse]) error {
	from, to := req.GetFrom(), min(req.GetTo(), math.MaxInt64)
	if from == 0 || to < from {
		return fault.New(fault.Invalid, "no such range of numbers: %d to %d", req.GetFrom(), req.GetTo())
	}
	for _, o := range l.outboxes {
		if o.origin == req.GetOrigin() {
			return o.store.chunks(stream.Context(), from, to, func(c chunk) error { return respond(stream, c, from, to) })
		}
	}
	return fault.New(fault.NotFound, "origin %q is not of this service", req.GetOrigin())
}

// respond sends those of a chunk's events that were asked for.
func respond(stream grpc.ServerStreamingServer[eventv1.ReadResponse], c chunk, from, to uint64) error {
	var all eventv1.ReadResponse
	if err := proto.Unmarshal(c.events, &all); err != nil {
		return fault.New(fault.Internal, "decode chunk %d: %w", c.first, err)
	}
	response := &eventv1.ReadResponse{}
	size := 0
	for _, e := range all.GetEvents() {
		if e.GetSeq() < from || e.GetSeq() > to {
			continue
		}
		response.Events = append(response.Events, e)
		if size += proto.Size(e); size >= maxResponse {
			if err := stream.Send(response); err != nil {
				return err
			}
			response, size = &eventv1.ReadResponse{}, 0
		}
	}
	if len(response.GetEvents()) == 0 {
		return nil
	}
	return stream.Send(response)
}

// Parked streams the events that the service's consumers set aside, by consumer and id.
func (l *eventLog) Parked(_ *eventv1.ParkedRequest, stream grpc.ServerStreamingServer[eventv1.ParkedResponse]) error {
	for _, o := range l.outboxes {
		consumer, id := "", ""
		for {
			page, err := o.store.parkedAfter(stream.Context(), consumer, id)
			if err != nil {
				return err
			}
			if len(page) == 0 {
				break
			}
			for _, p := range page {
				var e eventv1.Event
				if err := proto.Unmarshal(p.event, &e); err != nil {
					return fault.New(fault.Internal, "decode parked event %s: %w", p.id, err)
				}
				if err := stream.Send(&eventv1.ParkedResponse{Consumer: p.consumer, Event: &e, Error: p.cause, ParkedAt: timestamppb.New(p.at)}); err != nil {
					return err
				}
				consumer, id = p.consumer, p.id
			}
		}
	}
	return nil
}
