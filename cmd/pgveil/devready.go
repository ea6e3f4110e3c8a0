package main

import (
	"context"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"pgveil/replication"
)

// awaitReplica returns when the demonstration's replica has its initial copy.
func (d *dev) awaitReplica(ctx context.Context, p *control) error {
	for began := time.Now(); ; {
		list, err := p.streamStatus(ctx, demoStream)
		if err != nil && ctx.Err() == nil && time.Since(began) > replicaPatience {
			return err
		}
		streaming := len(list) > 0
		for _, t := range list {
			switch t.Phase {
			case replication.Streaming:
			case replication.Stopped, replication.NeedsResync:
				// By what was written to the source; all else works, and that can be mended.
				d.ui.warn("the replica of %s.%s is %s: %s", t.SourceSchema, t.Table, t.Phase, t.Reason)
			default:
				streaming = false
			}
		}
		if streaming {
			return nil
		}
		if time.Since(began) > replicaPatience {
			return failed("the replica has no copy after %s", replicaPatience).hint("pgveil replicate status; the log is %s", filepath.Join(d.home, "pgveil.log"))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// announce writes the env file and says how to connect; its last line begins with "ready".
func (d *dev) announce(p *control) error {
	env, err := d.env(p)
	if err != nil {
		return err
	}
	if err := env.write(d.envPath); err != nil {
		return misconfigured("--env-file: %w", err)
	}
	if d.ephemeral {
		d.onClose(func(context.Context) error { return os.Remove(d.envPath) })
	}
	d.ui.say("")
	d.ui.say("  source %s", d.shownEnvPath())
	d.ui.say(`  psql "$PGVEIL_APP_URL"        # role app: values      select * from customers limit 3;`)
	d.ui.say(`  psql "$PGVEIL_SUPPORT_URL"    # role support: masks`)
	d.ui.say(`  psql "$PGVEIL_ANALYST_URL"    # role analyst: tokens`)
	d.ui.say("  files in %s, HTTP on %s, Ctrl-C stops all of it", d.home, d.web.Addr())
	d.ui.say("")
	d.ui.say("ready: front-end on %s after %.1f s", d.wire.Addr(), time.Since(d.ui.began).Seconds())
	return nil
}

// env are the connection strings of the demonstration.
func (d *dev) env(p *control) (envFile, error) {
	var e envFile
	front := func(role string) (string, error) {
		password, err := d.password(role)
		if err != nil {
			return "", err
		}
		if role == d.backing.super {
			password = d.backing.password
		}
		u := url.URL{Scheme: "postgres", User: url.UserPassword(role, string(password.Expose())), Host: reachable(d.wire.Addr()), Path: "/" + shopDatabase, RawQuery: "sslmode=require"}
		return u.String(), nil
	}
	for _, v := range []struct{ name, role string }{
		{"PGVEIL_APP_URL", "app"}, {"PGVEIL_SUPPORT_URL", "support"}, {"PGVEIL_ANALYST_URL", "analyst"}, {"PGVEIL_SUPER_URL", d.backing.super},
	} {
		u, err := front(v.role)
		if err != nil {
			return nil, err
		}
		e.set(v.name, u)
	}
	owner, err := d.password(ownerRole)
	if err != nil {
		return nil, err
	}
	e.set("PGVEIL_SHOP_DIRECT_URL", d.backing.url(ownerRole, owner, shopDatabase))
	e.set("PGVEIL_CRM_DIRECT_URL", d.backing.url(ownerRole, owner, crmDatabase))
	e.set("PGVEIL_SUPER_DIRECT_URL", d.backing.url(d.backing.super, d.backing.password, shopDatabase))
	e.set("PGVEIL_DATABASE_URL", p.databaseURL)
	e.set("PGVEIL_KEK", p.kek)
	e.set("PGVEIL_AUDIT_CHECKPOINTS", p.checkpoints)
	e.set("PGVEIL_HTTP_URL", "http://"+reachable(d.web.Addr()))
	return e, nil
}

// reachable is the address as a client on this machine dials it: a listener on all interfaces is on 127.0.0.1 too.
func reachable(a net.Addr) string {
	tcp, ok := a.(*net.TCPAddr)
	if ok && tcp.IP.IsUnspecified() {
		return net.JoinHostPort("127.0.0.1", strconv.Itoa(tcp.Port))
	}
	return a.String()
}

// shownEnvPath is the env file's path as one word for a shell.
func (d *dev) shownEnvPath() string {
	if strings.ContainsAny(d.envPath, " \t'\"$&;()<>|*?[]#~`\\") {
		return shellQuote(d.envPath)
	}
	return d.envPath
}
