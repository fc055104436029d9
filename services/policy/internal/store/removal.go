package store

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tenurehq/tenure/pkg/sqldb"
)

// Removed is when a person last lost access without corroboration.
type Removed struct {
	Person string
	At     time.Time            // anywhere
	Apps   map[string]time.Time // by application
}

// LockBrake makes whoever counts removals or changes holds wait until this transaction is over. People that it decides
// about must have been claimed before.
func (t Tx) LockBrake(ctx context.Context) error {
	if _, err := t.Exec(ctx, `UPDATE brake SET n = n + 1 WHERE id = 1`); err != nil {
		return fmt.Errorf("lock the brake: %w", err)
	}
	return nil
}

// CountRemoved returns how many people lost access since. The brake must be locked.
func (t Tx) CountRemoved(ctx context.Context, since time.Time) (int, error) {
	var count int64
	err := t.QueryRow(ctx, `SELECT COUNT(*) FROM removals WHERE removed_at > $1`, sqldb.Micros(since)).Scan(&count)
	if err != nil {
		return 0, fmt.Errorf("count removals: %w", err)
	}
	return int(count), nil
}

// Removed returns who lost access since. The brake must be locked.
func (t Tx) Removed(ctx context.Context, since time.Time) (map[string]Removed, error) {
	found := map[string]Removed{}
	rows, err := t.Query(ctx, `SELECT person, removed_at, apps FROM removals WHERE removed_at > $1`, sqldb.Micros(since))
	return found, collectRemoved(rows, err, since, found)
}

// RemovedSince is Removed for who only wants to know.
func (s *Store) RemovedSince(ctx context.Context, since time.Time) (map[string]Removed, error) {
	found := map[string]Removed{}
	rows, err := s.db.Query(ctx, `SELECT person, removed_at, apps FROM removals WHERE removed_at > $1`, sqldb.Micros(since))
	return found, collectRemoved(rows, err, since, found)
}

// RemovedOf is Removed for some people.
func (t Tx) RemovedOf(ctx context.Context, people []string, since time.Time) (map[string]Removed, error) {
	found := make(map[string]Removed, len(people))
	for chunk := range chunks(people, 1) {
		rows, err := t.Query(ctx, `SELECT person, removed_at, apps FROM removals WHERE person IN `+sqldb.Values(1, len(chunk)), anyOf(chunk)...)
		if err := collectRemoved(rows, err, since, found); err != nil {
			return nil, err
		}
	}
	return found, nil
}

func collectRemoved(rows *sqldb.Rows, err error, since time.Time, found map[string]Removed) error {
	_, err = sqldb.Collect(rows, err, func(scan func(...any) error) (struct{}, error) {
		var r Removed
		var at int64
		var apps string
		if err := scan(&r.Person, &at, &apps); err != nil {
			return struct{}{}, err
		}
		r.At = sqldb.Time(at)
		if !r.At.After(since) {
			return struct{}{}, nil
		}
		var err error
		r.Apps, err = decodeApps(apps, since)
		found[r.Person] = r
		return struct{}{}, err
	})
	if err != nil {
		return fmt.Errorf("read removals: %w", err)
	}
	return nil
}

// PutRemoved writes when these people lost access. The brake must be locked.
func (t Tx) PutRemoved(ctx context.Context, removed []Removed) error {
	const columns = 3
	for chunk := range chunks(removed, columns) {
		args := make([]any, 0, columns*len(chunk))
		for _, r := range chunk {
			args = append(args, r.Person, sqldb.Micros(r.At), encodeApps(r.Apps))
		}
		put := `
INSERT INTO removals (person, removed_at, apps)
VALUES ` + sqldb.Values(len(chunk), columns) + `
ON CONFLICT (person) DO UPDATE SET removed_at = excluded.removed_at, apps = excluded.apps`
		if err := t.Queue(ctx, put, args...); err != nil {
			return fmt.Errorf("write removals: %w", err)
		}
	}
	return nil
}

// Elevated returns who was given something privileged since. The brake must be locked.
func (t Tx) Elevated(ctx context.Context, since time.Time) (map[string]bool, error) {
	return elevated(ctx, t, since)
}

// ElevatedSince is Elevated for who only wants to know.
func (s *Store) ElevatedSince(ctx context.Context, since time.Time) (map[string]bool, error) {
	return elevated(ctx, s.db, since)
}

func elevated(ctx context.Context, q sqldb.Querier, since time.Time) (map[string]bool, error) {
	rows, err := q.Query(ctx, `SELECT person FROM elevations WHERE elevated_at > $1`, sqldb.Micros(since))
	people, err := sqldb.Collect(rows, err, scanText)
	if err != nil {
		return nil, fmt.Errorf("read who was given something privileged: %w", err)
	}
	given := make(map[string]bool, len(people))
	for _, p := range people {
		given[p] = true
	}
	return given, nil
}

// PutElevated writes that these people are given something privileged. The brake must be locked.
func (t Tx) PutElevated(ctx context.Context, people []string, at time.Time) error {
	const columns = 2
	for chunk := range chunks(people, columns) {
		args := make([]any, 0, columns*len(chunk))
		for _, p := range chunk {
			args = append(args, p, sqldb.Micros(at))
		}
		put := `INSERT INTO elevations (person, elevated_at) VALUES ` + sqldb.Values(len(chunk), columns) + `
ON CONFLICT (person) DO UPDATE SET elevated_at = excluded.elevated_at`
		if err := t.Queue(ctx, put, args...); err != nil {
			return fmt.Errorf("write who is given something privileged: %w", err)
		}
	}
	return nil
}

// Forget deletes what no window looks back on any more.
func (t Tx) Forget(ctx context.Context, before time.Time) error {
	for _, statement := range []string{`DELETE FROM removals WHERE removed_at <= $1`, `DELETE FROM elevations WHERE elevated_at <= $1`} {
		if err := t.Queue(ctx, statement, sqldb.Micros(before)); err != nil {
			return fmt.Errorf("forget what the brake counted: %w", err)
		}
	}
	return nil
}

// Standing is how many people should have an account in each application, and, under the empty name, any access. Those who
// lost it since without corroboration count as well.
func (s *Store) Standing(ctx context.Context, since time.Time) (map[string]int, error) {
	standing := map[string]int{}
	count := func(query string, args ...any) error {
		rows, err := s.db.Query(ctx, query, args...)
		_, err = sqldb.Collect(rows, err, func(scan func(...any) error) (struct{}, error) {
			var app string
			var n int64
			err := scan(&app, &n)
			standing[app] += int(n)
			return struct{}{}, err
		})
		return err
	}
	err := count(`SELECT application, COUNT(*) FROM desired WHERE state > 0 GROUP BY application`)
	if err == nil {
		err = count(`SELECT '', COUNT(DISTINCT person) FROM desired WHERE state > 0`)
	}
	if err != nil {
		return nil, fmt.Errorf("count people with access: %w", err)
	}
	rows, err := s.db.Query(ctx, `
SELECT r.person, r.removed_at, r.apps, COALESCE(d.application, '')
FROM removals r LEFT JOIN desired d ON d.person = r.person AND d.state > 0 WHERE r.removed_at > $1`, sqldb.Micros(since))
	lost, has := map[string]Removed{}, map[string]map[string]bool{}
	_, err = sqldb.Collect(rows, err, func(scan func(...any) error) (struct{}, error) {
		var r Removed
		var at int64
		var apps, app string
		err := scan(&r.Person, &at, &apps, &app)
		if err != nil {
			return struct{}{}, err
		}
		r.Apps, err = decodeApps(apps, since)
		lost[r.Person] = r
		if has[r.Person] == nil {
			has[r.Person] = map[string]bool{}
		}
		if app != "" {
			has[r.Person][app] = true
		}
		return struct{}{}, err
	})
	if err != nil {
		return nil, fmt.Errorf("count people who lost access: %w", err)
	}
	for person, r := range lost {
		if len(has[person]) == 0 {
			standing[""]++
		}
		for app := range r.Apps {
			if !has[person][app] {
				standing[app]++
			}
		}
	}
	return standing, nil
}

// encodeApps is "app@micros app@micros", in order of application.
func encodeApps(apps map[string]time.Time) string {
	parts := make([]string, 0, len(apps))
	for _, app := range slices.Sorted(maps.Keys(apps)) {
		parts = append(parts, app+"@"+strconv.FormatInt(sqldb.Micros(apps[app]), 10))
	}
	return strings.Join(parts, " ")
}

// decodeApps leaves out what was not since.
func decodeApps(text string, since time.Time) (map[string]time.Time, error) {
	apps := map[string]time.Time{}
	for part := range strings.FieldsSeq(text) {
		app, at, _ := strings.Cut(part, "@")
		us, err := strconv.ParseInt(at, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("removals of %q: %w", part, err)
		}
		if when := sqldb.Time(us); when.After(since) {
			apps[app] = when
		}
	}
	return apps, nil
}
