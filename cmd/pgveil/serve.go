package main

import (
	"context"
	"log/slog"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/urfave/cli/v2"
)

var serveCommand = command{
	name:    "serve",
	summary: "run the front-end, the replication workers and HTTP",
	example: `pgveil serve --listen 0.0.0.0:7432 --tls-cert server.crt --tls-key server.key
pgveil serve --only wire,http
pgveil serve --only replicate`,
	flags: slices.Concat([]cli.Flag{
		&cli.StringSliceFlag{Name: "only", EnvVars: []string{"PGVEIL_ONLY"}, Usage: "run these `ROLES` of " + strings.Join(nodeRoles, ", ") + " (default: all)"},
		&cli.StringFlag{Name: "listen", Value: "127.0.0.1:7432", EnvVars: []string{"PGVEIL_LISTEN"}, Usage: "`ADDRESS` of the front-end"},
		&cli.StringFlag{Name: "http", Value: "127.0.0.1:7480", EnvVars: []string{"PGVEIL_HTTP"}, Usage: "`ADDRESS` of /healthz, /readyz and /metrics"},
		&cli.StringFlag{Name: "backing", EnvVars: []string{"PGVEIL_BACKING"}, Usage: "`DSN` of the backing database; only its place and TLS matter (default: where PGVEIL_DATABASE_URL points)"},
		&cli.StringFlag{Name: "node", EnvVars: []string{"PGVEIL_NODE"}, Usage: "`NAME` of this node's audit chain, the same after a restart (default: the host's name)"},
		&cli.StringFlag{Name: "tls-cert", EnvVars: []string{"PGVEIL_TLS_CERT"}, Usage: "PEM `FILE` with the certificate shown to clients"},
		&cli.StringFlag{Name: "tls-key", EnvVars: []string{"PGVEIL_TLS_KEY"}, Usage: "PEM `FILE` with its key"},
	}, observeFlags),
	run: serve,
}

func serve(ctx context.Context, c *call) error {
	n := &node{name: c.String("node"), only: c.StringSlice("only"), status: newStatus(), logger: slog.New(slog.NewTextHandler(c.ui.err, nil))}
	if len(n.only) == 0 {
		n.only = nodeRoles
	}
	for _, role := range n.only {
		if !slices.Contains(nodeRoles, role) {
			return usage("--only: no role %q", role).hint("one or more of %s, with commas between", strings.Join(nodeRoles, ", "))
		}
	}
	if err := n.configure(c); err != nil {
		return err
	}
	n.observe(c)
	if err := n.listen(c.String("listen"), c.String("http")); err != nil {
		return err
	}
	var err error
	if n.control, err = openControl(ctx, n.logger); err != nil {
		return err
	}
	defer n.control.close()
	if n.backing == nil {
		if n.backing, err = pgconn.ParseConfig(n.control.databaseURL); err != nil {
			return badDSN("PGVEIL_DATABASE_URL", err)
		}
	}
	n.logger.Info("serving", "roles", strings.Join(n.only, ","), "version", version)
	if n.is("wire") {
		c.ui.say("ready: %s", n.wire.Addr())
	} else {
		c.ui.say("ready")
	}
	return n.run(ctx)
}

// configure reads certificate and backing database from the flags.
func (n *node) configure(c *call) error {
	cert, key := c.String("tls-cert"), c.String("tls-key")
	switch {
	case cert != "" && key != "":
		config, err := loadTLS(cert, key)
		if err != nil {
			return err
		}
		n.tls = config
	case cert != "" || key != "":
		return usage("--tls-cert and --tls-key go together")
	case n.is("wire"):
		c.ui.warn("no --tls-cert: clients' values cross the network in the clear")
	}
	if dsn := c.String("backing"); dsn != "" {
		config, err := pgconn.ParseConfig(dsn)
		if err != nil {
			return badDSN("--backing", err)
		}
		n.backing = config
	}
	return nil
}

func (n *node) listen(wire, web string) (err error) {
	if n.is("wire") {
		if n.wire, err = listenTCP(wire, "--listen"); err != nil {
			return err
		}
	}
	if n.is("http") {
		n.web, err = listenTCP(web, "--http")
	}
	return err
}
