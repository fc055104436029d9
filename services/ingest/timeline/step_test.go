package timeline_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tenurehq/tenure/services/ingest/timeline"
)

func active(title string) timeline.Fact {
	return timeline.Fact{
		Source: "hr", Employment: timeline.Employment{Source: "hr", ExternalID: "1"}, Key: "k", Effective: day0, SourceTime: day0, Known: day0, DeliveryID: "d-k", Item: 3, Actor: "source:hr",
		Record: timeline.Record{ExternalID: "1", Status: "active", Title: title},
	}
}

func TestWhatOneItemOfOneDeliverySaidStaysAsItWasTakenIn(t *testing.T) {
	t.Parallel()
	first := timeline.Step(nil, []timeline.Fact{active("first")}, timeline.State{}, day0)
	again := timeline.Step(first.Accepted, []timeline.Fact{active("second")}, first.State, day0)
	if len(again.Accepted) > 0 || len(again.Events) > 0 || again.State.Record.Title != "first" {
		t.Errorf("the same item again with other words: %+v", again)
	}
}

func TestAStateThatAnotherProgramCameToIsPutRightWithAnEvent(t *testing.T) {
	t.Parallel()
	facts := []timeline.Fact{active("x")}
	wrong := timeline.State{At: day0, Status: timeline.Terminated, Record: facts[0].Record, Employments: []timeline.Standing{
		{Employment: facts[0].Employment, Status: timeline.Terminated, Record: facts[0].Record},
	}}
	d := timeline.Step(facts, nil, wrong, day0.AddDate(0, 0, 1))
	if d.State.Status != timeline.Active || len(d.Events) != 1 || d.Events[0].Kind != timeline.Joiner {
		t.Errorf("decided %+v, want the joiner that makes up for it", d)
	}
}

func TestAnEventTellsWhoseWordItGoesBy(t *testing.T) {
	t.Parallel()
	fact := active("x")
	fact.Start = day0.AddDate(0, 0, 2)
	fact.Record.StartDate = "2026-03-03"
	said := []timeline.Fact{fact}
	due := fact.Start

	waited := timeline.Step(said, nil, timeline.Step(nil, said, timeline.State{}, day0).State, due)
	want := timeline.Event{
		Kind: timeline.Joiner, Effective: fact.Start, ByTime: true, Source: "hr", Known: day0, Actor: timeline.ActorTime,
		Changes: []timeline.Change{{Field: "status", From: "pending", To: "active"}},
	}
	if diff := cmp.Diff([]timeline.Event{want}, waited.Events); diff != "" {
		t.Errorf("what time brought (-want +got):\n%s", diff)
	}

	told := timeline.Step(nil, said, timeline.State{}, due)
	want.ByTime, want.DeliveryID, want.Item, want.Actor = false, "d-k", 3, "source:hr"
	if diff := cmp.Diff([]timeline.Event{want}, told.Events); diff != "" {
		t.Errorf("what a delivery brought (-want +got):\n%s", diff)
	}
}

func TestNamesAreTheContracts(t *testing.T) {
	t.Parallel()
	kinds := []string{"joiner", "mover", "leaver", "rehire", "leave-started", "leave-ended", "correction", "no-show", "contract-extended"}
	for i, want := range kinds {
		if got := timeline.Kind(i + 1).String(); got != want {
			t.Errorf("kind %d is %q, want %q", i+1, got, want)
		}
	}
	for i, want := range []string{"", "pending", "active", "on_leave", "terminated"} {
		status := timeline.Status(i)
		if got := status.String(); got != want {
			t.Errorf("status %d is %q, want %q", i, got, want)
		}
		if got, ok := timeline.ParseStatus(want); got != status || ok != (want != "") {
			t.Errorf("%q is read as %v, %t", want, got, ok)
		}
	}
}
