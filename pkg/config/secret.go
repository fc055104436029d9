package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
)

const (
	redacted = "[REDACTED]"
	// maxSecret bounds a secret's file: a mistyped path to something large must not be read into memory.
	maxSecret = 64 << 10
)

// Secret is a value that is never shown: it prints as [REDACTED] in every format and encoding, and only Reveal
// gives it out. The zero Secret is empty.
type Secret struct {
	// value is behind a pointer so that reflection-based printers (%#v, spew, zap.Any) meet an address at most.
	value *[]byte
}

// NewSecret keeps a copy of value.
func NewSecret(value []byte) Secret {
	kept := bytes.Clone(value)
	return Secret{value: &kept}
}

// Reveal returns a copy of the value; nil when it is empty.
func (s Secret) Reveal() []byte {
	if s.value == nil || len(*s.value) == 0 {
		return nil
	}
	return bytes.Clone(*s.value)
}

// Empty reports whether there is no value.
func (s Secret) Empty() bool { return s.value == nil || len(*s.value) == 0 }

// Lines returns the value's lines without surrounding blanks, empty ones left out: a file may hold several secrets,
// newest first.
func (s Secret) Lines() []Secret {
	var lines []Secret
	for line := range bytes.Lines(s.Reveal()) {
		if line = bytes.TrimSpace(line); len(line) > 0 {
			lines = append(lines, NewSecret(line))
		}
	}
	return lines
}

// Every way of printing or encoding.

// String implements fmt.Stringer.
func (Secret) String() string { return redacted }

// GoString implements fmt.GoStringer, for %#v.
func (Secret) GoString() string { return redacted }

// Format implements fmt.Formatter, so no verb (%x, %d) reaches the value.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalText implements encoding.TextMarshaler: JSON, YAML and XML.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalBinary implements encoding.BinaryMarshaler: gob.
func (Secret) MarshalBinary() ([]byte, error) { return []byte(redacted), nil }

// LogValue implements slog.LogValuer.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// ReadSecret reads the file at path, without the newline at its end. Errors name the path: the file is missing,
// empty, not a regular file, over 64 KiB, or may be read by everybody on the machine.
func ReadSecret(path string) (Secret, error) {
	// Without O_NONBLOCK a named pipe would keep us waiting for its writer.
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) //nolint:gosec // G304: the operator names the file
	if err != nil {
		return Secret{}, fmt.Errorf("read secret: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	switch {
	case err != nil:
		return Secret{}, fmt.Errorf("read secret: %w", err)
	case !info.Mode().IsRegular():
		return Secret{}, fmt.Errorf("secret %s is not a regular file", path)
	case info.Mode().Perm()&0o007 != 0:
		return Secret{}, fmt.Errorf("secret %s is open to everybody (mode %04o): chmod 600 it", path, info.Mode().Perm())
	}
	value, err := io.ReadAll(io.LimitReader(file, maxSecret+1))
	if err != nil {
		return Secret{}, fmt.Errorf("read secret: %w", err)
	}
	if len(value) > maxSecret {
		return Secret{}, fmt.Errorf("secret %s is over %d KiB", path, maxSecret>>10)
	}
	value = bytes.TrimRight(value, "\r\n")
	if len(value) == 0 {
		return Secret{}, fmt.Errorf("secret %s is empty", path)
	}
	return NewSecret(value), nil
}

// MakeSecret makes the file at path, which only its owner may read, and the folders above it. The file appears whole or
// not at all, and never in the place of another: then the error is os.ErrExist.
func MakeSecret(path string, value []byte) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make secret: %w", err)
	}
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return fmt.Errorf("make secret: %w", err)
	}
	defer func() { _ = os.Remove(f.Name()) }() // its name only: what was linked stays
	_, err = f.Write(value)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("make secret: %w", err)
	}
	if err := os.Link(f.Name(), path); err != nil {
		return fmt.Errorf("make secret: %w", err)
	}
	return nil
}
