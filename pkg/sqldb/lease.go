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
// takes over a lease that was not renewed for ttl, by the database's clock, or as seen from here should that be set back.
// Each take-over raises epoch by one: task
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
		l.release(ctx) // even when lost: it only gives back what is still ours
		if !lost {
			return err
		}
	}
}

type lease struct {
	db     *DB
	name   string
	holder string // differs for every call of Lease
	ttl    time.Duration
	epoch  int64

	// What was seen of another's lease, and since when it has been so.
	until int64
	since time.Time
}

// takeLease and the others get the database's clock for %s.
const (
	takeLease = `
INSERT INTO leases (name, holder, epoch, until) VALUES ($1, $2, 1, %[1]s + $3)
ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, epoch = leases.epoch + 1, until = excluded.until
WHERE  leases.until < %[1]s OR leases.until = $4
RETURNING epoch`
	renewLease   = `UPDATE leases SET until = %s + $4 WHERE name = $1 AND holder = $2 AND epoch = $3`
	releaseLease = `UPDATE leases SET until = 0 WHERE name = $1 AND holder = $2 AND epoch = $3`
	seeLease     = `SELECT until, until - %s FROM leases WHERE name = $1`
)

func (l *lease) sql(text string) string { return fmt.Sprintf(text, l.db.engine.now()) }

// wait returns when the lease is taken, with the local time before which that was; the ttl counts from there.
func (l *lease) wait(ctx context.Context) (time.Time, error) {
	for {
		// Looking first costs no turn of SQLite's one writer.
		left, dead := l.look(ctx)
		pause := min(left, l.ttl/3, leaseRetryMax)
		if pause <= 0 {
			before := time.Now()
			taken, err := l.take(ctx, dead)
			if taken {
				return before, nil
			}
			if err != nil && fault.KindOf(err) != fault.Unavailable && fault.KindOf(err) != fault.Conflict {
				return time.Time{}, err
			}
			pause = min(l.ttl/3, leaseRetryMax) // somebody was faster, or the database is away
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return time.Time{}, ctx.Err()
		}
	}
}

// take takes a lease that has run out, or that lasts until dead and is not renewed any more.
func (l *lease) take(ctx context.Context, dead int64) (bool, error) {
	err := l.db.InTx(ctx, func(tx *Tx) error {
		return tx.QueryRow(ctx, l.sql(takeLease), l.name, l.holder, l.ttl.Microseconds(), dead).Scan(&l.epoch)
	})
	if errors.Is(err, ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

// look returns how long the present holder has; 0 when there is none, or nobody knows. dead is until when a lease lasts
// that was not renewed for ttl although it seems to last longer, else -1: its holder is dead, and the database's clock was
// set back since.
func (l *lease) look(ctx context.Context) (left time.Duration, dead int64) {
	var until, micros int64
	if err := l.db.QueryRow(ctx, l.sql(seeLease), l.name).Scan(&until, &micros); err != nil || micros < 0 {
		return 0, -1
	}
	if until != l.until {
		l.until, l.since = until, time.Now()
	}
	if time.Since(l.since) > l.ttl {
		return 0, until
	}
	return time.Duration(micros)*time.Microsecond + time.Millisecond, -1 // past it, also where the clock has milliseconds
}

// hold runs task and renews the lease, held since the local time since, beside it. lost reports that the lease may
// have become somebody else's.
func (l *lease) hold(ctx context.Context, since time.Time,
	task func(ctx context.Context, epoch int64) error,
) (lost bool, err error) {
	taskCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	// The task is stopped by the clock and not by the renewal below, which may itself be stuck in the database.
	stop := time.AfterFunc(time.Until(l.stopAt(since)), cancel)
	defer stop.Stop()
	done := make(chan error, 1)
	go func() { done <- task(taskCtx, l.epoch) }()
	next := time.NewTimer(time.Until(since.Add(l.ttl / 3)))
	defer next.Stop()
	for {
		select {
		case err := <-done:
			return taskCtx.Err() != nil && ctx.Err() == nil, err
		case <-next.C:
		}
		before := time.Now()
		renewed, err := l.renew(ctx, l.stopAt(since))
		switch {
		case renewed && stop.Reset(time.Until(l.stopAt(before))):
			since = before
			next.Reset(l.ttl / 3)
		case err != nil && taskCtx.Err() == nil:
			next.Reset(l.ttl / 12) // the database is away: there is time to try again
		case ctx.Err() == nil || err == nil: // not ours any more, or stopped by the clock
			cancel()
			return true, <-done
		default:
			return false, <-done // ctx has ended, and task is finishing
		}
	}
}

// stopAt is when a task must be told to stop whose lease was last renewed at since.
func (l *lease) stopAt(since time.Time) time.Time { return since.Add(l.ttl - l.ttl/6) }

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
		return tx.Queue(ctx, releaseLease, l.name, l.holder, l.epoch)
	})
}
