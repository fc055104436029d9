package store

import (
	"context"
	"fmt"
	"time"

	"github.com/tenurehq/tenure/pkg/sqldb"
)

// RosterState is how far a roster has come.
type RosterState string

// The states of a roster.
const (
	RosterReceiving  RosterState = "receiving"  // parts are missing
	RosterWhole      RosterState = "whole"      // to be judged
	RosterHeld       RosterState = "held"       // it breaks its contract
	RosterTaking     RosterState = "taking"     // part by part
	RosterTaken      RosterState = "taken"      //
	RosterSuperseded RosterState = "superseded" // one that was made later is taken
)

// Roster is a full list of a source's people.
type Roster struct {
	Source, ID   string
	Parts, Total int
	PartsIn      int
	Records      int // that came
	MadeAt       time.Time
	ReceivedAt   time.Time
	Delivery     string // the newest part
	State        RosterState
	JudgedAt     time.Time
	Held         string
	AcceptedBy   string
	Understood   int
	PartsTaken   int
	Changed      int
	Absent       int
	TakenAt      time.Time
	Version      int64 // raised by every decision
}

// RosterPart is a delivery of a roster.
type RosterPart struct {
	Source, Roster string
	Part           int
	Delivery       string
	Records        []byte // SHA-256
}

const rosterColumns = `source, id, parts, total, parts_in, records, made_at, received_at, delivery, state, judged_at, held,
accepted_by, understood, parts_taken, changed, absent, taken_at, version`

func scanRoster(scan func(...any) error) (Roster, error) {
	var r Roster
	var made, received, judged, taken int64
	err := scan(&r.Source, &r.ID, &r.Parts, &r.Total, &r.PartsIn, &r.Records, &made, &received, &r.Delivery, &r.State, &judged,
		&r.Held, &r.AcceptedBy, &r.Understood, &r.PartsTaken, &r.Changed, &r.Absent, &taken, &r.Version)
	r.MadeAt, r.ReceivedAt, r.JudgedAt, r.TakenAt = sqldb.Time(made), sqldb.Time(received), sqldb.Time(judged), sqldb.Time(taken)
	return r, err
}

// OpenRoster takes the row of a roster, which it makes when the first part comes, until the transaction ends.
func (t Tx) OpenRoster(ctx context.Context, r Roster) (Roster, error) {
	const insert = `
INSERT INTO rosters (source, id, version, parts, total, parts_in, records, made_at, received_at, delivery, state, judged_at,
                     held, accepted_by, understood, parts_taken, changed, absent, taken_at)
VALUES ($1, $2, 0, $3, $4, 0, 0, $5, $6, $7, 'receiving', 0, '', '', 0, 0, 0, 0, 0)
ON CONFLICT (source, id) DO NOTHING`
	if err := t.Queue(ctx, insert, r.Source, r.ID, r.Parts, r.Total, sqldb.Micros(r.MadeAt), sqldb.Micros(r.ReceivedAt), r.Delivery); err != nil {
		return Roster{}, fmt.Errorf("insert roster: %w", err)
	}
	open, _, err := t.LockRoster(ctx, r.Source, r.ID)
	return open, err
}

// LockRoster takes a roster's row until the transaction ends: it is the first statement of whatever decides about it. The
// version stays: whoever takes the row may find that there is nothing to decide.
func (t Tx) LockRoster(ctx context.Context, source, id string) (r Roster, found bool, err error) {
	const update = `UPDATE rosters SET version = version WHERE source = $1 AND id = $2 RETURNING ` + rosterColumns
	r, err = scanRoster(t.QueryRow(ctx, update, source, id).Scan)
	found, err = one(err, "lock roster")
	return r, found, err
}

// SaveRoster stores a roster whose row is taken, and raises its version.
func (t Tx) SaveRoster(ctx context.Context, r Roster) error {
	const update = `
UPDATE rosters
SET parts_in = $3, records = $4, made_at = $5, received_at = $6, delivery = $7, state = $8, judged_at = $9, held = $10,
    accepted_by = $11, understood = $12, parts_taken = $13, changed = $14, absent = $15, taken_at = $16, version = version + 1
WHERE source = $1 AND id = $2`
	err := t.Queue(ctx, update, r.Source, r.ID, r.PartsIn, r.Records, sqldb.Micros(r.MadeAt), sqldb.Micros(r.ReceivedAt), r.Delivery,
		string(r.State), sqldb.Micros(r.JudgedAt), r.Held, r.AcceptedBy, r.Understood, r.PartsTaken, r.Changed, r.Absent, sqldb.Micros(r.TakenAt))
	return wrapped(err, "save roster")
}

// AddRosterPart stores that a delivery is a part of a roster.
func (t Tx) AddRosterPart(ctx context.Context, p RosterPart) error {
	const insert = `INSERT INTO roster_parts (source, roster, part, delivery, records) VALUES ($1, $2, $3, $4, $5)`
	err := t.Queue(ctx, insert, p.Source, p.Roster, p.Part, p.Delivery, p.Records)
	return wrapped(err, "insert part of a roster")
}

const partColumns = `source, roster, part, delivery, records`

func scanPart(scan func(...any) error) (p RosterPart, err error) {
	err = scan(&p.Source, &p.Roster, &p.Part, &p.Delivery, &p.Records)
	return p, err
}

// RosterPart returns the part of that number.
func (r reader) RosterPart(ctx context.Context, source, roster string, part int) (p RosterPart, found bool, err error) {
	const query = `SELECT ` + partColumns + ` FROM roster_parts WHERE source = $1 AND roster = $2 AND part = $3`
	p, err = scanPart(r.q.QueryRow(ctx, query, source, roster, part).Scan)
	found, err = one(err, "read part of a roster")
	return p, found, err
}

// PartOf tells which part of which roster a delivery is.
func (r reader) PartOf(ctx context.Context, delivery string) (p RosterPart, found bool, err error) {
	const query = `SELECT ` + partColumns + ` FROM roster_parts WHERE delivery = $1`
	p, err = scanPart(r.q.QueryRow(ctx, query, delivery).Scan)
	found, err = one(err, "find the roster of a delivery")
	return p, found, err
}

// RosterParts are the parts that came, in order.
func (r reader) RosterParts(ctx context.Context, source, roster string) ([]RosterPart, error) {
	const query = `SELECT ` + partColumns + ` FROM roster_parts WHERE source = $1 AND roster = $2 ORDER BY part`
	rows, err := r.q.Query(ctx, query, source, roster)
	parts, err := sqldb.Collect(rows, err, scanPart)
	return parts, wrapped(err, "list parts of a roster")
}

// OpenRosters are those to be judged or taken in, the one that was made first before the others.
func (r reader) OpenRosters(ctx context.Context) ([]Roster, error) {
	const query = `SELECT ` + rosterColumns + ` FROM rosters WHERE state IN ('whole', 'taking') ORDER BY made_at, source, id`
	rows, err := r.q.Query(ctx, query)
	rosters, err := sqldb.Collect(rows, err, scanRoster)
	return rosters, wrapped(err, "find rosters to judge")
}

// LastTaken is the roster of a source that is taken and was made last.
func (r reader) LastTaken(ctx context.Context, source string) (last Roster, found bool, err error) {
	const query = `
SELECT ` + rosterColumns + ` FROM rosters WHERE source = $1 AND state = 'taken' ORDER BY made_at DESC, taken_at DESC LIMIT 1`
	last, err = scanRoster(r.q.QueryRow(ctx, query, source).Scan)
	found, err = one(err, "read the last roster")
	return last, found, err
}

// Rosters lists up to limit rosters of each source, by source and newest first. An empty source or id stands for all.
func (r reader) Rosters(ctx context.Context, source, id string, limit int) ([]Roster, error) {
	query, args := `
SELECT `+rosterColumns+` FROM (
    SELECT rosters.*, ROW_NUMBER() OVER (PARTITION BY source ORDER BY received_at DESC, id DESC) AS place FROM rosters
) AS newest
WHERE place <= $1`, []any{limit}
	if source != "" {
		args = append(args, source)
		query += fmt.Sprintf(` AND source = $%d`, len(args))
	}
	if id != "" {
		args = append(args, id)
		query += fmt.Sprintf(` AND id = $%d`, len(args))
	}
	rows, err := r.q.Query(ctx, query+` ORDER BY source, received_at DESC, id DESC`, args...)
	rosters, err := sqldb.Collect(rows, err, scanRoster)
	return rosters, wrapped(err, "list rosters")
}

// HoldDelivery says that the whole of a delivery is kept for review.
func (t Tx) HoldDelivery(ctx context.Context, id, held string, itemsHeld int) error {
	const update = `UPDATE deliveries SET held = $2, items_held = $3 WHERE id = $1`
	err := t.Queue(ctx, update, id, held, itemsHeld)
	return wrapped(err, "hold delivery")
}

// HoldParts says of the deliveries of a roster that they are kept for review; an empty reason, that they are no more.
func (t Tx) HoldParts(ctx context.Context, source, roster, held string) error {
	const update = `
UPDATE deliveries SET held = $3
WHERE id IN (SELECT delivery FROM roster_parts WHERE source = $1 AND roster = $2) AND held <> $3`
	err := t.Queue(ctx, update, source, roster, held)
	return wrapped(err, "hold parts of a roster")
}

// Supersede ends what other rosters of the source wait for that were not made later than this one, which is taken.
func (t Tx) Supersede(ctx context.Context, r Roster) error {
	const rosters = `
UPDATE rosters SET state = 'superseded', version = version + 1
WHERE source = $1 AND id <> $2 AND made_at <= $3 AND state IN ('receiving', 'whole', 'held')`
	if err := t.Queue(ctx, rosters, r.Source, r.ID, sqldb.Micros(r.MadeAt)); err != nil {
		return fmt.Errorf("supersede rosters: %w", err)
	}
	const deliveries = `
UPDATE deliveries SET held = ''
WHERE held <> '' AND id IN (
    SELECT p.delivery FROM roster_parts p JOIN rosters r ON r.source = p.source AND r.id = p.roster
    WHERE r.source = $1 AND r.state = 'superseded')`
	if err := t.Queue(ctx, deliveries, r.Source); err != nil {
		return fmt.Errorf("release superseded rosters: %w", err)
	}
	const people = `
DELETE FROM roster_people
WHERE source = $1 AND roster IN (
    SELECT id FROM rosters WHERE source = $1 AND id <> $2 AND state IN ('taken', 'superseded'))`
	if err := t.Queue(ctx, people, r.Source, r.ID); err != nil {
		return fmt.Errorf("forget people of earlier rosters: %w", err)
	}
	return nil
}
