package source_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenurehq/tenure/services/ingest/source"
)

func TestABodyIsRefusedWithAPointerToWhatIsWrong(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat(`{"a":`, 40) + "1" + strings.Repeat("}", 40)
	for _, c := range []struct{ what, body, pointer, problem string }{
		{"nothing", "", "", "not JSON"},
		{"white space", " \n", "", "not JSON"},
		{"no JSON", "hello", "", "not JSON"},
		{"half a body", `{"type":"person.changed","data":{"a":1`, "/data", "not JSON"},
		{"text after the end", `{"type":"x"} {"type":"y"}`, "", "text after the end"},
		{"garbage after the end", `{"type":"x"}]`, "", "text after the end"},
		{"an array", `[]`, "", "not a JSON object"},
		{"a text", `"Ping test"`, "", "not a JSON object"},
		{"null", `null`, "", "not a JSON object"},
		{"a key twice at the top", `{"type":"a","type":"b"}`, "/type", "duplicate key"},
		{"a key twice in data", `{"type":"person.changed","data":{"status":"active","status":"terminated"}}`, "/data/status", "duplicate key"},
		{"a key twice, once escaped", `{"type":"person.changed","data":{"status":"active","st\u0061tus":"terminated"}}`, "/data/status", "duplicate key"},
		{"a key twice in an attribute of the second person", `{"type":"person.batch","data":{"people":[{},{"attributes":{"a/b":"1","a/b":"2"}}]}}`, "/data/people/1/attributes/a~1b", "duplicate key"},
		{"an unknown key at the top", `{"type":"person.changed","data":{},"extra":1}`, "/extra", "unknown key"},
		{"a known key in another case", `{"Type":"person.changed"}`, "/Type", "unknown key"},
		{"no UTF-8", "{\"type\":\"\xff\"}", "/type", "not JSON"},
		{"half a surrogate pair", `{"type":"\ud800"}`, "/type", "not JSON"},
		{"a byte order mark", "\ufeff{}", "", "not JSON"},
		{"a comma too many", `{"type":"x",}`, "", "not JSON"},
		{"a number that is none", `{"type":01}`, "", "not JSON"},
		{"NaN", `{"type":NaN}`, "/type", "not JSON"},
		{"nested too deeply", deep, strings.Repeat("/a", 32), "nested deeper"},
	} {
		_, err := source.Parse([]byte(c.body), source.Generic)
		var wrong *source.Error
		if !errors.As(err, &wrong) {
			t.Errorf("%s: taken (%v), want it refused", c.what, err)
			continue
		}
		if wrong.Pointer != c.pointer || !strings.HasPrefix(wrong.Problem, c.problem) {
			t.Errorf("%s: %q %q, want %q %q", c.what, wrong.Pointer, wrong.Problem, c.pointer, c.problem)
		}
	}
}

func TestWhatCannotBeUnderstoodIsHeldWithTheKey(t *testing.T) {
	t.Parallel()
	many := `{"type":"person.batch","data":{"people":[` + strings.TrimSuffix(strings.Repeat("{},", source.MaxItems+1), ",") + `]}}`
	for _, c := range []struct{ what, body, held string }{
		{"no type", `{"data":{}}`, "type: neither person.changed nor person.batch"},
		{"another type", `{"type":"person.deleted","data":{}}`, "type: neither person.changed nor person.batch"},
		{"a type that is no text", `{"type":1,"data":{}}`, "type: neither person.changed nor person.batch"},
		{"no data", `{"type":"person.changed"}`, "data: not an object"},
		{"data null", `{"type":"person.changed","data":null}`, "data: not an object"},
		{"data an array", `{"type":"person.changed","data":[]}`, "data: not an object"},
		{"a timestamp that is a number", `{"type":"person.changed","timestamp":1,"data":{}}`, "timestamp: not an RFC 3339 instant"},
		{"a timestamp that is a date", `{"type":"person.changed","timestamp":"2026-01-01","data":{}}`, "timestamp: not an RFC 3339 instant"},
		{"a batch without people", `{"type":"person.batch","data":{}}`, "people: not an array"},
		{"a batch of nobody", `{"type":"person.batch","data":{"people":[]}}`, "people: empty"},
		{"a batch of too many", many, "people: more than 1000"},
		{"a roster that is none", `{"type":"person.batch","data":{"people":[{}],"roster":"r"}}`, "roster: not an object"},
		{"a roster without an id", aRoster(`{"part":1,"parts":1,"total":1}`), "roster: id: not a text of 1 to 200 printable bytes"},
		{"a roster with a line feed in its id", aRoster(`{"id":"a\nb","part":1,"parts":1,"total":1}`), "roster: id: not a text of 1 to 200 printable bytes"},
		{"a roster without parts", aRoster(`{"id":"r","part":1,"total":1}`), "roster: parts: not a whole number from 1 to 10000"},
		{"part nought", aRoster(`{"id":"r","part":0,"parts":1,"total":1}`), "roster: part: not a whole number from 1 to 10000"},
		{"half a part", aRoster(`{"id":"r","part":1.5,"parts":2,"total":1}`), "roster: part: not a whole number from 1 to 10000"},
		{"a part in words", aRoster(`{"id":"r","part":"1","parts":1,"total":1}`), "roster: part: not a whole number from 1 to 10000"},
		{"more parts than there are", aRoster(`{"id":"r","part":3,"parts":2,"total":1}`), "roster: part: greater than parts"},
		{"less than nobody", aRoster(`{"id":"r","part":1,"parts":1,"total":-1}`), "roster: total: not a whole number from 0 to 10000000"},
		{"an unknown key in a roster", aRoster(`{"id":"r","part":1,"parts":1,"total":1,"of":1}`), `roster: unknown key "of"`},
		{"a part without people of a roster that has some", `{"type":"person.batch","data":{"people":[],"roster":{"id":"r","part":1,"parts":1,"total":1}}}`, "people: empty"},
		{"an unknown key in a batch", `{"type":"person.batch","data":{"people":[{}],"page":1}}`, `data: unknown key "page"`},
	} {
		e, err := source.Parse([]byte(c.body), source.Generic)
		if err != nil || e.Held != c.held || len(e.Items) > 0 {
			t.Errorf("%s: held %q (%v, %d items), want %q", c.what, e.Held, err, len(e.Items), c.held)
		}
	}
}

// aRoster is a batch of one record with this said of its roster.
func aRoster(said string) string {
	return `{"type":"person.batch","data":{"people":[{}],"roster":` + said + `}}`
}

func TestAPartOfARosterIsReadWithWhatItIsPartOf(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]*source.Roster{
		aRoster(`{"id":"2026-11-22","part":2,"parts":3,"total":2001}`): {ID: "2026-11-22", Part: 2, Parts: 3, Total: 2001},
		aRoster(`null`): nil,
		`{"type":"person.batch","data":{"people":[],"roster":{"id":"r","part":1,"parts":1,"total":0}}}`: {ID: "r", Part: 1, Parts: 1},
	} {
		for _, form := range []source.Form{source.Generic, source.Own} {
			e, err := source.Parse([]byte(body), form)
			if err != nil || e.Held != "" {
				t.Errorf("%s: held %q (%v)", body, e.Held, err)
			}
			if diff := cmp.Diff(want, e.Roster); diff != "" {
				t.Errorf("%s (-want +got):\n%s", body, diff)
			}
		}
	}
}

func TestItemsKeepTheirBytes(t *testing.T) {
	t.Parallel()
	e, err := source.Parse([]byte(`{"type":"person.batch","timestamp":"2026-11-22T10:00:00+01:00","data":{"people":[
		{"external_id":"1","n":12345678901234567890.10 }, 7, {"external_id":"\u0032"}]}}`), source.Generic)
	if err != nil {
		t.Fatal(err)
	}
	want := source.Envelope{
		Type: "person.batch", Timestamp: time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC),
		Items: [][]byte{[]byte(`{"external_id":"1","n":12345678901234567890.10 }`), []byte("7"), []byte(`{"external_id":"\u0032"}`)},
	}
	if diff := cmp.Diff(want, e); diff != "" {
		t.Errorf("envelope (-want +got):\n%s", diff)
	}
}

func TestAThousandPeopleAreTaken(t *testing.T) {
	t.Parallel()
	var body bytes.Buffer
	body.WriteString(`{"type":"person.batch","data":{"people":[`)
	for i := range source.MaxItems {
		if i > 0 {
			body.WriteByte(',')
		}
		fmt.Fprintf(&body, `{"external_id":"%d"}`, i)
	}
	body.WriteString(`]}}`)
	e, err := source.Parse(body.Bytes(), source.Generic)
	if err != nil || e.Held != "" || len(e.Items) != source.MaxItems || string(e.Items[999]) != `{"external_id":"999"}` {
		t.Errorf("%v, held %q, %d items", err, e.Held, len(e.Items))
	}
}

func TestAnotherSystemsBodyIsOneItemUnlessItLooksLikeOurs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		what, body string
		items      []string
	}{
		{"no envelope", `{"id":7,"more":true}`, []string{`{"id":7,"more":true}`}},
		{"data within more", `{"event":"x","data":{"id":7}}`, []string{`{"id":7}`}},
		{"a batch", `{"type":"person.batch","data":{"people":[{"id":7},{"id":8}]},"page":1}`, []string{`{"id":7}`, `{"id":8}`}},
	} {
		e, err := source.Parse([]byte(c.body), source.Own)
		var items []string
		for _, item := range e.Items {
			items = append(items, string(item))
		}
		if diff := cmp.Diff(c.items, items); err != nil || diff != "" {
			t.Errorf("%s: %v, items (-want +got):\n%s", c.what, err, diff)
		}
	}
	if _, err := source.Parse([]byte(`{"id":7,"id":8}`), source.Own); err == nil {
		t.Error("a key twice is taken from another system")
	}
}

func TestAReasonShowsAKeyShortAndPrintable(t *testing.T) {
	t.Parallel()
	if got := source.Key("a\x1b[31m\u202e"); got != `"a\x1b[31m\u202e"` {
		t.Errorf("key is shown as %s", got)
	}
	if got := source.Key(strings.Repeat("k", 1000)); len(got) > 80 {
		t.Errorf("a long key is shown in %d bytes", len(got))
	}
}

// What Parse takes, any JSON reader must take, and read the same items from it: two readings of one body are an attack.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"type":"person.changed","timestamp":"2026-11-22T10:00:00Z","data":{"external_id":"10001"}}`))
	f.Add([]byte(`{"type":"person.batch","data":{"people":[{"a":1},{"a":{"b":[]}}]}}`))
	f.Add([]byte(`{"type":"person.changed","data":{"status":"active","status":"terminated"}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		e, err := source.Parse(body, source.Generic)
		if err != nil {
			var wrong *source.Error
			if !errors.As(err, &wrong) || len(err.Error()) > 400 {
				t.Fatalf("%v is not an answer", err)
			}
			return
		}
		var std struct {
			Data json.RawMessage `json:"data"`
		}
		if err := json.Unmarshal(body, &std); err != nil {
			t.Fatalf("taken, and no JSON: %v", err)
		}
		for _, item := range e.Items {
			if !json.Valid(item) || !bytes.Contains(body, item) {
				t.Fatalf("item %q is not in the body", item)
			}
		}
		if e.Held == "" && len(e.Items) == 0 {
			t.Fatal("neither understood nor held")
		}
	})
}
