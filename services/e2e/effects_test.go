package e2e

import (
	"cmp"
	"maps"
	"slices"
	"testing"
)

// effect is something that an application did, by its own journal, that changed something.
type effect struct {
	account string // the login
	op      string // create, delete, disable, enable, grant, revoke
	target  string // of grant and revoke
}

// wish is what a person should have in one application; what is not enabled should have nothing.
type wish struct {
	enabled bool
	grants  []string
}

// holding is what an account has in an application, as its own program shows it.
type holding struct {
	enabled bool
	grants  []string // sorted
}

// most is how often each effect can be right for a person of whom these records became known in this order: creating once,
// and everything else as often as the wish for it came up.
func most(arrived []posted, login string, want func(record) wish) map[effect]int {
	right := map[effect]int{}
	var before wish
	var known []posted
	for _, p := range arrived {
		known = append(known, p)
		r := slices.MaxFunc(known, func(a, b posted) int {
			return cmp.Or(cmp.Compare(a.record.EffectiveDate, b.record.EffectiveDate), cmp.Compare(a.id, b.id))
		}).record
		now := wish{}
		if r.Status == "active" {
			now = want(r)
		}
		if now.enabled && !before.enabled {
			right[effect{login, "create", ""}] = 1
			right[effect{login, "enable", ""}]++
		}
		if before.enabled && !now.enabled {
			right[effect{login, "disable", ""}]++
		}
		for _, grant := range now.grants {
			if !slices.Contains(before.grants, grant) {
				right[effect{login, "grant", grant}]++
			}
		}
		for _, grant := range before.grants {
			if !slices.Contains(now.grants, grant) {
				right[effect{login, "revoke", grant}]++
			}
		}
		before = now
	}
	return right
}

// posted is one record in the order of its arrival.
type posted struct {
	id     string
	record record
}

// nothingTwice compares an application's journal with how often each effect could be right.
func nothingTwice(t *testing.T, application string, journal []effect, right map[effect]int) {
	t.Helper()
	had := map[effect]int{}
	for _, e := range journal {
		had[e]++
	}
	wrong := slices.DeleteFunc(slices.Collect(maps.Keys(had)), func(e effect) bool { return had[e] <= right[e] })
	slices.SortFunc(wrong, func(a, b effect) int {
		return cmp.Or(cmp.Compare(a.account, b.account), cmp.Compare(a.op, b.op), cmp.Compare(a.target, b.target))
	})
	for n, e := range wrong {
		if n == 10 {
			t.Errorf("… and %d more", len(wrong)-n)
			break
		}
		t.Errorf("the journal of %s has %s %s of %s %d times, can be right %d times", application, e.op, e.target, e.account, had[e], right[e])
	}
	if len(journal) == 0 {
		t.Errorf("the journal of %s is empty", application)
	}
	t.Logf("the journal of %s: %d effects, none more often than it can be right", application, len(journal))
}
