package main

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/tenurehq/tenure/pkg/fault"
	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
)

func newPeopleCut(c *client) *cobra.Command {
	return withReason("why they must have nothing; kept and shown, never on the bus", &cobra.Command{
		Use:   "cut PERSON --reason TEXT",
		Short: "Nothing, anywhere, now, before HR says so; until lifted",
		Long: `Cut takes everything from a person in every application, at once. It stands above what HR says, until somebody lifts it,
and it works while policy is stopped. To cut who is cut already changes nothing.
More than 20 people within an hour need a second operator: the order is kept then, the exit code is 4, and the same
command by another operator within the hour makes it so.`,
		Example: "  tenure people cut 10001 --reason 'laptop and badge stolen, ticket 4711'",
		Args:    cobra.ExactArgs(1),
	}, c, func(s *session, reason string) error {
		answer, err := s.people.CutPerson(s.ctx, &peoplev1.CutPersonRequest{Ref: s.args[0], Reason: reason})
		if err != nil {
			return err
		}
		done, err := s.out.message(answer)
		if err != nil {
			return err
		}
		if answer.GetNeedsSecond() {
			return fault.New(fault.Refused, "nothing is cut yet: more than 20 people within an hour need a second operator. "+
				"The order is kept; another operator confirms it within the hour by: tenure people cut %s --reason TEXT", s.args[0])
		}
		if !done {
			p := answer.GetPerson()
			s.out.line("%s is cut since %s: nothing anywhere until lifted", clean(p.GetUserName()), when(p.GetCut().GetAt()))
			s.out.line("see that it is so: tenure people show %s", clean(s.args[0]))
		}
		return nil
	})
}

func newPeopleLift(c *client) *cobra.Command {
	return withReason("why they may have access again; kept and shown, never on the bus", &cobra.Command{
		Use:     "lift PERSON --reason TEXT",
		Short:   "End a cut: they have again what HR and the role model say",
		Example: "  tenure people lift 10001 --reason 'badge found, ticket 4711 closed'",
		Args:    cobra.ExactArgs(1),
	}, c, func(s *session, reason string) error {
		answer, err := s.people.LiftPerson(s.ctx, &peoplev1.LiftPersonRequest{Ref: s.args[0], Reason: reason})
		if err != nil {
			return err
		}
		if done, err := s.out.message(answer); done {
			return err
		}
		p := answer.GetPerson()
		s.out.line("%s is not cut any more, and has what HR and the role model say (%s)", clean(p.GetUserName()), statusName(p.GetStatus()))
		s.out.line("see what follows: tenure access show %s", clean(s.args[0]))
		return nil
	})
}

// withReason completes a command that needs --reason.
func withReason(usage string, cmd *cobra.Command, c *client, do func(s *session, reason string) error) *cobra.Command {
	var reason string
	cmd.Flags().StringVar(&reason, "reason", "", usage)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if strings.TrimSpace(reason) == "" {
			return fault.New(fault.Usage, "--reason is needed; usage: %s", cmd.UseLine())
		}
		return c.run(func(s *session) error { return do(s, reason) })(cmd, args)
	}
	return cmd
}

// standing is a person's status, and that they are cut.
func standing(p *peoplev1.Person) string {
	if p.GetCut() != nil {
		return statusName(p.GetStatus()) + ", cut"
	}
	return statusName(p.GetStatus())
}

// cutText tells of a cut; "" for who is not cut.
func cutText(c *peoplev1.Cut) string {
	if c == nil {
		return ""
	}
	by := c.GetActor()
	if c.GetSecond() != "" {
		by += " and " + c.GetSecond()
	}
	return "since " + when(c.GetAt()) + " by " + by + ": " + c.GetReason()
}
