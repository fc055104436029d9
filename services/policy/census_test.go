package policy_test

import (
	"testing"
	"time"

	"github.com/tenurehq/tenure/services/policy"
)

func TestCountingPeopleTakesAHundredthOfTheTimeWithinBounds(t *testing.T) {
	t.Parallel()
	for took, want := range map[time.Duration]time.Duration{
		0:                       time.Minute,
		600 * time.Millisecond:  time.Minute,
		1800 * time.Millisecond: 3 * time.Minute,
		3 * time.Minute:         10 * time.Minute, // a database that hung: the limits of the brake do not go by its count for hours
	} {
		if got := policy.Every(took); got != want {
			t.Errorf("when a count takes %s the next is %s later, want %s", took, got, want)
		}
	}
}
