package mapping

import (
	"maps"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/tenurehq/tenure/services/ingest/source"
	"github.com/tenurehq/tenure/services/ingest/timeline"
)

// Limits of a record, in bytes. They bound what one person may cost; real records are far below.
const (
	maxID         = 200
	maxText       = 1000
	maxAttributes = 100
	maxName       = 100 // of an attribute
)

// Check makes a fact of a record that is already at hand, such as an operator's, by the same rules and with the same
// errors as Read.
func (m *Mapping) Check(record timeline.Record, event Event) (timeline.Fact, error) {
	if err := checkID(record.ExternalID); err != nil {
		return timeline.Fact{}, err
	}
	f := timeline.Fact{Employment: timeline.Employment{ExternalID: record.ExternalID}, SourceTime: event.Timestamp.UTC().Truncate(time.Microsecond)}
	if err := m.fill(&f, record); err != nil {
		return timeline.Fact{Employment: f.Employment}, err
	}
	return f, nil
}

// fill sets what a fact has of its record.
func (m *Mapping) fill(f *timeline.Fact, record timeline.Record) error {
	for _, name := range timeline.FieldNames() {
		if value, _ := record.Get(name); checkText(name, value, maxText) != nil {
			return checkText(name, value, maxText)
		}
	}
	if err := checkAttributes(record.Attributes); err != nil {
		return err
	}
	if record.PersonKey != "" {
		if err := checkKey("person_key", record.PersonKey); err != nil {
			return err
		}
	}
	if _, ok := timeline.ParseStatus(record.Status); !ok {
		return hold("status", "none of pending, active, on_leave, terminated")
	}
	zone := m.zone
	if record.TimeZone != "" {
		var err error
		if zone, err = m.zones.find(record.TimeZone); err != nil {
			return hold("time_zone", "not a zone of the IANA database")
		}
	}
	f.Effective = f.SourceTime
	for _, date := range []struct {
		name, text string
		read       func(string, *time.Location) (time.Time, error)
		into       *time.Time
	}{
		{"effective_date", record.EffectiveDate, timeline.Instant, &f.Effective},
		{"start_date", record.StartDate, timeline.Instant, &f.Start},
		{"end_date", record.EndDate, timeline.EndOfDay, &f.End},
	} {
		if date.text == "" {
			continue
		}
		at, err := date.read(date.text, zone)
		if err != nil {
			return hold(date.name, err.Error()) // the error holds no value
		}
		*date.into = at
	}
	// What is empty is absent: an attribute must not change by being spelled out.
	record = record.Clone()
	maps.DeleteFunc(record.Attributes, func(_, value string) bool { return value == "" })
	f.Record = record
	return nil
}

func checkID(id string) error {
	if id == "" {
		return hold("external_id", "missing")
	}
	return checkKey("external_id", id)
}

// checkKey is strict, because an id that differs invisibly from a known one would make a second person.
func checkKey(field, id string) error {
	switch {
	case checkText(field, id, maxID) != nil:
		return checkText(field, id, maxID)
	case strings.TrimSpace(id) != id:
		return hold(field, "white space around it")
	case strings.ContainsFunc(id, func(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) }):
		return hold(field, "invisible characters")
	}
	return nil
}

// checkText refuses what could not be stored, or not be told from something else.
func checkText(field, value string, limit int) error {
	switch {
	case !utf8.ValidString(value):
		return hold(field, "not UTF-8")
	case strings.ContainsRune(value, 0):
		return hold(field, "NUL in text")
	case len(value) > limit:
		return hold(field, "over "+strconv.Itoa(limit)+" bytes")
	}
	return nil
}

func checkAttributes(attributes map[string]string) error {
	if len(attributes) > maxAttributes {
		return hold("attributes", "more than "+strconv.Itoa(maxAttributes))
	}
	for name, value := range attributes {
		if name == "" || checkText("", name, maxName) != nil {
			return hold("attributes", "a name that is empty, over "+strconv.Itoa(maxName)+" bytes, or has NUL in it")
		}
		if err := checkText("attributes."+source.Key(name), value, maxText); err != nil {
			return err
		}
	}
	return nil
}
