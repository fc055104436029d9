// Package roster judges a full list of a source's people by the contract with that source, and works out what of it is
// news.
//
// It promises that a list that breaks a clause is not taken for what HR means, and that one which only repeats what the
// source said before changes nothing. Whoever is not on a list has not left: absence is no word about anybody.
//
// It is pure: no I/O, no clock, no randomness, no goroutines.
package roster

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Contract is what must be true of a source's roster before anything of it is taken in.
type Contract struct {
	MinRows, MaxRows Bound
	KeyStability     Share            // of those employed by what is known, the least share that must be there; 0: none
	NullRate         map[string]Share // by field of a record, the greatest share that may be empty
	Freshness        time.Duration    // how old the newest roster may be; 0: any age
}

// Default is the contract with a source of which nothing is said.
func Default() Contract {
	const most = 80 * Percent
	return Contract{MinRows: Bound{Share: most}, KeyStability: most}
}

// Figures are what there is to say of a roster whose parts are all in.
type Figures struct {
	Announced  int            // records in all parts, by the source's word
	Came       int            // records that came
	Understood int            // of these, those that could be understood
	Twice      int            // of these, those about an employment that another one is about as well
	Before     int            // records understood in the last roster that was taken; 0: there is none
	Known      int            // people of the source who are employed by what is known
	Present    int            // of these, those who are there
	Empty      map[string]int // by field of NullRate, the records understood that say nothing
	Made, Now  time.Time      // when it was made, by the source's word, and when it is judged
}

// ahead is how far a source's clock may be ahead of ours.
const ahead = 5 * time.Minute

// Judge names the clauses that a roster breaks, with figures; none: it can be taken in. No text holds a person's data.
func (c Contract) Judge(f Figures) []string {
	var broken []string
	add := func(format string, args ...any) { broken = append(broken, fmt.Sprintf(format, args...)) }
	if f.Came != f.Announced {
		add("total: %d records came, %d were announced", f.Came, f.Announced)
	}
	if f.Twice > 0 {
		add("keys: %d records are about somebody whom another one is about", f.Twice)
	}
	before, base := f.Before, "in the last roster"
	if before == 0 {
		before, base = f.Known, "known to be employed"
	}
	// An empty list is none, whatever was agreed.
	if least := max(1, c.MinRows.least(before)); f.Understood < least {
		add("min_rows: %d records, at least %d%s", f.Understood, least, c.MinRows.why(before, base))
	}
	if most := c.MaxRows.most(before); most > 0 && f.Understood > most {
		add("max_rows: %d records, at most %d%s", f.Understood, most, c.MaxRows.why(before, base))
	}
	if f.Present < c.KeyStability.of(f.Known) {
		add("key_stability: %d of %d known to be employed are there, at least %s must be", f.Present, f.Known, c.KeyStability)
	}
	for _, field := range slices.Sorted(maps.Keys(c.NullRate)) {
		if most := c.NullRate[field]; f.Empty[field] > most.within(f.Understood) {
			add("null_rate.%s: %d of %d records have none, at most %s may", field, f.Empty[field], f.Understood, most)
		}
	}
	switch age := f.Now.Sub(f.Made).Truncate(time.Second); {
	case c.Freshness > 0 && age > c.Freshness:
		add("freshness: made %s ago, at most %s", age, c.Freshness)
	case age < -ahead:
		add("freshness: made %s from now", -age)
	}
	return broken
}

// Stale tells whether the newest roster that was taken is older than the contract allows; the zero time is none.
func (c Contract) Stale(made, now time.Time) bool {
	return c.Freshness > 0 && now.Sub(made) > c.Freshness
}

// Fields are the names of the fields whose emptiness is counted, sorted.
func (c Contract) Fields() []string { return slices.Sorted(maps.Keys(c.NullRate)) }

// Told is the verdict as it is shown.
func Told(broken []string) string { return strings.Join(broken, "; ") }
