//go:build unix

package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// ErrLocked says that a running process holds the directory.
var ErrLocked = errors.New("in use by another process")

// A Lock marks a directory as belonging to this process. The kernel drops it when the process dies, so a
// directory without a held lock is nobody's.
type Lock struct{ file *os.File }

// lockFile stands in the directory and stays there: removing it while another process opens it would let two
// hold "the" lock.
const lockFile = "lock"

// Acquire takes the lock of dir, which must exist, without waiting. The error wraps ErrLocked when another
// process has it.
func Acquire(dir string) (*Lock, error) { return acquire(dir, syscall.LOCK_NB) }

// Await takes the lock of dir, waiting for whoever has it.
func Await(dir string) (*Lock, error) { return acquire(dir, 0) }

func acquire(dir string, flags int) (*Lock, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|flags)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s: %w", dir, ErrLocked)
		}
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	return &Lock{file: f}, nil
}

// Release gives the lock up.
func (l *Lock) Release() error { return l.file.Close() }
