package evidence_test

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	tdproof "github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
	"google.golang.org/protobuf/proto"

	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	"github.com/tenurehq/tenure/services/audit/evidence"
	"github.com/tenurehq/tenure/services/audit/merkle"
)

// log is a small log in memory.
type log struct {
	signer note.Signer
	vkey   string
	leaves [][]byte
	hashes []tlog.Hash
	root   tlog.Hash
}

func (l *log) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		out[i] = l.hashes[index]
	}
	return out, nil
}

// newLog makes a log of n events of two origins, appended in batches of several sizes.
func newLog(t *testing.T, n int) *log {
	t.Helper()
	skey, vkey, err := note.GenerateKey(rand.Reader, "log.example/tenure")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	l := &log{signer: signer, vkey: vkey}
	seq := map[string]uint64{}
	for batch := 1; len(l.leaves) < n; batch++ {
		var leaves [][]byte
		for i := 0; i < batch && len(l.leaves)+len(leaves) < n; i++ {
			origin := []string{"ingest", "policy"}[i%2]
			seq[origin]++
			leaf, err := proto.MarshalOptions{Deterministic: true}.Marshal(&eventv1.Event{Id: fmt.Sprint("e", len(l.leaves)+i), Origin: origin, Seq: seq[origin]})
			if err != nil {
				t.Fatal(err)
			}
			leaves = append(leaves, leaf)
		}
		grown, err := merkle.Append(int64(len(l.leaves)), leaves, l)
		if err != nil {
			t.Fatal(err)
		}
		l.leaves, l.hashes, l.root = append(l.leaves, leaves...), append(l.hashes, grown.Hashes...), grown.Root
	}
	return l
}

func (l *log) checkpoint(t *testing.T, size int64) string {
	t.Helper()
	root, err := tlog.TreeHash(size, l)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := evidence.Checkpoint{Origin: l.signer.Name(), Size: size, Root: root}.Sign(l.signer)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func (l *log) export(t *testing.T, sizes ...int64) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "export")
	e, err := evidence.NewExport(dir, l.vkey)
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range sizes {
		if err := e.Checkpoint(size, l.checkpoint(t, size)); err != nil {
			t.Fatal(err)
		}
	}
	for _, leaf := range l.leaves {
		if err := e.Leaf(leaf); err != nil {
			t.Fatal(err)
		}
	}
	for _, hash := range l.hashes {
		if err := e.Hash(hash[:]); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestAnUntouchedExportVerifies(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 2, 3, 7, 8, 64, 100} {
		l := newLog(t, n)
		report, err := evidence.VerifyDir(l.export(t, int64(n/2), int64(n)), l.vkey)
		if err != nil {
			t.Fatalf("a log of %d: %v", n, err)
		}
		if report.Leaves != int64(n) || report.Beyond != 0 || len(report.Missing) != 0 {
			t.Errorf("a log of %d: report %+v", n, report)
		}
	}
}

func TestEveryChangedByteOfAnExportIsFound(t *testing.T) {
	t.Parallel()
	l := newLog(t, 21)
	dir := l.export(t, 8, 21)
	tried := 0
	err := filepath.WalkDir(dir, func(name string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		raw, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		for i := range raw {
			changed := append([]byte(nil), raw...)
			changed[i] ^= 0x04
			if err := os.WriteFile(name, changed, 0o600); err != nil {
				return err
			}
			vkey := l.vkey
			if filepath.Base(name) == "log.vkey" {
				vkey = "" // the export's own copy is read only when the auditor has none
				if strings.TrimSpace(string(changed)) == l.vkey {
					continue // white space at the end is no part of the key
				}
			}
			if _, err := evidence.VerifyDir(dir, vkey); err == nil {
				t.Errorf("byte %d of %s was changed and nothing was found", i, name)
			}
			tried++
		}
		return os.WriteFile(name, raw, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	if tried < 1000 {
		t.Errorf("only %d bytes were tried", tried)
	}
	if _, err := evidence.VerifyDir(dir, l.vkey); err != nil {
		t.Errorf("restored, it does not verify: %v", err)
	}
}

func TestAnEarlierCheckpointHeldOutsideConvictsARewrittenLog(t *testing.T) {
	t.Parallel()
	l := newLog(t, 30)
	held := l.checkpoint(t, 20)
	// Somebody with the signing key rewrites leaf 5 and everything after it.
	forged := &log{signer: l.signer, vkey: l.vkey}
	for i, leaf := range l.leaves {
		if i == 5 {
			var event eventv1.Event
			if err := proto.Unmarshal(leaf, &event); err != nil {
				t.Fatal(err)
			}
			event.Id = "forged"
			leaf, _ = proto.Marshal(&event)
		}
		grown, err := merkle.Append(int64(i), [][]byte{leaf}, forged)
		if err != nil {
			t.Fatal(err)
		}
		forged.leaves, forged.hashes = append(forged.leaves, leaf), append(forged.hashes, grown.Hashes...)
	}
	dir := forged.export(t, 30)
	if _, err := evidence.VerifyDir(dir, l.vkey); err != nil {
		t.Fatalf("the forgery is consistent in itself: %v", err)
	}
	if _, err := evidence.VerifyDir(dir, l.vkey, held); err == nil {
		t.Error("the checkpoint held outside did not convict the rewritten log")
	}
}

func TestATruncatedLogIsFoundByItsCheckpoint(t *testing.T) {
	t.Parallel()
	l := newLog(t, 10)
	held := l.checkpoint(t, 10)
	short := newLog(t, 0)
	short.signer, short.vkey = l.signer, l.vkey
	short.leaves, short.hashes = l.leaves[:8], l.hashes[:tlog.StoredHashCount(8)]
	if _, err := evidence.VerifyDir(short.export(t, 8), l.vkey, held); err == nil {
		t.Error("two leaves were cut off and nothing was found")
	}
}

// Whoever appends to an export signs nothing: what is beyond the newest checkpoint is counted as unproven and no more.
func TestLeavesBeyondTheNewestCheckpointProveNothing(t *testing.T) {
	t.Parallel()
	l := newLog(t, 30)
	report, err := evidence.VerifyDir(l.export(t, 20), l.vkey)
	if err != nil {
		t.Fatal(err)
	}
	if report.Leaves != 20 || report.Beyond != 10 || report.Origins["ingest"]+report.Origins["policy"] != 20 {
		t.Errorf("of 30 leaves 20 are signed for: report %+v", report)
	}
}

func TestACheckpointHasOneForm(t *testing.T) {
	t.Parallel()
	l := newLog(t, 3)
	good := l.checkpoint(t, 3)
	verifier, err := note.NewVerifier(l.vkey)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := evidence.OpenCheckpoint(good, verifier); err != nil {
		t.Fatal(err)
	}
	for at := range len(good) {
		for bit := range 8 {
			changed := []byte(good)
			changed[at] ^= 1 << bit
			if _, err := evidence.OpenCheckpoint(string(changed), verifier); err == nil {
				t.Errorf("bit %d of byte %d was changed, and the checkpoint opens", bit, at)
			}
		}
	}
}

func TestAProofHasOneForm(t *testing.T) {
	t.Parallel()
	l := newLog(t, 3)
	hashes, err := tlog.ProveRecord(3, 1, l)
	if err != nil {
		t.Fatal(err)
	}
	good := evidence.Proof{Index: 1, Hashes: hashes, Checkpoint: l.checkpoint(t, 3)}.String()
	if _, err := evidence.ParseProof(good); err != nil {
		t.Fatal(err)
	}
	for _, index := range []string{"index 01", "index +1", "index -1", "index 1 ", "index  1", "index", "Index 1"} {
		if _, err := evidence.ParseProof(strings.Replace(good, "index 1", index, 1)); err == nil {
			t.Errorf("a proof with %q was read", index)
		}
	}
}

// The proofs of the log must be good for others' verifiers, written only on x/mod and transparency-dev.
func TestOthersAcceptOurProofs(t *testing.T) {
	t.Parallel()
	l := newLog(t, 77)
	verifier, err := note.NewVerifier(l.vkey)
	if err != nil {
		t.Fatal(err)
	}
	for _, index := range []int64{0, 1, 31, 32, 63, 64, 76} {
		hashes, err := tlog.ProveRecord(77, index, l)
		if err != nil {
			t.Fatal(err)
		}
		text := evidence.Proof{Index: index, Hashes: hashes, Checkpoint: l.checkpoint(t, 77)}.String()
		parsed, err := evidence.ParseProof(text)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parsed.Verify(l.leaves[index], verifier); err != nil {
			t.Errorf("our own verifier refuses proof %d: %v", index, err)
		}
		if _, err := parsed.Verify([]byte("another leaf"), verifier); err == nil {
			t.Errorf("proof %d was accepted for another leaf", index)
		}
		opened, err := note.Open([]byte(parsed.Checkpoint), note.VerifierList(verifier))
		if err != nil {
			t.Fatal(err)
		}
		tree, err := treeOf(opened.Text)
		if err != nil {
			t.Fatal(err)
		}
		if err := tlog.CheckRecord(parsed.Hashes, tree.N, tree.Hash, index, tlog.RecordHash(l.leaves[index])); err != nil {
			t.Errorf("x/mod refuses proof %d: %v", index, err)
		}
		var path [][]byte
		for _, hash := range parsed.Hashes {
			path = append(path, hash[:])
		}
		leafHash := rfc6962.DefaultHasher.HashLeaf(l.leaves[index])
		if err := tdproof.VerifyInclusion(rfc6962.DefaultHasher, uint64(index), uint64(tree.N), leafHash, path, tree.Hash[:]); err != nil {
			t.Errorf("transparency-dev refuses proof %d: %v", index, err)
		}
	}
}

// treeOf reads a checkpoint's text by x/mod alone: its tree format differs from a checkpoint's in the first line only.
func treeOf(text string) (tlog.Tree, error) {
	_, rest, _ := strings.Cut(text, "\n")
	return tlog.ParseTree([]byte("go.sum database tree\n" + rest))
}
