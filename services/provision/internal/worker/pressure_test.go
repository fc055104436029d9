package worker

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tenurehq/tenure/pkg/connector"
)

func TestAQuarterOfTheSlotsIsKeptForUrgentWork(t *testing.T) {
	t.Parallel()
	for size, want := range map[int]int{1: 0, 2: 1, 4: 1, 8: 2, 16: 4} {
		if got := reserved(size); got != want {
			t.Errorf("of %d slots %d are kept, want %d", size, got, want)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(4)
		for range 3 {
			if s.take(t.Context(), false) != nil {
				t.Fatal("normal work does not get three of four slots")
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if s.take(ctx, false) == nil {
			t.Fatal("normal work got the slot that is kept for urgent work")
		}
		if s.take(t.Context(), true) != nil {
			t.Fatal("urgent work did not get its slot")
		}
	})
}

func TestWithOneSlotUrgentWorkIsNext(t *testing.T) {
	t.Parallel()
	for _, lanes := range [][]bool{{false, true}, {true, false}} { // whoever came first, or last
		synctest.Test(t, func(t *testing.T) {
			s := newSlots(1)
			if err := s.take(t.Context(), false); err != nil {
				t.Fatal(err)
			}
			const each = 10 // all are told at once that it is free: a single urgent one would be next by luck, too
			order := make(chan string, 2*each)
			for _, urgent := range lanes {
				for range each {
					go func() {
						if s.take(t.Context(), urgent) == nil {
							order <- map[bool]string{true: "urgent", false: "normal"}[urgent]
							s.giveBack(urgent)
						}
					}()
				}
				synctest.Wait()
			}
			s.giveBack(false)
			urgentFirst(t, order, each)
		})
	}
}

func TestThrottlingPausesHalvesAndRecovers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPacer(600) // ten a second
		start := time.Now()
		for range 160 {
			if err := p.wait(t.Context(), false); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(start); took < 9*time.Second || took > 11*time.Second {
			t.Errorf("160 calls at ten a second, sixty at once, took %s", took)
		}
		p.throttled(5 * time.Second)
		start = time.Now()
		if err := p.wait(t.Context(), true); err != nil || time.Since(start) < 5*time.Second {
			t.Errorf("called after %s, asked to wait 5s", time.Since(start))
		}
		if limit := p.limiter.Limit(); limit != 5 {
			t.Errorf("throttled to %v calls a second, want half of ten", limit)
		}
		for range 10 {
			time.Sleep(time.Second)
			p.taken()
		}
		if limit := p.limiter.Limit(); limit != 10 {
			t.Errorf("recovered to %v calls a second, want ten", limit)
		}
	})
}

func TestUrgentCallsOvertakeTheRate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPacer(60)
		for range 6 {
			_ = p.wait(t.Context(), false)
		}
		const each = 10 // all wake at the same instants: a single urgent one would be first by luck now and then
		order := make(chan string, 2*each)
		for _, urgent := range []bool{false, true} {
			for range each {
				go func() {
					_ = p.wait(t.Context(), urgent)
					order <- map[bool]string{true: "urgent", false: "normal"}[urgent]
				}()
			}
			synctest.Wait()
		}
		urgentFirst(t, order, each)
	})
}

// urgentFirst fails unless the first half of what comes is urgent.
func urgentFirst(t *testing.T, order <-chan string, each int) {
	t.Helper()
	for i := range 2 * each {
		if got := <-order; got == "normal" && i < each {
			t.Errorf("the one after %d was a normal one", i)
		}
	}
}

func TestTheBreakerTellsAnOutageFromAPerson(t *testing.T) {
	t.Parallel()
	b := newBreaker()
	for range 100 {
		if b.report(connector.Precondition("x", "one account")) || b.report(connector.RateLimited(0, "429", "slower")) {
			t.Fatal("one account's problem, or throttling, counts as an outage")
		}
	}
	for i := range tripAfter {
		if opened := b.report(connector.Unknown("timeout", "no reply")); opened != (i == tripAfter-1) {
			t.Fatalf("after %d failures in a row the breaker is open: %v", i+1, opened)
		}
	}
	b.close()
	if !b.report(connector.Unknown("timeout", "no reply")) {
		t.Error("the first failure after an outage does not open the breaker again")
	}
	b.close()
	b.report(nil)
	if b.report(connector.Unknown("timeout", "no reply")) {
		t.Error("one failure after a call that worked opens the breaker")
	}
	if !b.report(connector.Auth("401", "dead credential")) {
		t.Error("a dead credential does not open the breaker at once")
	}
}
