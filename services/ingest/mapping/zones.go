package mapping

import (
	"errors"
	"strings"
	"sync"
	"time"
	_ "time/tzdata" // zones must be found on machines without zone data too
)

var errNoZone = errors.New("not a zone of the IANA database")

// Zone finds an IANA zone; "" is UTC.
func Zone(name string) (*time.Location, error) {
	// What LoadLocation takes besides: the machine's own zone, and copies of the database that count leap seconds.
	if name == "Local" || strings.HasPrefix(name, "right/") || strings.HasPrefix(name, "posix/") {
		return nil, errNoZone
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return nil, errNoZone
	}
	return zone, nil
}

// zones keeps what was found, because finding one reads a file. Misses are not kept: they would be a sender's to fill.
type zones struct {
	mu    sync.RWMutex
	found map[string]*time.Location
}

func newZones() *zones { return &zones{found: make(map[string]*time.Location)} }

func (z *zones) find(name string) (*time.Location, error) {
	z.mu.RLock()
	zone, ok := z.found[name]
	z.mu.RUnlock()
	if ok {
		return zone, nil
	}
	zone, err := Zone(name)
	if err != nil {
		return nil, err
	}
	z.mu.Lock()
	z.found[name] = zone
	z.mu.Unlock()
	return zone, nil
}
