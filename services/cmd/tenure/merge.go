package main

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/tenurehq/tenure/pkg/fault"
	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
)

func newPeopleMerge(c *client) *cobra.Command {
	return &cobra.Command{
		Use:   "merge PERSON OTHER",
		Short: "Say that OTHER is PERSON: one human being with the employments of both",
		Long: `Merge makes the employments of OTHER employments of PERSON, who keeps id, user name and accounts. OTHER is kept as a
name for PERSON. It has no employment any more, so its accounts are disabled and emptied as a leaver's are; none of them
becomes PERSON's. Nobody who is cut can be merged. See "tenure people findings" for who may be one.`,
		Example: "  tenure people merge 10001 20417\n  tenure people merge gfacello gfacello2 -o json",
		Args:    cobra.ExactArgs(2),
		RunE: c.run(func(s *session) error {
			answer, err := s.people.MergePeople(s.ctx, &peoplev1.MergePeopleRequest{Into: s.args[0], From: s.args[1]})
			if err != nil {
				return err
			}
			if done, err := s.out.message(answer); done {
				return err
			}
			p := answer.GetPerson()
			s.out.line("%s is one person with %s: version %d", clean(p.GetUserName()), clean(externalIDs(p)), p.GetVersion())
			s.out.line("see what follows: tenure access show %s", p.GetId())
			return nil
		}),
	}
}

func newPeopleSplit(c *client) *cobra.Command {
	return &cobra.Command{
		Use:   "split PERSON SOURCE:EXTERNAL_ID...",
		Short: "Say that some of a person's employments are another human being's",
		Long: `Split makes a new person of the named employments, with an id, a user name and accounts of their own. Who stays keeps
theirs, without what the other employments gave. Without employments nothing is done, and those there are listed. The two
are not reported as look-alikes again.`,
		Example: "  tenure people split 10001 acme-hr:20417",
		Args:    cobra.MinimumNArgs(1),
		RunE: c.run(func(s *session) error {
			req := &peoplev1.SplitPersonRequest{Ref: s.args[0]}
			for _, arg := range s.args[1:] {
				source, id, ok := strings.Cut(arg, ":")
				if !ok || source == "" || id == "" {
					return fault.New(fault.Usage, "%q is not SOURCE:EXTERNAL_ID", arg)
				}
				req.Employments = append(req.Employments, &peoplev1.SplitPersonRequest_Key{Source: source, ExternalId: id})
			}
			answer, err := s.people.SplitPerson(s.ctx, req)
			if err != nil {
				return err
			}
			if done, err := s.out.message(answer); done {
				return err
			}
			stays, split := answer.GetPerson(), answer.GetSplit()
			s.out.line("%s keeps %s: version %d", clean(stays.GetUserName()), clean(externalIDs(stays)), stays.GetVersion())
			s.out.line("%s has %s, id %s", clean(split.GetUserName()), clean(externalIDs(split)), split.GetId())
			return nil
		}),
	}
}

func newPeopleFindings(c *client) *cobra.Command {
	var kind string
	cmd := &cobra.Command{
		Use:     "findings",
		Short:   "What was noticed about people and waits for a person's eye; nobody's access follows from it",
		Example: "  tenure people findings\n  tenure people findings --kind look-alike -o json",
		Args:    cobra.NoArgs,
		RunE: c.run(func(s *session) error {
			req := &peoplev1.ListFindingsRequest{}
			if kind != "" {
				value, ok := peoplev1.PeopleFindingKind_value[findingPrefix+strings.ToUpper(strings.ReplaceAll(kind, "-", "_"))]
				if !ok || value == 0 {
					return fault.New(fault.Usage, "--kind %s: look-alike, absent or stale", kind)
				}
				req.Kind = peoplev1.PeopleFindingKind(value)
			}
			stream, err := s.people.ListFindings(s.ctx, req)
			if err != nil {
				return err
			}
			var findings []*peoplev1.PeopleFinding
			err = each(stream, func(m *peoplev1.ListFindingsResponse) error {
				findings = append(findings, m.GetFindings()...)
				return nil
			})
			if err != nil {
				return err
			}
			if s.out.json {
				return s.out.document(many("findings", findings))
			}
			rows := make([][]string, 0, len(findings))
			for _, f := range findings {
				who := f.GetSource()
				if f.GetExternalId() != "" {
					who += ":" + f.GetExternalId()
				}
				rows = append(rows, []string{
					short(f.GetKind(), findingPrefix), f.GetPersonId(), f.GetOtherPersonId(), who, f.GetDetail(), when(f.GetSince()),
				})
			}
			return s.out.table([]string{"WHAT", "PERSON", "OTHER", "EMPLOYMENT", "BECAUSE", "SINCE"}, rows)
		}),
	}
	cmd.Flags().StringVar(&kind, "kind", "", "only look-alike, absent or stale")
	return cmd
}

const findingPrefix = "PEOPLE_FINDING_KIND_"
