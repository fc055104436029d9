package main

import (
	"sort"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tenurehq/tenure/pkg/fault"
	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
	provisionv1 "github.com/tenurehq/tenure/proto/gen/tenure/provision/v1"
)

func newPeople(c *client) *cobra.Command {
	return group("people", "Who: their state, what happened to them, and when it was known",
		newPeopleList(c), newPeopleShow(c), newPeopleTimeline(c), newPeopleSet(c),
		newPeopleMerge(c), newPeopleSplit(c), newPeopleFindings(c),
		newPeopleCut(c), newPeopleLift(c),
	)
}

func newPeopleList(c *client) *cobra.Command {
	var status, department, query string
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "Everybody, or those asked for",
		Example: "  tenure people list --department d005\n  tenure people list --status terminated -o json",
		Args:    cobra.NoArgs,
		RunE: c.run(func(s *session) error {
			req := &peoplev1.ListPeopleRequest{Department: department, Query: query}
			if status != "" {
				value, ok := peoplev1.PersonStatus_value["PERSON_STATUS_"+strings.ToUpper(strings.ReplaceAll(status, "-", "_"))]
				if !ok || value == 0 {
					return fault.New(fault.Usage, "--status %s: pending, active, on-leave or terminated", status)
				}
				req.Status = peoplev1.PersonStatus(value)
			}
			stream, err := s.people.ListPeople(s.ctx, req)
			if err != nil {
				return err
			}
			var people []*peoplev1.Person
			err = each(stream, func(m *peoplev1.ListPeopleResponse) error {
				people = append(people, m.GetPeople()...)
				return nil
			})
			if err != nil {
				return err
			}
			if s.out.json {
				return s.out.document(many("people", people))
			}
			rows := make([][]string, 0, len(people))
			for _, p := range people {
				r := p.GetRecord()
				rows = append(rows, []string{
					p.GetUserName(), r.GetGivenName() + " " + r.GetFamilyName(), standing(p),
					r.GetDepartment(), r.GetTitle(), externalIDs(p), p.GetId(),
				})
			}
			return s.out.table([]string{"USER NAME", "NAME", "STATUS", "DEPARTMENT", "TITLE", "EXTERNAL ID", "ID"}, rows)
		}),
	}
	cmd.Flags().StringVar(&status, "status", "", "only people who are pending, active, on-leave or terminated")
	cmd.Flags().StringVar(&department, "department", "", "only people of this department")
	cmd.Flags().StringVar(&query, "query", "", "only people whose name, e-mail or user name contains this")
	return cmd
}

func newPeopleShow(c *client) *cobra.Command {
	return &cobra.Command{
		Use:     "show PERSON",
		Short:   "One person as known now, their accounts, and how long these outlived their end",
		Example: "  tenure people show 10001\n  tenure people show georgi.facello@acme.example -o json",
		Args:    cobra.ExactArgs(1),
		RunE: c.run(func(s *session) error {
			person, err := s.find(s.args[0])
			if err != nil {
				return err
			}
			has, err := s.provision.ShowAccounts(s.ctx, &provisionv1.ShowAccountsRequest{PersonId: person.GetId()})
			if err != nil {
				return err
			}
			if s.out.json {
				raw, err := personDocument(person, has.GetTargets())
				if err == nil {
					s.out.line("%s", raw)
				}
				return err
			}
			printPerson(s.out, person)
			return printAccounts(s.out, has.GetTargets(), time.Now())
		}),
	}
}

func printPerson(out *printer, p *peoplev1.Person) {
	r := p.GetRecord()
	field := func(name, value string) {
		if value != "" {
			out.line("%-16s %s", name, clean(value))
		}
	}
	field("name", r.GetGivenName()+" "+r.GetFamilyName())
	field("user name", p.GetUserName())
	field("status", statusName(p.GetStatus()))
	field("cut", cutText(p.GetCut()))
	field("e-mail", r.GetEmail())
	field("department", r.GetDepartment())
	field("title", r.GetTitle())
	field("manager", r.GetManagerExternalId())
	field("employment", r.GetEmploymentType())
	field("company", r.GetCompany())
	field("location", r.GetLocation())
	field("time zone", r.GetTimeZone())
	field("start date", r.GetStartDate())
	field("end date", r.GetEndDate())
	field("ended", when(p.GetEndedAt()))
	field("end known", when(p.GetEndKnownAt()))
	names := make([]string, 0, len(r.GetAttributes()))
	for name := range r.GetAttributes() {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		field(name, r.GetAttributes()[name])
	}
	field("next change", when(p.GetNextDue()))
	field("external id", externalIDs(p))
	field("id", p.GetId())
	field("is now", p.GetMergedInto())
	out.line("%-16s %d", "version", p.GetVersion())
}

func newPeopleTimeline(c *client) *cobra.Command {
	return &cobra.Command{
		Use:     "timeline PERSON",
		Short:   "What happened, and when it was known",
		Example: "  tenure people timeline 10001",
		Args:    cobra.ExactArgs(1),
		RunE: c.run(func(s *session) error {
			person, err := s.find(s.args[0])
			if err != nil {
				return err
			}
			answer, err := s.people.Timeline(s.ctx, &peoplev1.TimelineRequest{PersonId: person.GetId()})
			if err != nil {
				return err
			}
			if done, err := s.out.message(answer); done {
				return err
			}
			s.out.line("What happened to %s:", clean(person.GetUserName()))
			rows := make([][]string, 0, len(answer.GetHappenings()))
			for _, h := range answer.GetHappenings() {
				l := h.GetLifecycle()
				note := ""
				if l.GetBackdated() {
					note = "back-dated"
				}
				rows = append(rows, []string{
					when(l.GetEffectiveAt()), when(l.GetKnownAt()), short(l.GetKind(), "LIFECYCLE_KIND_"), changes(h.GetChanges()), l.GetActor(), note,
				})
			}
			if err := s.out.table([]string{"EFFECTIVE", "KNOWN", "WHAT", "CHANGED", "BY", ""}, rows); err != nil {
				return err
			}
			s.out.line("\nWhat was said:")
			rows = rows[:0]
			for _, f := range answer.GetFacts() {
				r, note := f.GetRecord(), ""
				if f.GetSuperseded() {
					note = "superseded"
				}
				rows = append(rows, []string{
					when(f.GetEffectiveAt()), when(f.GetKnownAt()), r.GetStatus(), r.GetDepartment(), r.GetTitle(), f.GetSource(), f.GetDeliveryId(), note,
				})
			}
			return s.out.table([]string{"EFFECTIVE", "KNOWN", "STATUS", "DEPARTMENT", "TITLE", "SOURCE", "DELIVERY", ""}, rows)
		}),
	}
}

func newPeopleSet(c *client) *cobra.Command {
	return &cobra.Command{
		Use:   "set PERSON FIELD=VALUE...",
		Short: "State facts about a person in your own name",
		Long: `Set states facts about a person, as a record of the source of kind manual, in the name of the operator who runs it.
The fields are those of a record: status, given_name, family_name, email, department, title, manager_external_id,
employment_type, company, location, time_zone, start_date, end_date, effective_date, and attributes.NAME.
An empty value clears a field. A PERSON that does not exist yet is created with that external id.`,
		Example: "  tenure people set 10001 department=d004\n  tenure people set 10001 title='Senior Engineer' effective_date=2026-12-01\n  tenure people set 90001 given_name=Ann family_name=Lee status=active department=d005",
		Args:    cobra.MinimumNArgs(2),
		RunE: c.run(func(s *session) error {
			fields := make(map[string]string, len(s.args)-1)
			for _, arg := range s.args[1:] {
				name, value, ok := strings.Cut(arg, "=")
				if !ok || name == "" {
					return fault.New(fault.Usage, "%q is not FIELD=VALUE", arg)
				}
				if _, twice := fields[name]; twice {
					return fault.New(fault.Usage, "%s is set twice", name)
				}
				fields[name] = value
			}
			answer, err := s.people.SetPerson(s.ctx, &peoplev1.SetPersonRequest{Ref: s.args[0], Fields: fields})
			if err != nil {
				return err
			}
			if done, err := s.out.message(answer); done {
				return err
			}
			p := answer.GetPerson()
			s.out.line("%s is now version %d (delivery %s)", clean(p.GetUserName()), p.GetVersion(), answer.GetDeliveryId())
			s.out.line("see what follows: tenure access show %s", p.GetRecord().GetExternalId())
			return nil
		}),
	}
}

func statusName(status peoplev1.PersonStatus) string { return short(status, "PERSON_STATUS_") }

func externalIDs(p *peoplev1.Person) string {
	ids := make([]string, 0, len(p.GetEmployments()))
	for _, e := range p.GetEmployments() {
		ids = append(ids, e.GetSource()+":"+e.GetExternalId())
	}
	return strings.Join(ids, " ")
}

func changes(list []*peoplev1.Change) string {
	parts := make([]string, 0, len(list))
	for _, ch := range list {
		from, to := ch.GetFrom(), ch.GetTo()
		if from == "" {
			from = "∅"
		}
		if to == "" {
			to = "∅"
		}
		parts = append(parts, ch.GetField()+": "+from+" → "+to)
	}
	return strings.Join(parts, ", ")
}
