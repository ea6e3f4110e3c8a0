package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"pgveil/catalog"
	"pgveil/internal/secret"
	"pgveil/replication"
)

var replicateCommands = []command{
	{
		name: "replicate create", args: "STREAM", min: 1, max: 1,
		summary: "begin a protected replica of tables of another database",
		example: `PGPASSWORD=… pgveil replicate create crm --from postgres://pgveil@crm.internal/crm --schema crm --tables public.contacts 'public.order*' --protect public.contacts.ssn=ssn --reader app
pgveil replicate status crm`,
		flags: []cli.Flag{
			&cli.StringFlag{Name: "from", Usage: "`DSN` of the source database; - reads it from standard input. Its password: PGPASSWORD, ~/.pgpass or standard input"},
			&cli.StringFlag{Name: "schema", Usage: "`SCHEMA` of the replica's tables"},
			&cli.StringSliceFlag{Name: "tables", Usage: "`PATTERN`s of the tables to copy: schema.table, * and ? match"},
			&cli.StringSliceFlag{Name: "protect", Usage: "mark a column: `SCHEMA.TABLE.COLUMN=POLICY`; may be repeated"},
			&cli.StringSliceFlag{Name: "reader", Usage: "let `ROLE` read the replica; may be repeated"},
			databaseFlag,
		},
		run: withControl(replicateCreate),
	},
	{
		name:    "replicate list",
		summary: "list the streams",
		example: "pgveil replicate list",
		run:     withControl(replicateList),
	},
	{
		name: "replicate status", args: "[STREAM]", max: 1,
		summary: "show how far each table is",
		example: "pgveil replicate status crm -o json",
		run:     withControl(replicateStatus),
	},
	{
		name: "replicate drop", args: "STREAM", min: 1, max: 1,
		summary: "end a stream and free its slot at the source; the replica's tables stay",
		example: "pgveil replicate drop crm --yes",
		flags: []cli.Flag{
			yesFlag,
			&cli.BoolFlag{Name: "keep-source", Usage: "leave slot and publication alone, for a source that is gone for good"},
		},
		run: withControl(replicateDrop),
	},
}

func replicateCreate(ctx context.Context, c *call, p *control) error {
	from, err := c.required("from")
	if err != nil {
		return err
	}
	schema, err := c.required("schema")
	if err != nil {
		return err
	}
	tables := c.StringSlice("tables")
	if len(tables) == 0 {
		return usage("--tables is missing").hint("--tables public.contacts, or a pattern: 'public.*'")
	}
	if from == "-" {
		line, _ := bufio.NewReader(c.ui.in).ReadString('\n')
		from = strings.TrimSpace(line)
	} else if holdsPassword(from) {
		c.ui.warn("other users of this machine can see the password in --from: give the DSN on standard input (--from -), or the password in PGPASSWORD")
	}
	source, err := complete("--from", from)
	if err != nil {
		return err
	}
	var marks []replication.Mark
	for _, text := range c.StringSlice("protect") {
		m, err := replication.ParseMark(text)
		if err != nil {
			return usage("--protect: %w", err)
		}
		marks = append(marks, m)
	}
	r := catalog.Replica{Name: c.arg(0), SourceDSN: source, Database: c.database(p), Schema: schema, Tables: tables}
	err = p.audited(ctx, "replicate create "+r.Name, "", "", func() error {
		return p.createStream(ctx, r, marks, c.StringSlice("reader"))
	})
	if err != nil {
		return err
	}
	t := newTable("stream", "database", "schema", "tables")
	t.add(r.Name, r.Database, r.Schema, r.Tables)
	return c.ui.print(t)
}

// createStream prepares both sides and then remembers the stream, which makes the workers begin. It may be
// repeated after a failure.
func (p *control) createStream(ctx context.Context, r catalog.Replica, marks []replication.Mark, readers []string) error {
	known, err := p.store.Replicas(ctx)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(known, func(k catalog.Replica) bool { return k.Name == r.Name }) {
		return failed("stream %q exists", r.Name).hint("pgveil replicate status %s", r.Name)
	}
	config := p.streamConfig(r, nil, nil)
	config.Schema, config.Tables, config.Marks, config.Readers = r.Schema, r.Tables, marks, readers
	if err := replication.Create(ctx, config); err != nil && !errors.Is(err, replication.ErrStreamExists) {
		return err
	}
	return p.store.CreateReplica(ctx, r)
}

// streamConfig is what replication needs to know of the rest of the program.
func (p *control) streamConfig(r catalog.Replica, logger *slog.Logger, metrics *replication.Metrics) replication.Config {
	return replication.Config{
		Name:      r.Name,
		Source:    r.SourceDSN,
		Target:    secret.New([]byte(withDatabase(p.databaseURL, r.Database))),
		Tokenizer: p.tokenizer,
		Protect: func(ctx context.Context, schema, table, column, policy string) error {
			return p.protectReplica(ctx, r.Database, schema, table, column, policy)
		},
		Logger:  logger,
		Metrics: metrics,
	}
}

// protectReplica registers a replica's column. It may be repeated.
func (p *control) protectReplica(ctx context.Context, database, schema, table, column, policy string) error {
	err := p.store.Protect(ctx, database, schema, table, column, policy)
	if err != nil && !exists(err) {
		return err
	}
	if err := p.store.Refresh(ctx); err != nil {
		return err
	}
	snapshot, err := p.store.Current()
	if err != nil {
		return err
	}
	for _, c := range snapshot.Columns(database) {
		if c.Schema == schema && c.Table == table && c.Name == column {
			if c.Policy.Name != policy {
				return failed("%s.%s.%s is protected under policy %q, the source marks it %q", schema, table, column, c.Policy.Name, policy)
			}
			return nil
		}
	}
	return failed("%s.%s.%s is not protected", schema, table, column)
}

// tokenizer makes the tokens that the policy's columns hold.
func (p *control) tokenizer(policy string) (replication.Tokenizer, error) {
	snapshot, err := p.store.Current()
	if err != nil {
		return nil, err
	}
	found := snapshot.Policy(policy)
	if found == nil || found.Transform == nil {
		return nil, fmt.Errorf("unknown policy %q", policy)
	}
	return columnTokenizer{found}, nil
}

// columnTokenizer makes tokens at the key version that the columns of its policy are at.
type columnTokenizer struct{ policy *catalog.Policy }

func (t columnTokenizer) Append(dst, plain []byte) ([]byte, error) {
	return t.policy.Transform.AppendToken(dst, plain, t.policy.ColumnVersion)
}

func (t columnTokenizer) MaxTokenLen(plainLen int) int {
	return t.policy.Transform.MaxTokenLen(plainLen)
}

func replicateList(ctx context.Context, c *call, p *control) error {
	replicas, err := p.store.Replicas(ctx)
	if err != nil {
		return err
	}
	t := newTable("stream", "database", "schema", "tables")
	for _, r := range replicas {
		t.add(r.Name, r.Database, r.Schema, r.Tables)
	}
	return c.ui.print(t)
}

func replicateStatus(ctx context.Context, c *call, p *control) error {
	list, err := p.streamStatus(ctx, c.arg(0))
	if err != nil {
		return err
	}
	if len(list) == 0 && c.arg(0) != "" {
		return failed("no stream %q", c.arg(0)).hint("pgveil replicate list")
	}
	t := newTable("stream", "table", "target", "phase", "protected", "rows_copied", "lsn", "lag_bytes", "updated", "reason")
	for _, s := range list {
		t.add(s.Stream, s.SourceSchema+"."+s.Table, s.TargetSchema+"."+s.Table, s.Phase, s.Protected, s.RowsCopied, s.LSN, s.LagBytes, s.Updated, s.Reason)
	}
	return c.ui.print(t)
}

// streamStatus asks each database that holds replicas.
func (p *control) streamStatus(ctx context.Context, stream string) ([]replication.TableStatus, error) {
	replicas, err := p.store.Replicas(ctx)
	if err != nil {
		return nil, err
	}
	var all []replication.TableStatus
	for _, r := range replicas {
		if stream != "" && r.Name != stream {
			continue
		}
		list, err := replication.Status(ctx, secret.New([]byte(withDatabase(p.databaseURL, r.Database))), r.Name)
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
	}
	return all, nil
}

func replicateDrop(ctx context.Context, c *call, p *control) error {
	name := c.arg(0)
	replicas, err := p.store.Replicas(ctx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(replicas, func(r catalog.Replica) bool { return r.Name == name })
	if i < 0 {
		return failed("no stream %q", name).hint("pgveil replicate list")
	}
	if err := c.sure("End stream " + name + "?"); err != nil {
		return err
	}
	err = p.audited(ctx, "replicate drop "+name, "", "", func() error {
		options := replication.DropOptions{KeepSource: c.Bool("keep-source")}
		err := replication.Drop(ctx, p.streamConfig(replicas[i], nil, nil), options)
		if err != nil && !errors.Is(err, replication.ErrUnknownStream) {
			return err
		}
		return p.store.DropReplica(ctx, name)
	})
	if err != nil {
		return err
	}
	return c.ui.did("stream %s dropped; its tables stay", "dropped", name)
}
