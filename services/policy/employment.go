package policy

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
	"github.com/tenurehq/tenure/services/policy/internal/store"
)

// employmentOf is where a person stands, given where they stood at the last decision. said is when the word was given that
// led to this one, for an ingest that does not say when an end became known.
//
// A run of employment begins when somebody whose access had ended is employed from that end on. Who is employed again
// from a start before the end had their termination cancelled, or a cut lifted: it is the same run. Somebody whom no
// decision ever found without employment has not left, whatever became of their dates.
func employmentOf(before store.Employment, p *peoplev1.Person, said time.Time) store.Employment {
	after := store.Employment{Run: max(before.Run, 1)}
	ended, known := end(p, before, said)
	switch {
	case !ended.IsZero():
		after.EndedAt, after.KnownAt = ended, known
	case !employed(p): // still to come, or nothing is known: what has ended stays so
		after.EndedAt, after.KnownAt = before.EndedAt, before.KnownAt
	case !before.EndedAt.IsZero() && p.GetStartedAt() != nil && !p.GetStartedAt().AsTime().Before(before.EndedAt):
		after.Run++
	}
	return after
}

// employed tells whether a person may have any access.
func employed(p *peoplev1.Person) bool { return runs(p.GetStatus()) && p.GetCut() == nil }

// runs tells whether an employment of this status has begun and has not ended.
func runs(status peoplev1.PersonStatus) bool {
	switch status {
	case peoplev1.PersonStatus_PERSON_STATUS_ACTIVE, peoplev1.PersonStatus_PERSON_STATUS_ON_LEAVE:
		return true
	case peoplev1.PersonStatus_PERSON_STATUS_PENDING, peoplev1.PersonStatus_PERSON_STATUS_TERMINATED,
		peoplev1.PersonStatus_PERSON_STATUS_UNSPECIFIED:
	}
	return false
}

// end is when a person's access had to end and when that became known: by HR's word, or by a cut where that came first.
func end(p *peoplev1.Person, before store.Employment, said time.Time) (ended, known time.Time) {
	if p.GetStatus() == peoplev1.PersonStatus_PERSON_STATUS_TERMINATED {
		ended, known = moment(p.GetEndedAt()), moment(p.GetEndKnownAt())
	}
	if !ended.IsZero() && known.IsZero() {
		known = said
		if ended.Equal(before.EndedAt) {
			known = before.KnownAt
		}
	}
	if cut := moment(p.GetCut().GetAt()); !cut.IsZero() {
		ended, known = earliest(ended, cut), earliest(known, cut)
	}
	return ended, known
}

// moment is a time as the database keeps it: what is stored and what is heard again must be equal.
func moment(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime().Truncate(time.Microsecond)
}

func earliest(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}
