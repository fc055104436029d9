package plan

import (
	"fmt"
	"time"
)

// Cut is where a person stands with cuts, an operator's orders that they have nothing: these stand above policy. The zero
// Cut is that of somebody who never was cut.
type Cut struct {
	Version uint64    // of the person, that the newest cut or lift raised it to
	Stands  bool      // false: it was lifted
	At      time.Time // when that was ordered
}

// Ruling is what a decision of policy amounts to where somebody was cut.
type Ruling int

// The rulings.
const (
	Counts  Ruling = iota // it is carried out
	Nothing               // the person has nothing, whatever it says and however new it is
	Waits                 // it is older than the lift: by it nothing is given and nothing taken, until policy has decided again
)

// Rule on a decision that was made from a version of the person.
func (c Cut) Rule(version uint64) Ruling {
	switch {
	case c.Stands:
		return Nothing
	case version < c.Version:
		return Waits
	}
	return Counts
}

// Under is what is desired of somebody who is cut: nothing. The order is the release of what that takes away, where policy
// gave none. It counts as of the cut's version however new the decision is: policy may have heard of a lift that is not known
// here yet, and what is disabled for the cut is enabled again by any decision from the lift's version on.
func (c Cut) Under(d Desired) Desired {
	d.State, d.Entitlements, d.Attributes, d.Stays = None, nil, nil, false
	d.PersonVersion = c.Version
	if d.Release == "" {
		d.Release = fmt.Sprintf("cut-%d", c.Version)
	}
	return d
}
