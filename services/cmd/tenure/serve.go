package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/tenurehq/tenure/services/process"
	"github.com/tenurehq/tenure/services/settings"
)

func newServe() *cobra.Command {
	var file string
	var check bool
	cmd := &cobra.Command{
		Use:     "serve",
		Short:   "Every service in one process",
		Example: "  tenure serve -c tenure.yaml\n  tenure serve -c tenure.yaml --check",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := settings.Load(file)
			if err != nil {
				return err
			}
			if err := cfg.Check(); err != nil || check {
				return err
			}
			return serve(cmd.Context(), cfg, nil)
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", "tenure.yaml", "the configuration file")
	cmd.Flags().BoolVar(&check, "check", false, "only check the file")
	return cmd
}

// serve runs every service in this process; beside them runs what dev adds, if anything.
func serve(ctx context.Context, cfg *settings.Settings, beside func(context.Context) error) error {
	p, err := process.Start(ctx, "tenure", cfg)
	if err != nil {
		return err
	}
	for _, add := range []func(context.Context) error{
		p.Ingest, p.Policy, func(ctx context.Context) error { return p.Provision(ctx) }, p.Audit, p.Console,
	} {
		if err := add(ctx); err != nil {
			return errors.Join(err, p.Close())
		}
	}
	if beside != nil {
		p.Beside(beside)
	}
	return errors.Join(p.Run(ctx), p.Close())
}
