// Package merkle grows and proves the audit log's tree: RFC 6962 hashing by golang.org/x/mod/sumdb/tlog over whatever
// keeps the stored hashes. It decides nothing about storage, time or keys, and does no I/O of its own.
//
// A tree of n leaves is kept as tlog.StoredHashCount(n) hashes, numbered from 0, that never change once written.
package merkle

import (
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// Growth is what appending leaves adds to a tree.
type Growth struct {
	Size   int64       // leaves in the grown tree
	Root   tlog.Hash   // of the grown tree
	First  int64       // number of the first new stored hash
	Hashes []tlog.Hash // the new stored hashes, First and up
}

// Append computes what adding leaves to a tree of size leaves changes. The hashes of the tree so far are read through
// stored; those of the batch itself are not asked for.
func Append(size int64, leaves [][]byte, stored tlog.HashReader) (Growth, error) {
	g := Growth{Size: size, First: tlog.StoredHashCount(size)}
	reader := overlay{first: g.First, fresh: &g.Hashes, stored: stored}
	for _, leaf := range leaves {
		hashes, err := tlog.StoredHashes(g.Size, leaf, reader)
		if err != nil {
			return Growth{}, fmt.Errorf("hash leaf %d: %w", g.Size, err)
		}
		g.Hashes = append(g.Hashes, hashes...)
		g.Size++
	}
	root, err := tlog.TreeHash(g.Size, reader)
	if err != nil {
		return Growth{}, fmt.Errorf("hash the tree of %d: %w", g.Size, err)
	}
	g.Root = root
	return g, nil
}

// overlay reads hashes of the batch from memory and older ones from the store.
type overlay struct {
	first  int64
	fresh  *[]tlog.Hash
	stored tlog.HashReader
}

func (o overlay) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	var older []int64
	var slots []int
	for i, index := range indexes {
		if index >= o.first {
			fresh := *o.fresh
			if index-o.first >= int64(len(fresh)) {
				return nil, fmt.Errorf("hash %d is not there yet", index)
			}
			hashes[i] = fresh[index-o.first]
			continue
		}
		older, slots = append(older, index), append(slots, i)
	}
	if len(older) == 0 {
		return hashes, nil
	}
	read, err := o.stored.ReadHashes(older)
	if err != nil {
		return nil, err
	}
	if len(read) != len(older) {
		return nil, fmt.Errorf("%d hashes asked for, %d read", len(older), len(read))
	}
	for i, slot := range slots {
		hashes[slot] = read[i]
	}
	return hashes, nil
}

// Frontier returns the numbers of the stored hashes that a tree of size leaves grows from: all that Append asks for.
func Frontier(size int64) []int64 {
	var indexes []int64
	for level, start := 62, int64(0); level >= 0; level-- {
		if width := int64(1) << level; size&width != 0 {
			indexes = append(indexes, tlog.StoredHashIndex(level, start>>level))
			start += width
		}
	}
	return indexes
}
