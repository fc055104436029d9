package plan

import "time"

// Since is how long somebody could get in after they should not: until, where that is later than what it counts from,
// the end of their access, or the instant at which that end was known where that came after it. It is never negative.
func Since(ended, known, until time.Time) time.Duration {
	if known.After(ended) {
		ended = known
	}
	return max(0, until.Sub(ended))
}
