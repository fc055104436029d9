package outbox

import (
	"testing"
	"time"
)

// Begin does what the relay does first, without a relay.
func Begin(tb testing.TB, o *Outbox) {
	tb.Helper()
	if _, err := o.store.begin(tb.Context()); err != nil {
		tb.Fatal(err)
	}
}

// Move makes one chunk, whoever holds the lease, and returns how many lanes had something to move.
func Move(tb testing.TB, o *Outbox) int {
	tb.Helper()
	heads, err := o.store.heads(tb.Context(), nil)
	if err != nil {
		tb.Error(err)
		return 0
	}
	if len(heads) > 0 {
		if _, err := o.store.move(tb.Context(), heads[0], progress{}, time.Now()); err != nil {
			tb.Error(err)
		}
	}
	return len(heads)
}

// Ask asks audit now.
func Ask(tb testing.TB, o *Outbox) {
	tb.Helper()
	if err := o.ask(tb.Context()); err != nil {
		tb.Fatal(err)
	}
}
