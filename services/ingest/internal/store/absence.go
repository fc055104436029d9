package store

import (
	"context"
	"fmt"
	"time"

	"github.com/tenurehq/tenure/pkg/sqldb"
)

// AddRosterPeople stores who is on a roster; who is there already stays.
func (t Tx) AddRosterPeople(ctx context.Context, source, roster string, externalIDs []string) error {
	for chunk := range chunks(externalIDs) {
		args := make([]any, 0, 3*len(chunk))
		for _, id := range chunk {
			args = append(args, source, roster, id)
		}
		insert := `INSERT INTO roster_people (source, roster, external_id) VALUES ` + sqldb.Values(len(chunk), 3) +
			` ON CONFLICT (source, roster, external_id) DO NOTHING`
		if err := t.Queue(ctx, insert, args...); err != nil {
			return fmt.Errorf("insert people of a roster: %w", err)
		}
	}
	return nil
}

// ForgetRosterPeople forgets who is on a roster, which is to be read again.
func (t Tx) ForgetRosterPeople(ctx context.Context, source, roster string) error {
	err := t.Queue(ctx, `DELETE FROM roster_people WHERE source = $1 AND roster = $2`, source, roster)
	return wrapped(err, "forget people of a roster")
}

// expected are a source's people ($1) of whom a roster that was made at an instant ($3) should know: employed by what is
// known, and nothing was said of them since it was made.
const expected = `
FROM employments e
JOIN people p ON p.id = e.person AND p.status IN (2, 3)
WHERE e.source = $1
  AND NOT EXISTS (SELECT 1 FROM facts f WHERE f.person = e.person AND f.source = e.source AND f.external_id = e.external_id
                  AND f.source_time > $3)`

// named is 1 when a roster ($2) names an expected person, else 0. It is looked up for each, not joined: PostgreSQL has not
// counted the rows of a roster that has just come, and compares everybody with everybody when it takes them for few.
const named = `(SELECT count(*) FROM roster_people l WHERE l.source = e.source AND l.roster = $2 AND l.external_id = e.external_id)`

// RosterCover is how many different people a roster names, how many it should know of, and how many of these it names.
func (r reader) RosterCover(ctx context.Context, source, roster string, made time.Time) (names, known, present int, err error) {
	const count = `SELECT count(*) FROM roster_people WHERE source = $1 AND roster = $2`
	if err := r.q.QueryRow(ctx, count, source, roster).Scan(&names); err != nil {
		return 0, 0, 0, fmt.Errorf("count people of a roster: %w", err)
	}
	const query = `SELECT count(*), COALESCE(SUM(` + named + `), 0)` + expected
	err = r.q.QueryRow(ctx, query, source, roster, sqldb.Micros(made)).Scan(&known, &present)
	return names, known, present, wrapped(err, "compare a roster with who is known")
}

// SaveAbsences stores whom a roster leaves out and forgets who was absent before and is not any more. It returns how many
// are left out.
func (t Tx) SaveAbsences(ctx context.Context, source, roster string, made time.Time) (int, error) {
	const upsert = `
INSERT INTO absences (source, external_id, roster, made_at, since)
SELECT e.source, e.external_id, CAST($2 AS TEXT), CAST($3 AS BIGINT), CAST($3 AS BIGINT)` + expected + ` AND ` + named + ` = 0
ON CONFLICT (source, external_id) DO UPDATE SET roster = excluded.roster, made_at = excluded.made_at`
	n, err := t.Exec(ctx, upsert, source, roster, sqldb.Micros(made))
	if err != nil {
		return 0, fmt.Errorf("insert absences: %w", err)
	}
	const others = `DELETE FROM absences WHERE source = $1 AND roster <> $2`
	if err := t.Queue(ctx, others, source, roster); err != nil {
		return 0, fmt.Errorf("forget absences: %w", err)
	}
	return int(n), nil
}

// Absence is somebody whom the last roster of a source left out.
type Absence struct {
	Source, ExternalID, Person string
	Roster                     string
	Since                      time.Time
}

// Absences returns the next of those who are absent still, after one, by source and external id: who has left since, or of
// whom the source said something since, is not.
func (r reader) Absences(ctx context.Context, after Absence, limit int) ([]Absence, error) {
	const query = `
SELECT a.source, a.external_id, e.person, a.roster, a.since
FROM absences a
JOIN employments e ON e.source = a.source AND e.external_id = a.external_id
JOIN people p ON p.id = e.person AND p.status IN (2, 3)
WHERE (a.source, a.external_id) > ($1, $2)
  AND NOT EXISTS (SELECT 1 FROM facts f WHERE f.person = e.person AND f.source = a.source AND f.external_id = a.external_id
                  AND f.source_time > a.made_at)
ORDER BY a.source, a.external_id LIMIT $3`
	rows, err := r.q.Query(ctx, query, after.Source, after.ExternalID, limit)
	absences, err := sqldb.Collect(rows, err, scanAbsence)
	return absences, wrapped(err, "list absences")
}

func scanAbsence(scan func(...any) error) (Absence, error) {
	var a Absence
	var since int64
	err := scan(&a.Source, &a.ExternalID, &a.Person, &a.Roster, &since)
	a.Since = sqldb.Time(since)
	return a, err
}

// SharedMissing are those whom a roster should know of and does not name, of people who have other employments, too: that
// they are employed need not mean that they are by the one that is missing.
func (r reader) SharedMissing(ctx context.Context, source, roster string, made time.Time) ([]Absence, error) {
	const query = `SELECT e.source, e.external_id, e.person, CAST($2 AS TEXT), CAST($3 AS BIGINT)` + expected + `
  AND ` + named + ` = 0
  AND EXISTS (SELECT 1 FROM employments o WHERE o.person = e.person AND (o.source <> e.source OR o.external_id <> e.external_id))
ORDER BY e.external_id`
	rows, err := r.q.Query(ctx, query, source, roster, sqldb.Micros(made))
	absences, err := sqldb.Collect(rows, err, scanAbsence)
	return absences, wrapped(err, "list missing employments of people with several")
}

// DropAbsences forgets absences, all of one source.
func (t Tx) DropAbsences(ctx context.Context, source string, absences []Absence) error {
	for chunk := range chunks(absences) {
		args := make([]any, 0, len(chunk)+1)
		for _, a := range chunk {
			args = append(args, a.ExternalID)
		}
		drop := `DELETE FROM absences WHERE external_id IN ` + sqldb.Values(1, len(chunk)) + fmt.Sprintf(` AND source = $%d`, len(chunk)+1)
		if err := t.Queue(ctx, drop, append(args, source)...); err != nil {
			return fmt.Errorf("drop absences: %w", err)
		}
	}
	return nil
}

// RosterCounts are the figures of a source's rosters.
type RosterCounts struct {
	Source string
	Held   int       // rosters that are held
	Absent int       // people whom the last one left out
	Made   time.Time // when the newest that is taken was made; zero: none is
}

// CountRosters counts the rosters of each source that has any.
func (r reader) CountRosters(ctx context.Context) ([]RosterCounts, error) {
	const query = `
SELECT source, SUM(CASE WHEN state = 'held' THEN 1 ELSE 0 END), MAX(CASE WHEN state = 'taken' THEN made_at ELSE 0 END),
       (SELECT count(*) FROM absences a WHERE a.source = rosters.source)
FROM rosters GROUP BY source ORDER BY source`
	rows, err := r.q.Query(ctx, query)
	counts, err := sqldb.Collect(rows, err, func(scan func(...any) error) (RosterCounts, error) {
		var c RosterCounts
		var made int64
		err := scan(&c.Source, &c.Held, &made, &c.Absent)
		c.Made = sqldb.Time(made)
		return c, err
	})
	return counts, wrapped(err, "count rosters")
}
