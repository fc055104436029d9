package outbox

import (
	"testing"
	"time"
)

// Begin does what the relay does first, without a relay.
func Begin(t testing.TB, o *Outbox) {
	t.Helper()
	if _, err := o.store.begin(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// Move makes one chunk, whoever holds the lease, and returns how many lanes had something to move.
func Move(t testing.TB, o *Outbox) int {
	t.Helper()
	heads, err := o.store.heads(t.Context())
	if err != nil {
		t.Error(err)
		return 0
	}
	if len(heads) > 0 {
		if _, err := o.store.move(t.Context(), heads[0], progress{}, time.Now()); err != nil {
			t.Error(err)
		}
	}
	return len(heads)
}
