package main

import (
	"slices"
	"testing"
	"time"
)

func TestPercentilesAreByNearestRankAndMediansBetweenTheMiddleTwo(t *testing.T) {
	t.Parallel()
	var hundred []time.Duration
	for n := 100; n >= 1; n-- {
		hundred = append(hundred, time.Duration(n)*time.Millisecond)
	}
	for p, want := range map[float64]time.Duration{0.5: 50, 0.95: 95, 0.99: 99, 1: 100} {
		if got := percentile(hundred, p); got != want*time.Millisecond {
			t.Errorf("p%.0f of 1 to 100 ms is %s, want %d ms", 100*p, got, want)
		}
	}
	if got := percentile(hundred[:1], 0.5); got != 100*time.Millisecond {
		t.Errorf("p50 of 100 ms alone is %s", got)
	}
	if got := median([]float64{9, 1, 4}); got != 4 {
		t.Errorf("the median of 9, 1, 4 is %g", got)
	}
	if got := median([]float64{9, 1, 4, 6}); got != 5 {
		t.Errorf("the median of 9, 1, 4, 6 is %g", got)
	}
}

// A rate is told by the median of rounds, a latency by all rounds' samples; either beside its limit.
func TestWhatIsToldOfAFigure(t *testing.T) {
	t.Parallel()
	var f figures
	for _, v := range []float64{10, 30, 20} {
		f.add("rate", "sqlite", "1/s", v, 2*v)
	}
	if value, limit := f.of("rate", "sqlite", "1/s").middle(); value != 20 || limit != 40 {
		t.Errorf("of 10, 30, 20 beside their doubles %g and %g are told, want 20 and 40", value, limit)
	}
	ms := time.Millisecond
	f.sample("latency", "sqlite", 0.5, []time.Duration{ms, ms, ms}, []time.Duration{ms})
	f.sample("latency", "sqlite", 0.5, []time.Duration{9 * ms}, []time.Duration{5 * ms})
	if value, limit := f.of("latency", "sqlite", "ms").middle(); value != 1 || limit != 1 {
		t.Errorf("%g and %g are told of samples of two rounds, want 1 and 1: not the rounds' median", value, limit)
	}
}

func TestWhoLeftIsNotCalledUpAgain(t *testing.T) {
	t.Parallel()
	var p population
	p.mix(6) // six joiners
	left := p.leavers(2)
	var ids []string
	for _, e := range append(left, p.mix(8)...) {
		if !e.joiner {
			ids = append(ids, e.id)
		}
	}
	if want := []string{"msg_0_1", "msg_1_1", "msg_2_1", "msg_3_1", "msg_4_1", "msg_5_1"}; !slices.Equal(ids, want) {
		t.Errorf("two leave and four are moved as %v, want %v", ids, want)
	}
	if n := len(p.leavers(100)); n != 8 {
		t.Errorf("%d can leave of four moved and four joined", n)
	}
}
