package telemetry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
)

// checkWait bounds one readiness check, well inside a prober's usual patience.
const checkWait = 2 * time.Second

var errStillRunning = errors.New("the check asked before has not ended")

// checks answers /readyz: 200 when every check passes, else 503 and the names of those that do not.
type checks struct {
	log *zap.Logger

	mu  sync.Mutex
	all []*check // by name
}

type check struct {
	name string
	run  func(ctx context.Context) error

	running sync.Mutex // held while run runs: a check that hangs is not started a second time

	mu     sync.Mutex
	failed bool // as last seen; only changes are logged
}

func (c *checks) add(name string, run func(ctx context.Context) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = append(c.all, &check{name: name, run: run})
	slices.SortStableFunc(c.all, func(a, b *check) int { return strings.Compare(a.name, b.name) })
}

// ServeHTTP implements http.Handler.
func (c *checks) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	all := slices.Clone(c.all)
	c.mu.Unlock()

	ctx, cancel := context.WithTimeout(r.Context(), checkWait)
	defer cancel()
	errs := make([]error, len(all))
	var wait sync.WaitGroup
	for i, one := range all {
		wait.Go(func() { errs[i] = one.ask(ctx) })
	}
	wait.Wait()

	var answer strings.Builder
	ready := true
	for i, one := range all {
		one.note(c.log, errs[i])
		if errs[i] == nil {
			fmt.Fprintf(&answer, "ok     %s\n", one.name)
			continue
		}
		ready = false
		fmt.Fprintf(&answer, "failed %s\n", one.name)
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if !ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_, _ = w.Write([]byte(answer.String()))
}

// ask runs the check and returns when it ends or ctx does, whichever is first.
func (c *check) ask(ctx context.Context) error {
	if !c.running.TryLock() {
		return errStillRunning
	}
	done := make(chan error, 1)
	go func() {
		defer c.running.Unlock()
		done <- c.run(ctx)
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *check) note(log *zap.Logger, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed == (err != nil) {
		return
	}
	c.failed = err != nil
	if c.failed {
		log.Warn("not ready", zap.String("check", c.name), zap.Error(err))
		return
	}
	log.Info("ready again", zap.String("check", c.name))
}
