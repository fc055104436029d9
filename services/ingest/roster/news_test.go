package roster_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tenurehq/tenure/services/ingest/roster"
	"github.com/tenurehq/tenure/services/ingest/timeline"
)

// day is an instant of the year.
func day(n int) time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).AddDate(0, 0, n) }

// says is a fact of the source: made on one day, effective from another.
func says(made, effective int, status, title string) timeline.Fact {
	return timeline.Fact{
		Source: "hr", Employment: timeline.Employment{Source: "hr", ExternalID: "1"}, Key: fmt.Sprintf("%d/%d/%s/%s", made, effective, status, title),
		SourceTime: day(made), Effective: day(effective),
		Record: timeline.Record{ExternalID: "1", Status: status, Title: title},
	}
}

func TestOnlyWhatTheSourceDidNotSayBeforeIsNews(t *testing.T) {
	t.Parallel()
	known := []timeline.Fact{says(0, 0, "active", "Engineer"), says(30, 40, "active", "Manager")}
	for _, c := range []struct {
		what  string
		known []timeline.Fact
		row   timeline.Fact
		from  int // the day from which it is news; -1: it is none
	}{
		{"somebody new", nil, says(100, 90, "active", "Engineer"), 90},
		{"what was said, again", known, says(100, 100, "active", "Manager"), -1},
		{"what was said, with its date", known, says(100, 40, "active", "Manager"), -1},
		{"what was said, with an older date", known, says(100, 0, "active", "Manager"), -1},
		{"another title, from a date after what was said", known, says(100, 90, "active", "Director"), 90},
		{"another title, of no date", known, says(100, 100, "active", "Director"), 100},
		{"a change that was taken back", known, says(100, 0, "active", "Engineer"), 100},
		{"a change that was taken back before its day", known, says(35, 0, "active", "Engineer"), -1},
		{"another word about the same day", known, says(100, 40, "active", "Director"), 40},
		{"a leave that nobody told of", known, says(100, 90, "terminated", "Manager"), 90},
		{"a change to come", known, says(100, 120, "active", "Director"), 120},
		{"a change to come that was told of", append(known, says(50, 120, "active", "Director")), says(100, 120, "active", "Director"), -1},
		{"what is older than the last word", known, says(20, 10, "active", "Director"), -1},
	} {
		fact, news := roster.News(c.known, c.row)
		switch {
		case news != (c.from >= 0):
			t.Errorf("%s: news is %v", c.what, news)
		case news && !fact.Effective.Equal(day(c.from)):
			t.Errorf("%s: holds from %s, want %s", c.what, fact.Effective, day(c.from))
		}
	}
}

// holding is what a source's facts say about an instant.
func holding(facts []timeline.Fact, at time.Time) (record timeline.Record) {
	for _, f := range timeline.Ordered(facts) {
		if !f.Effective.After(at) {
			record = f.Record
		}
	}
	return record
}

func TestARosterHoldsOnceItIsTakenInAndSaysNothingNewAgain(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		draw := func(label string, made int) timeline.Fact {
			return says(made, rapid.IntRange(0, 20).Draw(t, label+" effective"),
				rapid.SampledFrom([]string{"active", "on_leave", "terminated"}).Draw(t, label+" status"),
				rapid.SampledFrom([]string{"", "x", "y"}).Draw(t, label+" title"))
		}
		known := make([]timeline.Fact, rapid.IntRange(0, 6).Draw(t, "facts"))
		newest := 0
		for i := range known {
			made := rapid.IntRange(0, 20).Draw(t, "made")
			newest = max(newest, made)
			known[i] = draw(fmt.Sprint("fact ", i), made)
			known[i].Key = fmt.Sprint(i)
		}
		row := draw("row", rapid.IntRange(0, 20).Draw(t, "row made"))
		row.Key = "row"
		fact, news := roster.News(known, row)
		if len(known) > 0 && day(newest).After(row.SourceTime) {
			if news {
				t.Fatal("an older roster says something new")
			}
			return
		}
		shuffled := rapid.Permutation(slices.Clone(known)).Draw(t, "order")
		if again, same := roster.News(shuffled, row); same != news || !again.Effective.Equal(fact.Effective) {
			t.Fatal("the order of the facts matters")
		}
		all := known
		if news {
			all = append(slices.Clone(known), fact)
		}
		at := row.SourceTime
		if fact.Effective.After(at) {
			at = fact.Effective
		}
		if got := holding(all, at); got.Status != row.Record.Status || got.Title != row.Record.Title {
			t.Fatalf("the roster says %+v, and %+v holds", row.Record, got)
		}
		next := row
		next.Key, next.SourceTime = "next", row.SourceTime.Add(time.Second) // before anything that was to come does
		if _, news := roster.News(all, next); news {
			t.Fatal("the same roster again says something new")
		}
	})
}
