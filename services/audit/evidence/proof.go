package evidence

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// proofHeader is the first line of a C2SP tlog-proof.
const proofHeader = "c2sp.org/tlog-proof@v1"

// Proof is an inclusion proof with the checkpoint it leads to: the C2SP tlog-proof format, one text file that can be
// verified offline.
type Proof struct {
	Index      int64
	Hashes     tlog.RecordProof
	Checkpoint string // a signed note
}

// String is the proof's text form.
func (p Proof) String() string {
	var text strings.Builder
	fmt.Fprintf(&text, "%s\nindex %d\n", proofHeader, p.Index)
	for _, hash := range p.Hashes {
		text.WriteString(base64.StdEncoding.EncodeToString(hash[:]) + "\n")
	}
	text.WriteString("\n" + p.Checkpoint)
	return text.String()
}

// ParseProof reads the text form. It verifies nothing.
func ParseProof(text string) (Proof, error) {
	head, checkpoint, ok := strings.Cut(text, "\n\n")
	lines := strings.Split(head, "\n")
	if !ok || len(lines) < 2 || lines[0] != proofHeader {
		return Proof{}, fmt.Errorf("proof: does not begin with %q", proofHeader)
	}
	number, ok := strings.CutPrefix(lines[1], "index ")
	index, err := strconv.ParseInt(number, 10, 64)
	if !ok || err != nil || index < 0 || strconv.FormatInt(index, 10) != number {
		return Proof{}, fmt.Errorf("proof: %q is not an index line", lines[1])
	}
	p := Proof{Index: index, Checkpoint: checkpoint}
	for _, line := range lines[2:] {
		hash, err := base64.StdEncoding.Strict().DecodeString(line)
		if err != nil || len(hash) != tlog.HashSize {
			return Proof{}, fmt.Errorf("proof: %q is not a hash", line)
		}
		p.Hashes = append(p.Hashes, tlog.Hash(hash))
	}
	return p, nil
}

// Verify checks that leaf is in the log whose checkpoint the proof carries, and returns that checkpoint.
func (p Proof) Verify(leaf []byte, verifier note.Verifier) (Checkpoint, error) {
	checkpoint, err := OpenCheckpoint(p.Checkpoint, verifier)
	if err != nil {
		return Checkpoint{}, err
	}
	if p.Index >= checkpoint.Size {
		return Checkpoint{}, fmt.Errorf("proof: index %d is not in a log of %d", p.Index, checkpoint.Size)
	}
	if err := tlog.CheckRecord(p.Hashes, checkpoint.Size, checkpoint.Root, p.Index, tlog.RecordHash(leaf)); err != nil {
		return Checkpoint{}, fmt.Errorf("proof: %w", err)
	}
	return checkpoint, nil
}
