package main

import (
	"context"
	"net/netip"
	"os"
	"runtime"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/urfave/cli/v2"

	"pgveil/audit"
	"pgveil/pgwire"
)

// frontFlags are serve's flags of the front-end alone.
var frontFlags = []cli.Flag{
	&cli.StringFlag{Name: "tls-cert", EnvVars: []string{"PGVEIL_TLS_CERT"}, Usage: "PEM `FILE` with the certificate shown to clients; read again on SIGHUP, as the next two"},
	&cli.StringFlag{Name: "tls-key", EnvVars: []string{"PGVEIL_TLS_KEY"}, Usage: "PEM `FILE` with its key"},
	&cli.StringFlag{Name: "tls-client-ca", EnvVars: []string{"PGVEIL_TLS_CLIENT_CA"}, Usage: "PEM `FILE` with the authorities of clients' certificates; a role added with --cert logs in by one"},
	&cli.DurationFlag{Name: "authentication-timeout", Value: time.Minute, EnvVars: []string{"PGVEIL_AUTHENTICATION_TIMEOUT"}, Usage: "`TIME` a client has to log in"},
	&cli.IntFlag{Name: "max-connections", EnvVars: []string{"PGVEIL_MAX_CONNECTIONS"}, Usage: "`NUMBER` of sessions at most; 0: as many as the backing database lets in"},
	&cli.IntFlag{Name: "max-connections-per-role", EnvVars: []string{"PGVEIL_MAX_CONNECTIONS_PER_ROLE"}, Usage: "`NUMBER` of sessions of one role at most; 0: as many as its CONNECTION LIMIT there"},
	&cli.IntFlag{Name: "max-startups", Value: 1000, EnvVars: []string{"PGVEIL_MAX_STARTUPS"}, Usage: "`NUMBER` of connections at most that have not logged in yet"},
	&cli.DurationFlag{Name: "tcp-keepalive", Value: time.Minute, EnvVars: []string{"PGVEIL_TCP_KEEPALIVE"}, Usage: "`TIME` of silence before TCP asks for the other side; 0 never does"},
	&cli.DurationFlag{Name: "statement-timeout", EnvVars: []string{"PGVEIL_STATEMENT_TIMEOUT"}, Usage: "statement_timeout of sessions that do not set it, a `TIME`; 0 leaves it to the backing database"},
	&cli.DurationFlag{Name: "idle-session-timeout", EnvVars: []string{"PGVEIL_IDLE_SESSION_TIMEOUT"}, Usage: "idle_session_timeout, a `TIME` likewise; PostgreSQL 13 has none"},
	&cli.DurationFlag{Name: "idle-in-transaction-session-timeout", EnvVars: []string{"PGVEIL_IDLE_IN_TRANSACTION_SESSION_TIMEOUT"}, Usage: "idle_in_transaction_session_timeout, a `TIME` likewise"},
	&cli.BoolFlag{Name: "proxy-protocol", EnvVars: []string{"PGVEIL_PROXY_PROTOCOL"}, Usage: "clients come through load balancers that send a PROXY protocol header, version 1 or 2"},
	&cli.StringSliceFlag{Name: "proxy-protocol-from", EnvVars: []string{"PGVEIL_PROXY_PROTOCOL_FROM"}, Usage: "`CIDR` of the load balancers; connections from elsewhere are refused"},
}

// configureFront fills the front-end's configuration from the flags.
func (n *node) configureFront(c *call) error {
	f := &n.front
	for _, d := range []struct {
		flag string
		to   *time.Duration
		min  time.Duration
	}{
		{"authentication-timeout", &f.ConnectTimeout, time.Second}, {"tcp-keepalive", &f.KeepAlive, 0}, {"statement-timeout", &f.StatementTimeout, 0},
		{"idle-session-timeout", &f.IdleSessionTimeout, 0}, {"idle-in-transaction-session-timeout", &f.IdleInTransactionTimeout, 0},
	} {
		if *d.to = c.Duration(d.flag); *d.to < d.min {
			return usage("--%s: %v is too short", d.flag, *d.to)
		}
	}
	if f.KeepAlive == 0 {
		f.KeepAlive = -1
	}
	for _, m := range []struct {
		flag string
		to   *int
		min  int
	}{{"max-connections", &f.MaxConnections, 0}, {"max-connections-per-role", &f.MaxConnectionsPerRole, 0}, {"max-startups", &f.MaxStartups, 1}} {
		if *m.to = c.Int(m.flag); *m.to < m.min {
			return usage("--%s: %d is less than %d", m.flag, *m.to, m.min)
		}
	}
	if c.Bool("proxy-protocol") != (len(c.StringSlice("proxy-protocol-from")) > 0) {
		return usage("--proxy-protocol and --proxy-protocol-from go together").
			hint("whoever may send the header may say that he is anybody: --proxy-protocol-from 10.0.1.0/24 names the load balancers")
	}
	for _, text := range c.StringSlice("proxy-protocol-from") {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return usage("--proxy-protocol-from: %q is not like 10.0.1.0/24", text)
		}
		f.ProxyFrom = append(f.ProxyFrom, p.Masked())
	}
	return nil
}

// files reads what serve's flags name. It is called again at each reload.
func (n *node) files(c *call) (files pgwire.Files, err error) {
	cert, key, ca := c.String("tls-cert"), c.String("tls-key"), c.String("tls-client-ca")
	switch {
	case cert != "" && key != "":
		if files.TLS, err = loadTLS(cert, key, ca); err != nil {
			return files, err
		}
	case cert != "" || key != "":
		return files, usage("--tls-cert and --tls-key go together")
	case ca != "":
		return files, usage("--tls-client-ca needs --tls-cert and --tls-key")
	}
	files.Backing, err = backingConfig(c.String("backing"))
	return files, err
}

// backingConfig reads the connection string of the backing database; without one it is where PGVEIL_DATABASE_URL points.
func backingConfig(dsn string) (*pgconn.Config, error) {
	where := "--backing"
	if dsn == "" {
		where, dsn = "PGVEIL_DATABASE_URL", os.Getenv("PGVEIL_DATABASE_URL")
	}
	config, err := pgconn.ParseConfig(dsn)
	if err != nil {
		return nil, badDSN(where, err)
	}
	return config, nil
}

// newFrontEnd wires the front-end to catalog, audit log and backing database.
func (n *node) newFrontEnd(log *audit.Log) (*pgwire.Server, error) {
	loops := max(1, runtime.NumCPU()/2)
	if os.Getenv("GOMAXPROCS") == "" {
		// A loop that waits in the kernel keeps its processor of the runtime's. Without some to spare the runtime takes it away, and gives it back, at each wait.
		runtime.GOMAXPROCS(runtime.NumCPU() + 2*loops)
	}
	config := n.front
	config.Loops = loops
	config.Backing, config.TLS = n.backing, n.tls
	config.Catalog = n.control.store
	config.Service = n.service
	config.Audit = func(ctx context.Context, r pgwire.AuditRecord) error { return log.Append(ctx, auditRecord(r)) }
	config.Logger, config.Version = n.logger, version
	return pgwire.New(config)
}

// reloads reads certificates again at each hangup, until ctx ends.
func (n *node) reloads(ctx context.Context, front *pgwire.Server) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-n.hangups:
			front.Reload() // which logs how it went
		}
	}
}

func auditRecord(r pgwire.AuditRecord) audit.Record {
	return audit.Record{
		Kind: r.Kind, Session: int64(r.Session), Role: r.Role, Addr: r.Addr, Database: r.Database, Action: r.Action,
		Outcome:     map[string]string{audit.Intent: "begun", audit.Completion: "ok"}[r.Kind],
		Fingerprint: r.Fingerprint, Policies: r.Policies, Columns: r.Columns, Rows: r.Rows,
	}
}
