// Package mapping makes facts of what a source says about a person.
//
// It promises that a record is either understood wholly or held with a reason: no field is guessed, cut or dropped. A
// reason names fields and holds no value, because reasons are shown and logged.
package mapping

import (
	"time"

	"github.com/tenurehq/tenure/services/ingest/timeline"
)

// Held is why a record is kept for review. It names the field and holds no personal value.
type Held struct{ Reason string }

func (h *Held) Error() string { return h.Reason }

// Event is what a mapping knows of the delivery besides the person.
type Event struct {
	Type      string
	Timestamp time.Time // when the source made the record
}

// Mapping reads records of one source. Safe for concurrent use.
type Mapping struct{}

// Generic is the mapping of sources that speak the generic form. Zone is for dates of people without one; nil: UTC.
func Generic(zone *time.Location) *Mapping { return &Mapping{} }

// Compile reads a mapping file: YAML, a CEL expression for each field (see docs/people.md). An error points at
// file:line:key.
func Compile(file string, text []byte, zone *time.Location) (*Mapping, error) { return &Mapping{}, nil }

// Read makes a fact of an item: ExternalID, Record, SourceTime, Effective, Start and End are set, the rest is for
// the caller. An error is a *Held.
func (m *Mapping) Read(item []byte, event Event) (timeline.Fact, error) { return timeline.Fact{}, nil }

// Check makes a fact of a record that is already at hand, such as an operator's, by the same rules as Read.
func (m *Mapping) Check(record timeline.Record, event Event) (timeline.Fact, error) {
	return timeline.Fact{}, nil
}

// Zone finds an IANA zone; "" is UTC. The zones are built in, so the answer is the same everywhere.
func Zone(name string) (*time.Location, error) { return time.UTC, nil }
