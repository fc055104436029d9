package worker

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tenurehq/tenure/services/provision/internal/store"
)

func some(n int) claimed { return claimed{targets: make([]store.Claimed, n)} }

func TestWhatIsClaimedForAFeedThatWaitsGetsThere(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLine(normal, false)
		if l.hand() != nil {
			t.Fatal("something may be claimed for a feed that does not wait")
		}
		l.lookAt = time.Now().Add(time.Second)
		got := make(chan claimed, 1)
		go func() { got <- l.wait(t.Context()) }()
		synctest.Wait()
		hand := l.hand()
		if hand == nil || l.hand() != nil {
			t.Fatal("want one, and only one, who may claim for a feed that waits")
		}
		hand <- some(2)
		if n := len((<-got).targets); n != 2 {
			t.Errorf("the feed got %d targets, want 2", n)
		}
		if l.hand() != nil {
			t.Error("something may be claimed for a feed that has something to do")
		}
	})
}

// A feed must not go on without what is being claimed for it: nobody else would work on that.
func TestAFeedThatIsWokenWaitsForWhatIsBeingClaimedForIt(t *testing.T) {
	t.Parallel()
	for _, by := range []string{"bell", "time", "end"} {
		synctest.Test(t, func(t *testing.T) {
			l := newLine(normal, false)
			l.lookAt = time.Now().Add(time.Second)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			got := make(chan claimed, 1)
			go func() { got <- l.wait(ctx) }()
			synctest.Wait()
			hand := l.hand()
			switch by {
			case "bell":
				wake(l.bell)
			case "time":
				time.Sleep(2 * time.Second)
			case "end":
				cancel()
			}
			synctest.Wait()
			select {
			case <-got:
				t.Fatalf("%s: it did not wait", by)
			default:
			}
			hand <- some(1)
			if n := len((<-got).targets); n != 1 {
				t.Errorf("%s: it got %d targets, want 1", by, n)
			}
		})
	}
}

func TestAFeedLooksWhenTheBellRingsOrItIsTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLine(normal, false)
		start := time.Now()
		l.lookAt = start.Add(time.Second)
		if got := l.wait(t.Context()); len(got.targets) != 0 || time.Since(start) != time.Second {
			t.Errorf("after %s it had %d targets", time.Since(start), len(got.targets))
		}
		if l.hand() != nil {
			t.Error("it is said to wait still")
		}
		wake(l.bell)
		l.lookAt = time.Now().Add(time.Hour)
		if l.wait(t.Context()); time.Since(start) != time.Second {
			t.Error("the bell did not wake it")
		}
	})
}
