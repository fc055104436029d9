package store_test

import (
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/tenurehq/tenure/services/policy/internal/store"
)

// TestTheDatabaseClaimsAsTheSimulatorSays: two replicas read, stall and claim in seeded orders while the person's version
// grows, and the database lets through what services/promises/sim lets through: whoever read the last decision, and is not
// behind it.
func TestTheDatabaseClaimsAsTheSimulatorSays(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *store.Store) {
		const schedules = 60
		for seed := range uint64(schedules) {
			r := rand.New(rand.NewPCG(seed, 1))
			person := "p" + strconv.FormatUint(seed, 10)
			type replica struct{ n, version int64 }
			var replicas [2]replica
			var n, decided int64
			version := int64(1)
			for range 16 {
				i := r.IntN(len(replicas))
				switch r.IntN(4) {
				case 0:
					version++
				case 1, 2: // reads what was decided, then asks ingest
					last, err := s.Decided(t.Context(), []string{person})
					if err != nil {
						t.Fatal(err)
					}
					if got := last[person]; got.N != n || got.PersonVersion != decided {
						t.Fatalf("seed %d: decision %d of version %d, and by the model %d of %d", seed, got.N, got.PersonVersion, n, decided)
					}
					replicas[i] = replica{last[person].N, version}
				case 3:
					if replicas[i].version == 0 {
						continue
					}
					want := replicas[i].n == n && replicas[i].version >= decided
					got := len(claim(t, s, decision(person, replicas[i].n+1, replicas[i].version, 1))) == 1
					if got != want {
						t.Fatalf("seed %d: who read decision %d and version %d claims %v after decision %d of version %d", seed, replicas[i].n, replicas[i].version, got, n, decided)
					}
					if got {
						n, decided = n+1, replicas[i].version
					}
				}
			}
		}
	})
}
