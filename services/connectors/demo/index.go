package demo

import (
	"hash/maphash"
	"slices"
	"strconv"

	"github.com/tenurehq/tenure/pkg/connector"
)

// number is an account's: its id is u and the number.
type number uint64

func (n number) id() string { return "u" + strconv.FormatUint(uint64(n), 10) }

// numberOf is the inverse of id; 0, which no account has, for any other text.
func numberOf(id string) number {
	if len(id) < 2 || id[0] != 'u' {
		return 0
	}
	n, err := strconv.ParseUint(id[1:], 10, 64)
	if err != nil || number(n).id() != id {
		return 0
	}
	return number(n)
}

// index tells which accounts may have a value. It holds digests in place of values, and so, like packed, almost no pointers. Two
// values may have one digest: whoever is found must be looked at.
type index struct {
	seed  maphash.Seed
	first map[uint64]number
	more  map[uint64][]number // who came behind first
}

type value struct {
	by   connector.By
	text string
}

func newIndex() *index {
	return &index{seed: maphash.MakeSeed(), first: map[uint64]number{}, more: map[uint64][]number{}}
}

func (x *index) add(of value, n number) {
	digest := maphash.Comparable(x.seed, of)
	if _, taken := x.first[digest]; taken {
		x.more[digest] = append(x.more[digest], n)
		return
	}
	x.first[digest] = n
}

// drop takes out what add has put in.
func (x *index) drop(of value, n number) {
	digest := maphash.Comparable(x.seed, of)
	all := x.numbers(digest)
	i := slices.Index(all, n)
	all = slices.Delete(all, i, i+1)
	delete(x.first, digest)
	delete(x.more, digest)
	if len(all) > 0 {
		x.first[digest] = all[0]
	}
	if len(all) > 1 {
		x.more[digest] = all[1:]
	}
}

// candidates are those who may have it, in the order of their numbers.
func (x *index) candidates(of value) []number {
	all := x.numbers(maphash.Comparable(x.seed, of))
	slices.Sort(all)
	return all
}

func (x *index) numbers(digest uint64) []number {
	first, ok := x.first[digest]
	if !ok {
		return nil
	}
	return append([]number{first}, x.more[digest]...)
}
