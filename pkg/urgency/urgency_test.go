package urgency

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestNothingWaitsWhenNothingIsUrgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		start := time.Now()
		for range 100 {
			g.giveWay(t.Context())
		}
		g.hurry()
		time.Sleep(hold)
		for range 100 {
			g.giveWay(t.Context())
		}
		if took := time.Since(start); took != hold {
			t.Errorf("steps waited %v", took-hold)
		}
	})
}

func TestStepsGoOneByOneWhileSomethingIsUrgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		hurrying, end := context.WithCancel(t.Context())
		go func() {
			for hurrying.Err() == nil {
				g.hurry()
				time.Sleep(hold / 2)
			}
		}()
		synctest.Wait()
		const steps = 20
		start, done := time.Now(), make(chan time.Duration, steps)
		for range steps {
			go func() {
				g.giveWay(t.Context())
				done <- time.Since(start)
			}()
		}
		for n := range steps / 2 {
			if at, want := <-done, time.Duration(n)*pace; at != want {
				t.Errorf("step %d was let through after %v, want %v", n, at, want)
			}
		}
		end()
		time.Sleep(hold) // what is left goes at once when the last urgent thing is over
		synctest.Wait()
		if len(done) != steps/2 {
			t.Errorf("%d of %d steps were let through when nothing was urgent any more", len(done), steps/2)
		}
	})
}

func TestWhoStopsDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		g.hurry()
		g.giveWay(t.Context())
		start := time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		g.giveWay(ctx)
		if took := time.Since(start); took != 0 {
			t.Errorf("a step that is not wanted any more waited %v", took)
		}
		g.giveWay(t.Context()) // and keeps nobody else
		if took := time.Since(start); took != pace {
			t.Errorf("the step after it waited %v, want %v", took, pace)
		}
	})
}

func TestWhoDoesNotQueueIsPatientForSoLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const patience = time.Second
		g := newGate()
		since := time.Now()
		g.hurry()
		if left := g.leftSince(since, patience); left != hold {
			t.Errorf("%v left, want %v", left, hold)
		}
		time.Sleep(patience - hold/2)
		g.hurry()
		if left := g.leftSince(since, patience); left != hold/2 {
			t.Errorf("%v left of its patience, want %v", left, hold/2)
		}
		time.Sleep(hold)
		if left := g.leftSince(since, patience); left != 0 {
			t.Errorf("%v left after it", left)
		}
	})
}

func TestWhoManyWaitForGivesWayForSoLongAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		before := process
		process = newGate()
		defer func() { process = before }()
		start := time.Now()
		Hurry()
		GiveWayFor(t.Context(), hold/4)
		if took := time.Since(start); took != hold/4 {
			t.Errorf("gave way for %v, want %v", took, hold/4)
		}
		GiveWayFor(t.Context(), time.Hour)
		if took := time.Since(start); took != hold {
			t.Errorf("went on after %v, want %v, when nothing is urgent any more", took, hold)
		}
	})
}
