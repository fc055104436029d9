package timeline

import (
	"errors"
	"strings"
	"time"
)

// The years dates may lie in. Earlier ones are typing errors; the year 9999 stands for "never" in many systems.
const (
	firstYear = 1900
	openEnded = 9999
)

var (
	errNotADate  = errors.New("neither a date nor an RFC 3339 instant")
	errYearRange = errors.New("year out of range")
)

// Instant reads a date, which is its first instant in zone, or an RFC 3339 instant, which is itself. Where a clock
// change skips midnight, the first instant of a date is the first one after the gap. The result is in UTC and whole
// microseconds.
func Instant(text string, zone *time.Location) (time.Time, error) {
	day, isDate, err := parse(text)
	if err != nil {
		return time.Time{}, err
	}
	if day.Year() == openEnded {
		return time.Time{}, errYearRange
	}
	if isDate {
		day = firstInstant(day, zone)
	}
	return notEpoch(day), nil
}

// EndOfDay reads an end_date: a date is the last day with access, so the result is the first instant of the next one; an
// RFC 3339 instant is itself. The year 9999, with which many systems say "open-ended", is no end: zero.
func EndOfDay(text string, zone *time.Location) (time.Time, error) {
	day, isDate, err := parse(text)
	if err != nil {
		return time.Time{}, err
	}
	if day.Year() == openEnded {
		return time.Time{}, nil
	}
	if isDate {
		day = firstInstant(day.AddDate(0, 0, 1), zone)
	}
	return notEpoch(day), nil
}

// notEpoch moves the one instant that is stored as "none", the beginning of 1970 in UTC, by a microsecond: an end on that
// day must not become no end.
func notEpoch(at time.Time) time.Time {
	if at.UnixMicro() == 0 {
		return at.Add(time.Microsecond)
	}
	return at
}

// parse reads either form. A date comes back as its midnight in UTC.
func parse(text string) (at time.Time, isDate bool, err error) {
	at, err = time.Parse(time.DateOnly, text)
	if isDate = err == nil; !isDate {
		at, err = time.Parse(time.RFC3339, text)
		// Parse also takes a comma before fractions and hours of one digit, which RFC 3339 does not have.
		if err != nil || strings.Contains(text, ",") || text[len("2006-01-02T15")] != ':' {
			return time.Time{}, false, errNotADate
		}
		at = at.UTC().Truncate(time.Microsecond)
	}
	if at.Year() < firstYear || at.Year() > openEnded {
		return time.Time{}, false, errYearRange
	}
	return at, isDate, nil
}

// firstInstant is the earliest instant at which clocks in zone show the date or a later one. The date is given as
// its midnight in UTC.
//
// time.Date does not say which of two instants it takes when a clock change makes midnight happen never or twice, so this
// walks the zone's periods: within one, the offset is constant.
func firstInstant(date time.Time, zone *time.Location) time.Time {
	t := date.Add(-48 * time.Hour).In(zone) // no zone is further from UTC, so it is before the date everywhere
	for {
		_, offset := t.Zone()
		midnight := date.Add(-time.Duration(offset) * time.Second)
		if midnight.Before(t) {
			midnight = t.UTC() // the period begins later than that: midnight was skipped
		}
		_, end := t.ZoneBounds()
		if end.IsZero() || midnight.Before(end) {
			return midnight
		}
		t = end
	}
}
