package timeline_test

import (
	gocmp "cmp"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	"github.com/tenurehq/tenure/services/ingest/timeline"
)

// story is a golden case: what is said to Step at which instants, and what it must come to each time. Events are one line
// each: kind, effective instant, what changed, then "backdated" and "by time" where they apply.
type story struct {
	Name  string `yaml:"name"` // a sentence, which is the rule
	Steps []struct {
		Now  string              `yaml:"now"`
		Say  []map[string]string `yaml:"say"` // key, and fields of a record; at: source time, default now; of: the employment, default 1
		Want struct {
			Status  string   `yaml:"status"`
			Events  []string `yaml:"events"`
			Next    string   `yaml:"next"`
			Started string   `yaml:"started"`
			Ended   string   `yaml:"ended"`
			Title   string   `yaml:"title"`
			// How each employment stands, the one that counts most first: of and status.
			Employments []string `yaml:"employments"`
		} `yaml:"want"`
	} `yaml:"steps"`
}

func TestStories(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var stories []story
		if err := yaml.UnmarshalWithOptions(text, &stories, yaml.DisallowUnknownField()); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, s := range stories {
			t.Run(s.Name, func(t *testing.T) {
				t.Parallel()
				play(t, s)
			})
		}
	}
}

// play runs a story, and every step of it twice: the second time must change nothing.
func play(t *testing.T, s story) {
	t.Helper()
	var known []timeline.Fact
	var state timeline.State
	for i, step := range s.Steps {
		now := instant(t, step.Now)
		var said []timeline.Fact
		for _, say := range step.Say {
			said = append(said, sayFact(t, say, now))
		}
		d := timeline.Step(known, said, state, now)
		known, state = timeline.Ordered(append(known, d.Accepted...)), d.State

		var events []string
		for _, e := range d.Events {
			events = append(events, line(e))
		}
		at := fmt.Sprintf("step %d at %s", i+1, step.Now)
		if diff := cmp.Diff(step.Want.Events, events); diff != "" {
			t.Errorf("%s: events (-want +got):\n%s", at, diff)
		}
		if got := state.Status.String(); got != step.Want.Status {
			t.Errorf("%s: status %q, want %q", at, got, step.Want.Status)
		}
		if got := text(state.Next); got != step.Want.Next {
			t.Errorf("%s: next due %q, want %q", at, got, step.Want.Next)
		}
		if got := text(state.EndedAt); got != step.Want.Ended {
			t.Errorf("%s: ended at %q, want %q", at, got, step.Want.Ended)
		}
		if got := text(state.StartedAt); step.Want.Started != "" && got != step.Want.Started {
			t.Errorf("%s: started at %q, want %q", at, got, step.Want.Started)
		}
		if step.Want.Title != "" && state.Record.Title != step.Want.Title {
			t.Errorf("%s: title %q, want %q", at, state.Record.Title, step.Want.Title)
		}
		if got := standings(state); step.Want.Employments != nil && !cmp.Equal(step.Want.Employments, got) {
			t.Errorf("%s: employments %q, want %q", at, got, step.Want.Employments)
		}
		again := timeline.Step(known, said, state, now)
		if len(again.Events) > 0 || len(again.Accepted) > 0 {
			t.Errorf("%s: said again it brings %d events and %d facts, want none", at, len(again.Events), len(again.Accepted))
		}
		if diff := cmp.Diff(state, again.State); diff != "" {
			t.Errorf("%s: said again it changes the state:\n%s", at, diff)
		}
	}
}

func standings(state timeline.State) []string {
	var all []string
	for _, e := range state.Employments {
		all = append(all, e.Employment.ExternalID+" "+e.Status.String())
	}
	return all
}

func sayFact(t *testing.T, say map[string]string, now time.Time) timeline.Fact {
	t.Helper()
	f := timeline.Fact{
		Source: "hr", Employment: timeline.Employment{ExternalID: gocmp.Or(say["of"], "1")}, Key: say["key"], Known: now, SourceTime: now,
		DeliveryID: "delivery-" + say["key"], Actor: "source:hr",
	}
	if at := say["at"]; at != "" {
		f.SourceTime = instant(t, at)
	}
	for name, value := range say {
		if name != "key" && name != "at" && name != "of" && !f.Record.Set(name, value) {
			t.Fatalf("no field %q", name)
		}
	}
	zone, err := time.LoadLocation(f.Record.TimeZone)
	if err != nil {
		t.Fatal(err)
	}
	f.Effective = f.SourceTime
	for _, d := range []struct {
		text string
		into *time.Time
		read func(string, *time.Location) (time.Time, error)
	}{
		{f.Record.EffectiveDate, &f.Effective, timeline.Instant},
		{f.Record.StartDate, &f.Start, timeline.Instant},
		{f.Record.EndDate, &f.End, timeline.EndOfDay},
	} {
		if d.text == "" {
			continue
		}
		if *d.into, err = d.read(d.text, zone); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func line(e timeline.Event) string {
	out := []string{e.Kind.String(), text(e.Effective)}
	if changed := e.Changed(); len(changed) > 0 {
		out = append(out, "["+strings.Join(changed, " ")+"]")
	}
	if e.Backdated {
		out = append(out, "backdated")
	}
	if e.ByTime {
		out = append(out, "by time")
	}
	return strings.Join(out, " ")
}

func instant(t *testing.T, s string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		at, err = time.Parse("2006-01-02 15:04", s)
	}
	if err != nil {
		t.Fatal(err)
	}
	return at.UTC()
}

// text is an instant as stories write it.
func text(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return at.Format("2006-01-02 15:04")
}
