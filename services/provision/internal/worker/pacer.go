package worker

import (
	"context"
	"math"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// pacer keeps the calls to an application under its rate. Urgent calls go first. When the application says that it is
// called too often, all calls pause for as long as it asks, and the rate is halved; while it takes calls the rate grows
// again, slowly. Safe for concurrent use.
type pacer struct {
	ceiling rate.Limit // what the operator and the connector allow; rate.Inf: no limit

	mu       sync.Mutex
	limiter  *rate.Limiter
	until    time.Time // nothing is called before
	hurrying int       // urgent calls that wait
	second   time.Time // calls are counted by the second,
	calls    int       // to know from what an unlimited rate is to be halved
	lastRate int
	halved   time.Time // when the rate was halved last
	grown    time.Time // when it grew last
}

const (
	slowest   = rate.Limit(0.2)  // calls a second that throttling never goes below
	unlimited = rate.Limit(1000) // calls a second from which an unlimited rate is unlimited again
	few       = 10               // calls a second that no application should mind; more if more were made
	doubling  = 10 * time.Second // in which the rate doubles while calls are taken: by time, or the slowest would grow slowest
	pulse     = 5 * time.Second  // what counts of the time between two calls
	unsaid    = time.Second      // the pause when the application asks for one and does not say for how long
)

func newPacer(perMinute int) *pacer {
	p := &pacer{ceiling: rate.Inf}
	if perMinute > 0 {
		p.ceiling = rate.Limit(float64(perMinute) / 60)
	}
	p.limiter = rate.NewLimiter(p.ceiling, burst(p.ceiling))
	return p
}

// burst lets a tenth of a minute's calls through at once.
func burst(limit rate.Limit) int {
	if limit == rate.Inf {
		return 1
	}
	return max(1, int(float64(limit)*6))
}

// lower sets a ceiling that the connector named, when it is lower than the one there is.
func (p *pacer) lower(perMinute int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	limit := rate.Limit(float64(perMinute) / 60)
	if perMinute <= 0 || limit >= p.ceiling {
		return
	}
	p.ceiling = limit
	p.set(min(p.limiter.Limit(), limit))
}

func (p *pacer) set(limit rate.Limit) {
	p.limiter.SetLimit(limit)
	p.limiter.SetBurst(burst(limit))
}

// wait returns when a call may be made, or when ctx ends.
func (p *pacer) wait(ctx context.Context, urgent bool) error {
	if urgent {
		p.hurry(1)
		defer p.hurry(-1)
	}
	for {
		delay := p.delay(urgent)
		if delay <= 0 {
			return ctx.Err()
		}
		if err := sleep(ctx, delay); err != nil {
			return err
		}
	}
}

func (p *pacer) hurry(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hurrying += n
}

// delay takes a token and returns 0, or says when to ask again.
func (p *pacer) delay(urgent bool) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if wait := p.until.Sub(now); wait > 0 {
		return wait
	}
	next := func() time.Duration {
		return max(time.Millisecond, time.Duration(float64(time.Second)*(1-p.limiter.TokensAt(now))/float64(p.limiter.Limit())))
	}
	if p.limiter.Limit() != rate.Inf {
		if !urgent && p.hurrying > 0 {
			return next()
		}
		if !p.limiter.AllowN(now, 1) {
			return next()
		}
	}
	if now.Sub(p.second) >= time.Second {
		p.lastRate, p.second, p.calls = p.calls, now, 0
	}
	p.calls++
	return 0
}

// throttled pauses all calls for as long as the application asks, 0 if it does not say, and halves the rate.
func (p *pacer) throttled(after time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if after <= 0 {
		after = unsaid
	}
	if until := now.Add(after); until.After(p.until) {
		p.until = until
	}
	if now.Sub(p.halved) < max(after, unsaid) {
		return // calls that were under way together are one complaint
	}
	p.halved, p.grown = now, now
	limit := p.limiter.Limit()
	if limit == rate.Inf {
		limit = rate.Limit(max(p.lastRate, p.calls, few))
	}
	p.set(max(slowest, limit/2))
}

// taken lets the rate grow towards its ceiling.
func (p *pacer) taken() {
	p.mu.Lock()
	defer p.mu.Unlock()
	limit := p.limiter.Limit()
	if limit >= p.ceiling {
		return
	}
	now := time.Now()
	limit *= rate.Limit(math.Exp2(float64(min(now.Sub(p.grown), pulse)) / float64(doubling)))
	p.grown = now
	if limit > unlimited && p.ceiling == rate.Inf {
		limit = rate.Inf
	}
	p.set(min(limit, p.ceiling))
}

// pause returns how long nothing may be called, and whether the rate is lowered.
func (p *pacer) pause() (time.Duration, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Until(p.until), p.limiter.Limit() < p.ceiling
}

// sleep waits for d or until ctx ends.
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
