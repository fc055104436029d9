package ingest

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/tenurehq/tenure/services/ingest/internal/store"
	"github.com/tenurehq/tenure/services/ingest/timeline"
	"github.com/tenurehq/tenure/services/ingest/username"
)

// christening is the search for a user name by people whose candidates are the same: these, best first, then the best one
// numbered from 2.
type christening struct {
	people     []*store.Person // who have none yet
	candidates []string
	next       int // the first place in the list that is not known to be taken
	window     int // how many places are looked at together
}

func (c *christening) at(place int) string {
	if place < len(c.candidates) {
		return c.candidates[place]
	}
	return username.Numbered(c.candidates[0], place-len(c.candidates)+2)
}

// nameThem gives each of the people who is about to have access and has no user name one, for ever. Whoever has ended
// before anything was heard of them needs none.
func (s *Service) nameThem(ctx context.Context, tx store.Tx, people []store.Person, now time.Time) error {
	var searches []*christening
	alike := make(map[string]*christening)
	for i := range people {
		p := &people[i]
		if p.UserName != "" || p.State.Status == timeline.Terminated || p.State.Status == timeline.StatusUnknown {
			continue
		}
		candidates := s.names.Candidates(p.State.Record)
		key := strings.Join(candidates, " ") // no user name holds a space
		c := alike[key]
		if c == nil {
			c = &christening{candidates: candidates, window: len(candidates)}
			alike[key], searches = c, append(searches, c)
		}
		c.people = append(c.people, p)
	}
	for len(searches) > 0 {
		chosen, err := choose(ctx, tx, searches)
		if err != nil {
			return err
		}
		if err := reserve(ctx, tx, chosen, now); err != nil {
			return err
		}
		searches = slices.DeleteFunc(searches, func(c *christening) bool {
			c.people = slices.DeleteFunc(c.people, func(p *store.Person) bool { return p.UserName != "" })
			return len(c.people) == 0
		})
	}
	return nil
}

// choose picks for each person the first place of the window that nobody has, or moves the window on: one statement for
// all of them.
func choose(ctx context.Context, tx store.Tx, searches []*christening) (map[string]*store.Person, error) {
	var asked []string
	seen := make(map[string]bool)
	for _, c := range searches {
		for place := c.next; place < c.next+c.window; place++ {
			if name := c.at(place); !seen[name] {
				seen[name] = true
				asked = append(asked, name)
			}
		}
	}
	taken, err := tx.TakenNames(ctx, asked)
	if err != nil {
		return nil, err
	}
	chosen := make(map[string]*store.Person)
	for _, c := range searches {
		waiting, end := c.people, c.next+c.window
		for ; c.next < end && len(waiting) > 0; c.next++ {
			if name := c.at(c.next); !taken[name] && chosen[name] == nil {
				chosen[name], waiting = waiting[0], waiting[1:]
			}
		}
		if len(waiting) > 0 {
			c.window *= 2 // a common name is not looked for one by one
		}
	}
	return chosen, nil
}

// reserve takes the chosen names. Whose name another transaction took meanwhile goes without, and looks again.
func reserve(ctx context.Context, tx store.Tx, chosen map[string]*store.Person, now time.Time) error {
	if len(chosen) == 0 {
		return nil
	}
	names := make([]store.Name, 0, len(chosen))
	for name, p := range chosen {
		names = append(names, store.Name{Name: name, Person: p.ID})
	}
	// In order, so that two transactions that want the same names wait for one another and do not deadlock.
	slices.SortFunc(names, func(a, b store.Name) int { return strings.Compare(a.Name, b.Name) })
	reserved, err := tx.ReserveNames(ctx, names, now)
	if err != nil {
		return err
	}
	for name, p := range chosen {
		if reserved[name] {
			p.UserName = name
		}
	}
	return nil
}
