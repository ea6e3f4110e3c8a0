package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// StopStray stops a server that still runs on the data directory because the process that started it was
// killed, and returns when it has ended. No server, or a pid file whose process is something else by now, is
// no error.
func StopStray(ctx context.Context, data string) error {
	b, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	first, _, _ := strings.Cut(string(b), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil || pid <= 1 {
		return nil // the server itself judges a damaged pid file when it starts
	}
	signals := []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGKILL}
	for _, s := range signals {
		for deadline := time.Now().Add(stopTimeout); time.Now().Before(deadline); {
			if !servesData(pid, data) {
				return nil
			}
			if s != 0 {
				syscall.Kill(pid, s)
				s = 0 // once
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(pollInterval):
			}
		}
	}
	return fmt.Errorf("a PostgreSQL server (process %d) still runs on %s", pid, data)
}

// Remove stops a stray server on the data directory and removes the directory and its socket's.
func Remove(ctx context.Context, data string) error {
	if err := StopStray(ctx, data); err != nil {
		return err
	}
	owner, err := FindOwner()
	if err != nil {
		return err
	}
	if socket, err := socketDir(data, owner); err == nil {
		os.RemoveAll(socket)
	}
	return os.RemoveAll(data)
}
