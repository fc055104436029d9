package main

import (
	"fmt"
	"sort"
	"strings"

	"github.com/spf13/cobra"

	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
	provisionv1 "github.com/tenurehq/tenure/proto/gen/tenure/provision/v1"
)

func newApps(c *client) *cobra.Command {
	return group("apps", "Applications: health, lanes, plans, what is stuck",
		newAppsList(c), newAppsShow(c), newAppsPlan(c), newAppsStuck(c), newAppsRetry(c), later("reconcile", "reconciliation"))
}

func newAppsList(c *client) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "All applications with their health", Example: "  tenure apps list", Args: cobra.NoArgs,
		RunE: c.run(func(s *session) error {
			answer, err := s.provision.ListApplications(s.ctx, &provisionv1.ListApplicationsRequest{})
			if err != nil {
				return err
			}
			if done, err := s.out.message(answer); done {
				return err
			}
			rows := make([][]string, 0, len(answer.GetApplications()))
			for _, a := range answer.GetApplications() {
				rows = append(rows, []string{
					a.GetName(), a.GetConnector(), a.GetEnvironment(), a.GetEnforce(), strings.TrimSpace(a.GetHealth() + " " + a.GetHealthDetail()),
					count(a.GetPeople()), count(a.GetSettled()), count(a.GetDue()), count(a.GetStuck()), a.GetOwner(),
				})
			}
			return s.out.table([]string{"APPLICATION", "CONNECTOR", "ENVIRONMENT", "ENFORCE", "HEALTH", "PEOPLE", "SETTLED", "DUE", "STUCK", "OWNER"}, rows)
		}),
	}
}

func newAppsShow(c *client) *cobra.Command {
	return &cobra.Command{
		Use: "show APP", Short: "One application: what its connector can do, and whether it is well", Example: "  tenure apps show warehouse", Args: cobra.ExactArgs(1),
		RunE: c.run(func(s *session) error {
			answer, err := s.provision.ShowApplication(s.ctx, &provisionv1.ShowApplicationRequest{Application: s.args[0]})
			if err != nil {
				return err
			}
			if done, err := s.out.message(answer); done {
				return err
			}
			a := answer.GetApplication()
			s.out.line("%-14s %s", "application", clean(a.GetName()))
			s.out.line("%-14s %s %s", "connector", a.GetConnector(), clean(answer.GetDescribe().GetVersion()))
			s.out.line("%-14s %s", "product", clean(answer.GetCheck().GetProduct()))
			s.out.line("%-14s %s", "instance", clean(answer.GetCheck().GetTargetIdentity()))
			s.out.line("%-14s %s %s", "health", a.GetHealth(), clean(a.GetHealthDetail()))
			s.out.line("%-14s %s", "credential", clean(credential(answer.GetCheck())))
			for _, p := range answer.GetCheck().GetProblems() {
				s.out.line("%-14s %s %s %s", "problem", short(p.GetCode(), "CODE_"), clean(p.GetReason()), clean(p.GetMessage()))
			}
			for _, note := range answer.GetCheck().GetNotes() {
				s.out.line("%-14s %s", "note", clean(note))
			}
			s.out.line("%-14s %s, owner %s, environment %s", "enforce", a.GetEnforce(), clean(a.GetOwner()), a.GetEnvironment())
			s.out.line("%-14s %d with a target, %d settled, %d due, %d stuck", "people", a.GetPeople(), a.GetSettled(), a.GetDue(), a.GetStuck())
			for _, l := range answer.GetLanes() {
				s.out.line("%-14s %d due, the oldest for %s", short(l.GetLane(), "LANE_")+" lane", l.GetDue(), took(l.GetOldestDue().AsDuration()))
			}
			ops := make([]string, 0, len(answer.GetDescribe().GetOps()))
			for _, op := range answer.GetDescribe().GetOps() {
				ops = append(ops, short(op.GetOp(), "OP_"))
			}
			s.out.line("%-14s %s", "can", strings.Join(ops, ", "))
			return nil
		}),
	}
}

// credential is what is known of that by which the application is called.
func credential(check *connectorv1.CheckResponse) string {
	owner, end := "of an unknown owner", "its end is not known"
	if check.GetCredentialOwner() != "" {
		owner = "of " + check.GetCredentialOwner()
	}
	if at := check.GetCredentialExpiresAt(); at != nil {
		end = "ends " + when(at)
	}
	return owner + ", " + end
}

func newAppsPlan(c *client) *cobra.Command {
	return &cobra.Command{
		Use: "plan APP [PERSON]", Short: "What would be done now; nothing is changed",
		Example: "  tenure apps plan warehouse\n  tenure apps plan warehouse 10001", Args: cobra.RangeArgs(1, 2),
		RunE: c.run(func(s *session) error {
			req := &provisionv1.PlanRequest{Application: s.args[0]}
			if len(s.args) == 2 {
				person, err := s.holder(s.args[1])
				if err != nil {
					return err
				}
				req.PersonId = person.GetId()
			}
			stream, err := s.provision.Plan(s.ctx, req)
			if err != nil {
				return err
			}
			planned := 0
			err = each(stream, func(m *provisionv1.PlanResponse) error {
				if done, err := s.out.message(m); done {
					return err
				}
				if len(m.GetSteps()) == 0 && len(m.GetNotes()) == 0 && m.GetProblem() == "" {
					return nil
				}
				planned++
				s.out.line("%s", m.GetPersonId())
				for _, step := range m.GetSteps() {
					s.out.line("  %s", clean(plannedText(step)))
				}
				for _, note := range m.GetNotes() {
					s.out.line("  note: %s", clean(note))
				}
				if m.GetProblem() != "" {
					s.out.line("  problem: %s", clean(m.GetProblem()))
				}
				return nil
			})
			if err == nil && planned == 0 && !s.out.json {
				s.out.line("nothing to do: what is there is what should be")
			}
			return err
		}),
	}
}

func plannedText(step *provisionv1.PlannedStep) string {
	text := short(step.GetOp(), "OP_")
	if step.GetTarget() != "" {
		text += " " + step.GetTarget()
	}
	if len(step.GetAttributes()) > 0 {
		text += " (" + strings.Join(step.GetAttributes(), ", ") + ")"
	}
	if step.GetDestructive() {
		text += "  [takes away]"
	}
	return text
}

func newAppsStuck(c *client) *cobra.Command {
	return &cobra.Command{
		Use: "stuck [APP]", Short: "What waits for whom, and what to do about it", Example: "  tenure apps stuck\n  tenure apps stuck warehouse -o json", Args: cobra.MaximumNArgs(1),
		RunE: c.run(func(s *session) error {
			req := &provisionv1.ListStuckRequest{}
			if len(s.args) == 1 {
				req.Application = s.args[0]
			}
			stream, err := s.provision.ListStuck(s.ctx, req)
			if err != nil {
				return err
			}
			var items []*provisionv1.ListStuckResponse
			if err := each(stream, func(m *provisionv1.ListStuckResponse) error { items = append(items, m); return nil }); err != nil {
				return err
			}
			if s.out.json {
				return s.out.document(many("stuck", items))
			}
			if len(items) == 0 {
				s.out.line("nothing is stuck")
				return nil
			}
			sort.SliceStable(items, func(i, j int) bool { return items[i].GetRemoval() && !items[j].GetRemoval() })
			rows := make([][]string, 0, len(items))
			for _, i := range items {
				what := "access missing"
				if i.GetRemoval() {
					what = "ACCESS LEFT"
				}
				rows = append(rows, []string{
					i.GetApplication(), i.GetPersonId(), what, i.GetProblem(), when(i.GetSince()), fmt.Sprint(i.GetAttempts()),
					when(i.GetNextTry()), i.GetOwner(), i.GetAdvice(),
				})
			}
			return s.out.table([]string{"APPLICATION", "PERSON", "WHAT", "PROBLEM", "SINCE", "TRIES", "NEXT TRY", "OWNER", "WHAT TO DO"}, rows)
		}),
	}
}

func newAppsRetry(c *client) *cobra.Command {
	return &cobra.Command{
		Use: "retry APP PERSON", Short: "Try one person again now, stuck or not", Example: "  tenure apps retry warehouse 10001", Args: cobra.ExactArgs(2),
		RunE: c.run(func(s *session) error {
			person, err := s.holder(s.args[1])
			if err != nil {
				return err
			}
			answer, err := s.provision.Retry(s.ctx, &provisionv1.RetryRequest{Application: s.args[0], PersonId: person.GetId()})
			if err != nil {
				return err
			}
			if done, err := s.out.message(answer); done {
				return err
			}
			s.out.line("due now: tenure access show %s", clean(s.args[1]))
			return nil
		}),
	}
}

func count(n uint64) string { return fmt.Sprint(n) }
