package bus

import (
	"strings"

	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
)

// Subjects that name no person and no application.
const (
	ModelApplied     = "tenure.model.applied"
	DeliveryHeld     = "tenure.delivery.held"
	CheckpointSigned = "tenure.checkpoint.signed"
)

// Everything is the filter that takes every event.
const Everything = "tenure.>"

// LifecycleSubject is where ingest says what happened to a person: tenure.lifecycle.<lane>.<kind>.<person>.
// LifecycleSubject(lane, LIFECYCLE_KIND_UNSPECIFIED, "") is the filter for all of a lane.
func LifecycleSubject(lane eventv1.Lane, kind eventv1.LifecycleKind, person string) string {
	if kind == eventv1.LifecycleKind_LIFECYCLE_KIND_UNSPECIFIED {
		return "tenure.lifecycle." + laneToken(lane) + ".>"
	}
	return "tenure.lifecycle." + laneToken(lane) + "." + kindToken(kind) + "." + personToken(person)
}

// AccessSubject is where policy says that somebody should have other access in app: tenure.access.<lane>.<app>.<person>.
// Without a person it is the filter for all of them.
func AccessSubject(lane eventv1.Lane, app, person string) string {
	return "tenure.access." + laneToken(lane) + "." + app + "." + personToken(person)
}

// IntentSubject is where a worker says what it is about to do. Without a person it is the filter for all of them.
func IntentSubject(app, person string) string {
	return "tenure.intent." + app + "." + personToken(person)
}

// OutcomeSubject is where a worker says what became of it. Without a person it is the filter for all of them.
func OutcomeSubject(app, person string) string {
	return "tenure.outcome." + app + "." + personToken(person)
}

// FindingSubject is where a worker says what needs a person's eye. Without a person it is the filter for all of them.
func FindingSubject(app, person string) string {
	return "tenure.finding." + app + "." + personToken(person)
}

// HoldSubject is where policy says what became of something that the brake keeps back: tenure.hold.<state>.
func HoldSubject(state eventv1.HoldState) string {
	return "tenure.hold." + strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(state.String(), "HOLD_STATE_")), "_", "-")
}

// OperatorSubject is where a service says that an operator did something that is no other fact.
func OperatorSubject(action string) string { return "tenure.operator." + action }

// laneToken is the lane's name in subjects. What has no lane is in no hurry.
func laneToken(lane eventv1.Lane) string {
	if lane == eventv1.Lane_LANE_URGENT {
		return "urgent"
	}
	return "normal"
}

// kindToken turns LIFECYCLE_KIND_LEAVE_STARTED into leave-started.
func kindToken(kind eventv1.LifecycleKind) string {
	return strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(kind.String(), "LIFECYCLE_KIND_")), "_", "-")
}

// personToken is the last token: a person, or all of them.
func personToken(person string) string {
	if person == "" {
		return ">"
	}
	return person
}
