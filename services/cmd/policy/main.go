// Command policy decides what people should have.
package main

import (
	"context"
	"errors"

	"github.com/tenurehq/tenure/pkg/run"
	"github.com/tenurehq/tenure/services/process"
	"github.com/tenurehq/tenure/services/settings"
)

func main() { run.Main(start) }

func start(ctx context.Context, args []string) error {
	cfg, check, err := settings.Command("policy", args, nil)
	if err != nil {
		return err
	}
	if check {
		return cfg.Check()
	}
	p, err := process.Start(ctx, "policy", cfg)
	if err != nil {
		return err
	}
	if err := p.Policy(ctx); err != nil {
		return errors.Join(err, p.Close())
	}
	return errors.Join(p.Run(ctx), p.Close())
}
