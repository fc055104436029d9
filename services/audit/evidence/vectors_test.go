package evidence_test

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// What we check proofs with must judge the published vectors as they say: good ones pass, each mutilated one fails.
func TestInclusionVectorsAreJudgedRightly(t *testing.T) {
	t.Parallel()
	file, err := os.Open("testdata/inclusion.tgz")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	packed, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	good, bad := 0, 0
	for archive := tar.NewReader(packed); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(header.Name, ".json") {
			continue
		}
		var v struct {
			LeafIdx, TreeSize uint64
			Root, LeafHash    []byte
			Proof             [][]byte
			Desc              string
			WantErr           bool
		}
		if err := json.NewDecoder(archive).Decode(&v); err != nil {
			t.Fatalf("%s: %v", header.Name, err)
		}
		err = check(v.LeafIdx, v.TreeSize, v.Root, v.LeafHash, v.Proof)
		if (err != nil) != v.WantErr {
			t.Errorf("%s (%s): got %v, want an error: %v", header.Name, v.Desc, err, v.WantErr)
		}
		if v.WantErr {
			bad++
		} else {
			good++
		}
	}
	if good == 0 || bad == 0 {
		t.Errorf("%d good and %d bad vectors were read", good, bad)
	}
}

func check(index, size uint64, root, leaf []byte, path [][]byte) error {
	if len(root) != tlog.HashSize || len(leaf) != tlog.HashSize || int64(index) < 0 || int64(size) < 0 || index >= size {
		return errors.New("not of the form of a proof")
	}
	proof := tlog.RecordProof{}
	for _, hash := range path {
		if len(hash) != tlog.HashSize {
			return errors.New("not a hash")
		}
		proof = append(proof, tlog.Hash(hash))
	}
	return tlog.CheckRecord(proof, int64(size), tlog.Hash(root), int64(index), tlog.Hash(leaf))
}

func TestSignedNoteVector(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../merkle/testdata/tlog_vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors struct {
		Note struct {
			Skey, Vkey, Text string
			Line             string `json:"signature_line"`
		} `json:"signed_note"`
	}
	if err := json.Unmarshal(raw, &vectors); err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(vectors.Note.Skey)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := note.Sign(&note.Note{Text: vectors.Note.Text}, signer)
	if err != nil {
		t.Fatal(err)
	}
	if want := vectors.Note.Text + "\n" + vectors.Note.Line; strings.TrimSpace(string(signed)) != strings.TrimSpace(want) {
		t.Errorf("got %q, want %q", signed, want)
	}
}
