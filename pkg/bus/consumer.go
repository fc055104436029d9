package bus

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/tenurehq/tenure/pkg/telemetry"
)

const (
	defaultBatch = 256
	// ackWait is how long the server waits before it gives an event to somebody else. What a consumer holds is
	// reported as in progress three times in it, so only a process that died or hangs runs over.
	ackWait = 30 * time.Second
	// maxAckPending bounds what a durable has out, over all replicas, counting what waits to be retried.
	maxAckPending = 10_000
	// drainTime is how long a handler may go on after the consumer was told to stop.
	drainTime = 10 * time.Second
	// heartbeat is how often an idle server says it is still there; two missed and the pull is repeated.
	heartbeat = 5 * time.Second
)

// Consumer returns the task that feeds handle with the events of cfg.Subjects, from the oldest one the stream holds
// that the durable has not seen acknowledged. The task makes the durable, makes it again when it or the stream was
// lost, and lasts until its context ends: it then finishes the batch it handles and hands back what it holds beyond
// that. It returns an error only for a configuration that cannot work.
func (b *Bus) Consumer(cfg ConsumerConfig, handle Handler) func(ctx context.Context) error {
	c := &consumer{
		bus:    b,
		cfg:    cfg,
		handle: handle,
		log:    b.log.With(zap.String(telemetry.FieldConsumer, cfg.Name)),
		inbox:  newInbox(),
	}
	if c.cfg.Batch == 0 {
		c.cfg.Batch = defaultBatch
	}
	return c.run
}

type consumer struct {
	bus    *Bus
	cfg    ConsumerConfig
	handle Handler
	log    *zap.Logger
	inbox  *inbox

	// Of the running subscription; only run's goroutine touches them.
	renewed <-chan struct{} // closed when the stream is another one
	outages int             // in a row
}

func (c *consumer) run(ctx context.Context) error {
	if err := c.cfg.validate(); err != nil {
		return fmt.Errorf("consumer %q: %w", c.cfg.Name, err)
	}
	for failures := 0; ctx.Err() == nil; {
		err := c.consume(ctx)
		if err == nil {
			failures = 0
		} else if ctx.Err() == nil {
			if failures++; failures == 1 { // once per trouble, not once per attempt
				c.log.Warn("cannot consume, will try again", zap.Error(err))
			}
			c.bus.lookNow()
			pause(ctx, backoff(failures))
		}
	}
	return nil
}

// consume feeds the handler until ctx ends, the stream is a new one (both: nil), or the subscription fails.
func (c *consumer) consume(ctx context.Context) error {
	c.renewed = c.bus.newStream()
	durable, err := c.durable(ctx)
	if err != nil {
		return err
	}
	broken := make(chan error, 1)
	subscription, err := durable.Consume(c.inbox.put,
		jetstream.PullMaxMessages(2*c.cfg.Batch), // one batch is handled while the next arrives
		jetstream.PullExpiry(6*heartbeat),
		jetstream.PullHeartbeat(heartbeat),
		jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) {
			// A connection that comes back resumes by itself; a durable that is gone does not.
			for _, fatal := range []error{jetstream.ErrConsumerDeleted, jetstream.ErrNoHeartbeat, jetstream.ErrBadRequest, nats.ErrNoResponders} {
				if errors.Is(err, fatal) {
					select {
					case broken <- err:
					default: // one is enough
					}
				}
			}
		}),
	)
	if err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	keeping, stopKeeping := context.WithCancel(ctx)
	kept := make(chan struct{})
	go func() {
		defer close(kept)
		c.inbox.keep(keeping)
	}()
	defer func() {
		if c.bus.conn.IsConnected() {
			subscription.Drain() // not Stop: what has arrived would wait for ackWait before anybody gets it
		} else {
			subscription.Stop() // draining waits for the server's answer
		}
		<-subscription.Closed()
		stopKeeping()
		<-kept
		c.inbox.giveBack()
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.renewed:
			return nil
		case err := <-broken:
			return err
		case <-c.inbox.ready:
			if ctx.Err() != nil {
				return nil // both were ready: nothing new is taken
			}
			if c.cfg.Gather > 0 && c.inbox.size() < c.cfg.Batch {
				pause(ctx, c.cfg.Gather)
			}
			if batch := c.inbox.take(c.cfg.Batch); len(batch) > 0 {
				c.settle(ctx, batch)
			}
		}
	}
}

// durable finds or makes the durable consumer.
func (c *consumer) durable(ctx context.Context) (jetstream.Consumer, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	durable, err := c.bus.js.CreateOrUpdateConsumer(ctx, streamName, jetstream.ConsumerConfig{
		Durable:        c.cfg.Name,
		FilterSubjects: c.cfg.Subjects,
		DeliverPolicy:  jetstream.DeliverAllPolicy,
		AckPolicy:      jetstream.AckExplicitPolicy,
		AckWait:        ackWait,
		MaxDeliver:     -1, // only our code may give up
		MaxAckPending:  maxAckPending,
	})
	if err != nil {
		return nil, fmt.Errorf("make durable: %w", err)
	}
	return durable, nil
}

// backoff is the pause before the nth retry: 100 ms, doubled up to 5 s, spread by half either way.
func backoff(n int) time.Duration {
	const first, most = 100 * time.Millisecond, 5 * time.Second
	d := most
	if n < 7 {
		d = min(most, first<<max(n-1, 0))
	}
	return d/2 + rand.N(d) //nolint:gosec // G404: jitter needs no secrecy
}

// pause waits for d or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

func (cfg ConsumerConfig) validate() error {
	if cfg.Name == "" || strings.ContainsAny(cfg.Name, ".*> /\\\t\r\n") {
		return errors.New("not a name for a durable")
	}
	if len(cfg.Subjects) == 0 {
		return errors.New("no subjects")
	}
	if cfg.Batch < 0 || cfg.Gather < 0 {
		return errors.New("negative batch, or time to gather it")
	}
	return nil
}
