package sqldb

import (
	"context"
	"fmt"
	"time"
)

// Queued returns how many transactions wait for SQLite's writer.
func Queued(db *DB) int {
	w := db.engine.(*sqliteEngine).writer
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.queue)
}

// Classify is classify.
var Classify = classify

// shifted is an engine whose clock is off.
type shifted struct {
	engine
	by time.Duration
}

func (s shifted) now() string { return fmt.Sprintf("(%s + %d)", s.engine.now(), s.by.Microseconds()) }

// Shift sets the database's clock, as db asks for it. Nobody may use db meanwhile.
func Shift(db *DB, by time.Duration) {
	was, _ := db.engine.(shifted)
	if was.engine == nil {
		was.engine = db.engine
	}
	db.engine = shifted{was.engine, by}
}

// Look is what Keep does every few seconds.
func (c *Clock) Look(ctx context.Context, set func(by time.Duration)) error { return c.look(ctx, set) }

// SetBack is what WhenSetBack does when it has seen enough.
func (db *DB) SetBack(ctx context.Context, now, last time.Time, mend func(*Tx, Setback) error) error {
	return db.setBack(ctx, now, last, mend)
}
