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
	pid, err := postmaster(data)
	if err != nil || pid == 0 {
		return err
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

// Running says whether a server, whoever started it, runs on the data directory.
func Running(data string) bool {
	pid, err := postmaster(data)
	return err == nil && pid != 0 && servesData(pid, data)
}

// postmaster returns the process id in the pid file, 0 if there is none. A damaged file is none too: the server
// itself judges it when it starts.
func postmaster(data string) (int, error) {
	b, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(string(b), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil || pid <= 1 {
		return 0, nil
	}
	return pid, nil
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
