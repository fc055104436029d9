package decide

import "slices"

// Withhold takes out of wanted whatever standing does not have already: what remains can only take away. It says
// whether something was kept back. It serves the time in which new grants must wait because nobody could prove them
// later; removals never wait.
func Withhold(wanted Access, standing Access) (released Access, withheld bool) {
	released = Access{State: min(wanted.State, standing.State)}
	if released.State == None {
		return Access{}, wanted.State != None
	}
	withheld = released.State != wanted.State
	for _, e := range wanted.Entitlements {
		if slices.Contains(standing.Entitlements, e) {
			released.Entitlements = append(released.Entitlements, e)
		} else {
			withheld = true
		}
	}
	for _, r := range wanted.Reasons {
		if r.Entitlement == "" || slices.Contains(released.Entitlements, r.Entitlement) {
			released.Reasons = append(released.Reasons, r)
		}
	}
	released.Account = wanted.Account // a new value is no new grant
	return released, withheld
}
