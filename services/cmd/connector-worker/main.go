// Command connector-worker makes applications hold what people should have: all of them, or those named by --app.
package main

import (
	"context"
	"errors"
	"flag"

	"github.com/tenurehq/tenure/pkg/run"
	"github.com/tenurehq/tenure/services/process"
	"github.com/tenurehq/tenure/services/settings"
)

func main() { run.Main(start) }

func start(ctx context.Context, args []string) error {
	var apps []string
	cfg, check, err := settings.Command("connector-worker", args, func(flags *flag.FlagSet) {
		flags.Func("app", "only this `application`; may be repeated", func(name string) error {
			apps = append(apps, name)
			return nil
		})
	})
	if err != nil {
		return err
	}
	if check {
		return cfg.Check()
	}
	p, err := process.Start(ctx, "provision", cfg)
	if err != nil {
		return err
	}
	if err := p.Provision(ctx, apps...); err != nil {
		return errors.Join(err, p.Close())
	}
	return errors.Join(p.Run(ctx), p.Close())
}
