package store

import (
	"context"
	"fmt"
	"time"

	"github.com/tenurehq/tenure/pkg/sqldb"
)

// Name is one user name given to one person.
type Name struct{ Name, Person string }

// TakenNames returns those of names that were ever given to anybody.
func (r reader) TakenNames(ctx context.Context, names []string) (map[string]bool, error) {
	taken := make(map[string]bool)
	for chunk := range chunks(names) {
		query := sqldb.Asked(len(chunk)) + ` SELECT name FROM asked JOIN user_names ON name = asked.value`
		rows, err := r.q.Query(ctx, query, anyOf(chunk)...)
		found, err := sqldb.Collect(rows, err, scanString)
		if err != nil {
			return nil, fmt.Errorf("look for taken user names: %w", err)
		}
		for _, name := range found {
			taken[name] = true
		}
	}
	return taken, nil
}

// ReserveNames gives each name to its person for ever and returns the names that were given; one that is missing was
// taken by another transaction in the meantime.
func (t Tx) ReserveNames(ctx context.Context, names []Name, at time.Time) (map[string]bool, error) {
	args := make([]any, 0, 3*len(names))
	for _, n := range names {
		args = append(args, n.Name, n.Person, sqldb.Micros(at))
	}
	insert := `INSERT INTO user_names (name, person, at) VALUES ` + sqldb.Values(len(names), 3) +
		` ON CONFLICT (name) DO NOTHING RETURNING name`
	rows, err := t.Query(ctx, insert, args...)
	given, err := sqldb.Collect(rows, err, scanString)
	if err != nil {
		return nil, fmt.Errorf("reserve user names: %w", err)
	}
	reserved := make(map[string]bool, len(given))
	for _, name := range given {
		reserved[name] = true
	}
	return reserved, nil
}

func scanString(scan func(...any) error) (string, error) {
	var s string
	err := scan(&s)
	return s, err
}
