package cluster

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
)

// A Scratch is a directory that lives no longer than the process: what a killed process leaves is removed by
// the next one that makes a Scratch with the same prefix.
type Scratch struct {
	Dir  string
	lock *Lock
}

// NewScratch makes a directory in the system's directory for temporary files, after sweeping those of dead
// processes. A server runs in it with its data directory named "pg".
func NewScratch(ctx context.Context, prefix string) (*Scratch, error) {
	Sweep(ctx, prefix)
	// Under another name until it is locked, so that no other process takes it for a dead one's.
	made, err := os.MkdirTemp("", "."+prefix)
	if err != nil {
		return nil, err
	}
	s := &Scratch{Dir: filepath.Join(filepath.Dir(made), strings.TrimPrefix(filepath.Base(made), "."))}
	// The server's account has to pass through; what is secret in here has its own permissions.
	if err = os.Chmod(made, 0o711); err == nil {
		if s.lock, err = Acquire(made); err == nil {
			err = os.Rename(made, s.Dir)
		}
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(made))
	}
	return s, nil
}

// Data is the data directory for a server in the scratch directory.
func (s *Scratch) Data() string { return filepath.Join(s.Dir, "pg") }

// Remove removes the directory and all in it, stopping a server that still runs there.
func (s *Scratch) Remove(ctx context.Context) error {
	err := Remove(ctx, s.Data())
	return errors.Join(err, os.RemoveAll(s.Dir), s.lock.Release())
}

// Sweep removes the scratch directories of dead processes. What it cannot remove it leaves for the next.
func Sweep(ctx context.Context, prefix string) {
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), prefix+"*"))
	for _, dir := range dirs {
		// A directory without a lock file is not ours.
		if _, err := os.Stat(filepath.Join(dir, lockFile)); err != nil {
			continue
		}
		lock, err := Acquire(dir)
		if err != nil {
			continue
		}
		s := &Scratch{Dir: dir, lock: lock}
		s.Remove(ctx)
	}
}
