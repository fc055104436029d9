package outbox

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
)

// oldestSeconds is asked of the database at every scrape, so it is right on every replica, and for events whose
// relay is dead.
func (o *Outbox) oldestSeconds() *prometheus.Desc {
	return prometheus.NewDesc("tenure_outbox_oldest_seconds", "Age of the oldest event that is not published yet; 0 when all are.",
		nil, prometheus.Labels{"origin": o.origin})
}

// Describe implements prometheus.Collector: register the outbox in the process's registry.
func (o *Outbox) Describe(descs chan<- *prometheus.Desc) { descs <- o.oldestSeconds() }

// Collect implements prometheus.Collector. While the database does not answer there is no figure.
func (o *Outbox) Collect(metrics chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	age, err := o.Oldest(ctx)
	if err != nil {
		o.log.Debug("no age of the oldest event", zap.Error(err))
		return
	}
	metrics <- prometheus.MustNewConstMetric(o.oldestSeconds(), prometheus.GaugeValue, age.Seconds())
}

// Oldest is the age of the oldest event that is not known to be published, counted from its making or, once it is
// numbered, from then; 0 when all are. It may be a second too old: how far the relay has come is not written more often.
func (o *Outbox) Oldest(ctx context.Context) (time.Duration, error) {
	first, made, err := o.store.oldest(ctx)
	if err != nil {
		return 0, err
	}
	now := o.now()
	var age time.Duration
	if !made.IsZero() {
		age = now.Sub(made)
	}
	for _, encoded := range first {
		var e eventv1.Event
		if proto.Unmarshal(encoded, &e) == nil {
			age = max(age, now.Sub(e.GetTime().AsTime()))
		}
	}
	return max(age, 0), nil
}
