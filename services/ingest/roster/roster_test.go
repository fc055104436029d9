package roster_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tenurehq/tenure/services/ingest/roster"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func share(t *testing.T, text string) roster.Share {
	t.Helper()
	s, err := roster.ParseShare(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return s
}

func TestARosterIsHeldByTheClausesThatItBreaks(t *testing.T) {
	t.Parallel()
	contract := roster.Contract{
		MinRows: roster.Bound{Share: share(t, "80%")}, MaxRows: roster.Bound{Share: share(t, "120%")}, KeyStability: share(t, "90%"),
		NullRate: map[string]roster.Share{"department": share(t, "0.5%"), "email": 0}, Freshness: 26 * time.Hour,
	}
	good := roster.Figures{
		Announced: 1000, Came: 1000, Understood: 1000, Before: 1000, Known: 990, Present: 985,
		Empty: map[string]int{"department": 5}, Made: noon.Add(-26 * time.Hour), Now: noon,
	}
	with := func(change func(*roster.Figures)) roster.Figures {
		f := good
		change(&f)
		return f
	}
	for _, c := range []struct {
		what    string
		figures roster.Figures
		want    []string
	}{
		{"a good one", good, nil},
		{"the first one of a new source", roster.Figures{Announced: 7, Came: 7, Understood: 7, Made: noon, Now: noon}, nil},
		{"one record less than announced", with(func(f *roster.Figures) { f.Came-- }), []string{"total: 999 records came, 1000 were announced"}},
		{"somebody twice", with(func(f *roster.Figures) { f.Twice = 1 }), []string{"keys: 1 records are about somebody whom another one is about"}},
		{"four fifths", with(func(f *roster.Figures) { f.Understood = 800; f.Empty = nil }), nil},
		{"one less", with(func(f *roster.Figures) { f.Understood = 799; f.Empty = nil }), []string{"min_rows: 799 records, at least 800 (80% of 1000 in the last roster)"}},
		{
			"nobody",
			roster.Figures{Known: 10, Made: noon, Now: noon},
			[]string{
				"min_rows: 0 records, at least 8 (80% of 10 known to be employed)",
				"key_stability: 0 of 10 known to be employed are there, at least 90% must be",
			},
		},
		{"too many", with(func(f *roster.Figures) { f.Understood = 1201 }), []string{"max_rows: 1201 records, at most 1200 (120% of 1000 in the last roster)"}},
		{"renamed keys", with(func(f *roster.Figures) { f.Present = 890 }), []string{"key_stability: 890 of 990 known to be employed are there, at least 90% must be"}},
		{"just enough keys", with(func(f *roster.Figures) { f.Present = 891 }), nil},
		{"a column gone", with(func(f *roster.Figures) { f.Empty = map[string]int{"department": 1000} }), []string{"null_rate.department: 1000 of 1000 records have none, at most 0.5% may"}},
		{"one of a field that must be there", with(func(f *roster.Figures) { f.Empty = map[string]int{"email": 1} }), []string{"null_rate.email: 1 of 1000 records have none, at most 0% may"}},
		{"an old one", with(func(f *roster.Figures) { f.Made = noon.Add(-27 * time.Hour) }), []string{"freshness: made 27h0m0s ago, at most 26h0m0s"}},
		{"one of tomorrow", with(func(f *roster.Figures) { f.Made = noon.Add(24 * time.Hour) }), []string{"freshness: made 24h0m0s from now"}},
	} {
		if diff := cmp.Diff(c.want, contract.Judge(c.figures)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.what, diff)
		}
	}
	if got := (roster.Contract{}).Judge(roster.Figures{Made: noon, Now: noon}); len(got) != 1 {
		t.Errorf("an empty roster without a contract breaks %q, want min_rows", got)
	}
}

// A roster that is worse in one figure breaks no fewer clauses.
func TestWorseNeverPassesWhereBetterDoesNot(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string, most int) int { return rapid.IntRange(0, most).Draw(t, name) }
		c := roster.Contract{
			MinRows:      roster.Bound{Rows: draw("min rows", 20), Share: roster.Share(draw("min share", 10000))},
			KeyStability: roster.Share(draw("key stability", 10000)),
			NullRate:     map[string]roster.Share{"email": roster.Share(draw("null rate", 10000))},
		}
		f := roster.Figures{Before: draw("before", 50), Known: draw("known", 50), Made: noon, Now: noon}
		f.Understood = draw("rows", 60)
		f.Came, f.Announced = f.Understood, f.Understood
		f.Present = draw("present", f.Known)
		f.Empty = map[string]int{"email": draw("empty", f.Understood)}
		broken := len(c.Judge(f))
		for name, worse := range map[string]func(*roster.Figures){
			"a known person is missing": func(f *roster.Figures) { f.Present-- },
			"another field is empty":    func(f *roster.Figures) { f.Empty = map[string]int{"email": f.Empty["email"] + 1} },
			"a record more is expected": func(f *roster.Figures) { f.Before++ },
		} {
			g := f
			worse(&g)
			if f.Before == 0 && name == "a record more is expected" {
				continue // then it is another base
			}
			if got := len(c.Judge(g)); got < broken {
				t.Fatalf("%s: %d clauses are broken, %d before", name, got, broken)
			}
		}
	})
}

func TestSharesAndBoundsAreReadAsTheyAreShown(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"80%": "80%", "0%": "0%", "0.5%": "0.5%", "12.34%": "12.34%", "120%": "120%", "07.10%": "7.1%"} {
		if got := share(t, text).String(); got != want {
			t.Errorf("%s is shown as %s, want %s", text, got, want)
		}
	}
	for _, text := range []string{"", "80", "%", "-1%", "+1%", "1.234%", "1.%", "eighty%", "80 %", "1001%", "99999%", "1e1%"} {
		if got, err := roster.ParseShare(text); err == nil {
			t.Errorf("%q is taken for the share %s", text, got)
		}
	}
	for text, want := range map[string]roster.Bound{"0": {}, "500": {Rows: 500}, "80%": {Share: 80 * roster.Percent}} {
		if got, err := roster.ParseBound(text); err != nil || got != want {
			t.Errorf("%s is the bound %v (%v), want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "-1", "1.5", "many", "%", "10000001"} {
		if got, err := roster.ParseBound(text); err == nil {
			t.Errorf("%q is taken for the bound %v", text, got)
		}
	}
}

func TestASourceIsStaleOnceItsContractSaysSo(t *testing.T) {
	t.Parallel()
	c := roster.Contract{Freshness: 26 * time.Hour}
	if c.Stale(noon.Add(-26*time.Hour), noon) || !c.Stale(noon.Add(-26*time.Hour-time.Second), noon) || !c.Stale(time.Time{}, noon) {
		t.Error("a roster of 26 hours ago is stale, or one of a second more, or none at all, is not")
	}
	if (roster.Contract{}).Stale(time.Time{}, noon) {
		t.Error("a source of which nothing was agreed is stale")
	}
}
