package seeded_test

import (
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"testing"

	"github.com/tenurehq/tenure/services/promises/seeded"
)

// TestEveryBugStillFits: make promises finds out whether it is found.
func TestEveryBugStillFits(t *testing.T) {
	t.Parallel()
	for _, b := range slices.Concat(seeded.OfTheBrake(), seeded.OfLeavers(), seeded.OfDeaths(), seeded.OfFaults()) {
		files, err := b.Apply(filepath.Join("..", "..", "..", filepath.FromSlash(b.In())))
		if err != nil {
			t.Errorf("%s: %v", b.Name, err)
		}
		for path, content := range files {
			if _, err := parser.ParseFile(token.NewFileSet(), path, content, 0); err != nil {
				t.Errorf("%s: %v", b.Name, err)
			}
		}
	}
}
