package sim

import (
	"github.com/tenurehq/tenure/services/policy/decide"
	"github.com/tenurehq/tenure/services/provision/plan"
)

// Invariants are the names of all that is looked at, with the promise that each is of.
func Invariants() map[string]string {
	return map[string]string{
		"not_as_said":                    "P1",
		"event_without_terminal_state":   "P2",
		"gap_in_log":                     "P2",
		"never_settles":                  "P2",
		"leaver_active_after_settle":     "P4",
		"cut_person_active_after_settle": "P4",
		"older_word_after_cut":           "P4",
		"decision_out_of_date":           "P4",
		"not_as_desired_after_settle":    "P4",
		"two_accounts_for_one_person":    "P6",
		"effect_without_intent":          "P8",
		"intent_without_outcome":         "P8",
		"released_over_limit":            "P11",
		"removal_without_release":        "P11",
		"own_taken_for_foreign":          "P11",
	}
}

// judge looks at what must hold when everything has come to rest. effect_without_intent, two_accounts_for_one_person,
// removal_without_release and released_over_limit were looked at all the time.
func (w *world) judge() {
	w.intakeIsDurable()
	w.leaversAreGone()
	w.accessIsAsDesired()
	w.everythingEnded()
	w.logIsWhole()
}

// intakeIsDurable: where a person stands follows from all that a source was told to be taken, and from nothing else.
func (w *world) intakeIsDurable() {
	for p, person := range w.people {
		want, got := w.ingest.told(p), person.state
		if want.Status != got.Status || want.Record.Department != got.Record.Department {
			w.violated("not_as_said", "p%d is %s in %q, and by what was answered %s in %q", p, got.Status, got.Record.Department, want.Status, want.Record.Department)
		}
	}
}

// leaversAreGone: who has left, or is cut, can use nothing anywhere.
func (w *world) leaversAreGone() {
	for p, person := range w.people {
		if person.cutStands {
			w.cutOff(p, "cut_person_active_after_settle", "although cut")
			continue
		}
		if s := w.ingest.told(p); person.version > 0 && !employed(s.Status.String()) {
			w.cutOff(p, "leaver_active_after_settle", "although "+s.Status.String())
		}
	}
}

func employed(status string) bool { return status == "active" || status == "on_leave" }

// cutOff: none of the person's accounts can be used.
func (w *world) cutOff(p int, invariant, why string) {
	for _, a := range w.apps {
		for _, x := range a.accounts {
			if x.Name == personName(p) && x.Status != plan.StatusDisabled {
				w.violated(invariant, "p%d has a working account in %s, %s", p, a.name, why)
			}
		}
	}
}

// accessIsAsDesired: policy's last word follows from where the person stands, and the applications show it.
func (w *world) accessIsAsDesired() {
	for p, person := range w.people {
		if person.version == 0 {
			continue
		}
		wanted := w.wanted(p, snapshot{person.version, person.state, person.cutStands}, nil)
		for _, a := range w.apps {
			want := wanted[a.name]
			if got := w.policy.desired[p][a.name].access; !got.Equal(want) {
				w.violated("decision_out_of_date", "p%d should have %s %v in %s, and policy decided %s %v", p,
					stateNames[want.State], want.Entitlements, a.name, stateNames[got.State], got.Entitlements)
			}
			shown, text := a.shows(plan.Marker(personName(p)))
			switch {
			case want.State == decide.Disabled && shown.State != decide.Enabled:
				continue // of who is away what they were given stays as it was
			case want.State == decide.None && shown.State == decide.Disabled:
				shown.State = decide.None // as good as none
			}
			if shown.State != want.State || len(decide.Without(shown.Entitlements, want.Entitlements))+len(decide.Without(want.Entitlements, shown.Entitlements)) > 0 {
				w.violated("not_as_desired_after_settle", "p%d should have %s %v in %s, and has %s", p, stateNames[want.State], want.Entitlements, a.name, text)
			}
		}
	}
}

// everythingEnded: each committed event came to what it led to, and each intent to one outcome.
func (w *world) everythingEnded() {
	for _, o := range w.outboxes {
		for _, e := range o.committed {
			switch e.kind {
			case lifecycle, cutting:
				if w.policy.decided[e.person].version < e.version {
					w.violated("event_without_terminal_state", "nobody decided about version %d of p%d", e.version, e.person)
				}
			case access:
				if t := w.apps[e.app].targets[e.person]; t == nil || t.settled < e.version {
					w.violated("event_without_terminal_state", "generation %d of p%d in %s was never settled", e.version, e.person, applications[e.app])
				}
			case intent, outcome: // intent_without_outcome tells
			}
		}
	}
	for _, a := range w.apps {
		for _, e := range a.journal {
			if !e.outcome {
				w.violated("intent_without_outcome", "operation %d about p%d in %s", e.id, e.person, a.name)
			}
		}
	}
}

// logIsWhole: the log has every event of every origin once, under the number that the origin gave it.
func (w *world) logIsWhole() {
	logged := map[int]int{}
	for _, m := range w.audit.leaves {
		logged[m.event.id]++
		if w.outboxes[m.origin].numbers[m.event.id] != m.seq {
			w.violated("gap_in_log", "event %d of origin %d has the number %d in the log and %d at its origin", m.event.id, m.origin, m.seq, w.outboxes[m.origin].numbers[m.event.id])
		}
	}
	for _, o := range w.outboxes {
		for _, e := range o.committed {
			if logged[e.id] != 1 {
				w.violated("gap_in_log", "number %d of %s is in the log %d times", o.numbers[e.id], o.name(), logged[e.id])
			}
		}
	}
}
