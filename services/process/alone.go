package process

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
)

// alone takes a lock that the operating system gives back when the process ends, however it ends. nil: another process
// has it. Who has it knows that nobody else who asks for it lives.
func alone(file string) (io.Closer, error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // in the data directory
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	switch {
	case err == nil:
		return f, nil
	case errors.Is(err, syscall.EWOULDBLOCK):
		return nil, f.Close()
	}
	return nil, errors.Join(fmt.Errorf("lock %s: %w", file, err), f.Close())
}
