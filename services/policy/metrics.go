package policy

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are policy's figures.
type metrics struct {
	model     prometheus.Gauge
	decisions prometheus.Counter
	overtaken prometheus.Counter
	seconds   prometheus.Histogram
	outdated  prometheus.Gauge
	withheld  prometheus.Gauge
	holds     prometheus.Gauge
	held      prometheus.Gauge
}

func newMetrics(registry prometheus.Registerer) *metrics {
	m := &metrics{
		model: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "tenure_model_seq", Help: "Number of the applied role model; 0: none, and nothing is desired.",
		}),
		decisions: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tenure_decisions_total", Help: "Decisions about people that were saved.",
		}),
		overtaken: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tenure_decisions_overtaken_total", Help: "Decisions made again because somebody else was faster.",
		}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "tenure_decision_save_seconds", Help: "How long saving a batch of decisions took.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14),
		}),
		outdated: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "tenure_decisions_outdated", Help: "People still to be decided about by the applied model.",
		}),
		withheld: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "tenure_grants_withheld", Help: "1 while new grants wait because audit lags.",
		}),
		holds: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "tenure_holds_open", Help: "Holds of the brake that wait for two operators.",
		}),
		held: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "tenure_held_people", Help: "People about whom the brake keeps something back.",
		}),
	}
	if registry != nil {
		registry.MustRegister(m.model, m.decisions, m.overtaken, m.seconds, m.outdated, m.withheld, m.holds, m.held)
	}
	return m
}

func (m *metrics) saved(decisions int, took time.Duration) {
	m.decisions.Add(float64(decisions))
	m.seconds.Observe(took.Seconds())
}
