package worker

import (
	"context"
	"time"

	"github.com/tenurehq/tenure/services/provision/internal/store"
)

// keep holds the target until the function that it returns is called: it renews the lease, so that however long calls
// wait for their turn at the application's rate nobody, this worker itself included, takes the target meanwhile. It
// ends the waiting when the target is somebody else's or a newer generation, or a cut, was heard of, for that must not wait;
// and soon after the process was told to stop.
func (k *task) keep(ctx context.Context) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	turn, over := context.WithCancel(ctx)
	k.turn = turn
	claimed := store.Claimed{Target: k.t, Cut: k.cut}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		timing, stop := k.cfg.Timing, k.stop
		var last <-chan time.Time
		renewal := time.NewTicker(timing.Lease / 3)
		defer renewal.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-stop:
				stop, last = nil, time.After(timing.Request)
			case <-last:
				over()
			case <-renewal.C:
				now := k.deps.Now()
				held, err := k.deps.Store.Renew(ctx, k.holder, claimed, now, now.Add(timing.Lease))
				if err == nil && !held { // on an error the database is away, and there is time to try again
					over()
				}
			}
		}
	}()
	return func() {
		cancel()
		<-ended
	}
}
