// Command tenure is the all-in-one process (tenure dev, tenure serve) and the command line, which is a gRPC client of
// the front door.
package main

import (
	"context"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tenurehq/tenure/pkg/fault"
	"github.com/tenurehq/tenure/pkg/run"
)

func main() { run.Main(start) }

func start(ctx context.Context, args []string) error {
	root := newRoot() //nolint:contextcheck // commands get their context from ExecuteContext
	root.SetArgs(args)
	return root.ExecuteContext(ctx)
}

// newRoot builds the whole command tree.
func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "tenure",
		Short: "Access for every person from the minute they join, and proof that it is gone the minute they leave",
		Long: `Tenure gives every person the access their work needs and proves that it is gone when they leave.

Start it with "tenure dev" (a demo company) or "tenure serve -c tenure.yaml"; all other commands talk to a running one.
PERSON is an id, an external id, an e-mail address or a user name.
Exit codes: 0 done, 1 failed, 2 used wrongly, 3 not found, 4 refused.`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	c := &client{}
	c.addFlags(root)
	root.SetOut(os.Stdout)
	root.SetErr(os.Stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fault.New(fault.Usage, "%v; see %s --help", err, cmd.CommandPath())
	})
	root.AddCommand(
		newDev(), newServe(),
		newPeople(c), newAccess(c), newApps(c), newDeliveries(c), newRosters(c), newSend(c), newImport(c),
		newEvents(c), newModel(c), newAudit(c), newHolds(c),
		later("connector", "the conformance kit"),
	)
	strict(root)
	return root
}

// later is a command of the interface that a later release brings: refused by name, never silently missing.
func later(name, what string) *cobra.Command {
	return &cobra.Command{
		Use:                name,
		Hidden:             true,
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return fault.New(fault.Usage, "%s: not built yet (%s)", strings.TrimPrefix(cmd.CommandPath(), "tenure "), what)
		},
	}
}

// strict makes wrong arguments and unknown subcommands errors of use (exit 2) all the way down.
func strict(cmd *cobra.Command) {
	if cmd.HasSubCommands() && cmd.RunE == nil {
		cmd.Args = cobra.ArbitraryArgs
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			hint := ""
			if like := cmd.SuggestionsFor(args[0]); len(like) > 0 {
				hint = "; did you mean " + strings.Join(like, " or ") + "?"
			}
			return fault.New(fault.Usage, "%s has no command %q%s", cmd.CommandPath(), args[0], hint)
		}
	}
	if check := cmd.Args; check != nil && !cmd.HasSubCommands() {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return fault.New(fault.Usage, "%v; usage: %s", err, cmd.UseLine())
			}
			return nil
		}
	}
	for _, sub := range cmd.Commands() {
		strict(sub)
	}
}

// group is a command that only holds others.
func group(use, short string, subs ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short}
	cmd.AddCommand(subs...)
	return cmd
}
