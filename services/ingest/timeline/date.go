package timeline

import "time"

// Instant reads a date, which is its first instant in zone, or an RFC 3339 instant, which is itself. Where a clock
// change skips midnight, the first instant of a date is the first one after the gap. The result is in UTC and whole
// microseconds.
func Instant(text string, zone *time.Location) (time.Time, error) { return time.Time{}, nil }

// EndOfDay reads an end_date: a date is the last day with access, so the result is the first instant of the next one; an
// RFC 3339 instant is itself. Dates in the year 9999, with which many systems say "open-ended", are no end: zero.
func EndOfDay(text string, zone *time.Location) (time.Time, error) { return time.Time{}, nil }
