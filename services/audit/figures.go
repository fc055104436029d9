package audit

import "github.com/prometheus/client_golang/prometheus"

// figures are what an SRE watches.
type figures struct {
	recorded prometheus.Counter
	pulled   prometheus.Counter
	behind   prometheus.Gauge
}

func newFigures(registry prometheus.Registerer) figures {
	f := figures{
		recorded: prometheus.NewCounter(prometheus.CounterOpts{Name: "tenure_audit_recorded_total", Help: "Events recorded in the log."}),
		pulled:   prometheus.NewCounter(prometheus.CounterOpts{Name: "tenure_audit_pulled_total", Help: "Events that were asked for at their origin, because the stream did not bring them."}),
		behind:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "tenure_audit_behind", Help: "Seconds since the oldest hole in the record was noticed; 0 when there is none."}),
	}
	registry.MustRegister(f.recorded, f.pulled, f.behind)
	return f
}
