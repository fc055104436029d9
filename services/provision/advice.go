package provision

import (
	"github.com/tenurehq/tenure/pkg/connector"
	"github.com/tenurehq/tenure/services/provision/plan"
)

// Advice says what a person can do about a stuck item. reason, where it is known, is more precise than the code.
func Advice(code, reason string) string {
	if s, ok := byReason[reason]; ok {
		return s
	}
	if s, ok := byCode[code]; ok {
		return s
	}
	return "Look at the application and at the worker's log; then retry."
}

var byReason = map[string]string{
	plan.ReasonNotOurs: "An account that fits exists and is not Tenure's. If it is this person's, set adopt: correlated (with correlate) " +
		"or rename it in the application; if it is not, give the person another name. Then retry.",
	plan.ReasonAmbiguous:   "Several accounts fit this person. Keep one in the application and remove the marker, key or name from the others; then retry.",
	plan.ReasonOtherPerson: "The account on record carries another person's marker. Find out whose it is, correct the marker in the application, then retry.",
	plan.ReasonNoRelease: "Nobody ordered this removal, and it would be one too many: the brake keeps it back. See `tenure holds list`; once two people have released it, " +
		"it is done within minutes, or at once with a retry.",
	plan.ReasonUnsupported: "The application's connector cannot do this. Do it by hand in the application; the next read notices.",
	plan.ReasonExcluded:    "An entitlement that others gave excludes the wanted one. Remove it by hand or set enforce: full.",
	plan.ReasonFormer: "The account of an earlier employment is in the way of a new one (when_rehired: new) and can be neither deleted nor renamed by Tenure, or " +
		"somebody may be using it. Delete, rename or disable it in the application, or set when_rehired: old; then retry.",
	"tenure.policy_silent": "Policy does not say whether this removal, which nobody ordered, may be done. It is asked again by itself; see why it does not answer.",
	"tenure.policy_behind": "Policy knows an older decision about this person than was announced: it was restored from an older backup, or a replica lags. " +
		"Nothing is done until it has decided anew as often as it had before; see when its database was restored.",
	"tenure.policy_before_lift": "The person was cut and lifted, and policy has not decided since. Nothing is given or taken before it has; see whether policy runs.",
	"tenure.policy_away":        "The person is cut and what is known here of theirs is gone. Policy had announced more and does not answer; it is asked again.",
	"tenure.no_effect": "The application says that it did it, and what it shows then is not so. Look at the account there, and whether the application " +
		"is read from a copy that does not follow. It is tried again within five minutes, or at once with a retry.",
	"tenure.no_decision":          "Policy knows no decision about this person. Was its database lost? It decides anew from what ingest knows.",
	connector.ReasonNoEntitlement: "The entitlement does not exist in the application, and Tenure never creates one. Create it there, or correct the role model; then retry.",
	connector.ReasonNoAccount:     "The account vanished while it was worked on. Look in the application who deletes accounts.",
}

var byCode = map[string]string{
	"RATE_LIMITED":       "The application wants fewer calls. Lower limits.per_minute, or ask for a higher quota.",
	"TARGET_UNAVAILABLE": "The application cannot be reached. See `tenure apps show`; what waits goes on by itself when it is back.",
	"OUTCOME_UNKNOWN":    "The application does not say what became of a call. Look at the account there; Tenure reads it again.",
	"CONFLICT":           "Somebody else keeps changing this account. Find the other writer.",
	"ALREADY_EXISTS":     "Something that must be unique is taken in the application. Rename or remove what is in the way, then retry.",
	"NOT_FOUND":          "Something that is needed does not exist in the application. Create it there or correct the model, then retry.",
	"PRECONDITION":       "The application's state forbids it: a licence is missing, or the account owns something or is the last owner. Resolve that there, then retry.",
	"INVALID":            "The application refuses the content. Correct applications[].account or the person's record.",
	"DENIED":             "Tenure's credential may not do this in the application. Grant it the permission, then retry.",
	"AUTH":               "The application does not accept Tenure's credential. Renew it.",
	"UNSUPPORTED":        "The application's connector cannot do this. Do it by hand in the application; the next read notices.",
	"INCONSISTENT":       "The application says one thing and shows another. Look at the account there; then retry.",
}
