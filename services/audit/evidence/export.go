package evidence

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// The files of an export.
const (
	keyFile        = "log.vkey"    // the verifier key, for convenience: an auditor brings their own copy
	checkpointsDir = "checkpoints" // one signed note a file, named by size
	leavesFile     = "leaves"      // each leaf: its length in 4 bytes, big endian, then its bytes
	hashesFile     = "hashes"      // the stored hashes, 32 bytes each
)

// maxLeaf bounds a leaf read from an export; the log itself accepts no larger event.
const maxLeaf = 8 << 20

// Export writes an export into a directory. Close makes it complete; what was not closed does not verify as complete.
type Export struct {
	dir    string
	leaves *file
	hashes *file
}

// file is a buffered file that is synced when closed.
type file struct {
	*bufio.Writer
	f *os.File
}

func create(name string) (*file, error) {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // the directory the user named
	if err != nil {
		return nil, err
	}
	return &file{bufio.NewWriterSize(f, 1<<16), f}, nil
}

func (f *file) Close() error { return errors.Join(f.Flush(), f.f.Sync(), f.f.Close()) }

// NewExport begins an export in dir, which must be empty or not exist.
func NewExport(dir, vkey string) (*Export, error) {
	if err := os.MkdirAll(filepath.Join(dir, checkpointsDir), 0o700); err != nil {
		return nil, err
	}
	key, err := create(filepath.Join(dir, keyFile))
	if err != nil {
		return nil, fmt.Errorf("begin export: %w", err)
	}
	if _, err := key.WriteString(vkey + "\n"); err != nil {
		return nil, errors.Join(err, key.Close())
	}
	if err := key.Close(); err != nil {
		return nil, err
	}
	e := &Export{dir: dir}
	if e.leaves, err = create(filepath.Join(dir, leavesFile)); err != nil {
		return nil, err
	}
	if e.hashes, err = create(filepath.Join(dir, hashesFile)); err != nil {
		return nil, errors.Join(err, e.leaves.Close())
	}
	return e, nil
}

// Checkpoint adds a signed checkpoint; size names its file.
func (e *Export) Checkpoint(size int64, signed string) error {
	f, err := create(filepath.Join(e.dir, checkpointsDir, fmt.Sprintf("%012d", size)))
	if err != nil {
		return err
	}
	_, err = f.WriteString(signed)
	return errors.Join(err, f.Close())
}

// Leaf adds the next leaf.
func (e *Export) Leaf(data []byte) error {
	if len(data) > maxLeaf {
		return fmt.Errorf("a leaf of %d bytes", len(data))
	}
	var length [4]byte
	binary.BigEndian.PutUint32(length[:], uint32(len(data))) //nolint:gosec // bounded just above
	_, err := e.leaves.Write(length[:])
	if err != nil {
		return err
	}
	_, err = e.leaves.Write(data)
	return err
}

// Hash adds the next stored hash.
func (e *Export) Hash(hash []byte) error {
	_, err := e.hashes.Write(hash)
	return err
}

// Close writes what is left to the disk.
func (e *Export) Close() error { return errors.Join(e.leaves.Close(), e.hashes.Close()) }

// VerifyDir verifies an export offline. vkey is the auditor's own copy of the verifier key (empty: the export's, which proves
// that the export is consistent but not whose it is); held are checkpoints that the auditor kept from before.
func VerifyDir(dir, vkey string, held ...string) (Report, error) {
	if vkey == "" {
		raw, err := os.ReadFile(filepath.Join(dir, keyFile)) //nolint:gosec // the directory the user named
		if err != nil {
			return Report{}, err
		}
		vkey = string(raw)
	}
	names, err := filepath.Glob(filepath.Join(dir, checkpointsDir, "*"))
	if err != nil {
		return Report{}, err
	}
	checkpoints := held
	for _, name := range names {
		signed, err := os.ReadFile(name) //nolint:gosec // the directory the user named
		if err != nil {
			return Report{}, err
		}
		checkpoints = append(checkpoints, string(signed))
	}
	v, err := NewVerifier(strings.TrimSpace(vkey), checkpoints...)
	if err != nil {
		return Report{}, err
	}
	if err := verifyFiles(dir, v); err != nil {
		return Report{}, err
	}
	return v.Report()
}

// verifyFiles walks leaves and stored hashes side by side, so that neither is held in memory.
func verifyFiles(dir string, v *Verifier) error {
	leaves, err := os.Open(filepath.Join(dir, leavesFile)) //nolint:gosec // the directory the user named
	if err != nil {
		return err
	}
	defer func() { _ = leaves.Close() }()                  // only read
	hashes, err := os.Open(filepath.Join(dir, hashesFile)) //nolint:gosec // the directory the user named
	if err != nil {
		return err
	}
	defer func() { _ = hashes.Close() }() // only read
	leafReader, hashReader := bufio.NewReaderSize(leaves, 1<<16), bufio.NewReaderSize(hashes, 1<<16)
	for index := uint64(0); ; index++ {
		leaf, err := readLeaf(leafReader)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("leaf %d: %w", index, err)
		}
		if err := v.Leaf(index, leaf); err != nil {
			return err
		}
		for len(v.computed) > 0 {
			var hash tlog.Hash
			if _, err := io.ReadFull(hashReader, hash[:]); err != nil {
				return fmt.Errorf("stored hash %d: %w", v.hashes, err)
			}
			if err := v.Hash(uint64(v.hashes), hash[:]); err != nil { //nolint:gosec // counts from 0
				return err
			}
		}
	}
	if _, err := hashReader.ReadByte(); !errors.Is(err, io.EOF) {
		return errors.New("there are more stored hashes than the leaves have")
	}
	return nil
}

func readLeaf(r io.Reader) ([]byte, error) {
	var length [4]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err // io.EOF: the end
	}
	n := binary.BigEndian.Uint32(length[:])
	if n > maxLeaf {
		return nil, fmt.Errorf("says it has %d bytes", n)
	}
	leaf := make([]byte, n)
	if _, err := io.ReadFull(r, leaf); err != nil {
		return nil, fmt.Errorf("cut off: %w", io.ErrUnexpectedEOF)
	}
	return leaf, nil
}
