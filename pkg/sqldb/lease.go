package sqldb

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
)

//go:embed migrations/*.sql
var migrations embed.FS

func leaseMigrations() Migrations {
	sub, err := fs.Sub(migrations, "migrations")
	if err != nil {
		panic(err) // the folder is embedded just above
	}
	return Migrations{Name: "sqldb", FS: sub}
}

// Lease runs task in one process at a time: the one that holds the lease of that name in this database. It waits for
// the lease, runs task under a context that ends when the lease can no longer be renewed, gives the lease back when task
// returns, and returns task's error. It returns nil when ctx ends. epoch grows with every new holder; a task that writes
// what only the holder may write puts it beside its effects. Time is the database's; ttl is how long a holder that died
// blocks the others.
func (db *DB) Lease(ctx context.Context, name string, ttl time.Duration, task func(ctx context.Context, epoch int64) error) error {
	holder := uuid.NewString()
	for {
		asked := time.Now()
		epoch, err := db.claim(ctx, name, holder, ttl)
		if err == nil && epoch > 0 {
			err = db.hold(ctx, lease{name, holder, epoch, ttl}, asked, task)
			if ctx.Err() != nil || !errors.Is(err, errLeaseLost) {
				return err
			}
		}
		// Held by another, lost, or the database is away: try again when it may have run out.
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(ttl/4 + rand.N(ttl/8+1)): //nolint:gosec // spreads attempts, guards nothing
		}
	}
}

// errLeaseLost is the cause of a task's context ending because the lease was not renewed in time.
var errLeaseLost = errors.New("the lease was lost")

// claim returns the epoch of the lease now held, 0 when another one holds it.
func (db *DB) claim(ctx context.Context, name, holder string, ttl time.Duration) (int64, error) {
	now := db.e.now()
	text := `INSERT INTO leases (name, holder, epoch, until) VALUES ($1, $2, 1, ` + now + ` + $3)
ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, epoch = leases.epoch + 1, until = excluded.until
WHERE leases.until < ` + now + ` RETURNING epoch`
	var epoch int64
	err := db.InTx(ctx, func(tx *Tx) error {
		epoch = 0
		err := tx.QueryRow(ctx, text, name, holder, ttl.Microseconds()).Scan(&epoch)
		if errors.Is(err, ErrNoRows) {
			return nil
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("claim lease %s: %w", name, err)
	}
	return epoch, nil
}

// lease is one that is held.
type lease struct {
	name, holder string
	epoch        int64
	ttl          time.Duration
}

// hold runs task while the lease, asked for at that instant, is renewed at a third of its time. By our own clock it
// ends ttl after it was asked for, which is never later than the database's answer.
func (db *DB) hold(ctx context.Context, l lease, asked time.Time, task func(context.Context, int64) error) error {
	held, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan error, 1)
	go func() { done <- task(held, l.epoch) }()

	tick := time.NewTicker(l.ttl / 3)
	defer tick.Stop()
	for expires := asked.Add(l.ttl); ; {
		select {
		case err := <-done:
			db.release(ctx, l)
			if errors.Is(context.Cause(held), errLeaseLost) && ctx.Err() == nil {
				return errors.Join(errLeaseLost, err)
			}
			return err
		case <-tick.C:
		}
		if held.Err() != nil {
			continue // waiting for task to end
		}
		asked := time.Now()
		renewing, stop := context.WithDeadline(ctx, expires)
		ok, err := db.renew(renewing, l)
		stop()
		switch {
		case ok:
			expires = asked.Add(l.ttl)
		case err == nil || !time.Now().Before(expires.Add(-l.ttl/3)):
			cancel(errLeaseLost)
		}
	}
}

func (db *DB) renew(ctx context.Context, l lease) (bool, error) {
	now := db.e.now()
	var rows int64
	err := db.InTx(ctx, func(tx *Tx) (err error) {
		rows, err = tx.Exec(ctx, `UPDATE leases SET until = `+now+` + $4 WHERE name = $1 AND holder = $2 AND epoch = $3 AND until >= `+now,
			l.name, l.holder, l.epoch, l.ttl.Microseconds())
		return err
	})
	return rows == 1 && err == nil, err
}

// release lets the next one in at once; should it fail, the lease runs out by itself.
func (db *DB) release(ctx context.Context, l lease) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer stop()
	_ = db.InTx(ctx, func(tx *Tx) error {
		_, err := tx.Exec(ctx, `UPDATE leases SET until = 0 WHERE name = $1 AND holder = $2 AND epoch = $3`, l.name, l.holder, l.epoch)
		return err
	})
}
