package main

import (
	"sort"
	"strings"

	"github.com/spf13/cobra"

	accessv1 "github.com/tenurehq/tenure/proto/gen/tenure/access/v1"
	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
	provisionv1 "github.com/tenurehq/tenure/proto/gen/tenure/provision/v1"
)

func newAccessWhy(c *client) *cobra.Command {
	return &cobra.Command{
		Use:   "why PERSON APP [ENTITLEMENT]",
		Short: "The whole story: HR delivery, event, rule, plan, calls, read-back; also why not",
		Example: `  tenure access why 10001 code group:developers
  tenure access why 10001 warehouse`,
		Args: cobra.RangeArgs(2, 3),
		RunE: c.run(func(s *session) error {
			person, err := s.holder(s.args[0])
			if err != nil {
				return err
			}
			app, entitlement := s.args[1], ""
			if len(s.args) == 3 {
				entitlement = s.args[2]
			}
			explained, err := s.access.Explain(s.ctx, &accessv1.ExplainRequest{PersonId: person.GetId(), Application: app, Entitlement: entitlement})
			if err != nil {
				return err
			}
			timeline, err := s.people.Timeline(s.ctx, &peoplev1.TimelineRequest{PersonId: person.GetId()})
			if err != nil {
				return err
			}
			journal, err := s.provision.Journal(s.ctx, &provisionv1.JournalRequest{PersonId: person.GetId(), Application: app})
			if err != nil {
				return err
			}
			if s.out.json {
				return s.out.document(one("person", person), one("explained", explained),
					many("happenings", timeline.GetHappenings()), many("journal", journal.GetEntries()))
			}
			story{s.out, person, app, entitlement, explained, timeline, journal}.tell()
			return nil
		}),
	}
}

// story tells why a person has something, or why not, from the words of all three services.
type story struct {
	out         *printer
	person      *peoplev1.Person
	app         string
	entitlement string
	explained   *accessv1.ExplainResponse
	timeline    *peoplev1.TimelineResponse
	journal     *provisionv1.JournalResponse
}

func (st story) tell() {
	thing := "an account in " + st.app
	if st.entitlement != "" {
		thing = st.entitlement + " in " + st.app
	}
	verdict := "should not have"
	if st.explained.GetWanted() {
		verdict = "should have"
	}
	st.out.line("%s (%s) %s %s.", clean(st.person.GetUserName()), standing(st.person), verdict, clean(thing))
	st.rules()
	st.history()
	st.calls()
}

func (st story) rules() {
	d := st.explained.GetDesired()
	st.out.line("\nRules (model %d, %.12s, decision %d from person version %d):", d.GetModelSeq(), st.explained.GetModelSha256(), d.GetDecision(), d.GetPersonVersion())
	if len(st.explained.GetVerdicts()) == 0 {
		st.out.line("  no role of the model gives it")
	}
	if st.person.GetStatus() == peoplev1.PersonStatus_PERSON_STATUS_TERMINATED || st.person.GetStatus() == peoplev1.PersonStatus_PERSON_STATUS_PENDING {
		st.out.line("  a person who is %s has nothing anywhere, whatever the roles say", statusName(st.person.GetStatus()))
	}
	if st.person.GetCut() != nil {
		st.out.line("  a person who is cut has nothing anywhere, whatever HR and the roles say: %s", clean(cutText(st.person.GetCut())))
	}
	verdicts := st.explained.GetVerdicts()
	sort.SliceStable(verdicts, func(i, j int) bool { return verdicts[i].GetMember() && !verdicts[j].GetMember() })
	for _, v := range verdicts {
		r := v.GetReason()
		switch {
		case v.GetError() != "":
			st.out.line("  ? role %s could not be decided: %s", clean(r.GetRole()), clean(v.GetError()))
		case v.GetMember():
			with := ""
			if len(r.GetBindings()) > 0 {
				with = " with " + strings.Join(r.GetBindings(), ", ")
			}
			st.out.line("  + role %s%s: %s  (%s:%d)", clean(r.GetRole()), clean(with), clean(r.GetRule()), r.GetFile(), r.GetLine())
		default:
			st.out.line("  - role %s: it is not so that %s  (%s:%d)", clean(r.GetRole()), clean(v.GetFailed()), r.GetFile(), r.GetLine())
		}
	}
}

func (st story) history() {
	happenings := map[string]*peoplev1.Happening{}
	for _, h := range st.timeline.GetHappenings() {
		happenings[h.GetEventId()] = h
	}
	st.out.line("\nWhat led to it, newest first:")
	if len(st.explained.GetHistory()) == 0 {
		st.out.line("  nothing ever did")
	}
	for _, d := range st.explained.GetHistory() {
		var gained []string
		for _, e := range d.GetAdded() {
			gained = append(gained, "+"+e)
		}
		for _, e := range d.GetRemoved() {
			gained = append(gained, "-"+e)
		}
		st.out.line("  %s  generation %d: %s %s", when(d.GetAt()), d.GetGeneration(), wantedText(d.GetState()), clean(strings.Join(gained, " ")))
		if h := happenings[d.GetTriggerEventId()]; h != nil {
			l := h.GetLifecycle()
			from := " in time"
			switch {
			case l.GetDeliveryId() != "":
				from = " in delivery " + l.GetDeliveryId()
			case l.GetKind() == eventv1.LifecycleKind_LIFECYCLE_KIND_CUT || l.GetKind() == eventv1.LifecycleKind_LIFECYCLE_KIND_LIFT:
				from = ""
			}
			what := short(l.GetKind(), "LIFECYCLE_KIND_")
			if len(h.GetChanges()) > 0 {
				what += " (" + changes(h.GetChanges()) + ")"
			}
			st.out.line("      because of %s, effective %s, said by %s%s, event %s", clean(what), when(l.GetEffectiveAt()), l.GetActor(), from, h.GetEventId())
		} else if d.GetTriggerEventId() != "" {
			st.out.line("      because of model %d: %s", d.GetModelSeq(), d.GetTriggerEventId())
		}
	}
}

// wantedText is what a decision wanted in the application.
func wantedText(state eventv1.AccessState) string {
	if state == eventv1.AccessState_ACCESS_STATE_NONE {
		return "nothing wanted"
	}
	return short(state, "ACCESS_STATE_") + " account wanted"
}

func (st story) calls() {
	st.out.line("\nWhat was done in %s, newest first:", clean(st.app))
	if len(st.journal.GetEntries()) == 0 {
		st.out.line("  nothing")
	}
	for _, e := range st.journal.GetEntries() {
		st.out.line("  %s  generation %d, operation %s", when(e.GetIntentAt()), e.GetGeneration(), e.GetOperationId())
		results := map[uint32]*connectorv1.StepResult{}
		for _, r := range e.GetResults() {
			results[r.GetIndex()] = r
		}
		for _, step := range e.GetSteps() {
			what := short(step.GetOp(), "OP_")
			if step.GetTarget() != "" {
				what += " " + step.GetTarget()
			}
			st.out.line("      %s: %s", clean(what), clean(stepResult(results[step.GetIndex()])))
		}
		st.out.line("      %s", clean(readBack(e)))
	}
}

func stepResult(r *connectorv1.StepResult) string {
	if r == nil {
		return "no answer yet"
	}
	text := short(r.GetOutcome(), "OUTCOME_")
	if p := r.GetProblem(); p != nil {
		text += " (" + strings.TrimSpace(short(p.GetCode(), "CODE_")+" "+p.GetReason()+" "+p.GetMessage()) + ")"
	}
	return text
}

func readBack(e *provisionv1.JournalEntry) string {
	switch e.GetState() {
	case eventv1.OutcomeState_OUTCOME_STATE_DONE:
		seen := "no account"
		if a := e.GetObserved(); a != nil {
			seen = accountText(&provisionv1.Target{Observed: a})
		}
		return "read back at " + when(e.GetOutcomeAt()) + ": " + seen
	case eventv1.OutcomeState_OUTCOME_STATE_NOT_DONE:
		return "not done; it will be tried again or waits for help: tenure apps stuck"
	case eventv1.OutcomeState_OUTCOME_STATE_UNKNOWN:
		return "outcome unknown; it is being resolved by reading"
	default:
		return "under way"
	}
}
