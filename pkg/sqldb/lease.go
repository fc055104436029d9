package sqldb

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/tenurehq/tenure/pkg/fault"
)

// leaseRetryMax bounds how long a waiter goes without looking: a lease given back early is taken within a second.
const leaseRetryMax = time.Second

// Lease runs task while this process, of all that ask for name, is the one that holds it. It waits for its turn, and
// takes over a lease that was not renewed for ttl, by the database's clock. Each take-over raises epoch by one: task
// writes it with each effect, so that an effect of an earlier holder that is late can be told. The lease is renewed
// every ttl/3; when that does not succeed, task's context ends ttl/6 before somebody else may begin, and Lease waits
// for its turn again. When task returns otherwise, the lease is given back and Lease returns what task did. nil when
// ctx ends.
//
// task must return soon after its context ends, within ttl/6 to be alone. That cannot be promised to a machine that
// was suspended; there epoch decides.
func (db *DB) Lease(ctx context.Context, name string, ttl time.Duration,
	task func(ctx context.Context, epoch int64) error,
) error {
	if ttl < time.Millisecond {
		return fmt.Errorf("lease %s: ttl %s is under a millisecond", name, ttl)
	}
	l := &lease{db: db, name: name, holder: uuid.NewString(), ttl: ttl}
	for {
		held, err := l.wait(ctx)
		if ctx.Err() != nil {
			if err == nil {
				l.release(ctx)
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("take lease %s: %w", name, err)
		}
		lost, err := l.hold(ctx, held, task)
		if !lost {
			l.release(ctx)
			return err
		}
		if ctx.Err() != nil {
			return nil
		}
	}
}

type lease struct {
	db     *DB
	name   string
	holder string // differs for every call of Lease
	ttl    time.Duration
	epoch  int64
}

// takeLease and the others get the database's clock for %s.
const (
	takeLease = `
INSERT INTO leases (name, holder, epoch, until) VALUES ($1, $2, 1, %[1]s + $3)
ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, epoch = leases.epoch + 1, until = excluded.until
WHERE  leases.until < %[1]s
RETURNING epoch`
	renewLease   = `UPDATE leases SET until = %s + $4 WHERE name = $1 AND holder = $2 AND epoch = $3`
	releaseLease = `UPDATE leases SET until = 0 WHERE name = $1 AND holder = $2 AND epoch = $3`
	seeLease     = `SELECT until - %s FROM leases WHERE name = $1`
)

func (l *lease) sql(text string) string { return fmt.Sprintf(text, l.db.engine.now()) }

// wait returns when the lease is taken, with the local time before which that was; the ttl counts from there.
func (l *lease) wait(ctx context.Context) (time.Time, error) {
	for {
		before := time.Now()
		taken, err := l.take(ctx)
		if taken {
			return before, nil
		}
		pause := min(l.ttl/3, leaseRetryMax)
		switch {
		case err == nil:
			pause = l.untilFree(ctx, pause)
		case fault.KindOf(err) != fault.Unavailable && fault.KindOf(err) != fault.Conflict:
			return time.Time{}, err
		}
		if err := sleep(ctx, pause); err != nil {
			return time.Time{}, err
		}
	}
}

func (l *lease) take(ctx context.Context) (bool, error) {
	// Look first: on SQLite every attempt would be a turn of the one writer.
	if left := l.untilFree(ctx, 0); left > 0 {
		return false, nil
	}
	err := l.db.InTx(ctx, func(tx *Tx) error {
		return tx.QueryRow(ctx, l.sql(takeLease), l.name, l.holder, l.ttl.Microseconds()).Scan(&l.epoch)
	})
	if errors.Is(err, ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

// untilFree returns how long the present holder has left, at most limit unless that is 0; limit when it is not known.
func (l *lease) untilFree(ctx context.Context, limit time.Duration) time.Duration {
	var left int64
	if err := l.db.QueryRow(ctx, l.sql(seeLease), l.name).Scan(&left); err != nil {
		return limit
	}
	wait := max(time.Duration(left)*time.Microsecond, 0) + time.Millisecond
	if left < 0 {
		wait = 0
	}
	if limit > 0 {
		return min(max(wait, time.Millisecond), limit)
	}
	return wait
}

// hold runs task and renews the lease, held since the local time since, beside it. lost reports that the lease may
// be somebody else's now.
func (l *lease) hold(ctx context.Context, since time.Time,
	task func(ctx context.Context, epoch int64) error,
) (lost bool, err error) {
	taskCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- task(taskCtx, l.epoch) }()
	for {
		// Renew after a third; when that fails, try on, and stop the task a sixth before the end.
		if err, ended := waitTask(done, time.Until(since.Add(l.ttl/3))); ended {
			return false, err
		}
		for {
			before := time.Now()
			stopAt := since.Add(l.ttl - l.ttl/6)
			renewed, err := l.renew(ctx, stopAt)
			if renewed {
				since = before
				break
			}
			if err == nil || !time.Now().Before(stopAt) {
				cancel()
				<-done // what it returns is about being stopped
				return true, nil
			}
			if err, ended := waitTask(done, min(l.ttl/12, time.Until(stopAt))); ended {
				return false, err
			}
		}
	}
}

func waitTask(done <-chan error, d time.Duration) (err error, ended bool) { //nolint:revive,staticcheck // ST1008: reads as "err, if ended"
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case err := <-done:
		return err, true
	case <-timer.C:
		return nil, false
	}
}

// renew reports false without an error when the lease is no longer ours.
func (l *lease) renew(ctx context.Context, by time.Time) (bool, error) {
	// Not ended by ctx: while task finishes what it took, the lease is still needed.
	ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), by)
	defer cancel()
	var rows int64
	err := l.db.InTx(ctx, func(tx *Tx) (err error) {
		rows, err = tx.Exec(ctx, l.sql(renewLease), l.name, l.holder, l.epoch, l.ttl.Microseconds())
		return err
	})
	return err == nil && rows == 1, err
}

// release lets the next one begin at once. When it fails the lease just runs out.
func (l *lease) release(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.ttl)
	defer cancel()
	_ = l.db.InTx(ctx, func(tx *Tx) error {
		_, err := tx.Exec(ctx, releaseLease, l.name, l.holder, l.epoch)
		return err
	})
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
