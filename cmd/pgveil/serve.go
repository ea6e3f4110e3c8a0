package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"pgveil/pgwire"
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
		&cli.StringFlag{Name: "backing", EnvVars: []string{"PGVEIL_BACKING"}, Usage: "`DSN` of the backing database; only its place, TLS and options matter (default: where PGVEIL_DATABASE_URL points)"},
		&cli.StringFlag{Name: "node", EnvVars: []string{"PGVEIL_NODE"}, Usage: "`NAME` of this node's audit chain, the same after a restart (default: the host's name)"},
	}, frontFlags, observeFlags),
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
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	n.hangups = hangups
	n.logger.Info("serving", "roles", strings.Join(n.only, ","), "version", version)
	if n.is("wire") {
		c.ui.say("ready: %s", n.wire.Addr())
	} else {
		c.ui.say("ready")
	}
	return n.run(ctx)
}

// configure reads the flags, and the files that they name.
func (n *node) configure(c *call) error {
	if err := n.configureFront(c); err != nil {
		return err
	}
	files, err := n.files(c)
	if err != nil {
		return err
	}
	n.tls, n.backing = files.TLS, files.Backing
	n.front.Reload = func() (pgwire.Files, error) { return n.files(c) }
	if n.is("wire") && n.tls == nil {
		c.ui.warn("no --tls-cert: clients' values cross the network in the clear")
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
