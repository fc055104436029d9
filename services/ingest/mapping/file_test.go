package mapping_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenurehq/tenure/services/ingest/mapping"
	"github.com/tenurehq/tenure/services/ingest/timeline"
)

const acme = `# ACME's HR system
external_id: string(data.id)
status: |
  {"A": "active", "I": "terminated", "L": "on_leave"}[data.state]
given_name: data.name.first
family_name: data.name.last
"department": data.?org.code
title: 'data.?title.orValue("none")'
person_key: data.?human
email: data.mail.lowerAscii()
effective_date: 'event.type == "now" ? "" : string(event.timestamp)'
attributes.cost_center: 'has(data.cc) ? data.cc : ""'
`

func compile(t *testing.T, text string) *mapping.Mapping {
	t.Helper()
	m, err := mapping.Compile("acme.yaml", []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestAMappingReadsAnotherSystemsJSON(t *testing.T) {
	t.Parallel()
	item := `{"id":9007199254740993,"state":"L","name":{"first":"Ada","last":"Lovelace"},"org":{"code":"d1"},"mail":"ADA@acme.example","cc":"4711","human":"P-7","more":[1,2.5,{}]}`
	f, err := compile(t, acme).Read([]byte(item), mapping.Event{Type: "x", Timestamp: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)})
	if err != nil {
		t.Fatal(err)
	}
	want := timeline.Record{
		ExternalID: "9007199254740993", Status: "on_leave", GivenName: "Ada", FamilyName: "Lovelace", Email: "ada@acme.example",
		Department: "d1", Title: "none", EffectiveDate: "2026-01-02T03:04:05Z", PersonKey: "P-7", Attributes: map[string]string{"cost_center": "4711"},
	}
	if diff := cmp.Diff(want, f.Record); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
	if f.Employment.ExternalID != want.ExternalID || !f.Effective.Equal(f.SourceTime) {
		t.Errorf("fact %+v", f)
	}
}

func TestWhatAMappingCannotGetIsHeldWithoutTheValue(t *testing.T) {
	t.Parallel()
	m := compile(t, acme)
	const rest = `"name":{"first":"A","last":"B"},"mail":"m"`
	for _, c := range []struct{ what, item, want string }{
		{"a missing key", `{"id":1,` + rest + `}`, "status: a key that the mapping reads is missing"},
		{"an unknown state", `{"id":1,"state":"secret",` + rest + `}`, "status: a key that the mapping reads is missing"},
		{"a number for a text", `{"id":1,"state":"A","name":{"first":7,"last":"B"},"mail":"m"}`, "given_name: the mapping gave int, must give string"},
		{"a text for an object", `{"id":1,"state":"A","name":"secret","mail":"m"}`, "given_name: a key that the mapping reads is missing"},
		{"an id that is null", `{"id":null,"state":"A",` + rest + `}`, "external_id: the mapping's expression failed"},
		{"no object", `[]`, "not a JSON object"},
	} {
		held(t, m, c.what, c.item, c.want)
	}
}

func TestAnExpressionThatTakesTooLongIsHeld(t *testing.T) {
	t.Parallel()
	m := compile(t, "external_id: data.id\nstatus: 'data.l.all(a, data.l.all(b, data.l.all(c, a + b + c < 4))) ? \"active\" : \"pending\"'\n")
	item := `{"id":"1","l":[` + strings.TrimSuffix(strings.Repeat("1,", 300), ",") + `]}`
	held(t, m, "27 million comparisons", item, "status: the mapping's expression takes too long")
}

func TestAMappingFileThatIsWrongIsNamedByLineAndKey(t *testing.T) {
	t.Parallel()
	const ok = "external_id: data.id\nstatus: data.s\n"
	for _, c := range []struct{ what, text, want string }{
		{"no YAML", "external_id: [", "acme.yaml:1:: "},
		{"empty", "", "acme.yaml:1:: a mapping has one document of fields with their expressions"},
		{"a list", "- a\n", "acme.yaml:1:: a mapping has one document of fields with their expressions"},
		{"two documents", ok + "---\n" + ok, "acme.yaml:1:: a mapping has one document of fields with their expressions"},
		{"a key twice", ok + "status: data.t\n", "acme.yaml:3:: "},
		{"an unknown field", ok + "\nsalary: data.salary\n", "acme.yaml:4:salary: no such field"},
		{"an attribute without a name", ok + "attributes.: data.p\n", "acme.yaml:3:attributes.: no such field"},
		{"attributes as an object", ok + "attributes: {a: data.a}\n", "acme.yaml:3:attributes: no such field"},
		{"a number", ok + "title: 7\n", "acme.yaml:3:title: must be an expression; quote it"},
		{"a syntax error", ok + "title: 'data.('\n", "acme.yaml:3:title: Syntax error"},
		{"a name that is not there", ok + "title: date.title\n", "acme.yaml:3:title: undeclared reference to 'date'"},
		{"an event's field that is not there", ok + "title: event.kind\n", "acme.yaml:3:title: undeclared reference to 'event'"},
		{"a type error", ok + "title: 'event.type + 1'\n", "acme.yaml:3:title: found no matching overload for '_+_'"},
		{"another type", ok + "title: '1 + 1'\n", "acme.yaml:3:title: gives int, must give string"},
		{"no id", "status: data.s\n", "acme.yaml:1:external_id: missing"},
		{"no status", "external_id: data.s\n", "acme.yaml:1:status: missing"},
		{"a very long expression", ok + "title: '" + strings.Repeat("\"a\" + ", 3000) + "\"a\"'\n", "acme.yaml:3:title: "},
	} {
		_, err := mapping.Compile("acme.yaml", []byte(c.text), nil)
		if err == nil || !strings.HasPrefix(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want one line that begins with %q", c.what, err, c.want)
		}
	}
}

func FuzzCompile(f *testing.F) {
	f.Add(acme)
	f.Add("external_id: data.id\nstatus: data.s\n")
	f.Add("a: &x b\nc: *x\n? d\n: e\n<<: {f: g}\n")
	f.Fuzz(func(t *testing.T, text string) {
		m, err := mapping.Compile("f.yaml", []byte(text), nil)
		if err == nil {
			_, _ = m.Read([]byte(`{"id":"1","s":"active"}`), event) // must not panic
		}
	})
}
