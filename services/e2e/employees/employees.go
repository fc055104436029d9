// Package employees is the history of a company, for tests: 1,771 events of 1,000 people. README.md says where it is from.
package employees

import (
	"bytes"
	_ "embed"
	"encoding/csv"
	"fmt"
	"slices"
	"strings"
	"time"
)

//go:embed dataset_small_jml_events.csv
var events []byte

// Event is one row, with all that is known of the person as of it.
type Event struct {
	Kind   string    // joiner, mover_dept, mover_title or leaver
	Date   string    // from which it holds
	At     time.Time // when HR says it: on that date, and each later than the one before
	Number string    // of the employee

	GivenName, FamilyName, Email string
	Department, Title, HireDate  string
}

// Left says that the person is not employed any more.
func (e Event) Left() bool { return e.Kind == "leaver" }

// History returns all events, in order of their dates.
func History() ([]Event, error) {
	rows, err := csv.NewReader(bytes.NewReader(events)).ReadAll()
	if err != nil {
		return nil, err
	}
	columns := []string{"effective_date", "event", "emp_no", "first_name", "last_name", "dept_no", "title", "hire_date"}
	if len(rows) != 1+1771 || !slices.Equal(rows[0], columns) {
		return nil, fmt.Errorf("the history has %d rows of %v", len(rows), rows[0])
	}
	all, people := make([]Event, 0, len(rows)-1), map[string]Event{}
	for n, row := range rows[1:] {
		day, err := time.Parse(time.DateOnly, row[0])
		if err != nil {
			return nil, err
		}
		e := people[row[2]] // a row carries only what changed
		e.Date, e.Kind, e.Number, e.GivenName, e.FamilyName = row[0], row[1], row[2], row[3], row[4]
		e.At = day.Add(12*time.Hour + time.Duration(n)*time.Second)
		e.Email = strings.ToLower(fmt.Sprintf("%s.%s.%s@acme.example", row[3], row[4], row[2]))
		for column, field := range map[int]*string{5: &e.Department, 6: &e.Title, 7: &e.HireDate} {
			if row[column] != "" {
				*field = row[column]
			}
		}
		people[e.Number] = e
		all = append(all, e)
	}
	if len(people) != 1000 {
		return nil, fmt.Errorf("the history has %d people", len(people))
	}
	return all, nil
}
