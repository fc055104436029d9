package timeline_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tenurehq/tenure/services/ingest/timeline"
)

var day0 = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

// drawPerson draws the facts of a person, most often of one employment.
func drawPerson(t *rapid.T) []timeline.Fact {
	var facts []timeline.Fact
	for n := range rapid.SampledFrom([]int{1, 1, 2, 3}).Draw(t, "employments") {
		own := drawFacts(t)
		for i := range own {
			own[i].Key = fmt.Sprintf("e%d-%s", n, own[i].Key)
			own[i].Employment.ExternalID = fmt.Sprint(n)
		}
		facts = append(facts, own...)
	}
	return facts
}

// drawFacts draws the facts of one employment. Few distinct instants and values, so that ties and repeats are common.
func drawFacts(t *rapid.T) []timeline.Fact {
	day := rapid.IntRange(0, 12)
	facts := make([]timeline.Fact, rapid.IntRange(1, 7).Draw(t, "facts"))
	for i := range facts {
		label := fmt.Sprintf("fact %d ", i)
		f := timeline.Fact{
			Source: "hr", Employment: timeline.Employment{Source: "hr", ExternalID: "1"}, Key: fmt.Sprintf("k%d", i), DeliveryID: fmt.Sprintf("d%d", i),
			Effective:  day0.AddDate(0, 0, day.Draw(t, label+"effective")),
			SourceTime: day0.AddDate(0, 0, rapid.IntRange(0, 2).Draw(t, label+"source time")),
			Record: timeline.Record{
				ExternalID: "1",
				Status:     rapid.SampledFrom([]string{"pending", "active", "active", "on_leave", "terminated"}).Draw(t, label+"status"),
				Title:      rapid.SampledFrom([]string{"", "x", "y"}).Draw(t, label+"title"),
			},
		}
		if rapid.Bool().Draw(t, label+"has start") {
			f.Start = day0.AddDate(0, 0, day.Draw(t, label+"start"))
			f.Record.StartDate = f.Start.Format(time.DateOnly)
		}
		if rapid.Bool().Draw(t, label+"has end") {
			f.End = day0.AddDate(0, 0, day.Draw(t, label+"end"))
			f.Record.EndDate = f.End.AddDate(0, 0, -1).Format(time.DateOnly)
		}
		facts[i] = f
	}
	return facts
}

// expected is INTERFACE's rule word by word, without the machinery of the core.
func expected(facts []timeline.Fact, t time.Time) (timeline.Status, timeline.Record, bool) {
	var best *timeline.Fact
	for i := range facts {
		f := &facts[i]
		if f.Effective.After(t) {
			continue
		}
		if best == nil || f.Effective.After(best.Effective) ||
			f.Effective.Equal(best.Effective) && (f.SourceTime.After(best.SourceTime) ||
				f.SourceTime.Equal(best.SourceTime) && f.Key > best.Key) {
			best = f
		}
	}
	if best == nil {
		return timeline.Pending, timeline.Record{}, false
	}
	status, _ := timeline.ParseStatus(best.Record.Status)
	if status != timeline.Terminated {
		if !best.End.IsZero() && !t.Before(best.End) {
			status = timeline.Terminated
		} else if !best.Start.IsZero() && t.Before(best.Start) {
			status = timeline.Pending
		}
	}
	return status, best.Record, true
}

func TestTheGreatestFactThatIsEffectiveHolds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		facts := drawFacts(t)
		at := day0.Add(time.Duration(rapid.IntRange(-24, 24*14).Draw(t, "hour")) * time.Hour)
		got := timeline.At(facts, at)
		status, record, known := expected(facts, at)
		if got.Status != status || known && !cmp.Equal(got.Record, record) {
			t.Fatalf("at %s: %v %+v, want %v %+v", at, got.Status, got.Record, status, record)
		}
	})
}

// whatOf is the best of the statuses that the employments have by themselves, which is what the person has.
func whatOf(facts []timeline.Fact, at time.Time) timeline.Status {
	own := map[timeline.Employment][]timeline.Fact{}
	for _, f := range facts {
		own[f.Employment] = append(own[f.Employment], f)
	}
	var all []timeline.State
	for _, facts := range own {
		all = append(all, timeline.At(facts, at))
	}
	has := func(ok func(timeline.State) bool) bool { return slices.ContainsFunc(all, ok) }
	for _, status := range []timeline.Status{timeline.Active, timeline.OnLeave} {
		if has(func(s timeline.State) bool { return s.Status == status }) {
			return status
		}
	}
	over := func(s timeline.State) bool { return s.Status == timeline.Terminated && !s.StartedAt.IsZero() }
	if !has(over) && has(func(s timeline.State) bool { return s.Status == timeline.Pending }) {
		return timeline.Pending
	}
	return timeline.Terminated
}

func TestAPersonIsWhatTheirEmploymentsComeToTogether(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		facts := drawPerson(t)
		at := day0.Add(time.Duration(rapid.IntRange(-24, 24*14).Draw(t, "hour")) * time.Hour)
		got := timeline.At(rapid.Permutation(facts).Draw(t, "order"), at)
		if want := whatOf(facts, at); got.Status != want {
			t.Fatalf("at %s: %v, want %v", at, got.Status, want)
		}
		running := func(s timeline.Status) bool { return s == timeline.Active || s == timeline.OnLeave }
		for _, e := range got.Employments {
			switch {
			case running(e.Status) && e.StartedAt.Before(got.StartedAt):
				t.Fatalf("employed since %s, and one employment began %s", got.StartedAt, e.StartedAt)
			case got.Status == timeline.Terminated && !got.StartedAt.IsZero() && !e.StartedAt.IsZero() && e.EndedAt.After(got.EndedAt):
				t.Fatalf("ended %s, and one employment ended %s", got.EndedAt, e.EndedAt)
			}
		}
		if most := got.Employments[0]; most.Status != got.Status || !cmp.Equal(most.Record, got.Record) {
			t.Fatalf("the person is not what the first of %+v is", got.Employments)
		}
	})
}

// arrivals feeds facts to Step, shuffled, some of them twice, in groups, at instants that only grow, and checks every
// step on the way. It ends at the instant end.
func arrivals(t *rapid.T, facts []timeline.Fact, end time.Time) timeline.State {
	queue := rapid.Permutation(slices.Concat(facts, facts[:rapid.IntRange(0, len(facts)).Draw(t, "said twice")])).Draw(t, "order")
	now := day0.AddDate(0, 0, -1)
	var known []timeline.Fact
	var state timeline.State
	folded := timeline.StatusUnknown // what somebody would believe who saw only the events
	for done := false; !done; {
		now = now.Add(time.Duration(rapid.IntRange(0, 96).Draw(t, "hours")) * time.Hour)
		said := queue[:rapid.IntRange(0, len(queue)).Draw(t, "said")]
		if done = !now.Before(end); done {
			now, said = end, queue
		}
		queue = queue[len(said):]
		said = slices.Clone(said)
		for i := range said {
			said[i].Known = now
		}
		d := timeline.Step(known, said, state, now)
		known, state = append(known, d.Accepted...), d.State
		folded = fold(t, folded, d.Events)
		if out := state.Status; out == timeline.Active || out == timeline.OnLeave {
			if folded != out {
				t.Fatalf("events say %v, state says %v", folded, out)
			}
		} else if folded == timeline.Active || folded == timeline.OnLeave {
			t.Fatalf("events say %v, state says %v", folded, out)
		}
		if again := timeline.Step(known, said, state, now); len(again.Events)+len(again.Accepted) > 0 || !cmp.Equal(again.State, state) {
			t.Fatalf("the same facts again change something: %+v", again)
		}
	}
	return state
}

// fold applies events to what their reader believes, and checks that each of them can follow.
func fold(t *rapid.T, status timeline.Status, events []timeline.Event) timeline.Status {
	employed := func() bool { return status == timeline.Active || status == timeline.OnLeave }
	for _, e := range events {
		ok := true
		switch e.Kind {
		case timeline.Joiner, timeline.Rehire:
			ok, status = !employed(), timeline.Active
		case timeline.Leaver:
			ok, status = employed() || status == timeline.StatusUnknown, timeline.Terminated
		case timeline.NoShow:
			ok, status = !employed(), timeline.Terminated
		case timeline.LeaveStarted:
			ok, status = status == timeline.Active, timeline.OnLeave
		case timeline.LeaveEnded:
			ok, status = status == timeline.OnLeave, timeline.Active
		case timeline.Mover, timeline.ContractExtended:
			ok = employed()
		case timeline.Correction:
		}
		if !ok {
			t.Fatalf("%v cannot follow %v", e.Kind, status)
		}
		if urgent := e.Kind == timeline.Leaver || e.Kind == timeline.NoShow; urgent != (e.Kind.Lane() == timeline.Urgent) {
			t.Fatalf("%v in lane %v", e.Kind, e.Kind.Lane())
		}
	}
	return status
}

func TestTheEndStateDoesNotDependOnArrival(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		facts := drawPerson(t)
		end := day0.AddDate(0, 0, 6)
		got, want := arrivals(t, facts, end), timeline.At(facts, end)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("the order of arrival changed the end state (-want +got):\n%s", diff)
		}
	})
}

func TestNextIsTheFirstInstantAtWhichTheStateChanges(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		facts := drawPerson(t)
		now := day0.Add(time.Duration(rapid.IntRange(-24, 24*14).Draw(t, "hour")) * time.Hour)
		state := timeline.At(facts, now)
		differs := func(at time.Time) bool {
			later := timeline.At(facts, at)
			return slices.ContainsFunc(later.Employments, func(e timeline.Standing) bool {
				was := state.Employments[slices.IndexFunc(state.Employments, func(s timeline.Standing) bool { return s.Employment == e.Employment })]
				return e.Status != was.Status || len(timeline.Changes(e.Record, was.Record)) > 0
			})
		}
		// All instants lie on whole hours, so this scan misses none.
		for at := now; at.Before(day0.AddDate(0, 0, 15)); at = at.Add(time.Hour) {
			if !state.Next.IsZero() && !at.Before(state.Next) {
				break
			}
			if differs(at) {
				t.Fatalf("state changes at %s, next due is %s", at, state.Next)
			}
		}
		if !state.Next.IsZero() && !differs(state.Next) {
			t.Fatalf("nothing changes at %s", state.Next)
		}
	})
}

func TestWakingAtEveryDueTimeTellsTheSameAsWakingOnce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		facts := drawPerson(t)
		end := day0.AddDate(0, 0, 14)
		start := timeline.Step(nil, facts, timeline.State{}, day0.Add(-time.Hour))
		var often []timeline.Event
		state := start.State
		for steps := 0; !state.Next.IsZero(); steps++ {
			if steps > 3*len(facts) {
				t.Fatalf("due again and again: %+v", state)
			}
			d := timeline.Step(facts, nil, state, state.Next)
			often, state = append(often, d.Events...), d.State
		}
		once := timeline.Step(facts, nil, start.State, end)
		if diff := cmp.Diff(once.Events, often); diff != "" {
			t.Fatalf("waking often tells something else (-once +often):\n%s", diff)
		}
		if once.State.Status != state.Status {
			t.Fatalf("once: %v, often: %v", once.State.Status, state.Status)
		}
	})
}
