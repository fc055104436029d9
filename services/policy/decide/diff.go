package decide

import (
	"maps"
	"slices"

	"github.com/tenurehq/tenure/services/policy/model"
)

// Diff returns what a person gains and loses between two decisions, sorted. An empty entitlement is the account
// itself: gained when it can be used and could not before, lost when it could be used and no longer can.
func Diff(before, after map[string]Access) (gains, loses []model.Ref) {
	apps := slices.Sorted(maps.Keys(before))
	for app := range after {
		if _, ok := before[app]; !ok {
			apps = append(apps, app)
		}
	}
	slices.Sort(apps)
	for _, app := range apps {
		a, b := before[app], after[app]
		if b.State > a.State {
			gains = append(gains, model.Ref{Application: app})
		}
		if b.State < a.State {
			loses = append(loses, model.Ref{Application: app})
		}
		for _, e := range Without(b.Entitlements, a.Entitlements) {
			gains = append(gains, model.Ref{Application: app, Entitlement: e})
		}
		for _, e := range Without(a.Entitlements, b.Entitlements) {
			loses = append(loses, model.Ref{Application: app, Entitlement: e})
		}
	}
	return gains, loses
}

// Without returns what is in a and not in b, in the order of a. Both are sorted.
func Without(a, b []string) []string {
	var rest []string
	for _, s := range a {
		if _, found := slices.BinarySearch(b, s); !found {
			rest = append(rest, s)
		}
	}
	return rest
}
