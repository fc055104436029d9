package packed_test

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"

	"github.com/tenurehq/tenure/pkg/packed"
)

func TestWhatIsPackedComesOutAsItWas(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		items := rapid.SliceOf(rapid.SliceOf(rapid.Byte())).Draw(t, "items")
		lengths, data := packed.Pack(items)
		got, err := packed.Unpack(lengths, data)
		if err != nil || len(got) != len(items) {
			t.Fatalf("%d items came out of %d: %v", len(got), len(items), err)
		}
		for i := range items {
			if !bytes.Equal(got[i], items[i]) {
				t.Errorf("item %d is %x, was %x", i, got[i], items[i])
			}
		}
		if n, err := packed.Count(lengths); err != nil || n != len(items) {
			t.Errorf("counted %d of %d: %v", n, len(items), err)
		}
	})
}

func TestColumnsThatDoNotFitEachOtherAreAnError(t *testing.T) {
	t.Parallel()
	for _, lengths := range []string{"", "[3]", "[2,4]", "[5,-1]", "[18446744073709551615]", "[4", "[\"5\"]"} {
		if items, err := packed.Unpack(lengths, []byte("hello")); err == nil {
			t.Errorf("lengths %q of 5 bytes are %d items", lengths, len(items))
		}
	}
}
