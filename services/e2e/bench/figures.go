package main

import (
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// figures are what was measured, in the order it came about.
type figures struct {
	all []*series
}

// series is one figure over the rounds.
type series struct {
	name, engine, unit string
	values, limits     []float64 // one a round; limit 0: none

	p               float64         // percentile; 0: values are values
	samples, bounds []time.Duration // of all rounds
}

func (f *figures) of(name, engine, unit string) *series {
	for _, s := range f.all {
		if s.name == name && s.engine == engine {
			return s
		}
	}
	s := &series{name: name, engine: engine, unit: unit}
	f.all = append(f.all, s)
	return s
}

// add is one round's value and its limit.
func (f *figures) add(name, engine, unit string, value, limit float64) {
	s := f.of(name, engine, unit)
	s.values = append(s.values, value)
	if limit != 0 {
		s.limits = append(s.limits, limit)
	}
}

// sample is one round of a percentile: it is told over all rounds' samples, its spread is that of the rounds.
func (f *figures) sample(name, engine string, p float64, samples, bounds []time.Duration) {
	s := f.of(name, engine, "ms")
	s.p = p
	s.values = append(s.values, millis(percentile(samples, p)))
	s.limits = append(s.limits, millis(percentile(bounds, p)))
	s.samples = append(s.samples, samples...)
	s.bounds = append(s.bounds, bounds...)
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// percentile is the nearest-rank percentile.
func percentile(all []time.Duration, p float64) time.Duration {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[max(0, int(math.Ceil(p*float64(len(sorted))))-1)]
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// middle is what is told of a figure and its limit: medians of rounds, or percentiles of all samples.
func (s *series) middle() (value, limit float64) {
	if s.p > 0 {
		return millis(percentile(s.samples, s.p)), millis(percentile(s.bounds, s.p))
	}
	if len(s.limits) > 0 {
		limit = median(s.limits)
	}
	return median(s.values), limit
}

func (f *figures) print(o options) {
	print("\n%d rounds for each engine, interleaved; throughput: %d events a round from %d clients; latency: %d events a round, one every %s (N = %d)",
		o.rounds, o.events, o.clients, o.slow, o.every, o.slow*o.rounds)
	print("%-48s %10s %21s %10s %21s %7s", "figure", "median", "min – max", "limit", "min – max", "ratio")
	for _, s := range f.all {
		value, limit := s.middle()
		line := pad(s.name+"."+s.engine, 48) + number(value, 11) + spread(s.values)
		if len(s.limits) > 0 {
			line += number(limit, 11) + spread(s.limits) + number(value/limit, 8)
		}
		print("%s %s", line, s.unit)
	}
}

func spread(values []float64) string {
	return " " + number(slices.Min(values), 10) + " –" + number(slices.Max(values), 9)
}

func number(v float64, width int) string {
	digits := 2
	if v >= 100 {
		digits = 0
	}
	text := formatted(v, digits)
	return strings.Repeat(" ", max(0, width-len(text))) + text
}

func pad(s string, width int) string { return s + strings.Repeat(" ", max(0, width-len(s))) }

// json writes one line a figure.
func (f *figures) json(w io.Writer) error {
	var all []figure
	for _, s := range f.all {
		value, limit := s.middle()
		one := figure{Name: s.name + "." + s.engine, Value: rounded(value), Unit: s.unit}
		if len(s.limits) > 0 {
			l, r := rounded(limit), rounded(value/limit)
			one.Limit, one.Ratio = &l, &r
		}
		all = append(all, one)
	}
	return emit(w, all)
}

func rounded(v float64) float64 { return math.Round(v*1000) / 1000 }

func formatted(v float64, digits int) string { return strconv.FormatFloat(v, 'f', digits, 64) }
