package username_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tenurehq/tenure/services/ingest/timeline"
	"github.com/tenurehq/tenure/services/ingest/username"
)

// documented are the candidates of the documentation's example.
var documented = []string{"given[0] + family", "given + '.' + family"}

func compile(t *testing.T, candidates ...string) *username.Rule {
	t.Helper()
	r, err := username.Compile(candidates)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestTheDocumentedCandidates(t *testing.T) {
	t.Parallel()
	r := compile(t, documented...)
	for _, c := range []struct {
		given, family string
		want          []string
	}{
		{"Georgi", "Facello", []string{"gfacello", "georgi.facello"}},
		{"Šárka", "Dvořáková", []string{"sdvorakova", "sarka.dvorakova"}},
		{"S\u030ca\u0301rka", "Novák", []string{"snovak", "sarka.novak"}}, // decomposed
		{"Ægir", "Þórðarson", []string{"aethordarson", "aegir.thordarson"}},
		{"Jürgen", "Groß", []string{"jgross", "jurgen.gross"}},
		{"Søren", "Łukasz", []string{"slukasz", "soren.lukasz"}},
		{"İbrahim", "Işık", []string{"iisik", "ibrahim.isik"}},
		{"Nguyễn", "Thị Minh", []string{"nthiminh", "nguyen.thiminh"}},
		{"Anne-Marie", "O'Neill", []string{"aoneill", "anne-marie.oneill"}},
		{"Sean", "O’Brien", []string{"sobrien", "sean.obrien"}},
		{"María José", "de la Cruz", []string{"mdelacruz", "mariajose.delacruz"}},
		{"Юлия", "Щербакова", []string{"iushcherbakova", "iuliia.shcherbakova"}},
		{"Γιώργος", "Παπαδόπουλος", []string{"gpapadopoylos", "giorgos.papadopoylos"}},
		{"Ｆｕｌｌ", "Ｗｉｄｔｈ", []string{"fwidth", "full.width"}},
		{"", "Madonna", []string{"madonna"}}, // both candidates come to the same name
		{"Sukarno", "", []string{"s", "sukarno"}},
		{"李", "小龍", []string{"u10001"}},
		{"", "", []string{"u10001"}},
		{"🦊", "🦊", []string{"u10001"}},
		{"3", "PO", []string{"po"}},
		{"R", "oot", []string{"r.oot"}}, // root is not for people
		{"Wolfeschlegelsteinhausen", "Bergerdorff-Senior", []string{"wbergerdorff-senior", "wolfeschlegelsteinhausen.bergerd"}},
		{strings.Repeat("a", 31), "b", []string{"ab", strings.Repeat("a", 31)}}, // cut, and not ending in a dot
	} {
		got := r.Candidates(timeline.Record{ExternalID: "10001", GivenName: c.given, FamilyName: c.family})
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%q %q (-want +got):\n%s", c.given, c.family, diff)
		}
	}
}

func TestCandidatesMayUseWhatElseIdentifiesAPerson(t *testing.T) {
	t.Parallel()
	r := compile(t, "email.split('@')[0]", "given[0] + given[1] + family[0]", "'x' + external_id", "given.split(' ')[7]")
	got := r.Candidates(timeline.Record{ExternalID: "E-7", GivenName: "Ada", FamilyName: "Lovelace", Email: "Ada.L@acme.example"})
	if diff := cmp.Diff([]string{"ada.l", "adl", "xe-7"}, got); diff != "" {
		t.Errorf("candidates (-want +got):\n%s", diff)
	}
}

func TestTheExternalIDDoesNotMakeAReservedNameEither(t *testing.T) {
	t.Parallel()
	if got := compile(t, documented...).Candidates(timeline.Record{ExternalID: "ser"}); len(got) != 1 || got[0] != "user1" {
		t.Errorf("candidates %q, want user1", got)
	}
}

func TestAWrongCandidateIsNamed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		candidates []string
		want       string
	}{
		{nil, "user_name: no candidate"},
		{[]string{"given", "given["}, "user_name[1]: Syntax error"},
		{[]string{"firstname"}, "user_name[0]: undeclared reference to 'firstname'"},
		{[]string{"given['a']"}, "user_name[0]: found no matching overload for '_[_]' applied to '(string, string)'"},
		{[]string{"1"}, "user_name[0]: gives int, must give string"},
		{[]string{strings.Repeat("given + ", 200) + "given"}, "user_name[0]: "},
	} {
		_, err := username.Compile(c.candidates)
		if err == nil || !strings.HasPrefix(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v, want one line that begins with %q", c.candidates, err, c.want)
		}
	}
}

func TestNumberedNamesFit(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		candidate string
		n         int
		want      string
	}{
		{"gfacello", 2, "gfacello2"},
		{strings.Repeat("a", 32), 10, strings.Repeat("a", 30) + "10"},
		{strings.Repeat("a", 30) + ".b", 2, strings.Repeat("a", 30) + "2"},
	} {
		if got := username.Numbered(c.candidate, c.n); got != c.want {
			t.Errorf("%s, %d: %s, want %s", c.candidate, c.n, got, c.want)
		}
	}
}

var valid = regexp.MustCompile(`^[a-z]([a-z0-9._-]*[a-z0-9])?$`)

func TestEveryNameIsOneThatEveryApplicationTakes(t *testing.T) {
	t.Parallel()
	r := compile(t, documented...)
	text := rapid.OneOf(rapid.String(), rapid.StringMatching(`[A-Za-z .'_-]{0,40}`), rapid.SampledFrom([]string{"root", "pg_read_all_data", "systemd-resolve", "Admin"}))
	rapid.Check(t, func(t *rapid.T) {
		names := r.Candidates(timeline.Record{
			ExternalID: text.Draw(t, "external id"), GivenName: text.Draw(t, "given"), FamilyName: text.Draw(t, "family"),
		})
		if len(names) == 0 {
			t.Fatal("no name at all")
		}
		for _, name := range append(names, username.Numbered(names[0], rapid.IntRange(2, 99999).Draw(t, "n"))) {
			if !valid.MatchString(name) || len(name) > username.MaxLength || name == "root" || name == "admin" || strings.HasPrefix(name, "pg_") {
				t.Fatalf("%q is no name", name)
			}
		}
	})
}
