package race_test

import (
	"testing"

	"github.com/tenurehq/tenure/services/promises/race"
)

func TestOnlyDesignsThatAreBrokenLeaveALeaverWithAccess(t *testing.T) {
	t.Parallel()
	for _, d := range race.Designs() {
		t.Run(d.Name, func(t *testing.T) {
			t.Parallel()
			r := d.Search()
			t.Logf("%s (%s): %d states, %d of %d ends bad, %d revivals", d.Name, d.What, r.States, r.Bad, r.Ends, r.Revivals)
			if (r.Bad > 0) != d.Broken() {
				t.Errorf("%d of %d ends leave the leaver with access, broken by design: %v\n%q", r.Bad, r.Ends, d.Broken(), r.Story)
			}
			for n, line := range r.Story {
				t.Logf("%2d. %s", n+1, line)
			}
		})
	}
}
