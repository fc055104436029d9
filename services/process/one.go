package process

import (
	"context"
	"errors"
	"flag"

	"github.com/tenurehq/tenure/services/settings"
)

// One is the start of a process that is one service: binary is its program's name and service the service's, add adds
// the service, and flags, if any, what its command line takes beyond -c and --check.
func One(binary, service string, add func(*Process, context.Context) error, flags func(*flag.FlagSet)) func(context.Context, []string) error {
	return func(ctx context.Context, args []string) error {
		cfg, check, err := settings.Command(binary, args, flags)
		if err != nil || check {
			return err
		}
		p, err := Start(ctx, service, cfg)
		if err != nil {
			return err
		}
		if err := add(p, ctx); err != nil {
			return errors.Join(err, p.Close())
		}
		return errors.Join(p.Run(ctx), p.Close())
	}
}
