package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tenurehq/tenure/pkg/sqldb"
	accessv1 "github.com/tenurehq/tenure/proto/gen/tenure/access/v1"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	"github.com/tenurehq/tenure/services/policy/decide"
)

// Past is a decision that changed something: what the changed applications were to have from then on.
type Past struct {
	Person  string
	N       int64
	Basis   Basis // without Accounts
	Trigger string
	At      time.Time
	Nonce   []byte
	Changes []Desired // Application, Generation, EventID and Access only; sorted by application
}

// AddHistory keeps these decisions as far as they announce something.
func (t Tx) AddHistory(ctx context.Context, decisions []Decision) error {
	const columns = 8
	var changed []*Decision
	for i := range decisions {
		if decisions[i].Changed() {
			changed = append(changed, &decisions[i])
		}
	}
	for chunk := range chunks(changed, columns) {
		args := make([]any, 0, columns*len(chunk))
		for _, d := range chunk {
			changes, err := encodeChanges(d.Changes)
			if err != nil {
				return err
			}
			args = append(args, d.Person, d.N, d.Basis.PersonVersion, d.Basis.ModelSeq, d.Trigger,
				sqldb.Micros(d.At), d.Nonce, changes)
		}
		insert := `
INSERT INTO history (person, n, person_version, model_seq, trigger_id, decided_at, nonce, changes)
VALUES ` + sqldb.Values(len(chunk), columns)
		if err := t.Queue(ctx, insert, args...); err != nil {
			return fmt.Errorf("write history: %w", err)
		}
	}
	return nil
}

// History returns what was decided about a person and changed something, oldest first.
func (s *Store) History(ctx context.Context, person string) ([]Past, error) {
	const query = `
SELECT n, person_version, model_seq, trigger_id, decided_at, nonce, changes
FROM history WHERE person = $1 ORDER BY n`
	rows, err := s.db.Query(ctx, query, person)
	past, err := sqldb.Collect(rows, err, func(scan func(...any) error) (Past, error) {
		p := Past{Person: person}
		var at int64
		var changes []byte
		err := scan(&p.N, &p.Basis.PersonVersion, &p.Basis.ModelSeq, &p.Trigger, &at, &p.Nonce, &changes)
		if err != nil {
			return p, err
		}
		p.At = sqldb.Time(at)
		p.Changes, err = decodeChanges(changes)
		return p, err
	})
	if err != nil {
		return nil, fmt.Errorf("read history: %w", err)
	}
	return past, nil
}

// states is the stored form of decide's states.
var states = [...]eventv1.AccessState{
	decide.None:     eventv1.AccessState_ACCESS_STATE_NONE,
	decide.Disabled: eventv1.AccessState_ACCESS_STATE_DISABLED,
	decide.Enabled:  eventv1.AccessState_ACCESS_STATE_ENABLED,
}

func encodeChanges(changes []Desired) ([]byte, error) {
	stored := &accessv1.ShowAccessResponse{}
	for i := range changes {
		c := &changes[i]
		if !c.Announced {
			continue
		}
		one := accessToProto(c.Access)
		one.Desired.Application, one.Desired.EventId = c.Application, c.EventID
		one.Desired.Generation = uint64(c.Generation) //nolint:gosec // CHECK (generation > 0)
		one.Desired.State = states[c.Access.State]
		stored.Applications = append(stored.Applications, one)
	}
	encoded, err := proto.Marshal(stored)
	if err != nil {
		return nil, fmt.Errorf("encode history: %w", err)
	}
	return encoded, nil
}

func decodeChanges(encoded []byte) ([]Desired, error) {
	var stored accessv1.ShowAccessResponse
	if err := proto.Unmarshal(encoded, &stored); err != nil {
		return nil, fmt.Errorf("decode history: %w", err)
	}
	var changes []Desired
	for _, one := range stored.GetApplications() {
		d := Desired{
			Application: one.GetDesired().GetApplication(),
			EventID:     one.GetDesired().GetEventId(),
			Generation:  int64(one.GetDesired().GetGeneration()), //nolint:gosec // encodeChanges wrote an int64
			Access:      accessFromProto(one),
		}
		d.Access.State = decide.State(slices.Index(states[:], one.GetDesired().GetState()))
		changes = append(changes, d)
	}
	return changes, nil
}
