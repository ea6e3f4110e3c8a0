package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"pgveil/internal/cluster"
	"pgveil/internal/secret"
)

// devState is what a later start must know again. It is a file of mode 0600 in the data directory.
type devState struct {
	Installation string            `json:"installation"` // marks what is ours in a server of somebody else's
	Passwords    map[string]string `json:"passwords"`    // of the demonstration's roles
	Port         int               `json:"port"`         // of the private cluster, kept while it is free
}

// defaultHome is where the demonstration lives between runs.
func defaultHome() string {
	if os.Geteuid() == 0 {
		return "/var/lib/pgveil/dev"
	}
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "pgveil", "dev")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return filepath.Join(os.TempDir(), "pgveil-dev")
	}
	return filepath.Join(home, ".local", "share", "pgveil", "dev")
}

// openHome takes the data directory for this process and reads its state.
func (d *dev) openHome(ctx context.Context) error {
	if d.ephemeral {
		s, err := cluster.NewScratch(ctx, devPrefix)
		if err != nil {
			return err
		}
		d.home = s.Dir
		d.onClose(s.Remove)
	} else if err := d.lockHome(ctx); err != nil {
		return err
	}
	if d.envPath == "" {
		d.envPath = filepath.Join(d.home, "env")
	}
	if err := d.openLog(); err != nil {
		return err
	}
	return d.loadState()
}

func (d *dev) lockHome(ctx context.Context) error {
	// What killed ephemeral runs left is swept here too, as nobody else may come by.
	cluster.Sweep(ctx, devPrefix)
	if d.home == "" {
		d.home = defaultHome()
	}
	home, err := filepath.Abs(d.home)
	if err != nil {
		return err
	}
	d.home = home
	if err := os.MkdirAll(d.home, 0o755); err != nil {
		return err
	}
	// The account that runs PostgreSQL passes through; every file with a secret in it is 0600.
	if info, err := os.Stat(d.home); err == nil && info.Mode().Perm()&0o001 == 0 {
		if err := os.Chmod(d.home, 0o711); err != nil {
			return err
		}
	}
	lock, err := cluster.Acquire(d.home)
	if errors.Is(err, cluster.ErrLocked) {
		return failed("another pgveil dev is running on %s", d.home).
			hint("connect to it (source %s), stop it, or give this one its own --data DIR, --listen and --http", filepath.Join(d.home, "env"))
	}
	if err != nil {
		return err
	}
	d.onClose(func(context.Context) error { return lock.Release() })
	return nil
}

func (d *dev) openLog() error {
	f, err := os.OpenFile(filepath.Join(d.home, "pgveil.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	d.log = slog.New(slog.NewTextHandler(f, nil))
	d.onClose(func(context.Context) error { return f.Close() })
	return nil
}

func (d *dev) loadState() error {
	b, err := os.ReadFile(d.statePath())
	if err == nil {
		if err := json.Unmarshal(b, &d.state); err != nil {
			return fmt.Errorf("%s: %w", d.statePath(), err)
		}
		return nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	d.state = devState{Installation: rand.Text(), Passwords: map[string]string{}}
	return d.saveState()
}

func (d *dev) statePath() string { return filepath.Join(d.home, "state.json") }

func (d *dev) saveState() error {
	b, err := json.MarshalIndent(d.state, "", "  ")
	if err != nil {
		return err
	}
	return writePrivate(d.statePath(), append(b, '\n'))
}

// password is the role's, made up at its first use.
func (d *dev) password(role string) (secret.Bytes, error) {
	p, ok := d.state.Passwords[role]
	if !ok {
		p = rand.Text()
		d.state.Passwords[role] = p
		if err := d.saveState(); err != nil {
			return secret.Bytes{}, err
		}
	}
	return secret.New([]byte(p)), nil
}
