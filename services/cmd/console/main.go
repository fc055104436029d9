// Command console is the front door for operators.
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
	cfg, check, err := settings.Command("console", args, nil)
	if err != nil {
		return err
	}
	if check {
		return cfg.Check()
	}
	p, err := process.Start(ctx, "console", cfg)
	if err != nil {
		return err
	}
	p.Console()
	return errors.Join(p.Run(ctx), p.Close())
}
