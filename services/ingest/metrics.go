package ingest

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tenurehq/tenure/pkg/sqldb"
)

// What became of a delivery, as a label.
const (
	resultAccepted    = "accepted"
	resultDuplicate   = "duplicate"
	resultHeld        = "held" // wholly or in part
	resultInvalid     = "invalid"
	resultTooLarge    = "too_large"
	resultIncomplete  = "incomplete" // the body did not arrive
	resultOverloaded  = "overloaded"
	resultUnavailable = "unavailable"
	resultPing        = "ping" // only tried whether somebody listens
)

// nameless is the label of sources that are not configured: what strangers make up must not become labels.
const nameless = "unknown"

type metrics struct {
	deliveries *prometheus.CounterVec
	refused    *prometheus.CounterVec
	held       *prometheus.CounterVec
	lifecycle  *prometheus.CounterVec

	readbacks      *prometheus.CounterVec
	readbacksDue   *prometheus.GaugeVec
	oldestReadback *prometheus.GaugeVec

	rosters *rosterFigures

	nextDue atomic.Int64 // microseconds; 0: nothing is waiting for its time, or another replica watches
}

func newMetrics(registry prometheus.Registerer, now func() time.Time) (*metrics, error) {
	m := &metrics{
		rosters: newRosterFigures(),
		deliveries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tenure_ingest_deliveries_total", Help: "Deliveries by source and what became of them.",
		}, []string{"source", "result"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tenure_ingest_auth_failures_total", Help: "Requests whose sender was not proven, by why.",
		}, []string{"source", "reason"}),
		held: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tenure_ingest_held_items_total", Help: "Items kept for review when they arrived.",
		}, []string{"source"}),
		lifecycle: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tenure_ingest_lifecycle_events_total", Help: "Lifecycle events by kind.",
		}, []string{"kind"}),
		readbacks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tenure_ingest_readbacks_total", Help: "Employees read from a source's API, by what came of it.",
		}, []string{"source", "result"}),
		readbacksDue: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "tenure_ingest_readbacks_due", Help: "Employees whose record changed by their source's word and who are not read yet.",
		}, []string{"source"}),
		oldestReadback: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "tenure_ingest_oldest_readback_seconds", Help: "For how long the oldest of them has been waiting.",
		}, []string{"source"}),
	}
	if registry == nil {
		return m, nil
	}
	oldest := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tenure_ingest_oldest_due_seconds",
		Help: "For how long the oldest change that time alone brings has been due and not made.",
	}, func() float64 {
		due := m.nextDue.Load()
		if due == 0 {
			return 0
		}
		return max(0, now().Sub(sqldb.Time(due)).Seconds())
	})
	collectors := []prometheus.Collector{m.deliveries, m.refused, m.held, m.lifecycle, m.readbacks, m.readbacksDue, m.oldestReadback, oldest}
	for _, c := range append(collectors, m.rosters.collectors()...) {
		if err := registry.Register(c); err != nil {
			return nil, fmt.Errorf("register figures: %w", err)
		}
	}
	return m, nil
}

// count counts what became of a delivery that was taken.
func (s *Service) count(source string, out outcome) {
	result := resultAccepted
	switch {
	case out.duplicate:
		result = resultDuplicate
	case out.held != "" || out.itemsHeld > 0:
		result = resultHeld
		s.metrics.held.WithLabelValues(source).Add(float64(max(out.itemsHeld, 1)))
	}
	s.metrics.deliveries.WithLabelValues(source, result).Inc()
}
