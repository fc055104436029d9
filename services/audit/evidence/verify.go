package evidence

import (
	"errors"
	"fmt"
	"sort"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
	"google.golang.org/protobuf/proto"

	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
)

// Report is what a verification found to hold.
type Report struct {
	Origin      string            `json:"origin"`      // the log's name
	Leaves      int64             `json:"leaves"`      // covered by the newest checkpoint
	Beyond      int64             `json:"beyond"`      // after it: not proven yet
	Checkpoints int               `json:"checkpoints"` // verified, the external ones included
	Origins     map[string]uint64 `json:"origins"`     // per origin of events, how many of Leaves: seq 1 to this, without a gap
	Missing     map[string]uint64 `json:"missing"`     // per origin, the first seq that is not among Leaves though a later one is
}

// Verifier checks an export while it streams by, holding one branch of the tree in memory. Hand it the checkpoints first,
// then each leaf in order with Leaf and each stored hash in order with Hash, then ask for the Report. Not for concurrent use.
type Verifier struct {
	key         note.Verifier
	checkpoints []Checkpoint // by size
	leaves      int64
	tree        []tlog.Hash // complete subtrees of the leaves so far, widest first
	computed    []tlog.Hash // stored hashes that leaves led to and Hash has not compared yet
	hashes      int64       // stored hashes compared
	seqs        map[string]*seqs
}

// seqs is which sequence numbers of one origin were seen: all up to upTo, and some later ones.
type seqs struct {
	upTo  uint64
	later map[uint64]bool
}

// NewVerifier checks the signatures of checkpoints (signed notes, in any order; at least one) by the verifier key vkey, in
// the form of golang.org/x/mod/sumdb/note.
func NewVerifier(vkey string, checkpoints ...string) (*Verifier, error) {
	key, err := note.NewVerifier(vkey)
	if err != nil {
		return nil, fmt.Errorf("verifier key: %w", err)
	}
	if len(checkpoints) == 0 {
		return nil, errors.New("no checkpoint: without one nothing is proven")
	}
	v := &Verifier{key: key, seqs: map[string]*seqs{}}
	for _, signed := range checkpoints {
		checkpoint, err := OpenCheckpoint(signed, key)
		if err != nil {
			return nil, err
		}
		v.checkpoints = append(v.checkpoints, checkpoint)
	}
	sort.Slice(v.checkpoints, func(i, j int) bool { return v.checkpoints[i].Size < v.checkpoints[j].Size })
	return v, v.compare()
}

// compare checks the checkpoints of the size reached; there may be several, and none may differ.
func (v *Verifier) compare() error {
	for _, checkpoint := range v.checkpoints {
		if checkpoint.Size != v.leaves {
			continue
		}
		root, err := v.root()
		if err != nil {
			return err
		}
		if root != checkpoint.Root {
			return fmt.Errorf("the %d leaves do not hash to the root that was signed for %d: a leaf at or before %d was changed, added or taken out", v.leaves, checkpoint.Size, checkpoint.Size)
		}
	}
	return nil
}

// root is the tree hash of the leaves so far, from the complete subtrees.
func (v *Verifier) root() (tlog.Hash, error) {
	if len(v.tree) == 0 {
		return tlog.TreeHash(0, nil)
	}
	root := v.tree[len(v.tree)-1]
	for i := len(v.tree) - 2; i >= 0; i-- {
		root = tlog.NodeHash(v.tree[i], root)
	}
	return root, nil
}

// Leaf takes the next leaf.
func (v *Verifier) Leaf(index uint64, data []byte) error {
	if index != uint64(v.leaves) { //nolint:gosec // counts from 0
		return fmt.Errorf("leaf %d where leaf %d should be", index, v.leaves)
	}
	var event eventv1.Event
	if err := proto.Unmarshal(data, &event); err != nil {
		return fmt.Errorf("leaf %d is not an event: %w", index, err)
	}
	if v.leaves < v.newest().Size { // what nobody signed says nothing
		if err := v.sequence(event.GetOrigin(), event.GetSeq()); err != nil {
			return fmt.Errorf("leaf %d: %w", index, err)
		}
	}
	hash := tlog.RecordHash(data)
	v.computed = append(v.computed, hash)
	// A leaf completes one subtree for each trailing one bit of its index.
	for n := v.leaves; n&1 == 1; n >>= 1 {
		last := len(v.tree) - 1
		hash = tlog.NodeHash(v.tree[last], hash)
		v.tree = v.tree[:last]
		v.computed = append(v.computed, hash)
	}
	v.tree = append(v.tree, hash)
	v.leaves++
	return v.compare()
}

// sequence notes one event; none may be there twice.
func (v *Verifier) sequence(origin string, seq uint64) error {
	seen := v.seqs[origin]
	if seen == nil {
		seen = &seqs{later: map[uint64]bool{}}
		v.seqs[origin] = seen
	}
	if seq == 0 || seq <= seen.upTo || seen.later[seq] {
		return fmt.Errorf("event %d of %s is in the log twice, or has no number", seq, origin)
	}
	seen.later[seq] = true
	for seen.later[seen.upTo+1] {
		seen.upTo++
		delete(seen.later, seen.upTo)
	}
	return nil
}

// Hash takes the next stored hash. All leaves that led to it must have been taken before.
func (v *Verifier) Hash(index uint64, hash []byte) error {
	if index != uint64(v.hashes) { //nolint:gosec // counts from 0
		return fmt.Errorf("stored hash %d where %d should be", index, v.hashes)
	}
	if len(v.computed) == 0 {
		return fmt.Errorf("stored hash %d belongs to no leaf", index)
	}
	if string(v.computed[0][:]) != string(hash) {
		return fmt.Errorf("stored hash %d is not what the leaves hash to: it was changed", index)
	}
	v.computed = v.computed[1:]
	v.hashes++
	return nil
}

// newest is the checkpoint of the most leaves.
func (v *Verifier) newest() Checkpoint { return v.checkpoints[len(v.checkpoints)-1] }

// Report ends the verification.
func (v *Verifier) Report() (Report, error) {
	newest := v.newest()
	if newest.Size > v.leaves {
		return Report{}, fmt.Errorf("a checkpoint was signed for %d leaves and only %d are here: the log was cut off", newest.Size, v.leaves)
	}
	if v.hashes > 0 && len(v.computed) > 0 {
		return Report{}, fmt.Errorf("%d stored hashes are missing at the end", len(v.computed))
	}
	report := Report{
		Origin: v.key.Name(), Leaves: newest.Size, Beyond: v.leaves - newest.Size, Checkpoints: len(v.checkpoints),
		Origins: map[string]uint64{}, Missing: map[string]uint64{},
	}
	for origin, seen := range v.seqs {
		report.Origins[origin] = seen.upTo
		if len(seen.later) > 0 {
			report.Missing[origin] = seen.upTo + 1
		}
	}
	return report, nil
}
