// Package mapping makes facts of what a source says about a person.
//
// It promises that a record is either understood wholly or held with a reason: no field is guessed, cut or dropped. A
// reason names fields and holds no value, because reasons are shown and logged.
package mapping

import (
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/tenurehq/tenure/services/ingest/timeline"
)

// Held is why a record is kept for review. It names the field and holds no personal value.
type Held struct{ Reason string }

func (h *Held) Error() string { return h.Reason }

// hold is a *Held about a field.
func hold(field, problem string) *Held { return &Held{Reason: field + ": " + problem} }

// Event is what a mapping knows of the delivery besides the person.
type Event struct {
	Type      string
	Timestamp time.Time // when the source made the record; a record without effective_date holds from here on
}

// Mapping reads records of one source. Safe for concurrent use.
type Mapping struct {
	fields []expression // empty: the generic form
	zone   *time.Location
	zones  *zones
}

// Generic is the mapping of sources that speak the generic form. Zone is for dates of people without one; nil: UTC.
func Generic(zone *time.Location) *Mapping {
	if zone == nil {
		zone = time.UTC
	}
	return &Mapping{zone: zone, zones: newZones()}
}

// Read makes a fact of an item: the employment's ExternalID, Record, SourceTime, Effective, Start and End are set, the
// rest is for the caller. An error is a *Held; then the fact has nothing but the ExternalID, if that much could be read.
func (m *Mapping) Read(item []byte, event Event) (timeline.Fact, error) {
	if v := jsontext.Value(item); v.Kind() != jsontext.KindBeginObject || !v.IsValid() { // valid: no key twice, no text after the end
		return timeline.Fact{}, &Held{Reason: "not a JSON object"}
	}
	var record timeline.Record
	var err error
	if len(m.fields) == 0 {
		record, err = decode(item)
	} else {
		record, err = m.evaluate(item, event)
	}
	if err != nil {
		if checkID(record.ExternalID) != nil {
			record.ExternalID = ""
		}
		return timeline.Fact{Employment: timeline.Employment{ExternalID: record.ExternalID}}, err
	}
	return m.Check(record, event)
}
