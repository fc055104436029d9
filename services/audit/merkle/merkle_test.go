package merkle_test

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/tenurehq/tenure/services/audit/merkle"
)

// memory keeps stored hashes in order.
type memory []tlog.Hash

func (m *memory) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		out[i] = (*m)[index]
	}
	return out, nil
}

func TestRootsAreThoseOfRFC6962(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("testdata/tlog_vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors struct {
		Leaves []string `json:"leaf_inputs_hex"`
		Roots  []string `json:"roots_hex"`
	}
	if err := json.Unmarshal(raw, &vectors); err != nil {
		t.Fatal(err)
	}
	for step := 1; step <= len(vectors.Leaves); step++ { // however the leaves are cut into batches
		stored, size := &memory{}, int64(0)
		for size < int64(len(vectors.Leaves)) {
			var batch [][]byte
			for i := size; i < min(size+int64(step), int64(len(vectors.Leaves))); i++ {
				leaf, err := hex.DecodeString(vectors.Leaves[i])
				if err != nil {
					t.Fatal(err)
				}
				batch = append(batch, leaf)
			}
			grown, err := merkle.Append(size, batch, stored)
			if err != nil {
				t.Fatal(err)
			}
			if grown.First != int64(len(*stored)) {
				t.Fatalf("the first new hash is %d, %d are stored", grown.First, len(*stored))
			}
			*stored, size = append(*stored, grown.Hashes...), grown.Size
			if got := hex.EncodeToString(grown.Root[:]); got != vectors.Roots[size] {
				t.Errorf("root of %d leaves in batches of %d: got %s, want %s", size, step, got, vectors.Roots[size])
			}
		}
	}
}
