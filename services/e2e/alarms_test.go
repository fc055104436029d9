package e2e

import (
	"bytes"
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// figures are what processes tell at their metrics listeners, by name and labels; a process that does not answer tells nothing.
type figures map[string]float64

// alarm is a rule by which an operator is called: what docs/operations.md says to watch for.
type alarm struct {
	name   string
	rising func(before, now figures) bool
}

// alarms are the rules. What only counts up is compared with what it was before.
var alarms = []alarm{
	{"not ready", func(_, now figures) bool { return now.greatest("unready") > 0 }},
	{"a NATS node is away", func(_, now figures) bool { return now.greatest("unhealthy") > 0 }},
	{"urgent work waits", func(_, now figures) bool { return now.greatest("tenure_oldest_due_seconds", "lane=urgent") > 60 }},
	{"stuck", func(_, now figures) bool { return now.greatest("tenure_stuck_items") > 0 }},
	{"breaker open", func(_, now figures) bool { return now.greatest("tenure_breaker_open") > 0 }},
	{"reads fail", func(before, now figures) bool { return now.failed("op=READ")-before.failed("op=READ") > 0 }},
	{"steps fail", func(before, now figures) bool {
		steps := func(f figures) float64 {
			return f.sum("tenure_connector_steps_total", "outcome=OUTCOME_FAILED") + f.sum("tenure_connector_steps_total", "outcome=OUTCOME_UNKNOWN")
		}
		return steps(now) > steps(before)
	}},
	{"outbox waits", func(_, now figures) bool { return now.greatest("tenure_outbox_oldest_seconds") > 60 }},
	{"record behind", func(_, now figures) bool { return now.greatest("tenure_audit_behind") > 60 }},
	{"a clock is off", func(_, now figures) bool {
		return now.greatest("tenure_clock_off_seconds") > 1 || now.least("tenure_clock_off_seconds") < -1
	}},
	{"a clock was set", func(before, now figures) bool {
		return now.sum("tenure_clock_steps_total") > before.sum("tenure_clock_steps_total")
	}},
	{"webhooks refused", func(before, now figures) bool {
		return now.sum("tenure_ingest_auth_failures_total") > before.sum("tenure_ingest_auth_failures_total")
	}},
	{"intake fails", func(before, now figures) bool {
		return now.sum("tenure_ingest_deliveries_total", "result=unavailable") > before.sum("tenure_ingest_deliveries_total", "result=unavailable")
	}},
}

// rising are the names of the alarms that are on.
func rising(before, now figures) (names []string) {
	for _, a := range alarms {
		if a.rising(before, now) {
			names = append(names, a.name)
		}
	}
	return names
}

// of are the values of a figure that has all of these labels, each written name=value.
func (f figures) of(name string, labels ...string) (values []float64) {
	for _, key := range slices.Sorted(maps.Keys(f)) {
		parts := strings.Split(key, "|")
		has := func(label string) bool { return slices.Contains(parts[1:], label) }
		if parts[0] == name && !slices.ContainsFunc(labels, func(label string) bool { return !has(label) }) {
			values = append(values, f[key])
		}
	}
	return values
}

func (f figures) greatest(name string, labels ...string) float64 {
	return slices.Max(append(f.of(name, labels...), 0))
}

func (f figures) least(name string, labels ...string) float64 {
	return slices.Min(append(f.of(name, labels...), 0))
}

func (f figures) sum(name string, labels ...string) (total float64) {
	for _, value := range f.of(name, labels...) {
		total += value
	}
	return total
}

// failed is how many steps of a kind did not succeed.
func (f figures) failed(op string) float64 {
	return f.sum("tenure_connector_steps_total", op) - f.sum("tenure_connector_steps_total", op, "outcome=OK")
}

// figures asks everybody for their figures. One that is not ready, or does not answer within three seconds, adds an unready.
func (w *world) figures(ctx context.Context) figures {
	all := figures{}
	for _, probe := range w.probes {
		soon, cancel := context.WithTimeout(ctx, 3*time.Second)
		if status, _, err := get(soon, probe); err != nil || status != http.StatusOK {
			all["unhealthy|probe="+probe] = 1
		}
		cancel()
	}
	for _, address := range w.listeners {
		if readFrom(ctx, address, all) != nil {
			all["unready|listener="+address] = 1
		}
	}
	return all
}

func readFrom(ctx context.Context, address string, into figures) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	status, _, err := get(ctx, "http://"+address+"/readyz")
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		into["unready|listener="+address] = 1
	}
	_, page, err := get(ctx, "http://"+address+"/metrics")
	if err != nil {
		return err
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(page))
	for name, family := range families {
		for _, m := range family.GetMetric() {
			key := name + "|listener=" + address
			for _, label := range m.GetLabel() {
				key += "|" + label.GetName() + "=" + label.GetValue()
			}
			into[key] = value(m)
		}
	}
	return err
}

// value is a gauge's or a counter's; nothing else is asked for.
func value(m *dto.Metric) float64 { return m.GetGauge().GetValue() + m.GetCounter().GetValue() }
