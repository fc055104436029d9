package scim

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/tenurehq/tenure/pkg/connector"
	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
)

// Rate is how often requests of one class may be made: so many a minute on average, and so many at once after a silence.
type Rate struct {
	PerMinute int `json:"per_minute"`
	Burst     int `json:"burst"` // default 1
}

// The classes of requests. What belongs to none, like the ServiceProviderConfig, is asked for rarely.
const (
	userReads   = "user_reads"
	userWrites  = "user_writes"
	groupReads  = "group_reads"
	groupWrites = "group_writes"
)

var classes = []string{userReads, userWrites, groupReads, groupWrites}

// class is that of a request; empty: none.
func (r request) class() string {
	of := func(endpoint string) bool { return r.path == endpoint || strings.HasPrefix(r.path, endpoint+"/") }
	switch {
	case of(users) && r.writes():
		return userWrites
	case of(users):
		return userReads
	case of(groups) && r.writes():
		return groupWrites
	case of(groups):
		return groupReads
	}
	return ""
}

// rates are a profile's with what the operator says otherwise.
func rates(base, said map[string]Rate) (map[string]Rate, error) {
	out := maps.Clone(base)
	for _, class := range slices.Sorted(maps.Keys(said)) {
		r := said[class]
		switch {
		case !slices.Contains(classes, class):
			return nil, fmt.Errorf("rates.%s: is none of %s", class, strings.Join(classes, ", "))
		case r.PerMinute <= 0:
			return nil, fmt.Errorf("rates.%s.per_minute: must be over 0", class)
		case r.Burst < 0:
			return nil, fmt.Errorf("rates.%s.burst: must not be negative", class)
		}
		if out == nil {
			out = map[string]Rate{}
		}
		out[class] = r
	}
	return out, nil
}

// enough is what a request must have left of its time when its turn comes: one that is cut off has an outcome nobody knows.
const enough = time.Second

// pace keeps the requests of a class to its rate, and to the pauses that the application asked for. Safe for concurrent use.
type pace struct {
	class   string
	limiter *rate.Limiter

	mu    sync.Mutex
	until time.Time // nothing is sent before
}

func newPaces(rates map[string]Rate) map[string]*pace {
	out := map[string]*pace{}
	for class, r := range rates {
		out[class] = &pace{class: class, limiter: rate.NewLimiter(rate.Limit(float64(r.PerMinute)/60), max(r.Burst, 1))}
	}
	return out
}

// turn waits until a request may be sent. When that is not before ctx ends, or the application asked for a pause, it says so at
// once: nothing was sent.
func (p *pace) turn(ctx context.Context) *connector.Problem {
	if pause := p.pause(time.Now()); pause > 0 {
		return p.refused(pause)
	}
	place := p.limiter.Reserve()
	delay := place.Delay()
	if delay == 0 {
		return nil
	}
	deadline, ends := ctx.Deadline()
	if ends && time.Until(deadline) < delay+enough || !slept(ctx, delay) {
		place.Cancel()
		return p.refused(delay)
	}
	if pause := p.pause(time.Now()); pause > 0 { // it began meanwhile
		return p.refused(pause)
	}
	return nil
}

// pause is how long nothing may be sent.
func (p *pace) pause(now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.until.Sub(now)
}

// throttled keeps everything of the class back for as long as the application asks.
func (p *pace) throttled(after time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if until := time.Now().Add(after); until.After(p.until) {
		p.until = until
	}
}

func (p *pace) refused(delay time.Duration) *connector.Problem {
	return p.scoped(connector.RateLimited(delay, "scim.rate", "%s: its turn comes in %s; nothing was sent", p.class, delay.Round(time.Millisecond)))
}

// scoped says of a rate limit that it is this class's alone: other writes may go on. Without reading nothing goes on.
func (p *pace) scoped(limited *connector.Problem) *connector.Problem {
	if p.class == userWrites || p.class == groupWrites {
		limited.Scope = connectorv1.Scope_SCOPE_STEP
	}
	return limited
}

func slept(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
