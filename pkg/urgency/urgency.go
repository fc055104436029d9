// Package urgency lets what is urgent go first within a process. The lanes of events keep urgent ones from queueing behind
// others; this keeps urgent work from sharing processor, disk and database with work that nobody waits for: while something
// urgent is under way, everything else is done a step at a time.
//
// It is advice, and bounded: a step in the normal lane is let through every [pace], so that it goes on, slowly, however many
// urgent things there are. What is in hand is finished; nothing is undone.
package urgency

import (
	"context"
	"sync/atomic"
	"time"
)

const (
	// hold is how long something urgent counts as under way after it was last seen: the time between two of its steps,
	// which may be in different goroutines.
	hold = 100 * time.Millisecond
	// pace is the time between two steps that are let through meanwhile.
	pace = 10 * time.Millisecond
)

// process is the one gate of this process: it is the process's processor and disk that are shared.
var process = newGate()

// Hurry notes that something urgent is under way in this process, now and for a moment longer. It costs next to nothing.
func Hurry() { process.hurry() }

// GiveWay returns when a step that is not urgent may be done: at once as a rule, and one caller after the other while
// something urgent is under way. It returns when ctx ends, too.
func GiveWay(ctx context.Context) { process.giveWay(ctx) }

// GiveWayFor is GiveWay for who does not queue with others, because many wait for what it does: it waits for so long at most.
func GiveWayFor(ctx context.Context, most time.Duration) {
	since := time.Now()
	for left := Left(since, most); left > 0; left = Left(since, most) {
		if !waited(ctx, left) {
			return
		}
	}
}

// Left is how much longer a step should give way that does so for so long at most, and has done so since a time; 0: it may be
// done. It is for who waits for other things meanwhile.
func Left(since time.Time, most time.Duration) time.Duration { return process.leftSince(since, most) }

// gate knows until when something urgent counts as under way. Safe for concurrent use.
type gate struct {
	made  time.Time
	until atomic.Int64  // since made, by the monotonic clock
	turn  chan struct{} // held by who is next
	last  time.Time     // when a step was let through; of who has the turn
}

func newGate() *gate {
	return &gate{made: time.Now(), turn: make(chan struct{}, 1)}
}

func (g *gate) hurry() { g.until.Store(int64(time.Since(g.made) + hold)) } // of two at one moment either will do

func (g *gate) left() time.Duration { return time.Duration(g.until.Load()) - time.Since(g.made) }

func (g *gate) leftSince(since time.Time, most time.Duration) time.Duration {
	return max(0, min(g.left(), most-time.Since(since)))
}

func (g *gate) giveWay(ctx context.Context) {
	if g.left() <= 0 {
		return
	}
	select {
	case g.turn <- struct{}{}:
	case <-ctx.Done():
		return
	}
	defer func() { <-g.turn }()
	for {
		wait := min(g.left(), pace-time.Since(g.last))
		if wait <= 0 {
			break
		}
		if !waited(ctx, wait) {
			return
		}
	}
	g.last = time.Now()
}

// waited waits; false: ctx ended before.
func waited(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
