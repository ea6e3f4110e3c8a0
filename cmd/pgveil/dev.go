package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/urfave/cli/v2"
	"golang.org/x/sync/errgroup"

	"pgveil/pgwire"
)

const (
	devPrefix = "pgveil-dev-" // of the directory of an ephemeral run

	replicaPatience = 60 * time.Second // for the initial copy
)

var devCommand = command{
	name:    "dev",
	summary: "start a demonstration: PostgreSQL, data, front-end, replica",
	example: `pgveil dev
pgveil dev --ephemeral --env-file pgveil.env
source pgveil.env; psql "$PGVEIL_APP_URL"`,
	flags: []cli.Flag{
		&cli.StringFlag{Name: "listen", Value: "127.0.0.1:7432", EnvVars: []string{"PGVEIL_LISTEN"}, Usage: "`ADDRESS` of the front-end; port 0 takes a free one"},
		&cli.StringFlag{Name: "http", Value: "127.0.0.1:7480", EnvVars: []string{"PGVEIL_HTTP"}, Usage: "`ADDRESS` of /healthz, /readyz and /metrics"},
		&cli.StringFlag{Name: "data", EnvVars: []string{"PGVEIL_DATA"}, Usage: "keep everything in `DIR` (default: " + defaultHome() + ")"},
		&cli.BoolFlag{Name: "ephemeral", Usage: "keep nothing: remove all files at the end"},
		&cli.StringFlag{Name: "backing", EnvVars: []string{"PGVEIL_BACKING"}, Usage: "use the PostgreSQL at `DSN` (a superuser's), not a private one"},
		&cli.StringFlag{Name: "pg-bin", EnvVars: []string{"PGVEIL_PG_BIN"}, Usage: "`DIR` with postgres and initdb (default: what is installed)"},
		&cli.StringFlag{Name: "env-file", Usage: "write connection strings to `PATH` (default: env in the data directory)"},
		&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "install PostgreSQL if there is none"},
	},
	run: func(ctx context.Context, c *call) error {
		if c.Bool("ephemeral") && c.String("data") != "" && c.IsSet("data") {
			return usage("--ephemeral keeps nothing, --data keeps everything: give one of them")
		}
		d := &dev{
			ui: c.ui, listen: c.String("listen"), http: c.String("http"), home: c.String("data"), ephemeral: c.Bool("ephemeral"),
			dsn: c.String("backing"), pgBin: c.String("pg-bin"), envPath: c.String("env-file"), yes: c.Bool("yes"),
		}
		return d.run(ctx)
	},
}

// A dev is one run of the demonstration.
type dev struct {
	ui *ui

	// From the flags.
	listen, http, home  string
	ephemeral           bool
	dsn, pgBin, envPath string
	yes                 bool

	state   devState
	log     *slog.Logger
	backing *backing
	wire    net.Listener // the front-end's
	web     net.Listener // HTTP's
	closers []func(context.Context) error
}

// run starts everything, says so, and stops everything when ctx ends or a part fails.
func (d *dev) run(ctx context.Context) (err error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	watchGoRun(ctx, stop)
	defer func() {
		if ctx.Err() != nil && errors.Is(err, context.Canceled) {
			err = nil // told to stop while starting
		}
		err = errors.Join(err, d.close())
	}()

	if err := errors.Join(checkAddress(d.listen, "--listen"), checkAddress(d.http, "--http")); err != nil {
		return err
	}
	if err := d.openHome(ctx); err != nil {
		return err
	}
	if err := d.openListeners(); err != nil {
		return err
	}
	if err := d.openBacking(ctx); err != nil {
		return err
	}
	return d.demonstrate(ctx)
}

// onClose registers what to undo at the end, last first.
func (d *dev) onClose(f func(context.Context) error) { d.closers = append(d.closers, f) }

func (d *dev) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var errs []error
	for i := len(d.closers) - 1; i >= 0; i-- {
		errs = append(errs, d.closers[i](ctx))
	}
	return errors.Join(errs...)
}

// watchGoRun ends the run when `go run` is killed: it does not pass SIGTERM on, and what it started would
// stay behind. The goroutine ends with ctx.
func watchGoRun(ctx context.Context, stop context.CancelCauseFunc) {
	exe, err := os.Executable()
	if err != nil || runtime.GOOS == "windows" || !strings.Contains(exe, "go-build") || strings.HasSuffix(exe, ".test") { // go run's own, or from its cache
		return
	}
	parent := os.Getppid()
	go func() {
		for ctx.Err() == nil {
			if os.Getppid() != parent {
				stop(errors.New("go run (process " + strconv.Itoa(parent) + ") is gone"))
			}
			select {
			case <-ctx.Done():
			case <-time.After(300 * time.Millisecond):
			}
		}
	}()
}

// demonstrate makes the demonstration's contents, serves, and returns when ctx ends or a part fails.
func (d *dev) demonstrate(ctx context.Context) error {
	if err := d.prepareServer(ctx); err != nil {
		return err
	}
	p, err := d.prepareDemo(ctx)
	if err != nil {
		return err
	}
	n := &node{control: p, only: nodeRoles, wire: d.wire, web: d.web, status: newStatus(), logger: d.log, front: pgwire.Config{Admins: []string{d.backing.super}}}
	if n.tls, err = devTLS(filepath.Join(d.home, "server.crt"), filepath.Join(d.home, "server.key")); err != nil {
		return err
	}
	if n.backing, err = pgconn.ParseConfig(p.databaseURL); err != nil {
		return err
	}
	d.ui.step("starting the front-end, the replication worker and HTTP")
	parts, ctx := errgroup.WithContext(ctx)
	parts.Go(func() error { return n.run(ctx) })
	parts.Go(func() error {
		if err := d.awaitReplica(ctx, p); err != nil {
			return err
		}
		return d.announce(p)
	})
	err = parts.Wait()
	d.ui.step("stopped serving")
	return err
}
