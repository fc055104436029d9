package store

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tenurehq/tenure/pkg/sqldb"
	accessv1 "github.com/tenurehq/tenure/proto/gen/tenure/access/v1"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	"github.com/tenurehq/tenure/services/policy/decide"
)

// Desired is what a person should have in one application, as of one generation.
type Desired struct {
	Person        string
	Application   string
	Generation    int64
	Lane          eventv1.Lane
	Release       string
	EventID       string // of the Access event that announced the generation
	CorrelationID string
	DecidedAt     time.Time
	Since         time.Time // when the fact that led to it was committed
	Access        decide.Access

	Announced bool    // to be saved: the generation is new; false: only the reasons changed
	Decided   Decided // read: the last decision about the person that was released, which may be newer than the generation
}

// PutDesired writes the changed rows of these decisions. Their people must have been claimed in this transaction.
func (t Tx) PutDesired(ctx context.Context, rows []Desired) error {
	const columns = 11
	for chunk := range chunks(rows, columns) {
		args := make([]any, 0, columns*len(chunk))
		for i := range chunk {
			d := &chunk[i]
			access, err := encodeAccess(d.Access)
			if err != nil {
				return err
			}
			args = append(args, d.Person, d.Application, d.Generation, int64(d.Access.State), int64(d.Lane), d.Release,
				d.EventID, d.CorrelationID, sqldb.Micros(d.DecidedAt), sqldb.Micros(d.Since), access)
		}
		put := `
INSERT INTO desired (person, application, generation, state, lane, release_id, event_id, correlation_id, decided_at,
                     since, access)
VALUES ` + sqldb.Values(len(chunk), columns) + `
ON CONFLICT (person, application) DO UPDATE
SET generation = excluded.generation, state = excluded.state, lane = excluded.lane,
    release_id = excluded.release_id, event_id = excluded.event_id, correlation_id = excluded.correlation_id,
    decided_at = excluded.decided_at, since = excluded.since, access = excluded.access`
		if err := t.Queue(ctx, put, args...); err != nil {
			return fmt.Errorf("write desired access: %w", err)
		}
	}
	return nil
}

const desiredColumns = `d.person, d.application, d.generation, d.state, d.lane, d.release_id, d.event_id,
       d.correlation_id, d.decided_at, d.since, d.access,
       COALESCE(h.kept_n, c.n), COALESCE(h.kept_version, c.person_version), COALESCE(h.kept_model_seq, c.model_seq), c.accounts,
       c.withheld_at, COALESCE(h.kept_employment, c.employment), COALESCE(h.kept_ended_at, c.ended_at),
       COALESCE(h.kept_end_known_at, c.end_known_at)`

// decidedJoin joins the last decision about each person, and what holds in its place while it is kept back.
const decidedJoin = ` JOIN decisions c ON c.person = d.person LEFT JOIN holds h ON h.person = d.person AND h.application = ''`

func scanDesired(scan func(...any) error) (Desired, error) {
	var d Desired
	var state, lane, decidedAt, since int64
	var access []byte
	decided, err := scanDecided(scan, &d.Person, &d.Application, &d.Generation, &state, &lane, &d.Release, &d.EventID,
		&d.CorrelationID, &decidedAt, &since, &access)
	if err != nil {
		return d, err
	}
	d.Decided = decided
	d.Lane = eventv1.Lane_LANE_NORMAL
	if lane == int64(eventv1.Lane_LANE_URGENT) {
		d.Lane = eventv1.Lane_LANE_URGENT
	}
	d.DecidedAt, d.Since = sqldb.Time(decidedAt), sqldb.Time(since)
	d.Access, err = decodeAccess(access)
	d.Access.State = decide.State(state)
	return d, err
}

// OfPeople returns all that these people should have, by person and application.
func (s *Store) OfPeople(ctx context.Context, people []string) (map[string]map[string]Desired, error) {
	found := make(map[string]map[string]Desired, len(people))
	for chunk := range chunks(people, 1) {
		query := sqldb.Asked(len(chunk)) + ` SELECT ` + desiredColumns + `
FROM asked JOIN desired d ON d.person = asked.value` + decidedJoin
		rows, err := s.db.Query(ctx, query, anyOf(chunk)...)
		all, err := sqldb.Collect(rows, err, scanDesired)
		if err != nil {
			return nil, fmt.Errorf("read desired access: %w", err)
		}
		for _, d := range all {
			if found[d.Person] == nil {
				found[d.Person] = map[string]Desired{}
			}
			found[d.Person][d.Application] = d
		}
	}
	return found, nil
}

// InApplication returns what these people should have in one application, in no order; those who never had anything
// there are left out.
func (s *Store) InApplication(ctx context.Context, application string, people []string) ([]Desired, error) {
	var found []Desired
	for chunk := range chunks(people, 1) {
		query := sqldb.Asked(len(chunk)) + ` SELECT ` + desiredColumns + fmt.Sprintf(`
FROM asked JOIN desired d ON d.person = asked.value AND d.application = $%d`, len(chunk)+1) + decidedJoin
		rows, err := s.db.Query(ctx, query, append(anyOf(chunk), application)...)
		all, err := sqldb.Collect(rows, err, scanDesired)
		if err != nil {
			return nil, fmt.Errorf("read desired access: %w", err)
		}
		found = append(found, all...)
	}
	return found, nil
}

// Page returns what people after this one should have in an application, in order of person.
func (s *Store) Page(ctx context.Context, application, after string, limit int) ([]Desired, error) {
	query := `SELECT ` + desiredColumns + ` FROM desired d` + decidedJoin + `
WHERE d.application = $1 AND d.person > $2 AND d.state > 0 ORDER BY d.person LIMIT $3`
	rows, err := s.db.Query(ctx, query, application, after, limit)
	page, err := sqldb.Collect(rows, err, scanDesired)
	if err != nil {
		return nil, fmt.Errorf("read desired access: %w", err)
	}
	return page, nil
}

// Generation is one person's generation in an application.
type Generation struct {
	Person     string
	Generation int64
	Lane       eventv1.Lane
}

// Generations returns people after this one with their generation in an application, in order of person.
func (s *Store) Generations(ctx context.Context, application, after string, limit int) ([]Generation, error) {
	const query = `
SELECT person, generation, lane FROM desired WHERE application = $1 AND person > $2 ORDER BY person LIMIT $3`
	rows, err := s.db.Query(ctx, query, application, after, limit)
	page, err := sqldb.Collect(rows, err, func(scan func(...any) error) (Generation, error) {
		g := Generation{Lane: eventv1.Lane_LANE_NORMAL}
		var lane int64
		err := scan(&g.Person, &g.Generation, &lane)
		if lane == int64(eventv1.Lane_LANE_URGENT) {
			g.Lane = eventv1.Lane_LANE_URGENT
		}
		return g, err
	})
	if err != nil {
		return nil, fmt.Errorf("read generations: %w", err)
	}
	return page, nil
}

func encodeAccess(a decide.Access) ([]byte, error) {
	encoded, err := proto.Marshal(accessToProto(a))
	if err != nil {
		return nil, fmt.Errorf("encode desired access: %w", err)
	}
	return encoded, nil
}

func decodeAccess(encoded []byte) (decide.Access, error) {
	var stored accessv1.DesiredWithReasons
	if err := proto.Unmarshal(encoded, &stored); err != nil {
		return decide.Access{}, fmt.Errorf("decode desired access: %w", err)
	}
	return accessFromProto(&stored), nil
}

func accessToProto(a decide.Access) *accessv1.DesiredWithReasons {
	stored := &accessv1.DesiredWithReasons{Desired: &accessv1.Desired{Entitlements: a.Entitlements, Account: a.Account}}
	for _, r := range a.Reasons {
		stored.Reasons = append(stored.Reasons, &accessv1.Reason{
			Entitlement: r.Entitlement, Role: r.Role, Bindings: r.Bindings, Standing: r.Standing,
		})
	}
	return stored
}

// accessFromProto leaves the state, which is a column of its own.
func accessFromProto(stored *accessv1.DesiredWithReasons) decide.Access {
	a := decide.Access{Entitlements: stored.GetDesired().GetEntitlements(), Account: stored.GetDesired().GetAccount()}
	for _, r := range stored.GetReasons() {
		a.Reasons = append(a.Reasons, decide.Reason{
			Entitlement: r.GetEntitlement(), Role: r.GetRole(), Bindings: r.GetBindings(), Standing: r.GetStanding(),
		})
	}
	return a
}
