package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"pgveil/internal/cluster"
)

// openBacking starts the private cluster, or checks the server that --backing names.
func (d *dev) openBacking(ctx context.Context) error {
	if d.dsn != "" {
		b, err := foreignBacking(d.dsn)
		if err != nil {
			return err
		}
		d.backing = b
		return b.check(ctx)
	}
	data, err := d.clusterDir()
	if err != nil {
		return err
	}
	major, err := cluster.Major(data)
	if err != nil {
		return err
	}
	binaries, err := d.binaries(ctx, data, major)
	if err != nil {
		return err
	}
	password, err := d.password(cluster.Superuser)
	if err != nil {
		return err
	}
	if major == 0 {
		d.ui.step("initialising PostgreSQL %s in %s", binaries.Version, data)
		if err := cluster.Init(ctx, binaries, data, password); err != nil {
			return err
		}
	}
	d.ui.step("starting PostgreSQL %s (%s)", binaries.Version, binaries.Dir)
	config := cluster.Config{Binaries: binaries, Data: data, Log: filepath.Join(d.home, "postgres.log"), Port: d.state.Port, Settings: map[string]string{
		"wal_level": "logical", "max_replication_slots": "20", "max_wal_senders": "20", "max_connections": "200",
		// A clear value that a guard refuses on a direct connection stays out of the server's log, too.
		"log_error_verbosity": "terse", "log_min_error_statement": "panic",
	}}
	if d.ephemeral {
		config.Settings["fsync"] = "off" // there is nothing to find again after a crash of the machine
	}
	c, err := cluster.Start(ctx, config)
	if errors.Is(err, cluster.ErrPortInUse) {
		config.Port = 0
		c, err = cluster.Start(ctx, config)
	}
	if err != nil {
		return err
	}
	k := &keeper{config: config, log: d.log, cluster: c}
	k.config.Port = c.Port()
	k.start()
	d.onClose(func(ctx context.Context) error {
		d.ui.step("stopping PostgreSQL")
		return k.stop(ctx)
	})
	if c.Port() != d.state.Port {
		d.state.Port = c.Port()
		if err := d.saveState(); err != nil {
			return err
		}
	}
	d.backing, err = privateBacking(c, password)
	return err
}

// binaries finds those that the data directory was made with.
func (d *dev) binaries(ctx context.Context, data string, major int) (cluster.Binaries, error) {
	if major == 0 {
		return findPostgres(ctx, d.ui, d.pgBin, 0, d.yes)
	}
	if d.pgBin == "" {
		if b, err := cluster.Find(ctx, cluster.Options{Major: major}); err == nil {
			return b, nil
		}
	}
	b, err := cluster.Find(ctx, cluster.Options{Dir: d.pgBin})
	if err != nil {
		return findPostgres(ctx, d.ui, d.pgBin, major, d.yes)
	}
	if b.Major != major {
		err := &cluster.VersionError{Data: data, Found: major, Wanted: b.Major}
		return b, failed("%w", err).hint("--pg-bin with the binaries of PostgreSQL %d, another --data DIR, or remove %s to start afresh", major, d.home)
	}
	return b, nil
}

// clusterDir is the private cluster's data directory. Where the account that runs PostgreSQL cannot pass
// through to the data directory (root's own directories), it is under /var/lib, with a link to it.
func (d *dev) clusterDir() (string, error) {
	data := filepath.Join(d.home, "pg")
	owner, err := cluster.FindOwner()
	if err != nil {
		return "", err
	}
	if owner.CanEnter(d.home) {
		return data, nil
	}
	if target, err := os.Readlink(data); err == nil {
		return target, os.MkdirAll(filepath.Dir(target), 0o755)
	}
	target := filepath.Join("/var/lib/pgveil/clusters", strings.ToLower(d.state.Installation[:12]))
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return "", err
	}
	d.ui.warn("user %s cannot enter %s: PostgreSQL's files are in %s", owner.Name, d.home, target)
	return target, os.Symlink(target, data)
}
