package bus

import (
	"context"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/tenurehq/tenure/pkg/crash"
	"github.com/tenurehq/tenure/pkg/telemetry"
)

// outageAfter is how many events in a row may fail alone before the rest of the batch is not even tried: then it is
// not the events that are wrong, it is something they all need.
const outageAfter = 5

// settle handles a batch and tells the server what became of every message of it. When nothing works it rests.
func (c *consumer) settle(ctx context.Context, batch []jetstream.Msg) {
	events := make([]Event, len(batch))
	for i, m := range batch {
		events[i] = fromMsg(m.Subject(), m.Headers(), m.Data())
	}
	err := c.call(ctx, events)
	if err == nil {
		c.outages = 0
		at := crash.At(c.cfg.Name)
		at.Reach("before acknowledging")
		for _, m := range batch {
			c.acknowledge(m)
		}
		at.Reach("after acknowledging")
		return
	}
	if len(batch) == 1 {
		c.settleFailed(ctx, batch[0], events[0], err)
		return
	}
	failed := 0 // in a row
	for i, m := range batch {
		if failed == outageAfter {
			c.outages++
			c.log.Warn("nothing can be handled now, will try again", zap.Int("events", len(batch)-i), zap.Error(err))
			for _, m := range batch[i:] {
				c.retryLater(m)
			}
			pause(ctx, backoff(c.outages))
			return
		}
		if err = c.call(ctx, events[i:i+1]); err == nil {
			failed, c.outages = 0, 0
			c.acknowledge(m)
			continue
		}
		failed++
		if c.settleFailed(ctx, m, events[i], err) {
			failed = 0
		}
	}
}

// call calls the handler.
func (c *consumer) call(ctx context.Context, events []Event) error {
	ctx, cancel := c.handlerContext(ctx, events)
	defer cancel()
	return c.handle(ctx, events)
}

// settleFailed parks an event that failed alone, or has it tried again later. It reports whether the event is settled.
func (c *consumer) settleFailed(ctx context.Context, m jetstream.Msg, e Event, cause error) bool {
	if IsPermanent(cause) && c.cfg.Park != nil {
		ctx, cancel := c.handlerContext(ctx, []Event{e})
		defer cancel()
		err := c.cfg.Park.Park(ctx, c.cfg.Name, e, cause)
		if err == nil {
			c.log.Warn("event parked", zap.String(telemetry.FieldEvent, e.ID), zap.String(telemetry.FieldSubject, e.Subject), zap.Error(cause))
			c.acknowledge(m)
			return true
		}
		cause = err
	}
	// The first failures are worth a line each, the thousandth is not.
	if n := deliveries(m); n&(n-1) == 0 {
		c.log.Warn("event failed, will be tried again",
			zap.String(telemetry.FieldEvent, e.ID), zap.String(telemetry.FieldSubject, e.Subject), zap.Int("deliveries", n), zap.Error(cause))
	}
	c.retryLater(m)
	return false
}

// acknowledge tells the server that m is done with. An error means that the connection is away: the server will
// deliver again, which is harmless. A message of a former stream is not acknowledged: its number may by now be
// another message's.
func (c *consumer) acknowledge(m jetstream.Msg) {
	select {
	case <-c.renewed:
	default:
		_ = m.Ack()
	}
}

// retryLater has the server deliver m again, later each time.
func (c *consumer) retryLater(m jetstream.Msg) {
	select {
	case <-c.renewed:
	default:
		_ = m.NakWithDelay(backoff(deliveries(m)))
	}
}

// deliveries is how often the server has delivered m, this time included.
func deliveries(m jetstream.Msg) int {
	meta, err := m.Metadata()
	if err != nil {
		return 1
	}
	return int(meta.NumDelivered) //nolint:gosec // G115: a count of deliveries
}

// handlerContext goes on for drainTime after ctx ends, and carries what is known of the events.
func (c *consumer) handlerContext(ctx context.Context, events []Event) (context.Context, context.CancelFunc) {
	handling, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		pause(handling, drainTime)
		cancel()
	})
	trace := events[0].TraceParent
	for _, e := range events[1:] {
		if e.TraceParent != trace {
			trace = "" // several stories at once: none of them is the batch's
		}
	}
	if trace != "" {
		handling = telemetry.WithTraceParent(handling, trace)
	}
	log := c.log
	if len(events) == 1 {
		log = log.With(zap.String(telemetry.FieldEvent, events[0].ID), zap.String(telemetry.FieldSubject, events[0].Subject))
	}
	return telemetry.WithLog(handling, log), func() {
		stop()
		cancel()
	}
}
