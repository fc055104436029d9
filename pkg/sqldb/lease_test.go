package sqldb_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/tenurehq/tenure/pkg/sqldb"
	"github.com/tenurehq/tenure/pkg/sqldb/sqltest"
)

func TestALeaseHasOneHolderAtATime(t *testing.T) {
	t.Parallel()
	sqltest.Run(t, nil, func(t *testing.T, db *sqldb.DB) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		var mu sync.Mutex
		holders, epochs := 0, []int64{}
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				err := db.Lease(ctx, "one", 300*time.Millisecond, func(_ context.Context, epoch int64) error {
					mu.Lock()
					holders++
					if holders > 1 {
						t.Error("two hold the lease")
					}
					epochs = append(epochs, epoch)
					mu.Unlock()
					time.Sleep(10 * time.Millisecond) // long enough for another to get in, if it can
					mu.Lock()
					holders--
					mu.Unlock()
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if len(epochs) != 4 {
			t.Fatalf("%d of 4 got the lease", len(epochs))
		}
		for i, epoch := range epochs {
			if epoch != int64(i+1) {
				t.Errorf("epochs %v do not grow one by one", epochs)
			}
		}
	})
}

func TestALeaseWhoseHolderDiedIsTakenOver(t *testing.T) {
	t.Parallel()
	sqltest.Run(t, nil, func(t *testing.T, db *sqldb.DB) {
		ctx := t.Context()
		must(t, db.InTx(ctx, func(tx *sqldb.Tx) error { // a dead holder's row, run out
			_, err := tx.Exec(ctx, `INSERT INTO leases (name, holder, epoch, until) VALUES ('one', 'dead', 7, 1)`)
			return err
		}))
		must(t, db.Lease(ctx, "one", time.Second, func(_ context.Context, epoch int64) error {
			if epoch != 8 {
				t.Errorf("epoch %d after 7", epoch)
			}
			return nil
		}))
	})
}

func TestATaskEndsWhenItsLeaseIsTaken(t *testing.T) {
	t.Parallel()
	sqltest.Run(t, nil, func(t *testing.T, db *sqldb.DB) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		runs := 0
		err := db.Lease(ctx, "one", 150*time.Millisecond, func(held context.Context, epoch int64) error {
			if runs++; runs == 2 {
				cancel()
				return nil
			}
			must(t, db.InTx(ctx, func(tx *sqldb.Tx) error { // somebody else's, and run out at once
				_, err := tx.Exec(ctx, `UPDATE leases SET holder = 'thief', epoch = epoch + 1, until = 1 WHERE name = 'one'`)
				return err
			}))
			<-held.Done()
			return held.Err()
		})
		if err != nil || runs != 2 {
			t.Errorf("got %v after %d runs; the lost lease should be claimed again", err, runs)
		}
	})
}

func TestATaskEndsBeforeItsLeaseWhenRenewingHangs(t *testing.T) {
	t.Parallel()
	sqltest.Run(t, nil, func(t *testing.T, db *sqldb.DB) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		const ttl = 600 * time.Millisecond
		left := make(chan int64, 1)
		err := db.Lease(ctx, "one", ttl, func(held context.Context, _ int64) error {
			// The row is locked by another, and on SQLite the writer is busy: nothing can be renewed.
			var blocking sync.WaitGroup
			blocking.Go(func() {
				ctx := context.WithoutCancel(held) // it goes on when the task is told to stop
				must(t, db.InTx(ctx, func(tx *sqldb.Tx) error {
					if _, err := tx.Exec(ctx, `UPDATE leases SET holder = holder WHERE name = 'one'`); err != nil {
						return err
					}
					<-held.Done()
					var until int64
					if err := tx.QueryRow(ctx, `SELECT until FROM leases WHERE name = 'one'`).Scan(&until); err != nil {
						return err
					}
					left <- until - time.Now().UnixMicro() // the database is on this machine: one clock
					return nil
				}))
			})
			blocking.Wait()
			cancel()
			return nil
		})
		must(t, err)
		if us := <-left; us <= 0 {
			t.Errorf("the task was stopped %v after its lease had run out", time.Duration(-us)*time.Microsecond)
		}
	})
}

func TestALeaseIsKeptWhileItsTaskRuns(t *testing.T) {
	t.Parallel()
	sqltest.Run(t, nil, func(t *testing.T, db *sqldb.DB) {
		const ttl = 300 * time.Millisecond
		renewed := func(before int64) bool {
			var until int64
			must(t, db.QueryRow(t.Context(), `SELECT until FROM leases WHERE name = 'one'`).Scan(&until))
			return until > before
		}
		must(t, db.Lease(t.Context(), "one", ttl, func(held context.Context, _ int64) error {
			start := sqldb.Micros(time.Now().Add(2 * ttl))
			for !renewed(start) { // longer than two times ttl can only be seen when it was renewed
				select {
				case <-held.Done():
					t.Error("the task was stopped although its lease could be renewed")
					return nil
				case <-time.After(ttl / 10):
				}
			}
			return nil
		}))
		if renewed(0) {
			t.Error("the lease was not given back")
		}
	})
}

func TestALeaseReturnsWhatItsTaskDid(t *testing.T) {
	t.Parallel()
	db := sqltest.New(t, sqldb.SQLite)
	wrong := errors.New("wrong")
	if err := db.Lease(t.Context(), "one", time.Second, func(context.Context, int64) error { return wrong }); !errors.Is(err, wrong) {
		t.Errorf("got %v, want the task's own error", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	err := db.Lease(ended, "one", time.Second, func(context.Context, int64) error { return wrong })
	if err != nil {
		t.Errorf("got %v, want nil when ctx ends before the lease is taken", err)
	}
}

// TestADeadHoldersLeaseEndsAlthoughTheClockWasSetBack, and a living one's does not.
func TestADeadHoldersLeaseEndsAlthoughTheClockWasSetBack(t *testing.T) {
	t.Parallel()
	sqltest.Run(t, nil, func(t *testing.T, db *sqldb.DB) {
		const ttl = 300 * time.Millisecond
		ctx := t.Context()
		must(t, db.InTx(ctx, func(tx *sqldb.Tx) error {
			_, err := tx.Exec(ctx, `INSERT INTO leases (name, holder, epoch, until) VALUES ('one', 'dead', 7, $1)`, sqldb.Micros(time.Now().Add(time.Hour)))
			return err
		}))
		began := time.Now()
		within, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		epoch := int64(0)
		must(t, db.Lease(within, "one", ttl, func(_ context.Context, now int64) error {
			epoch = now
			return nil
		}))
		if epoch != 8 || time.Since(began) < ttl {
			t.Errorf("taken with epoch %d after %s; the holder may live until %s have passed", epoch, time.Since(began), ttl)
		}
	})
}

func TestALivingHoldersLeaseLastsAlthoughTheClockWasSetBack(t *testing.T) {
	t.Parallel()
	for _, engine := range sqltest.Engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			const ttl = 300 * time.Millisecond
			cfg := sqltest.Config(t, engine)
			holders, waiters := sqltest.Open(t, cfg), sqltest.Open(t, cfg)
			sqldb.Shift(waiters, -time.Hour)
			must(t, holders.Lease(t.Context(), "one", ttl, func(held context.Context, _ int64) error {
				within, cancel := context.WithTimeout(held, 5*ttl)
				defer cancel()
				return waiters.Lease(within, "one", ttl, func(context.Context, int64) error {
					t.Error("taken from a holder who lives")
					return nil
				})
			}))
		})
	}
}
