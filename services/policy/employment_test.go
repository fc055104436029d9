package policy_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	accessv1 "github.com/tenurehq/tenure/proto/gen/tenure/access/v1"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
)

// TestAWorkerIsToldWhichRunOfEmploymentItIsAndBothClocksOfItsEnd tells a person's story step by step.
func TestAWorkerIsToldWhichRunOfEmploymentItIsAndBothClocksOfItsEnd(t *testing.T) {
	t.Parallel()
	day := func(d int) *timestamppb.Timestamp {
		return timestamppb.New(time.Date(2026, 11, d, 0, 0, 0, 0, time.UTC))
	}
	type told struct {
		Run          uint64
		Ended, Known int // days; 0: none
	}
	type step struct {
		what         string
		status       peoplev1.PersonStatus
		start        int
		ended, known int
		cut          int
		want         told
	}
	for name, story := range map[string][]step{
		"somebody who comes back from a later start is employed for the second time": {
			{what: "hired", status: active, start: 1, want: told{Run: 1}},
			{what: "left, known before", status: terminated, start: 1, ended: 10, known: 5, want: told{Run: 1, Ended: 10, Known: 5}},
			{what: "announced again", status: pending, want: told{Run: 1, Ended: 10, Known: 5}},
			{what: "back", status: active, start: 20, want: told{Run: 2}},
			{what: "on leave", status: onLeave, start: 20, want: told{Run: 2}},
			{what: "left again, known late", status: terminated, start: 20, ended: 22, known: 24, want: told{Run: 2, Ended: 22, Known: 24}},
			{what: "back once more on the next day", status: active, start: 22, want: told{Run: 3}},
		},
		"a termination that was cancelled begins no run": {
			{what: "hired", status: active, start: 1, want: told{Run: 1}},
			{what: "terminated", status: terminated, start: 1, ended: 10, known: 10, want: told{Run: 1, Ended: 10, Known: 10}},
			{what: "it was a mistake", status: active, start: 1, want: told{Run: 1}},
		},
		"a corrected start is no rehire of who was never without employment": {
			{what: "hired", status: active, start: 3, want: told{Run: 1}},
			{what: "the start was wrong", status: active, start: 4, want: told{Run: 1}},
		},
		"a cut that is lifted begins no run, and counts from the cut": {
			{what: "hired", status: active, start: 1, want: told{Run: 1}},
			{what: "cut", status: active, start: 1, cut: 7, want: told{Run: 1, Ended: 7, Known: 7}},
			{what: "HR says so too, with an earlier end", status: terminated, start: 1, ended: 6, known: 8, cut: 7, want: told{Run: 1, Ended: 6, Known: 7}},
			{what: "HR takes it back", status: active, start: 1, cut: 7, want: told{Run: 1, Ended: 7, Known: 7}},
			{what: "lifted", status: active, start: 1, want: told{Run: 1}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onBoth(t, func(t *testing.T, w *world) {
				s := w.service()
				w.apply(s, company)
				ann := person(active, "d005")
				for _, step := range story {
					ann.Status, ann.StartedAt, ann.EndedAt, ann.EndKnownAt, ann.Cut = step.status, nil, nil, nil, nil
					if step.start > 0 {
						ann.StartedAt = day(step.start)
					}
					if step.ended > 0 {
						ann.EndedAt, ann.EndKnownAt = day(step.ended), day(step.known)
					}
					if step.cut > 0 {
						ann.Cut = &peoplev1.Cut{At: day(step.cut)}
					}
					w.people.put(ann)
					if err := s.Decide(t.Context(), ann.GetId()); err != nil {
						t.Fatal(err)
					}
					answer, err := s.GetDesired(t.Context(), &accessv1.GetDesiredRequest{Application: "code", PersonIds: []string{ann.GetId()}})
					if err != nil || len(answer.GetDesired()) != 1 {
						t.Fatalf("%s: %v, %v", step.what, answer, err)
					}
					d := answer.GetDesired()[0]
					got := told{Run: d.GetEmployment()}
					if d.GetEndedAt() != nil {
						got.Ended, got.Known = d.GetEndedAt().AsTime().Day(), d.GetEndKnownAt().AsTime().Day()
					}
					if diff := cmp.Diff(step.want, got); diff != "" {
						t.Errorf("%s: the worker is told something else (-want +got):\n%s", step.what, diff)
					}
				}
			})
		})
	}
}

// TestWithoutAWordOfWhenAnEndBecameKnownTheFactsCommitCounts covers an ingest that does not say it.
func TestWithoutAWordOfWhenAnEndBecameKnownTheFactsCommitCounts(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		s, h := w.service(), w.listen()
		w.apply(s, company)
		background(t, s.Run)
		h.model()
		ann := person(active, "d005")
		w.say(normal, eventv1.LifecycleKind_LIFECYCLE_KIND_JOINER, ann)
		h.access(3)
		ann.Status, ann.EndedAt = terminated, timestamppb.New(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
		left := w.say(urgent, eventv1.LifecycleKind_LIFECYCLE_KIND_LEAVER, ann)
		h.access(3)
		answer, err := s.GetDesired(t.Context(), &accessv1.GetDesiredRequest{Application: "code", PersonIds: []string{ann.GetId()}})
		if err != nil || len(answer.GetDesired()) != 1 || !answer.GetDesired()[0].GetEndKnownAt().AsTime().Equal(left.Time) {
			t.Errorf("known since %v, %v; the fact was committed at %s", answer, err, left.Time)
		}
	})
}
