package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/tenurehq/tenure/pkg/sqldb"
	"github.com/tenurehq/tenure/services/ingest/timeline"
)

// People returns the people with these ids, in no order; unknown ids are left out.
func (r reader) People(ctx context.Context, ids []string) ([]Person, error) {
	var people []Person
	for chunk := range chunks(ids) {
		query := sqldb.Asked(len(chunk)) + ` SELECT ` + personColumns + ` FROM asked JOIN people ON id = asked.value`
		rows, err := r.q.Query(ctx, query, anyOf(chunk)...)
		found, err := sqldb.Collect(rows, err, scanPerson)
		if err != nil {
			return nil, fmt.Errorf("read people: %w", err)
		}
		people = append(people, found...)
	}
	return people, nil
}

// Find returns the ids of up to limit people who have ref as external id, e-mail or user name, in order.
func (r reader) Find(ctx context.Context, ref string, limit int) ([]string, error) {
	const query = `
SELECT person FROM employments WHERE external_id = $1
UNION
SELECT id FROM people WHERE email <> '' AND email = $2
UNION
SELECT person FROM user_names WHERE name = $2
ORDER BY 1 LIMIT $3`
	rows, err := r.q.Query(ctx, query, ref, strings.ToLower(ref), limit)
	ids, err := sqldb.Collect(rows, err, scanString)
	if err != nil {
		return nil, fmt.Errorf("find people: %w", err)
	}
	return ids, nil
}

// PeopleFilter selects a page of people, in order of user name.
type PeopleFilter struct {
	Status     timeline.Status // StatusUnknown: all
	Department string          // empty: all
	After      Person          // the last one of the page before; the zero Person: from the beginning
	Limit      int
}

// PeoplePage returns the next people in order of user name, those without one first. Who turned out to be somebody else
// is not among them.
func (r reader) PeoplePage(ctx context.Context, f PeopleFilter) ([]Person, error) {
	query := `SELECT ` + personColumns + ` FROM people WHERE (user_name, id) > ($1, $2) AND merged_into = ''`
	args := []any{f.After.UserName, f.After.ID}
	if f.Status != timeline.StatusUnknown {
		args = append(args, int64(f.Status))
		query += fmt.Sprintf(` AND status = $%d`, len(args))
	}
	if f.Department != "" {
		args = append(args, f.Department)
		query += fmt.Sprintf(` AND department = $%d`, len(args))
	}
	args = append(args, f.Limit)
	query += fmt.Sprintf(` ORDER BY user_name, id LIMIT $%d`, len(args))
	rows, err := r.q.Query(ctx, query, args...)
	people, err := sqldb.Collect(rows, err, scanPerson)
	if err != nil {
		return nil, fmt.Errorf("list people: %w", err)
	}
	return people, nil
}

// Version is one person's version.
type Version struct {
	ID      string
	Version int64
}

// Versions returns the next versions in order of id, from the one after.
func (r reader) Versions(ctx context.Context, after string, limit int) ([]Version, error) {
	const query = `SELECT id, version FROM people WHERE id > $1 ORDER BY id LIMIT $2`
	rows, err := r.q.Query(ctx, query, after, limit)
	versions, err := sqldb.Collect(rows, err, func(scan func(...any) error) (Version, error) {
		var v Version
		err := scan(&v.ID, &v.Version)
		return v, err
	})
	if err != nil {
		return nil, fmt.Errorf("list versions: %w", err)
	}
	return versions, nil
}

// NextDue is the earliest instant at which time alone changes something about somebody; zero: never.
func (r reader) NextDue(ctx context.Context) (time.Time, error) {
	const query = `SELECT next_due FROM people WHERE next_due > 0 ORDER BY next_due LIMIT 1`
	var due int64
	found, err := one(r.q.QueryRow(ctx, query).Scan(&due), "read next due")
	if err != nil || !found {
		return time.Time{}, err
	}
	return sqldb.Time(due), nil
}
