// Package source reads what sources send: the envelope with its items, not yet what the items mean.
//
// It promises that a body is read in one way only: a repeated key, a key that means nothing, or text after the end is
// refused with a JSON pointer to the place. It keeps every item's bytes as they came; numbers lose no digit.
package source

import "time"

const (
	// MaxBody is the greatest body taken, in bytes.
	MaxBody = 1 << 20
	// MaxItems is the greatest number of people in one delivery.
	MaxItems = 1000
	// MaxParts is the greatest number of deliveries in one roster.
	MaxParts = 10_000
)

// The types of the generic form.
const (
	TypeChanged = "person.changed"
	TypeBatch   = "person.batch"
)

// Form is how much of the envelope is prescribed.
type Form uint8

const (
	// Generic is the form of this project's documentation, for sources without a mapping: unknown top-level keys are refused.
	Generic Form = iota
	// Own is any JSON object, for sources with a mapping. type, timestamp and data are read where they are there and have
	// the generic form's kind; without data the whole body is the one item.
	Own
)

// Envelope is a delivery as read.
type Envelope struct {
	Type string
	// Timestamp is when the source made the record; zero when it did not say: then the signed timestamp of the request stands.
	Timestamp time.Time
	Items     [][]byte // JSON objects, one person each
	Roster    *Roster  // nil: the items are not a part of everybody the source knows
	// Held is why the whole delivery cannot be understood; empty: it can. It names keys and holds no value.
	Held string
}

// Roster says which part of which list of everybody a delivery is.
type Roster struct {
	ID    string // the source's identity of the whole
	Part  int    // from 1
	Parts int
	Total int // records in all parts
}

// Error says where a body is not what it must be. The answer to it is a refusal (400).
type Error struct {
	Pointer string // RFC 6901
	Problem string // holds no value of the body
}

func (e *Error) Error() string {
	if e.Pointer == "" {
		return e.Problem
	}
	return e.Pointer + ": " + e.Problem
}
