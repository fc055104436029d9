package ingest

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/tenurehq/tenure/pkg/bus"
	"github.com/tenurehq/tenure/pkg/fault"
	"github.com/tenurehq/tenure/pkg/rpc"
	"github.com/tenurehq/tenure/pkg/telemetry"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	"github.com/tenurehq/tenure/services/ingest/internal/store"
	"github.com/tenurehq/tenure/services/ingest/source"
)

// Vendor is an HR system whose webhooks say whose record changed, and not to be believed what it says now: that is read
// from its API. Safe for concurrent use.
type Vendor interface {
	source.Verifier
	// Changed reads a verified webhook.
	Changed(body []byte) source.Notice
	// Batch is how many employees Read should be asked for at a time.
	Batch() int
	// Read asks the API for these employees and answers about each of them, in this order.
	Read(ctx context.Context, now time.Time, ids []string) []source.Employee
}

const (
	// noticeKey begins the keys of deliveries that only say whose record changed.
	noticeKey = "notice:"
	// repeatWait is how long a repeated notice waits for its read. A replay may cost a request a minute, not more.
	repeatWait = time.Minute
)

func isNotice(d store.Delivery) bool { return strings.HasPrefix(d.Key, noticeKey) }

// verifier judges requests for f; a source that is not there or takes none is judged by nobody's keys.
func (f *feed) verifier(nobody source.Verifier) source.Verifier {
	switch {
	case f == nil:
		return nobody
	case f.Vendor != nil:
		return f.Vendor
	case f.Keys != nil:
		return f.Keys
	}
	return nobody
}

// patient makes the answer one that a vendor repeats the request after: none of them does after 4xx.
func (f *failure) patient() {
	switch f.status {
	case http.StatusTooManyRequests, http.StatusRequestTimeout:
		f.status, f.retryAfter = http.StatusServiceUnavailable, cmp.Or(f.retryAfter, retryAfter)
	}
}

// receiveNotice takes a webhook that only says whose record changed. What cannot be understood is kept, not refused: the
// vendor would not send it again.
func (s *Service) receiveNotice(r *http.Request, feed *feed, body []byte, message source.Message) answer {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), commitWait)
	defer cancel()
	ctx = telemetry.Span(telemetry.WithTraceParent(ctx, r.Header.Get(telemetry.HeaderTraceParent)))
	delivery := newDelivery(feed.Name, noticeKey+message.ID, "source:"+feed.Name, body, message.Time, s.now())
	delivery.Headers = keptHeaders(r.Header)
	out, err := s.acceptNotice(ctx, delivery, feed.Vendor.Changed(body))
	if err != nil {
		return s.ourFault(feed, err)
	}
	s.count(feed.Name, out)
	answer := told(out, false)
	answer.status = http.StatusOK // HiBob takes nothing else for success
	return answer
}

// acceptNotice stores a notice with whom it names, in one transaction, or finds that it was stored before.
func (s *Service) acceptNotice(ctx context.Context, d store.Delivery, notice source.Notice) (outcome, error) {
	var out outcome
	d.Held, d.Items = notice.Held, len(notice.Employees)
	err := s.store.InTx(ctx, func(tx store.Tx) error {
		added, err := tx.AddDelivery(ctx, d)
		if err != nil {
			return err
		}
		if !added {
			prior, found, err := tx.DeliveryByKey(ctx, d.Source, d.Key, "")
			if err != nil || !found {
				return cmp.Or(err, errors.New("a delivery that is there cannot be read"))
			}
			out = outcome{id: prior.ID, held: prior.Held, itemsHeld: prior.ItemsHeld, duplicate: true}
			return tx.RepeatNotice(ctx, prior.ID, d.ReceivedAt.Add(repeatWait))
		}
		out = outcome{id: d.ID, held: d.Held}
		if d.Held != "" {
			return s.hold(ctx, tx, d, nil, bus.Cause{CorrelationID: d.ID, TraceParent: telemetry.TraceParent(ctx)})
		}
		tx.AfterCommit(s.wakeReaders)
		return tx.AddNotice(ctx, d.ID, d.Source, notice.Employees, d.ReceivedAt, d.ReceivedAt)
	})
	return out, err
}

// replayNotice has the employees whom a notice names read again.
func (s *Service) replayNotice(ctx context.Context, tx store.Tx, feed *feed, d store.Delivery) ([]store.Item, error) {
	if feed.Vendor == nil {
		return nil, fault.New(fault.Refused, "the source %s has no API any more", feed.Name)
	}
	notice := feed.Vendor.Changed(d.Body)
	if notice.Held != "" {
		return nil, fault.New(fault.Refused, "the body cannot be understood yet: %s", notice.Held)
	}
	action := bus.NewEvent(bus.OperatorSubject("replay"), &eventv1.OperatorAction{
		Actor: rpc.CallerFrom(ctx).Actor(), Action: "replay", Object: d.ID,
	}, bus.Cause{CorrelationID: d.ID, TraceParent: telemetry.TraceParent(ctx)})
	if err := s.outbox.Add(ctx, tx.Tx, eventv1.Lane_LANE_NORMAL, action); err != nil {
		return nil, err
	}
	if d.Held != "" {
		if err := tx.Settle(ctx, d.ID, "", len(notice.Employees), nil); err != nil {
			return nil, err
		}
	}
	now := s.now()
	if err := tx.AddNotice(ctx, d.ID, d.Source, notice.Employees, now, now); err != nil {
		return nil, err
	}
	tx.AfterCommit(s.wakeReaders)
	return tx.Noticed(ctx, d.ID)
}

// wakeReaders lets those who read back look at once.
func (s *Service) wakeReaders() {
	for _, r := range s.readers {
		select {
		case r.wake <- struct{}{}:
		default:
		}
	}
}
