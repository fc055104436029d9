package main

import (
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/spf13/cobra"

	accessv1 "github.com/tenurehq/tenure/proto/gen/tenure/access/v1"
	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	provisionv1 "github.com/tenurehq/tenure/proto/gen/tenure/provision/v1"
)

func newAccess(c *client) *cobra.Command {
	return group("access", "What people should have, what they have, and why", newAccessShow(c), newAccessWhy(c), newAccessWho(c))
}

func newAccessShow(c *client) *cobra.Command {
	return &cobra.Command{
		Use:     "show PERSON",
		Short:   "What they should have, what they have, what is on its way",
		Example: "  tenure access show 10001\n  tenure access show 10001 -o json",
		Args:    cobra.ExactArgs(1),
		RunE: c.run(func(s *session) error {
			person, err := s.holder(s.args[0])
			if err != nil {
				return err
			}
			desired, err := s.access.ShowAccess(s.ctx, &accessv1.ShowAccessRequest{PersonId: person.GetId()})
			if err != nil {
				return err
			}
			has, err := s.provision.ShowAccounts(s.ctx, &provisionv1.ShowAccountsRequest{PersonId: person.GetId()})
			if err != nil {
				return err
			}
			if s.out.json {
				return s.out.document(one("person", person), many("should_have", desired.GetApplications()),
					many("has", has.GetTargets()), many("errors", desired.GetErrors()))
			}
			s.out.line("%s, %s", clean(person.GetUserName()), standing(person))
			if err := s.out.table([]string{"APPLICATION", "SHOULD HAVE", "HAS", "STATE", "NOTE"}, accessRows(desired, has)); err != nil {
				return err
			}
			if hold := desired.GetHold(); hold != "" {
				s.out.line("hold %s keeps back what was decided last", clean(hold))
			}
			for _, e := range desired.GetErrors() {
				s.out.line("role %s could not be decided: %s (nothing new is given by it, nothing is taken)", clean(e.GetRole()), clean(e.GetMessage()))
			}
			return nil
		}),
	}
}

// accessRows puts desired and observed of each application side by side.
func accessRows(desired *accessv1.ShowAccessResponse, has *provisionv1.ShowAccountsResponse) [][]string {
	wanted := map[string]*accessv1.Desired{}
	targets := map[string]*provisionv1.Target{}
	var apps []string
	for _, d := range desired.GetApplications() {
		wanted[d.GetDesired().GetApplication()] = d.GetDesired()
		apps = append(apps, d.GetDesired().GetApplication())
	}
	for _, t := range has.GetTargets() {
		targets[t.GetApplication()] = t
		apps = append(apps, t.GetApplication())
	}
	sort.Strings(apps)
	rows := make([][]string, 0, len(apps))
	for _, app := range slices.Compact(apps) {
		rows = append(rows, []string{app, desiredText(wanted[app]), accountText(targets[app]), stateText(wanted[app], targets[app]), targetNote(targets[app])})
	}
	return rows
}

func desiredText(d *accessv1.Desired) string {
	switch d.GetState() {
	case eventv1.AccessState_ACCESS_STATE_ENABLED:
		return accountWith("account", d.GetEntitlements())
	case eventv1.AccessState_ACCESS_STATE_DISABLED:
		return accountWith("disabled account", d.GetEntitlements())
	default:
		return "nothing"
	}
}

func accountText(t *provisionv1.Target) string {
	a := t.GetObserved()
	if a == nil {
		return "nothing"
	}
	grants := make([]string, 0, len(a.GetGrants()))
	for _, g := range a.GetGrants() {
		grants = append(grants, g.GetEntitlementId())
	}
	sort.Strings(grants)
	kind := "account"
	if a.GetStatus() == connectorv1.AccountStatus_ACCOUNT_STATUS_DISABLED {
		kind = "disabled account"
	}
	return accountWith(kind+" "+a.GetName(), grants)
}

func accountWith(kind string, entitlements []string) string {
	if len(entitlements) == 0 {
		return kind
	}
	return kind + ": " + strings.Join(entitlements, ", ")
}

// stateText compares generations: settled only counts for the newest one.
func stateText(d *accessv1.Desired, t *provisionv1.Target) string {
	switch {
	case t == nil || t.GetGeneration() < d.GetGeneration():
		return "on its way"
	default:
		return short(t.GetState(), "TARGET_STATE_")
	}
}

func targetNote(t *provisionv1.Target) string {
	notes := slices.Clone(t.GetNotes())
	if p := t.GetProblem(); p != "" {
		if detail := t.GetDetail(); detail != "" {
			p += " (" + detail + ")"
		}
		notes = append([]string{p}, notes...)
	}
	return strings.Join(notes, "; ")
}

func newAccessWho(c *client) *cobra.Command {
	req := &accessv1.WhoRequest{}
	cmd := &cobra.Command{
		Use:     "who",
		Short:   "Everybody who should have it",
		Example: "  tenure access who --app warehouse --entitlement role:admin\n  tenure access who --can export --environment prod",
		Args:    cobra.NoArgs,
		RunE: c.run(func(s *session) error {
			stream, err := s.access.Who(s.ctx, req)
			if err != nil {
				return err
			}
			var holders []*accessv1.WhoResponse_Holder
			err = each(stream, func(m *accessv1.WhoResponse) error {
				holders = append(holders, m.GetHolders()...)
				return nil
			})
			if err != nil {
				return err
			}
			if s.out.json {
				return s.out.document(many("holders", holders))
			}
			ids := make([]string, 0, len(holders))
			for _, h := range holders {
				ids = append(ids, h.GetPersonId())
			}
			names, err := s.names(ids)
			if err != nil {
				return err
			}
			rows := make([][]string, 0, len(holders))
			for _, h := range holders {
				level := h.GetLevel()
				if level == "" && h.GetEntitlement() != "" {
					level = "unclassified"
				}
				rows = append(rows, []string{
					names[h.GetPersonId()], h.GetApplication(), h.GetEntitlement(), level,
					short(h.GetState(), "ACCESS_STATE_"), strings.Join(h.GetRoles(), ", "),
				})
			}
			if err := s.out.table([]string{"PERSON", "APPLICATION", "ENTITLEMENT", "LEVEL", "STATE", "BY ROLE"}, rows); err != nil {
				return err
			}
			s.out.line("%d", len(holders))
			return nil
		}),
	}
	cmd.Flags().StringVar(&req.Application, "app", "", "in this application")
	cmd.Flags().StringVar(&req.Entitlement, "entitlement", "", "with this entitlement")
	cmd.Flags().StringVar(&req.Can, "can", "", "who can create, edit, approve, export or delete, by the model's catalogue")
	cmd.Flags().StringVar(&req.Environment, "environment", "", "in applications of this environment: dev, staging, prod")
	return cmd
}

// names maps people's ids to user names, asking for up to a thousand at a time.
func (s *session) names(ids []string) (map[string]string, error) {
	ids = slices.Sorted(slices.Values(ids))
	names := make(map[string]string, len(ids))
	for chunk := range slices.Chunk(slices.Compact(ids), 1000) {
		people, err := s.get(chunk)
		if err != nil {
			return nil, fmt.Errorf("ask for the names: %w", err)
		}
		for _, p := range people {
			names[p.GetId()] = p.GetUserName()
		}
	}
	return names, nil
}
