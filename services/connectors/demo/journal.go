package demo

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"
)

// The mutations, as the journal names them.
const (
	opMade        = "made"
	opCreate      = "create"
	opUpdate      = "update"
	opEnable      = "enable"
	opDisable     = "disable"
	opDelete      = "delete"
	opGrant       = "grant"
	opRevoke      = "revoke"
	opOpenSession = "session-open"
	opEndSession  = "session-end"
	opIssueKey    = "key-issue"
	opExpireKey   = "key-expire"
	opRevokeKey   = "key-revoke"
)

// entry is one mutation that had an effect, a line of the journal.
type entry struct {
	Seq         uint64            `json:"seq"`
	Time        time.Time         `json:"time"`
	Op          string            `json:"op"`
	Account     string            `json:"account,omitempty"`
	Marker      string            `json:"marker,omitempty"`
	Attributes  map[string]string `json:"attributes,omitempty"` // update: empty values clear
	Entitlement string            `json:"entitlement,omitempty"`
	Credential  string            `json:"credential,omitempty"` // of a session or key: its id
	Hash        string            `json:"hash,omitempty"`
	Expires     *time.Time        `json:"expires,omitempty"`
}

// journal is an append-only file of entries, one JSON object a line. What append returned for is there after the process is
// killed; it is not synced, so a power cut may cost the last moments: this is a demonstration, and must not be
// what a measurement measures.
type journal struct {
	file *os.File
	buf  bytes.Buffer
}

// openJournal takes the file for this process, hands every entry of it to each and drops a last line that was not
// written to its end.
func openJournal(path string, each func(entry)) (*journal, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600) //nolint:gosec // the operator's own choice
	if err != nil {
		return nil, fmt.Errorf("open the journal: %w", err)
	}
	if err := load(file, each); err != nil {
		return nil, errors.Join(fmt.Errorf("open the journal %s: %w", path, err), file.Close())
	}
	return &journal{file: file}, nil
}

func load(file *os.File, each func(entry)) error {
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return errors.New("another process holds it")
	}
	lines := bufio.NewReaderSize(file, 1<<20)
	var whole, seq int64
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return file.Truncate(whole)
		}
		if err != nil {
			return err
		}
		var e entry
		if err := json.Unmarshal(line, &e); err != nil {
			return fmt.Errorf("behind entry %d: %w", seq, err)
		}
		if seq++; e.Seq != uint64(seq) {
			return fmt.Errorf("entry %d stands where %d should", e.Seq, seq)
		}
		whole += int64(len(line))
		each(e)
	}
}

func (j *journal) append(entries []entry) error {
	j.buf.Reset()
	lines := json.NewEncoder(&j.buf)
	lines.SetEscapeHTML(false)
	for _, e := range entries {
		if err := lines.Encode(e); err != nil {
			return err
		}
	}
	_, err := j.file.Write(j.buf.Bytes())
	return err
}

// open returns the journal from its beginning, for reading beside the writer.
func (j *journal) open() (*os.File, error) { return os.Open(j.file.Name()) }

func (j *journal) Close() error { return j.file.Close() }
