package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tenurehq/tenure/pkg/sqldb"
)

// Cut is where one person stands with cuts, by ingest's word. The zero Cut is that of somebody who never was cut.
type Cut struct {
	Person      string
	Version     int64 // of the person, that the newest cut or lift raised it to
	Stands      bool  // false: lifted
	At          time.Time
	Event       string // that told of it; empty: found by comparing
	Correlation string
}

const whoIsCut = `SELECT person FROM cuts WHERE cut = 1`

const cutColumns = `person, person_version, cut, at, event, correlation`

func scanCut(scan func(...any) error) (Cut, error) {
	var c Cut
	var cut, at int64
	err := scan(&c.Person, &c.Version, &cut, &at, &c.Event, &c.Correlation)
	c.Stands, c.At = cut == 1, sqldb.Time(at)
	return c, err
}

// Cuts returns the cuts of these people, by person; who was never cut has none.
func (r reader) Cuts(ctx context.Context, people []string) (map[string]Cut, error) {
	cuts := map[string]Cut{}
	for chunk := range slices.Chunk(people, marksPerStatement) {
		args := make([]any, len(chunk))
		for i, p := range chunk {
			args[i] = p
		}
		rows, err := r.q.Query(ctx, `SELECT `+cutColumns+` FROM cuts WHERE person IN (`+placeholders(1, len(chunk))+`)`, args...)
		found, err := sqldb.Collect(rows, err, scanCut)
		if err != nil {
			return nil, fmt.Errorf("read cuts: %w", err)
		}
		for _, c := range found {
			cuts[c.Person] = c
		}
	}
	return cuts, nil
}

func putCuts(cuts int) string {
	return fmt.Sprintf(`
INSERT INTO cuts (`+cutColumns+`) VALUES %s
ON CONFLICT (person) DO UPDATE
SET    person_version = excluded.person_version, cut = excluded.cut, at = excluded.at, event = excluded.event, correlation = excluded.correlation
WHERE  cuts.person_version < excluded.person_version
RETURNING person`, sqldb.Values(cuts, 6))
}

func makeCutDue(people int) string {
	at := 2*people + 1
	return sqldb.Given("who, runs", people, text, number) + fmt.Sprintf(`
UPDATE targets
SET    version = version + 1, due_at = $%d, marked_at = $%d, lane = given.runs, state = 2, attempts = 0
FROM   given
WHERE  person = given.who`, at, at)
}

// PutCuts notes cuts and lifts, each person's at most once, and makes the targets of those people due for whom it is news:
// of a cut in the lane urgent, of a lift in the lane normal. Who has no target has nothing here. It returns how many were
// news.
func (t Tx) PutCuts(ctx context.Context, cuts []Cut, urgent, normal Lane, at time.Time) (int, error) {
	news := 0
	for chunk := range slices.Chunk(cuts, marksPerStatement) {
		args := make([]any, 0, 6*len(chunk))
		lanes := make(map[string]Lane, len(chunk))
		for _, c := range chunk {
			args = append(args, c.Person, c.Version, flag(c.Stands), micros(c.At), c.Event, c.Correlation)
			if lanes[c.Person] = normal; c.Stands {
				lanes[c.Person] = urgent
			}
		}
		rows, err := t.Query(ctx, putCuts(len(chunk)), args...)
		people, err := sqldb.Collect(rows, err, func(scan func(...any) error) (person string, err error) {
			return person, scan(&person)
		})
		if err != nil {
			return news, fmt.Errorf("note cuts: %w", err)
		}
		if len(people) == 0 {
			continue
		}
		slices.Sort(people) // in one order everywhere: no two transactions wait for each other
		args = make([]any, 0, 2*len(people)+1)
		for _, p := range people {
			args = append(args, p, int64(lanes[p]))
		}
		if err := t.Queue(ctx, makeCutDue(len(people)), append(args, micros(at))...); err != nil {
			return news, fmt.Errorf("make targets of cuts due: %w", err)
		}
		news += len(people)
	}
	return news, nil
}

// CutKey returns the key that ingest signs cuts with, as it said last; nil: it never did.
func (r reader) CutKey(ctx context.Context) ([]byte, error) {
	var key []byte
	err := r.q.QueryRow(ctx, `SELECT public_key FROM cut_key WHERE id = 1`).Scan(&key)
	if err != nil && !errors.Is(err, sqldb.ErrNoRows) {
		return nil, fmt.Errorf("read the key of cuts: %w", err)
	}
	return key, nil
}

// PutCutKey notes the key that ingest signs cuts with.
func (t Tx) PutCutKey(ctx context.Context, key []byte) error {
	err := t.Queue(ctx, `
INSERT INTO cut_key (id, public_key) VALUES (1, $1) ON CONFLICT (id) DO UPDATE SET public_key = excluded.public_key`, key)
	if err != nil {
		return fmt.Errorf("note the key of cuts: %w", err)
	}
	return nil
}
