package worker

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tenurehq/tenure/services/provision/internal/store"
)

// Metrics are the figures of all workers of a process. Labels are names of applications, lanes, operations and
// outcomes, never people.
type Metrics struct {
	leaver *prometheus.HistogramVec
	oldest *prometheus.GaugeVec
	stuck  *prometheus.GaugeVec
	calls  *prometheus.CounterVec
	unseen *prometheus.CounterVec
	broken *prometheus.GaugeVec
	ends   *prometheus.GaugeVec
}

// NewMetrics registers the figures.
func NewMetrics(registry prometheus.Registerer) *Metrics {
	m := &Metrics{
		leaver: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "tenure_leaver_seconds", Help: "How long a person could get in after they should not: to the read-back that shows it, from the effective instant or from when that had come and was known.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 86400},
		}, []string{"app", "clock"}),
		oldest: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "tenure_oldest_due_seconds", Help: "How long the longest waiting target has been waiting.",
		}, []string{"app", "lane"}),
		stuck: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "tenure_stuck_items", Help: "Targets that wait for a person's help.",
		}, []string{"app"}),
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tenure_connector_steps_total", Help: "Reads and steps, by what the connector said of them.",
		}, []string{"app", "op", "outcome"}),
		unseen: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tenure_connector_unseen_steps_total", Help: "Steps that the application called done and the read after them did not show.",
		}, []string{"app"}),
		broken: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "tenure_breaker_open", Help: "1 while an application as a whole does not work and is left alone.",
		}, []string{"app"}),
		ends: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "tenure_connector_credential_expires_timestamp_seconds", Help: "When the credential ends by which an application is called, in seconds since 1970, where that is known.",
		}, []string{"app"}),
	}
	registry.MustRegister(m.leaver, m.oldest, m.stuck, m.calls, m.unseen, m.broken, m.ends)
	return m
}

func (m *Metrics) call(app, op, outcome string) { m.calls.WithLabelValues(app, op, outcome).Inc() }

// notSeen counts steps that were called done and not seen to be. It is called with 0 before there are any: what has no figure
// yet has no increase either.
func (m *Metrics) notSeen(app string, steps int) { m.unseen.WithLabelValues(app).Add(float64(steps)) }

func (m *Metrics) breaker(app string, open bool) {
	value := 0.0
	if open {
		value = 1
	}
	m.broken.WithLabelValues(app).Set(value)
}

// expires tells when an application's credential ends; zero: nobody knows.
func (m *Metrics) expires(app string, at time.Time) {
	if at.IsZero() {
		m.ends.DeleteLabelValues(app)
		return
	}
	m.ends.WithLabelValues(app).Set(float64(at.Unix()))
}

func (m *Metrics) left(app string, effective, known time.Duration) {
	m.leaver.WithLabelValues(app, "effective").Observe(effective.Seconds())
	m.leaver.WithLabelValues(app, "known").Observe(known.Seconds())
}

func (m *Metrics) open(app string, counts []store.LaneCount, now time.Time) {
	oldest := map[store.Lane]time.Duration{urgent: 0, normal: 0}
	stuck := int64(0)
	for _, c := range counts {
		switch c.State {
		case store.Stuck:
			stuck += c.Count
		case store.Due, store.Retrying:
			oldest[c.Lane] = max(oldest[c.Lane], now.Sub(c.Oldest))
		case store.Settled, store.Observing: // will have something to do later
		}
	}
	m.stuck.WithLabelValues(app).Set(float64(stuck))
	m.oldest.WithLabelValues(app, "urgent").Set(oldest[urgent].Seconds())
	m.oldest.WithLabelValues(app, "normal").Set(oldest[normal].Seconds())
}
