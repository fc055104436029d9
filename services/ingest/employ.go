package ingest

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"github.com/tenurehq/tenure/pkg/fault"
	"github.com/tenurehq/tenure/services/ingest/internal/store"
	"github.com/tenurehq/tenure/services/ingest/timeline"
)

// opening finds or makes the people whom the facts of one source are about.
type opening struct {
	tx     store.Tx
	source string
	ids    []string          // external ids, sorted
	keys   map[string]string // person keys by external id, where one was said
	people map[string]string // by external id
	hired  map[string]bool   // external ids that nobody knew before this transaction
	made   map[string]bool   // people who were made for them
}

// open finds or makes the people whom the facts are about, all of one source's employments, and takes their rows. It
// sets each fact's Person.
func (s *Service) open(ctx context.Context, tx store.Tx, source string, facts []store.Fact) ([]store.Person, error) {
	o := &opening{tx: tx, source: source, keys: map[string]string{}, hired: map[string]bool{}, made: map[string]bool{}}
	for _, f := range facts {
		id, key := f.Employment.ExternalID, f.Record.PersonKey
		o.ids = append(o.ids, id)
		if key != "" {
			o.keys[id] = cmp.Or(o.keys[id], key)
		}
	}
	slices.Sort(o.ids)
	o.ids = slices.Compact(o.ids)
	var err error
	if o.people, err = tx.Employed(ctx, source, o.ids); err != nil {
		return nil, err
	}
	owners, err := tx.KeyOwners(ctx, source, slices.Collect(maps.Values(o.keys)))
	if err != nil {
		return nil, err
	}
	if err := o.hire(ctx, owners); err != nil {
		return nil, err
	}
	if err := o.claim(ctx, owners); err != nil {
		return nil, err
	}
	people, err := o.lock(ctx)
	if err != nil {
		return nil, err
	}
	for i := range facts {
		facts[i].Person = o.people[facts[i].Employment.ExternalID]
	}
	return people, nil
}

// hire opens the employments that are not known yet: for whom their person key names, else for a new person. One that
// another delivery made known in the meantime is left to its person.
func (o *opening) hire(ctx context.Context, owners map[string]string) error {
	missing := make(map[string]string)
	byKey := maps.Clone(owners)
	for _, id := range o.ids {
		if _, known := o.people[id]; known {
			continue
		}
		key := o.keys[id]
		person := byKey[key]
		if person == "" {
			person = newID()
			o.made[person] = true
		}
		if missing[id] = person; key != "" {
			byKey[key] = person
		}
	}
	if len(missing) == 0 {
		return nil
	}
	hired, err := o.tx.Hire(ctx, o.source, missing)
	if err != nil {
		return err
	}
	o.hired = hired
	var late []string
	for id, person := range missing {
		if hired[id] {
			o.people[id] = person
		} else {
			late = append(late, id)
		}
	}
	return o.look(ctx, late)
}

// look finds again whose these employments are.
func (o *opening) look(ctx context.Context, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	found, err := o.tx.Employed(ctx, o.source, ids)
	if err != nil {
		return err
	}
	maps.Copy(o.people, found)
	return nil
}

// claim makes person keys that name nobody yet those of the people of whom they were said. Whoever was hired under one
// that another delivery claimed meanwhile is the same person. A key that names somebody else than whose employment it was
// said of changes nothing: that is for an operator to decide.
func (o *opening) claim(ctx context.Context, owners map[string]string) error {
	claims := make(map[string]string)
	for _, id := range o.ids {
		if key := o.keys[id]; key != "" && owners[key] == "" && claims[key] == "" {
			claims[key] = o.people[id]
		}
	}
	if len(claims) == 0 {
		return nil
	}
	lost, err := o.tx.ClaimKeys(ctx, o.source, claims)
	if err != nil || len(lost) == 0 {
		return err
	}
	return o.join(ctx, lost)
}

// join has the employments hired under these keys belong to whom the keys name.
func (o *opening) join(ctx context.Context, keys []string) error {
	owners, err := o.tx.KeyOwners(ctx, o.source, keys)
	if err != nil {
		return err
	}
	for _, id := range o.ids {
		owner := owners[o.keys[id]]
		if !o.hired[id] || owner == "" || owner == o.people[id] {
			continue
		}
		if err := o.tx.Rehome(ctx, timeline.Employment{Source: o.source, ExternalID: id}, owner); err != nil {
			return err
		}
		o.people[id] = owner
	}
	return nil
}

// lockTries is how often people are looked for again whom somebody merged or split meanwhile.
const lockTries = 5

// lock takes the rows of the people, except those that are new, of whom nobody knows. Whom somebody merged or split
// since they were found is looked for again.
func (o *opening) lock(ctx context.Context) ([]store.Person, error) {
	people := make(map[string]store.Person)
	for range lockTries {
		var unlocked []string
		for _, id := range o.ids {
			person := o.people[id]
			if o.made[person] {
				people[person] = store.Person{ID: person, Version: 1}
			} else if _, there := people[person]; !there {
				unlocked = append(unlocked, person)
			}
		}
		slices.Sort(unlocked)
		locked, err := o.tx.Lock(ctx, slices.Compact(unlocked))
		if err != nil {
			return nil, err
		}
		for _, p := range locked {
			people[p.ID] = p
		}
		moved, err := o.follow(ctx, people)
		if err != nil {
			return nil, err
		}
		if !moved {
			return o.those(people), nil
		}
	}
	return nil, fault.New(fault.Unavailable, "the people of a delivery are being merged or split: send it again")
}

// follow looks again for whose the employments are that the locked people do not have, and tells whether there were any.
func (o *opening) follow(ctx context.Context, locked map[string]store.Person) (bool, error) {
	var moved, keys []string
	for _, id := range o.ids {
		p := locked[o.people[id]]
		switch {
		case o.made[p.ID]:
		case o.hired[id] && p.MergedInto != "":
			keys = append(keys, o.keys[id])
		case !o.hired[id] && !p.Has(timeline.Employment{Source: o.source, ExternalID: id}):
			moved = append(moved, id)
		}
	}
	if err := o.look(ctx, moved); err != nil {
		return false, err
	}
	if len(keys) > 0 {
		if err := o.join(ctx, keys); err != nil {
			return false, err
		}
	}
	return len(moved)+len(keys) > 0, nil
}

// those are the people of the employments, each once.
func (o *opening) those(locked map[string]store.Person) []store.Person {
	people := make([]store.Person, 0, len(locked))
	for _, id := range o.ids {
		person := o.people[id]
		if p, there := locked[person]; there {
			people = append(people, p)
			delete(locked, person)
		}
	}
	return people
}
