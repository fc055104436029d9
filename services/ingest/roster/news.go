package roster

import (
	"time"

	"github.com/tenurehq/tenure/services/ingest/timeline"
)

// News tells whether a record of a roster says something that its source did not say before about the same employment,
// and gives the fact to be taken in. Known is what the source itself said; what operators said is left out, because a list
// that repeats what HR said before is no newer word than theirs.
//
// The record holds when the roster was made, or from its effective instant on where that is later. What the source said
// after it made the roster is newer, and the record is none. Where it said something else from a later instant on than
// the record's, and takes that back by not mentioning it, the fact holds from when the roster was made.
func News(known []timeline.Fact, row timeline.Fact) (timeline.Fact, bool) {
	at := row.SourceTime
	if row.Effective.After(at) {
		at = row.Effective
	}
	ordered := timeline.Ordered(known)
	var holds *timeline.Fact
	for i := range ordered {
		f := &ordered[i]
		if f.SourceTime.After(row.SourceTime) {
			return row, false
		}
		if !f.Effective.After(at) {
			holds = f
		}
	}
	switch {
	case holds == nil:
	case holds.Record.Status == row.Record.Status && len(timeline.Changes(holds.Record, row.Record)) == 0:
		return row, false
	case row.Effective.Before(holds.Effective):
		row.Effective = at
	}
	if holds != nil && row.Effective.Equal(holds.Effective) && row.SourceTime.Equal(holds.SourceTime) {
		row.SourceTime = row.SourceTime.Add(time.Microsecond) // else the keys of the two deliveries would decide
	}
	return row, true
}
