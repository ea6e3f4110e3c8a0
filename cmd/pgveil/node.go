package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"

	"pgveil/pgwire"
	"pgveil/replication"
)

// roles of a process; serve --only picks some.
var nodeRoles = []string{"wire", "http", "replicate"}

// A node is one process at work: some or all of the front-end, the replication workers and HTTP.
type node struct {
	control *control
	name    string           // of the audit chain; empty: the host's
	only    []string         // of nodeRoles
	backing *pgconn.Config   // where the front-end's sessions go
	tls     *tls.Config      // nil: clients are not offered TLS
	front   pgwire.Config    // what else the flags say of the front-end
	hangups <-chan os.Signal // each makes the front-end reload; nil: none comes
	wire    net.Listener     // nil without the role
	web     net.Listener     // nil without the role
	status  *status
	logger  *slog.Logger
}

func (n *node) is(role string) bool { return slices.Contains(n.only, role) }

// run works until ctx ends, and returns when all parts have: the front-end's sessions drained, the workers' last
// transactions committed, the audit log closed. The first part that fails stops the others.
func (n *node) run(ctx context.Context) (err error) {
	log, err := n.control.openAudit(ctx, n.name, n.logger)
	if err != nil {
		return err
	}
	// The audit log and the catalog must outlive the sessions that need them: they end when the parts have.
	base, stop := context.WithCancel(context.WithoutCancel(ctx))
	var support errgroup.Group
	support.Go(func() error { return n.control.store.Run(base) })
	defer func() {
		stop()
		err = errors.Join(err, support.Wait(), closeAudit(log))
	}()

	parts, ctx := errgroup.WithContext(ctx)
	if n.is("http") {
		n.status.readyWhen(n.check)
		parts.Go(func() error { return n.status.serve(ctx, n.web) })
	}
	if n.is("wire") {
		front, err := n.newFrontEnd(log)
		if err != nil {
			return err
		}
		n.status.registry.MustRegister(front.Collector())
		parts.Go(func() error { return front.Serve(ctx, n.wire) })
		parts.Go(func() error { return n.reloads(ctx, front) })
	}
	if n.is("replicate") {
		s := &streams{control: n.control, logger: n.logger, metrics: replication.NewMetrics()}
		n.status.registry.MustRegister(s.metrics)
		parts.Go(func() error { return s.run(ctx) })
	}
	parts.Go(func() error { // a node of no part waits too
		<-ctx.Done()
		return nil
	})
	return parts.Wait()
}

// check says why protected statements cannot be served now, or nil.
func (n *node) check(ctx context.Context) error {
	if _, err := n.control.store.Current(); err != nil {
		return err
	}
	conn, err := n.service(ctx, n.control.database())
	if err != nil {
		return errors.New("the backing database does not answer")
	}
	return conn.Close(ctx)
}

// service connects to a database of the backing cluster as the service role.
func (n *node) service(ctx context.Context, database string) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(withDatabase(n.control.databaseURL, database))
	if err != nil {
		return nil, badDSN("PGVEIL_DATABASE_URL", err)
	}
	if b := n.backing; b != nil { // where the sessions go, and how
		config.Host, config.Port, config.TLSConfig, config.Fallbacks = b.Host, b.Port, b.TLSConfig, b.Fallbacks
		config.SSLNegotiation, config.ChannelBinding, config.RequireAuth, config.ValidateConnect = b.SSLNegotiation, b.ChannelBinding, b.RequireAuth, b.ValidateConnect
		config.ConnectTimeout, config.DialFunc = b.ConnectTimeout, b.DialFunc
		if o := b.RuntimeParams["options"]; o != "" {
			config.RuntimeParams["options"] = o
		}
	}
	config.RuntimeParams["application_name"] = "pgveil"
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect to database %q: %w", database, err)
	}
	return conn, nil
}
