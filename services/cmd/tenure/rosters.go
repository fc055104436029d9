package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/tenurehq/tenure/pkg/fault"
	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
)

func newRosters(c *client) *cobra.Command {
	return group("rosters", "Full lists of a source's people, and whether they keep their contract",
		newRostersList(c), newRostersShow(c), newRostersAccept(c))
}

func newRostersList(c *client) *cobra.Command {
	var source string
	cmd := &cobra.Command{
		Use: "list", Short: "The newest rosters of each source", Example: "  tenure rosters list\n  tenure rosters list --source acme-hr -o json", Args: cobra.NoArgs,
		RunE: c.run(func(s *session) error {
			answer, err := s.people.ListRosters(s.ctx, &peoplev1.ListRostersRequest{Source: source})
			if err != nil {
				return err
			}
			if done, err := s.out.message(answer); done {
				return err
			}
			rows := make([][]string, 0, len(answer.GetRosters()))
			for _, r := range answer.GetRosters() {
				rows = append(rows, []string{r.GetSource(), r.GetId(), when(r.GetMadeAt()), fmt.Sprint(r.GetRecords()), rosterOutcome(r)})
			}
			return s.out.table([]string{"SOURCE", "ROSTER", "MADE", "RECORDS", "OUTCOME"}, rows)
		}),
	}
	cmd.Flags().StringVar(&source, "source", "", "only of this source")
	return cmd
}

// rosterOutcome is what became of a roster.
func rosterOutcome(r *peoplev1.RosterState) string {
	switch {
	case r.GetSuperseded():
		return "superseded"
	case r.GetTakenAt() != nil:
		return fmt.Sprintf("taken: %d changed, %d absent", r.GetChanged(), r.GetAbsent())
	case r.GetPartsIn() < r.GetParts():
		return fmt.Sprintf("%d of %d parts are in", r.GetPartsIn(), r.GetParts())
	case r.GetJudgedAt() == nil:
		return "to be judged"
	case r.GetHeld() != "" && r.GetAcceptedBy() == "":
		return "held: " + r.GetHeld()
	}
	return "being taken in"
}

func newRostersShow(c *client) *cobra.Command {
	return &cobra.Command{
		Use: "show SOURCE ROSTER", Short: "One roster, the clauses that it breaks, and its parts", Example: "  tenure rosters show acme-hr 2026-11-22", Args: cobra.ExactArgs(2),
		RunE: c.run(func(s *session) error {
			answer, err := s.people.ListRosters(s.ctx, &peoplev1.ListRostersRequest{Source: s.args[0], Id: s.args[1]})
			if err != nil {
				return err
			}
			if len(answer.GetRosters()) == 0 {
				return fault.New(fault.NotFound, "no roster %q of a source %q", s.args[1], s.args[0])
			}
			r := answer.GetRosters()[0]
			if done, err := s.out.message(r); done {
				return err
			}
			printRoster(s.out, r)
			return nil
		}),
	}
}

func printRoster(out *printer, r *peoplev1.RosterState) {
	field := func(name, value string) {
		if value != "" {
			out.line("%-12s %s", name, clean(value))
		}
	}
	field("source", r.GetSource())
	field("roster", r.GetId())
	field("made", when(r.GetMadeAt()))
	field("received", when(r.GetReceivedAt()))
	field("records", fmt.Sprintf("%d of %d, in %d of %d parts", r.GetRecords(), r.GetTotal(), r.GetPartsIn(), r.GetParts()))
	field("judged", when(r.GetJudgedAt()))
	field("breaks", r.GetHeld())
	field("accepted by", r.GetAcceptedBy())
	field("taken", when(r.GetTakenAt()))
	field("outcome", rosterOutcome(r))
	for _, id := range r.GetDeliveries() {
		field("delivery", id)
	}
}

func newRostersAccept(c *client) *cobra.Command {
	return &cobra.Command{
		Use: "accept SOURCE ROSTER", Short: "Take in a roster that is held, whatever clause it breaks",
		Long: `Accept takes in a roster that breaks its contract, because you looked at it and it is right. Nobody leaves by being
absent from it. Where the contract or the mapping was wrong, mend that and have the roster judged again instead, by
"tenure deliveries replay" of any of its parts.`,
		Example: "  tenure rosters accept acme-hr 2026-11-22", Args: cobra.ExactArgs(2),
		RunE: c.run(func(s *session) error {
			answer, err := s.people.AcceptRoster(s.ctx, &peoplev1.AcceptRosterRequest{Source: s.args[0], Id: s.args[1]})
			if err != nil {
				return err
			}
			if done, err := s.out.message(answer.GetRoster()); done {
				return err
			}
			s.out.line("it will be taken in; see: tenure rosters show %s %s", clean(s.args[0]), clean(s.args[1]))
			return nil
		}),
	}
}
