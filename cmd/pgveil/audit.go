package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"os/user"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/urfave/cli/v2"

	"pgveil/audit"
)

var auditCommands = []command{
	{
		name:    "audit tail",
		summary: "print the last records of the audit log",
		example: `pgveil audit tail
pgveil audit tail --lines 100 --follow -o json`,
		flags: []cli.Flag{
			&cli.IntFlag{Name: "lines", Aliases: []string{"n"}, Value: 20, Usage: "begin with the last `N` records"},
			&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "go on with new records until interrupted; with -o json one object a line"},
		},
		run: auditTail,
	},
	{
		name:    "audit verify",
		summary: "recompute the chains and compare them with the checkpoints",
		example: "PGVEIL_AUDIT_CHECKPOINTS=/var/lib/pgveil/audit pgveil audit verify\npgveil audit verify",
		run:     auditVerify,
	},
}

const auditGrace = 5 * time.Second // for the last records, after the sessions have ended

// openAudit opens the chain of a node; without a name it is the host's.
func (c *control) openAudit(ctx context.Context, name string, logger *slog.Logger) (*audit.Log, error) {
	config := c.auditConfig(logger)
	if config.Node = name; name == "" {
		host, err := os.Hostname()
		if err != nil {
			return nil, err
		}
		config.Node = host
	}
	return audit.Open(ctx, config)
}

// cliNode is the chain of the commands used on this machine.
func cliNode() string {
	host, err := os.Hostname()
	if err != nil {
		host = "?"
	}
	return host + "/cli"
}

func (c *control) auditConfig(logger *slog.Logger) audit.Config {
	return audit.Config{DSN: c.databaseURL, CheckpointDir: c.checkpoints, Key: c.ring.AuditKey(), Logger: logger}
}

func closeAudit(log *audit.Log) error {
	ctx, cancel := context.WithTimeout(context.Background(), auditGrace)
	defer cancel()
	return log.Close(ctx)
}

// audited makes a change of the control plane between two records: that it begins, without which it does not
// happen, and how it ended.
func (c *control) audited(ctx context.Context, what, policy, column string, change func() error) (err error) {
	log, err := c.openAudit(ctx, cliNode(), nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeAudit(log)) }()
	r := audit.Record{Kind: audit.Admin, Action: what, Outcome: "begun", Role: c.operator(), Addr: "local"}
	if config, err := pgconn.ParseConfig(c.databaseURL); err == nil {
		r.Database = config.Database
	}
	if policy != "" {
		r.Policies = []string{policy}
	}
	if column != "" {
		r.Columns = []string{column}
	}
	if err := log.Append(ctx, r); err != nil {
		return err
	}
	if err = change(); err != nil {
		r.Outcome = "failed"
	} else {
		r.Outcome = "ok"
	}
	return errors.Join(err, log.Append(context.WithoutCancel(ctx), r))
}

// operator is the user of this machine who runs the command.
func (c *control) operator() string {
	if u, err := user.Current(); err == nil {
		return "os:" + u.Username
	}
	return "os:?"
}

func auditTail(ctx context.Context, c *call) error {
	s, err := loadSettings()
	if err != nil {
		return err
	}
	t := newTable("at", "node", "seq", "kind", "role", "addr", "database", "action", "outcome", "policies", "columns", "rows", "fingerprint", "reason")
	add := func(e audit.Entry) error {
		t.add(e.At, e.Node, e.Seq, e.Kind, e.Role, e.Addr, e.Database, e.Action, e.Outcome, e.Policies, e.Columns, e.Rows, e.Fingerprint, e.Reason)
		return nil
	}
	emit := add
	if c.Bool("follow") {
		emit = func(e audit.Entry) error {
			if c.ui.json {
				return json.NewEncoder(c.ui.out).Encode(e)
			}
			add(e)
			err := c.ui.print(t)
			t.rows, t.bare = nil, true
			return err
		}
	}
	if err := audit.Tail(ctx, s.databaseURL, c.Int("lines"), c.Bool("follow"), emit); err != nil {
		return err
	}
	if c.Bool("follow") {
		return nil
	}
	return c.ui.print(t)
}

func auditVerify(ctx context.Context, c *call) error {
	s, err := loadSettings()
	if err != nil {
		return err
	}
	ring, err := s.openRing(ctx)
	if err != nil {
		return err
	}
	report, err := audit.Verify(ctx, (&control{settings: s, ring: ring}).auditConfig(nil))
	if err != nil {
		return err
	}
	t := newTable("node", "records", "checkpoint", "state", "seq", "reason")
	for _, n := range report.Nodes {
		bad := problemOf(report, n.Node)
		if bad == nil {
			t.add(n.Node, n.Records, n.Checkpoint, "ok", nil, "")
		} else {
			t.add(n.Node, n.Records, n.Checkpoint, "bad", bad.Seq, bad.Reason)
		}
	}
	if err := c.ui.print(t); err != nil {
		return err
	}
	if s.checkpoints == "" {
		c.ui.warn("PGVEIL_AUDIT_CHECKPOINTS is not set: records cut off at the end cannot be noticed")
	}
	if !report.OK() {
		p := report.Problems[0]
		return failed("the audit log is not as it was written: node %s, record %d: %s", p.Node, p.Seq, p.Reason).
			hint("keep database and checkpoints as they are, as evidence")
	}
	return nil
}

func problemOf(r audit.Report, node string) *audit.Problem {
	for i := range r.Problems {
		if r.Problems[i].Node == node {
			return &r.Problems[i]
		}
	}
	return nil
}
