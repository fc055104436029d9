// Package run is the lifecycle of a process: signals in, exit code out, and tasks that run and end together.
package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sync/errgroup"

	"github.com/tenurehq/tenure/pkg/fault"
)

// Task is one long-running part of a process. It returns nil when ctx ends, after finishing what it had taken; an
// error means that the process must die.
type Task = func(ctx context.Context) error

// Main is the whole of every main(). start gets the arguments without the program's name and a context that ends
// with SIGINT or SIGTERM; a second signal kills the process at once. An error is printed in one line and decides
// the exit code (fault.ExitCode).
//
// The process takes more memory than Go would by itself, to spend less on collecting garbage. The environment's GOGC and
// GOMEMLIMIT come first.
func Main(start func(ctx context.Context, args []string) error) {
	giveRoom(os.Getenv, os.DirFS("/"))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	if err := start(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(fault.ExitCode(err))
	}
}

// All runs every task until ctx ends or one of them fails, ends the others, waits for all of them and returns the
// first error. A task that was asked to stop and answers with its context's error has stopped: that is no failure.
func All(ctx context.Context, tasks ...func(context.Context) error) error {
	group, inner := errgroup.WithContext(ctx)
	for _, task := range tasks {
		group.Go(func() error {
			err := task(inner)
			if inner.Err() != nil && errors.Is(err, context.Canceled) {
				return nil
			}
			return err
		})
	}
	return group.Wait()
}
