//go:build !linux

package sqldb

import "time"

// passed is how much time has passed for this process.
func passed() time.Duration { return sinceStart() }
