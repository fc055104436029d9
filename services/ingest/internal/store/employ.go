package store

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/tenurehq/tenure/pkg/sqldb"
	"github.com/tenurehq/tenure/services/ingest/timeline"
)

// KeyOwners returns whom the person keys of a source name; those that name nobody are left out.
func (r reader) KeyOwners(ctx context.Context, source string, keys []string) (map[string]string, error) {
	const person = `SELECT k.person FROM person_keys k WHERE k.key = asked.id AND k.source = `
	owners, err := r.lookUp(ctx, person, source, keys)
	return owners, wrapped(err, "find people by key")
}

func scanPair(scan func(...any) error) (pair [2]string, err error) {
	err = scan(&pair[0], &pair[1])
	return pair, err
}

// ClaimKeys has person keys name these people, and returns the keys that another transaction claimed in the meantime.
func (t Tx) ClaimKeys(ctx context.Context, source string, people map[string]string) (lost []string, err error) {
	// In order, so that two transactions that want the same keys wait for one another and do not deadlock.
	for chunk := range chunks(slices.Sorted(maps.Keys(people))) {
		args := make([]any, 0, 3*len(chunk))
		for _, key := range chunk {
			args = append(args, source, key, people[key])
		}
		insert := `INSERT INTO person_keys (source, key, person) VALUES ` + sqldb.Values(len(chunk), 3) +
			` ON CONFLICT (source, key) DO NOTHING RETURNING key`
		rows, err := t.Query(ctx, insert, args...)
		claimed, err := sqldb.Collect(rows, err, scanString)
		if err != nil {
			return nil, fmt.Errorf("claim person keys: %w", err)
		}
		if len(claimed) < len(chunk) {
			lost = append(lost, slices.DeleteFunc(chunk, func(key string) bool { return slices.Contains(claimed, key) })...)
		}
	}
	return lost, nil
}

// Rehome has an employment be another person's. What was said about it is not touched.
func (t Tx) Rehome(ctx context.Context, e timeline.Employment, person string) error {
	const update = `UPDATE employments SET person = $3 WHERE source = $1 AND external_id = $2`
	if err := t.Queue(ctx, update, e.Source, e.ExternalID, person); err != nil {
		return fmt.Errorf("move employment: %w", err)
	}
	return nil
}

// Transfer has employments be another person's, with all that was said about them.
func (t Tx) Transfer(ctx context.Context, employments []timeline.Employment, from, to string) error {
	for _, e := range employments {
		if err := t.Rehome(ctx, e, to); err != nil {
			return err
		}
		const update = `UPDATE facts SET person = $4 WHERE person = $3 AND employment_source = $1 AND external_id = $2`
		if err := t.Queue(ctx, update, e.Source, e.ExternalID, from, to); err != nil {
			return fmt.Errorf("move facts: %w", err)
		}
	}
	return nil
}

// Merge makes from, and whoever was merged into from before, a name for into.
func (t Tx) Merge(ctx context.Context, into, from string) error {
	for _, update := range []string{
		`UPDATE people SET merged_into = $1 WHERE id = $2 OR merged_into = $2`,
		`UPDATE person_keys SET person = $1 WHERE person = $2`,
	} {
		if err := t.Queue(ctx, update, into, from); err != nil {
			return fmt.Errorf("merge people: %w", err)
		}
	}
	return nil
}

// Names are the ids of those who turned out to be the person, in order.
func (r reader) Names(ctx context.Context, person string) ([]string, error) {
	rows, err := r.q.Query(ctx, `SELECT id FROM people WHERE merged_into = $1 AND merged_into <> '' ORDER BY id`, person)
	ids, err := sqldb.Collect(rows, err, scanString)
	if err != nil {
		return nil, fmt.Errorf("find who was merged: %w", err)
	}
	return ids, nil
}

// MoveKey has a person key name somebody else.
func (t Tx) MoveKey(ctx context.Context, source, key, from, to string) error {
	const update = `UPDATE person_keys SET person = $4 WHERE source = $1 AND key = $2 AND person = $3`
	if err := t.Queue(ctx, update, source, key, from, to); err != nil {
		return fmt.Errorf("move person key: %w", err)
	}
	return nil
}

// AddApart keeps that two people are two by an operator's word.
func (t Tx) AddApart(ctx context.Context, a, b string, at time.Time, actor string) error {
	const insert = `INSERT INTO apart (person, other, at, actor) VALUES ($1, $2, $3, $4) ON CONFLICT (person, other) DO NOTHING`
	if err := t.Queue(ctx, insert, min(a, b), max(a, b), sqldb.Micros(at), actor); err != nil {
		return fmt.Errorf("keep people apart: %w", err)
	}
	return nil
}

// Apart are the pairs of people who are two by an operator's word, the lesser id first.
func (r reader) Apart(ctx context.Context) (map[[2]string]bool, error) {
	rows, err := r.q.Query(ctx, `SELECT person, other FROM apart`)
	pairs, err := sqldb.Collect(rows, err, scanPair)
	if err != nil {
		return nil, fmt.Errorf("read who is apart: %w", err)
	}
	apart := make(map[[2]string]bool, len(pairs))
	for _, pair := range pairs {
		apart[pair] = true
	}
	return apart, nil
}
