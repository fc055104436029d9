package ingest

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tenurehq/tenure/services/ingest/internal/store"
)

// rosterFigures are shown by the replica that judges rosters. They are safe for concurrent use.
type rosterFigures struct {
	held, absent, stale, age *prometheus.GaugeVec

	mu     sync.Mutex
	silent map[string]bool // sources that were stale when last looked at
}

func newRosterFigures() *rosterFigures {
	labels := []string{"source"}
	return &rosterFigures{
		held: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "tenure_ingest_rosters_held", Help: "Rosters that break their contract and wait for an operator.",
		}, labels),
		absent: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "tenure_ingest_roster_absent", Help: "People employed whom the newest roster taken left out.",
		}, labels),
		stale: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "tenure_ingest_roster_stale", Help: "1: the newest roster taken is older than the contract allows.",
		}, labels),
		age: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "tenure_ingest_roster_age_seconds", Help: "How long ago the newest roster taken was made.",
		}, labels),
		silent: map[string]bool{},
	}
}

func (f *rosterFigures) gauges() []*prometheus.GaugeVec {
	return []*prometheus.GaugeVec{f.held, f.absent, f.stale, f.age}
}

func (f *rosterFigures) collectors() []prometheus.Collector {
	var all []prometheus.Collector
	for _, gauge := range f.gauges() {
		all = append(all, gauge)
	}
	return all
}

// show shows a source's figures, and tells whether it has become stale since it was shown last.
func (f *rosterFigures) show(source string, c store.RosterCounts, stale bool, now time.Time) bool {
	f.held.WithLabelValues(source).Set(float64(c.Held))
	f.absent.WithLabelValues(source).Set(float64(c.Absent))
	f.stale.WithLabelValues(source).Set(0)
	if stale {
		f.stale.WithLabelValues(source).Set(1)
	}
	if !c.Made.IsZero() {
		f.age.WithLabelValues(source).Set(max(0, now.Sub(c.Made).Seconds()))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	became := stale && !f.silent[source]
	f.silent[source] = stale
	return became
}

// reset shows nothing: another replica does.
func (f *rosterFigures) reset() {
	for _, gauge := range f.gauges() {
		gauge.Reset()
	}
}
