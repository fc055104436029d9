package mapping_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenurehq/tenure/services/ingest/mapping"
	"github.com/tenurehq/tenure/services/ingest/timeline"
)

var event = mapping.Event{Type: "person.changed", Timestamp: time.Date(2026, 11, 22, 10, 0, 0, 123456789, time.UTC)}

func berlin(t *testing.T) *time.Location {
	t.Helper()
	zone, err := mapping.Zone("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	return zone
}

func TestTheGenericFormInFull(t *testing.T) {
	t.Parallel()
	item := `{"external_id": "10001", "status": "active", "given_name": "Georgi", "family_name": "Facello",
		"email": "georgi.facello@acme.example", "department": "d005", "title": "Senior Engineer",
		"manager_external_id": "110567", "employment_type": "employee", "company": "ACME", "location": "Berlin",
		"time_zone": "Europe/Berlin", "start_date": "2026-12-01", "end_date": null,
		"effective_date": "2026-12-01", "person_key": "P-7", "attributes": {"cost_center": "4711", "badge": "", "floor": null}}`
	got, err := mapping.Generic(nil).Read([]byte(item), event)
	if err != nil {
		t.Fatal(err)
	}
	midnight := time.Date(2026, 11, 30, 23, 0, 0, 0, time.UTC)
	want := timeline.Fact{
		Employment: timeline.Employment{ExternalID: "10001"}, Effective: midnight, Start: midnight,
		SourceTime: time.Date(2026, 11, 22, 10, 0, 0, 123456000, time.UTC),
		Record: timeline.Record{
			ExternalID: "10001", Status: "active", GivenName: "Georgi", FamilyName: "Facello", Email: "georgi.facello@acme.example",
			Department: "d005", Title: "Senior Engineer", ManagerExternalID: "110567", EmploymentType: "employee", Company: "ACME",
			Location: "Berlin", TimeZone: "Europe/Berlin", StartDate: "2026-12-01", EffectiveDate: "2026-12-01", PersonKey: "P-7",
			Attributes: map[string]string{"cost_center": "4711"},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("fact (-want +got):\n%s", diff)
	}
}

func TestDatesAreOfThePersonsZoneThenTheSourcesThenUTC(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		what, zone string
		source     *time.Location
		want       time.Time
	}{
		{"the person's", `"Pacific/Kiritimati"`, berlin(t), time.Date(2026, 11, 30, 10, 0, 0, 0, time.UTC)},
		{"the source's", `null`, berlin(t), time.Date(2026, 11, 30, 23, 0, 0, 0, time.UTC)},
		{"UTC", `""`, nil, time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)},
	} {
		f, err := mapping.Generic(c.source).Read(fmt.Appendf(nil,
			`{"external_id":"1","status":"active","time_zone":%s,"effective_date":"2026-12-01","end_date":"2026-12-31"}`, c.zone), event)
		if err != nil || !f.Effective.Equal(c.want) || !f.End.Equal(c.want.AddDate(0, 0, 31)) {
			t.Errorf("%s: effective %s, ends %s (%v), want %s", c.what, f.Effective, f.End, err, c.want)
		}
	}
}

func TestARecordWithoutEffectiveDateHoldsFromWhenItWasMade(t *testing.T) {
	t.Parallel()
	f, err := mapping.Generic(nil).Read([]byte(`{"external_id":"1","status":"terminated"}`), event)
	if err != nil || !f.Effective.Equal(f.SourceTime) || f.SourceTime.IsZero() {
		t.Errorf("effective %s, made %s: %v", f.Effective, f.SourceTime, err)
	}
}

// held runs a case: the record must be held with exactly this reason.
func held(t *testing.T, m *mapping.Mapping, what, item, want string) {
	t.Helper()
	_, err := m.Read([]byte(item), event)
	var h *mapping.Held
	if !errors.As(err, &h) {
		t.Errorf("%s: %v, want it held", what, err)
	} else if h.Reason != want {
		t.Errorf("%s: held with %q, want %q", what, h.Reason, want)
	}
}

func TestWhatCannotBeUnderstoodIsHeldByTheFieldsName(t *testing.T) {
	t.Parallel()
	var many []string
	for i := range 101 {
		many = append(many, fmt.Sprintf(`"a%d":"1"`, i))
	}
	with := func(rest string) string { return `{"external_id":"1","status":"active",` + rest + `}` }
	for _, c := range []struct{ what, item, want string }{
		{"no object", `"10001"`, "not a JSON object"},
		{"half an object", `{"external_id":"1"`, "not a JSON object"},
		{"two objects", `{"external_id":"1","status":"active"} {}`, "not a JSON object"},
		{"a key twice", `{"external_id":"1","external_id":"2","status":"active"}`, "not a JSON object"},
		{"no id", `{"status":"active"}`, "external_id: missing"},
		{"an empty id", `{"external_id":"","status":"active"}`, "external_id: missing"},
		{"an id that is a number", `{"external_id":10001,"status":"active"}`, "external_id: must be a text"},
		{"an id with a blank after it", `{"external_id":"1 ","status":"active"}`, "external_id: white space around it"},
		{"an id with a line break", `{"external_id":"1\n2","status":"active"}`, "external_id: invisible characters"},
		{"an id with a zero-width space", `{"external_id":"1\u200b","status":"active"}`, "external_id: invisible characters"},
		{"a long id", `{"external_id":"` + strings.Repeat("1", 201) + `","status":"active"}`, "external_id: over 200 bytes"},
		{"no status", `{"external_id":"1"}`, "status: none of pending, active, on_leave, terminated"},
		{"another status", `{"external_id":"1","status":"Active"}`, "status: none of pending, active, on_leave, terminated"},
		{"a status that is true", `{"external_id":"1","status":true}`, "status: must be a text"},
		{"a bad date", with(`"start_date":"01.12.2026"`), "start_date: neither a date nor an RFC 3339 instant"},
		{"a day that does not exist", with(`"end_date":"2026-02-30"`), "end_date: neither a date nor an RFC 3339 instant"},
		{"a date with time and no zone", with(`"effective_date":"2026-12-01T00:00:00"`), "effective_date: neither a date nor an RFC 3339 instant"},
		{"a year too early", with(`"start_date":"0001-01-01"`), "start_date: year out of range"},
		{"an unknown zone", with(`"time_zone":"Mars/Olympus"`), "time_zone: not a zone of the IANA database"},
		{"the machine's zone", with(`"time_zone":"Local"`), "time_zone: not a zone of the IANA database"},
		{"a zone with leap seconds", with(`"time_zone":"right/UTC"`), "time_zone: not a zone of the IANA database"},
		{"a zone that is a path", with(`"time_zone":"../../etc/passwd"`), "time_zone: not a zone of the IANA database"},
		{"NUL in text", with(`"given_name":"Geor\u0000gi"`), "given_name: NUL in text"},
		{"NUL in an attribute", with(`"attributes":{"a":"\u0000"}`), `attributes."a": NUL in text`},
		{"NUL in an attribute's name", with(`"attributes":{"\u0000":"a"}`), "attributes: a name that is empty, over 100 bytes, or has NUL in it"},
		{"a long text", with(`"title":"` + strings.Repeat("t", 1001) + `"`), "title: over 1000 bytes"},
		{"a list for a text", with(`"department":["d1","d2"]`), "department: must be a text"},
		{"a number for an attribute", with(`"attributes":{"cost_center":4711}`), `attributes."cost_center": must be a text`},
		{"attributes that are a list", with(`"attributes":[]`), "attributes: must be an object"},
		{"too many attributes", with(`"attributes":{` + strings.Join(many, ",") + `}`), "attributes: more than 100"},
		{"an unknown key", with(`"salary":"1000000"`), `unknown key "salary"`},
		{"an unknown key with an object", with(`"salary":{"eur":"1000000"}`), `unknown key "salary"`},
		{"a key in another case", with(`"Department":"d1"`), `unknown key "Department"`},
		{"white space around the person key", with(`"person_key":" p1"`), "person_key: white space around it"},
		{"a person key nobody can see", with(`"person_key":"p\u200b1"`), "person_key: invisible characters"},
	} {
		held(t, mapping.Generic(nil), c.what, c.item, c.want)
	}
}

func TestAHeldRecordTellsWhoseItIsWhereThatCanBeRead(t *testing.T) {
	t.Parallel()
	m := mapping.Generic(nil)
	for item, want := range map[string]string{
		`{"external_id":"10001","status":"gone"}`:       "10001",
		`{"external_id":"10001","start_date":7}`:        "10001",
		`{"external_id":"1\u0000","status":"active"}`:   "",
		`{"external_id":"1\u0000","status":"active",1}`: "",
	} {
		f, err := m.Read([]byte(item), event)
		if err == nil || f.Employment.ExternalID != want || f.Record.Status != "" {
			t.Errorf("%s: id %q (%v), want %q", item, f.Employment.ExternalID, err, want)
		}
	}
}

func TestCheckRefusesTextThatIsNotUTF8(t *testing.T) {
	t.Parallel()
	_, err := mapping.Generic(nil).Check(timeline.Record{ExternalID: "1", Status: "active", FamilyName: "\xff"}, event)
	if err == nil || err.Error() != "family_name: not UTF-8" {
		t.Error(err)
	}
}

func TestNamesWithHardCharactersAreTakenAsTheyAre(t *testing.T) {
	t.Parallel()
	for _, name := range []string{`O'Brien`, `"; DROP TABLE people; --`, "Nguyễn Thị Minh", "de la Cruz-Ñandú", "李小龍", "🦊", "x\ty", "\u202eevil"} {
		f, err := mapping.Generic(nil).Check(timeline.Record{ExternalID: "1", Status: "active", FamilyName: name}, event)
		if err != nil || f.Record.FamilyName != name {
			t.Errorf("%q: %q, %v", name, f.Record.FamilyName, err)
		}
	}
}

// Whatever is read is understood or held; a reason shows no value.
func FuzzRead(f *testing.F) {
	f.Add(`{"external_id":"1","status":"active","attributes":{"a":"b"}}`)
	f.Add(`{"external_id":"1","status":"active","end_date":"9999-12-31","time_zone":"Europe/Berlin"}`)
	m := mapping.Generic(nil)
	f.Fuzz(func(t *testing.T, item string) {
		fact, err := m.Read([]byte(item), event)
		var h *mapping.Held
		switch {
		case errors.As(err, &h):
			if h.Reason == "" || len(h.Reason) > 300 {
				t.Fatalf("held with %q", h.Reason)
			}
		case err != nil:
			t.Fatalf("%v is not *Held", err)
		case fact.Employment.ExternalID == "" || fact.Record.Status == "" || fact.Effective.IsZero():
			t.Fatalf("understood and incomplete: %+v", fact)
		}
	})
}
