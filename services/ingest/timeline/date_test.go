package timeline_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tenurehq/tenure/services/ingest/timeline"
)

func TestInstant(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ what, zone, text, want string }{
		{"a date is midnight in its zone", "Europe/Berlin", "2026-12-01", "2026-11-30T23:00:00Z"},
		{"in summer too", "Europe/Berlin", "2026-07-01", "2026-06-30T22:00:00Z"},
		{"furthest behind: UTC-11", "Pacific/Pago_Pago", "2026-12-01", "2026-12-01T11:00:00Z"},
		{"furthest ahead: UTC+14", "Pacific/Kiritimati", "2026-12-01", "2026-11-30T10:00:00Z"},
		{"a quarter of an hour counts: UTC+5:45", "Asia/Kathmandu", "2026-12-01", "2026-11-30T18:15:00Z"},
		{"midnight that is skipped gives the first instant after it", "America/Santiago", "2024-09-08", "2024-09-08T04:00:00Z"},
		{"likewise in Beirut", "Asia/Beirut", "2022-03-27", "2022-03-26T22:00:00Z"},
		{"midnight that comes twice gives the first", "America/Havana", "2024-11-03", "2024-11-03T04:00:00Z"},
		{"a day that does not exist gives the next one's first instant", "Pacific/Apia", "2011-12-30", "2011-12-30T10:00:00Z"},
		{"and that is the next day's as well", "Pacific/Apia", "2011-12-31", "2011-12-30T10:00:00Z"},
		{"a zone that never changed", "UTC", "2026-02-28", "2026-02-28T00:00:00Z"},
		{"a leap day", "UTC", "2028-02-29", "2028-02-29T00:00:00Z"},
		{"an instant is itself", "Asia/Tokyo", "2026-12-01T10:00:00+02:00", "2026-12-01T08:00:00Z"},
		{"an instant keeps its microseconds", "UTC", "2026-12-01T10:00:00.1234567Z", "2026-12-01T10:00:00.123456Z"},
	} {
		got, err := timeline.Instant(c.text, location(t, c.zone))
		if err != nil || got.Format(time.RFC3339Nano) != c.want {
			t.Errorf("%s: %s in %s is %s (%v), want %s", c.what, c.text, c.zone, got.Format(time.RFC3339Nano), err, c.want)
		}
	}
}

func TestEndOfDay(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ what, zone, text, want string }{
		{"the last day is whole", "Europe/Berlin", "2026-12-31", "2026-12-31T23:00:00Z"},
		{"of 23 hours when the clocks go forward", "Europe/Berlin", "2026-03-29", "2026-03-29T22:00:00Z"},
		{"of 25 hours when they go back", "Europe/Berlin", "2026-10-25", "2026-10-25T23:00:00Z"},
		{"up to the gap when the next midnight is skipped", "America/Santiago", "2024-09-07", "2024-09-08T04:00:00Z"},
		{"an instant is itself", "Europe/Berlin", "2026-12-31T12:00:00Z", "2026-12-31T12:00:00Z"},
		{"the first instant of 1970 is not the one that is stored as none", "UTC", "1969-12-31", "1970-01-01T00:00:00.000001Z"},
		{"the year 9999 is no end", "Europe/Berlin", "9999-12-31", "0001-01-01T00:00:00Z"},
	} {
		got, err := timeline.EndOfDay(c.text, location(t, c.zone))
		if err != nil || got.Format(time.RFC3339Nano) != c.want {
			t.Errorf("%s: %s in %s ends %s (%v), want %s", c.what, c.text, c.zone, got.Format(time.RFC3339Nano), err, c.want)
		}
	}
}

func TestWhatIsNoDateIsRefused(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", " ", "2026", "2026-13-01", "2026-02-30", "2026-2-3", "01.12.2026", "2026-12-01 ", "2026-12-01T10:00:00",
		"2026-12-01T10:00:00,5Z", "2026-12-01T1:00:00Z", "2026-12-01 10:00:00Z", "0000-00-00", "0001-01-01", "1899-12-31", "12026-01-01",
		"-2026-01-01", "2026-12-01T24:00:00Z", "2026-12-01T10:00:00+25:00",
	} {
		if at, err := timeline.Instant(text, time.UTC); err == nil {
			t.Errorf("%q is taken for %s", text, at)
		}
		if at, err := timeline.EndOfDay(text, time.UTC); err == nil {
			t.Errorf("%q as an end is taken for %s", text, at)
		}
	}
	if _, err := timeline.Instant("9999-12-31", time.UTC); err == nil {
		t.Error("a start in the year 9999 is taken")
	}
}

func TestADateIsTheFirstMinuteThatShowsIt(t *testing.T) {
	t.Parallel()
	zones := []string{
		"Pacific/Pago_Pago", "Pacific/Kiritimati", "Pacific/Apia", "America/Santiago", "America/Havana", "America/Goose_Bay", "Asia/Beirut",
		"Asia/Gaza", "Asia/Tehran", "Africa/Cairo", "America/Sao_Paulo", "America/Asuncion", "Atlantic/Azores", "Australia/Lord_Howe", "Europe/Berlin",
		"America/New_York", "Asia/Kathmandu", "Antarctica/Troll", "Pacific/Chatham", "Africa/Casablanca", "America/Scoresbysund", "UTC",
	}
	rapid.Check(t, func(rt *rapid.T) {
		zone := location(t, rapid.SampledFrom(zones).Draw(rt, "zone"))
		date := time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC).AddDate(0, 0, rapid.IntRange(0, 55*365).Draw(rt, "day"))
		got, err := timeline.Instant(date.Format(time.DateOnly), zone)
		if err != nil {
			rt.Fatal(err)
		}
		shows := func(at time.Time) bool { return at.In(zone).Format(time.DateOnly) >= date.Format(time.DateOnly) }
		if !shows(got) {
			rt.Fatalf("%s does not show %s in %s", got, date.Format(time.DateOnly), zone)
		}
		for at := got.Add(-time.Minute); at.After(date.Add(-30 * time.Hour)); at = at.Add(-time.Minute) {
			if shows(at) {
				rt.Fatalf("%s shows %s in %s before %s does", at, date.Format(time.DateOnly), zone, got)
			}
		}
	})
}

func location(t *testing.T, name string) *time.Location {
	t.Helper()
	zone, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return zone
}
