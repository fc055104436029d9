package sqldb

import (
	"time"

	"golang.org/x/sys/unix"
)

// passed is how much time has passed since this machine started, also while it was suspended: what was promised to others
// has run out by then. Nobody can set it.
func passed() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return sinceStart() // a kernel before 2.6.39, or a sandbox; it says the same every time
	}
	return time.Duration(t.Nano())
}
