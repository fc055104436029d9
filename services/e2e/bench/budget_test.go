package main

import (
	"maps"
	"testing"

	"github.com/tenurehq/tenure/pkg/sqldb/sqltest"
)

// What one lifecycle event × five applications costs: at most 60 row writes and 16 messages, on either engine. Chunks and
// appends hold fewer events on a machine that has other things to do, so a cost is the least of up to three counts.
func TestAnEventStaysWithinItsBudget(t *testing.T) {
	sqltest.Postgres(t) // there is one
	over := map[string]float64{}
	for range 3 {
		maps.Copy(over, overBudget(t))
		maps.DeleteFunc(over, func(_ string, by float64) bool { return by <= 0 })
		if len(over) == 0 {
			return
		}
	}
	t.Errorf("over the budget by %v", over)
}

// overBudget is by how much each figure of a count is over its budget.
func overBudget(t *testing.T) map[string]float64 {
	t.Helper()
	b, err := newBench(t.Context(), options{engines: engineSQLite + "," + enginePostgres, clients: 32})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := b.close(); err != nil {
			t.Error(err)
		}
	}()
	for _, engine := range b.names() {
		if err := b.count(t.Context(), engine); err != nil {
			t.Fatalf("%s: %v", engine, err)
		}
	}
	over := map[string]float64{}
	for _, s := range b.figures.all {
		cost, budget := s.values[0], s.limits[0]
		if cost < budget/2 {
			t.Fatalf("%s on %s: %.2f cannot be a whole count", s.name, s.engine, cost)
		}
		over[s.name+"."+s.engine] = cost - budget
	}
	if len(over) != 4 {
		t.Fatalf("the figures are %v, want row writes and messages of two engines", over)
	}
	return over
}
