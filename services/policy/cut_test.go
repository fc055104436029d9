package policy_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	accessv1 "github.com/tenurehq/tenure/proto/gen/tenure/access/v1"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
)

const (
	kindCut  = eventv1.LifecycleKind_LIFECYCLE_KIND_CUT
	kindLift = eventv1.LifecycleKind_LIFECYCLE_KIND_LIFT
)

var (
	everything = map[string]string{"wiki": "[staff]", "code": "[developers]", "warehouse": "[readonly]"}
	nothing    = map[string]string{"wiki": "ACCESS_STATE_NONE[]", "code": "ACCESS_STATE_NONE[]", "warehouse": "ACCESS_STATE_NONE[]"}
)

func TestWhoIsCutHasNothingWhateverTheModelSaysUntilLifted(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		s, h := w.service(), w.listen()
		w.apply(s, company)
		background(t, s.Run)
		h.model()
		ann := person(active, "d005")
		w.say(normal, eventv1.LifecycleKind_LIFECYCLE_KIND_JOINER, ann)
		h.access(3)

		ann.Cut = &peoplev1.Cut{At: timestamppb.New(time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)), PersonVersion: 2}
		cut := w.say(urgent, kindCut, ann)
		for app, e := range h.access(3) {
			if e.Subject != "tenure.access.urgent."+app+"."+ann.GetId() || e.CausationID != cut.ID || h.fact(e).GetRelease() == "" {
				t.Errorf("a cut is announced on %s because of %s: %v", e.Subject, e.CausationID, h.fact(e))
			}
		}
		if diff := cmp.Diff(nothing, w.show(s, ann.GetId())); diff != "" {
			t.Errorf("who is cut (-want +got):\n%s", diff)
		}
		desired, err := s.GetDesired(t.Context(), &accessv1.GetDesiredRequest{Application: "code", PersonIds: []string{ann.GetId()}})
		if err != nil || len(desired.GetDesired()) != 1 || !desired.GetDesired()[0].GetEndKnownAt().AsTime().Equal(ann.GetCut().GetAt().AsTime()) ||
			!desired.GetDesired()[0].GetEndedAt().AsTime().Equal(ann.GetCut().GetAt().AsTime()) {
			t.Errorf("a worker is told %v, %v; want both clocks to begin with the cut", desired, err)
		}

		// HR's next record is decided about, and changes nothing.
		ann.Record.Department = "d008"
		w.say(normal, eventv1.LifecycleKind_LIFECYCLE_KIND_MOVER, ann)
		until(t, "the mover is decided about", func() bool {
			shown, err := s.ShowAccess(t.Context(), &accessv1.ShowAccessRequest{PersonId: ann.GetId()})
			return err == nil && shown.GetPersonVersion() == 3
		})
		if diff := cmp.Diff(nothing, w.show(s, ann.GetId())); diff != "" {
			t.Errorf("who is cut and moves (-want +got):\n%s", diff)
		}

		ann.Record.Department, ann.Cut = "d005", nil
		w.say(urgent, kindLift, ann)
		for app, e := range h.access(3) {
			if e.Subject != "tenure.access.normal."+app+"."+ann.GetId() {
				t.Errorf("a lift is announced on %s", e.Subject)
			}
		}
		if diff := cmp.Diff(everything, w.show(s, ann.GetId())); diff != "" {
			t.Errorf("who was lifted (-want +got):\n%s", diff)
		}
	})
}

// TestACutThatNoEventToldOfIsFoundByComparing covers an event that was lost.
func TestACutThatNoEventToldOfIsFoundByComparing(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		s := w.service()
		w.apply(s, company)
		ann := person(active, "d005")
		w.people.put(ann)
		stop := background(t, s.Run)
		until(t, "ann has everything", func() bool { return cmp.Diff(everything, w.show(s, ann.GetId())) == "" })
		stop()
		ann.Cut = &peoplev1.Cut{At: timestamppb.Now(), PersonVersion: 2}
		w.people.put(ann)
		s = w.service()
		background(t, s.Run)
		until(t, "ann has nothing", func() bool { return cmp.Diff(nothing, w.show(s, ann.GetId())) == "" })
	})
}

func TestAModelGivesWhoIsCutNothing(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		s := w.service()
		w.apply(s, company)
		ann := person(active, "d005")
		ann.Cut = &peoplev1.Cut{At: timestamppb.Now(), PersonVersion: 1}
		w.people.put(ann)
		for _, m := range diff(t, s, strings.ReplaceAll(company, "staff", "crew")) {
			if len(m.GetDiffs()) > 0 {
				t.Errorf("another model would change something for who is cut: %v", m)
			}
		}
		if err := s.Decide(t.Context(), ann.GetId()); err != nil {
			t.Fatal(err)
		}
		if got := w.show(s, ann.GetId()); len(got) != 0 {
			t.Errorf("a joiner who is cut has %v", got)
		}
	})
}
