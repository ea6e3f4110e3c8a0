package replication

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"

	"pgveil/internal/secret"
)

// Create prepares both sides of a stream and remembers it; the worker does the rest.
//
// At the source it makes schema pgveil with table pgveil.mark where they are missing, adds cfg.Marks, and makes the
// publication pgveil_<name> of the matched tables and pgveil.mark. At the target it makes cfg.Schema, an empty table
// for each matched one, and the stream's state, and hands every marked column to cfg.Protect. Nothing is left behind
// on either side if it fails before that; if cfg.Protect fails, the same Create may be repeated.
//
// A *Refused says what the source or target lacks. No value of any row is read.
func Create(ctx context.Context, cfg Config) error {
	if err := cfg.check(); err != nil {
		return err
	}
	c := &creation{cfg: cfg, tokenizers: map[string]Tokenizer{}}
	var err error
	if c.src, err = connect(ctx, source, cfg.Source); err != nil {
		return err
	}
	defer closeConn(c.src)
	if c.dst, err = connect(ctx, target, cfg.Target); err != nil {
		return err
	}
	defer closeConn(c.dst)

	tables, err := c.existing(ctx)
	if err != nil {
		return err
	}
	if tables == nil {
		if tables, err = c.make(ctx); err != nil {
			return err
		}
	}
	return protect(ctx, c.dst, cfg, tables)
}

type creation struct {
	cfg        Config
	src, dst   *pgx.Conn
	tokenizers map[string]Tokenizer
	system     pglogrepl.IdentifySystemResult
	same       bool // source and target are one database
}

// existing returns the tables of a stream whose creation stopped at Protect, nil if there is no such stream, and
// ErrStreamExists if nothing is left to do.
func (c *creation) existing(ctx context.Context) ([]*table, error) {
	var made bool
	if err := c.dst.QueryRow(ctx, `SELECT to_regclass('pgveil.replica_table') IS NOT NULL`).Scan(&made); err != nil {
		return nil, sqlError("look for the stream", err)
	}
	if !made {
		return nil, nil
	}
	var schema string
	err := c.dst.QueryRow(ctx, `SELECT target_schema FROM pgveil.replica_checkpoint WHERE stream = $1`, c.cfg.Name).Scan(&schema)
	if err == pgx.ErrNoRows {
		return nil, nil
	}
	if err != nil {
		return nil, sqlError("look for the stream", err)
	}
	tables, err := loadTables(ctx, c.dst, c.cfg.Name, schema)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(tables, func(t *table) bool { return !t.Protected }) {
		return nil, fmt.Errorf("stream %q: %w", c.cfg.Name, ErrStreamExists)
	}
	return tables, nil
}

func (c *creation) make(ctx context.Context) ([]*table, error) {
	if err := c.checkSource(ctx); err != nil {
		return nil, err
	}
	srcTx, err := c.src.Begin(ctx)
	if err != nil {
		return nil, sqlError("begin at the source", err)
	}
	defer srcTx.Rollback(context.WithoutCancel(ctx))
	dstTx, err := c.dst.Begin(ctx)
	if err != nil {
		return nil, sqlError("begin at the target", err)
	}
	defer dstTx.Rollback(context.WithoutCancel(ctx))
	for _, tx := range []pgx.Tx{srcTx, dstTx} {
		if _, err := tx.Exec(ctx, `SET LOCAL lock_timeout = '10s'`); err != nil {
			return nil, sqlError("set lock_timeout", err)
		}
	}

	tables, err := c.match(ctx, srcTx)
	if err != nil {
		return nil, err
	}
	if err := c.mark(ctx, srcTx, tables); err != nil {
		return nil, err
	}
	for _, t := range tables {
		if err := t.usable(); err != nil {
			return nil, err
		}
	}
	published, err := c.publish(ctx, srcTx, tables)
	if err != nil {
		return nil, err
	}
	// In one database the target would wait for the source's new schema; elsewhere nothing is left at the source
	// unless the target is ready.
	if c.same {
		if err := srcTx.Commit(ctx); err != nil {
			return nil, sqlError("commit at the source", err)
		}
	}
	state := &checkpoint{Slot: c.cfg.slot(), Publication: c.cfg.slot(), Published: published, Schema: c.cfg.Schema,
		SourceDatabase: c.system.DBName, SystemID: c.system.SystemID, Timeline: c.system.Timeline, Tables: tables}
	err = c.makeTarget(ctx, dstTx, tables)
	if err == nil {
		err = saveStream(ctx, dstTx, c.cfg.Name, state)
	}
	switch {
	case err != nil && c.same:
		_, dropErr := c.src.Exec(ctx, `DROP PUBLICATION `+quoteName(c.cfg.slot()))
		return nil, errors.Join(err, sqlError("drop the publication again", dropErr))
	case err != nil:
		return nil, err
	case !c.same:
		// The source first: a publication without a stream is taken over by the next Create.
		if err := srcTx.Commit(ctx); err != nil {
			return nil, sqlError("commit at the source", err)
		}
	}
	return tables, sqlError("commit at the target", dstTx.Commit(ctx))
}

// checkSource asks what must hold before anything is made. The right to replicate is tried rather than read from
// pg_roles, because managed services grant it by membership.
func (c *creation) checkSource(ctx context.Context) error {
	var level, encoding string
	var slot bool
	err := c.src.QueryRow(ctx, `SELECT current_setting('wal_level'), current_setting('server_encoding'),
		EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1)`, c.cfg.slot()).Scan(&level, &encoding, &slot)
	switch {
	case err != nil:
		return sqlError("ask the source's settings", err)
	case level != "logical":
		return &Refused{Reason: fmt.Sprintf("the source runs with wal_level = %s", level),
			Hint: "set wal_level = logical at the source and restart it"}
	case encoding == "SQL_ASCII":
		return &Refused{Reason: "the source's encoding is SQL_ASCII, so its text has no known characters",
			Hint: "replicate from a database with a real encoding"}
	case slot:
		return &Refused{Reason: fmt.Sprintf("the source has a slot %q already", c.cfg.slot()),
			Hint: "choose another stream name, or drop the stream that uses it"}
	}
	conn, err := connectReplication(ctx, c.cfg.Source)
	if err != nil {
		return &Refused{Reason: err.Error(),
			Hint: "the source's role needs the REPLICATION attribute, and a direct endpoint instead of a pooler"}
	}
	defer closeConn(conn)
	c.system, err = pglogrepl.IdentifySystem(ctx, conn)
	return sqlError("identify the source", err)
}

// match finds the tables of the patterns and refuses those that would feed the replica to itself.
func (c *creation) match(ctx context.Context, tx pgx.Tx) ([]*table, error) {
	if len(c.cfg.Tables) == 0 {
		return nil, &Refused{Reason: "no table pattern is given", Hint: "--tables 'public.*'"}
	}
	type found struct {
		OID          uint32
		Schema, Name string
	}
	rows, err := tx.Query(ctx, candidates)
	if err != nil {
		return nil, sqlError("list the source's tables", err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[found])
	if err != nil {
		return nil, sqlError("list the source's tables", err)
	}
	if c.same, err = c.sameDatabase(ctx); err != nil {
		return nil, err
	}
	var oids []uint32
	byName := map[string]string{}
	for _, text := range c.cfg.Tables {
		p, err := ParsePattern(text)
		if err != nil {
			return nil, err
		}
		n := 0
		for _, f := range all {
			if !p.Match(f.Schema, f.Name) {
				continue
			}
			n++
			if slices.Contains(oids, f.OID) {
				continue
			}
			if c.same && f.Schema == c.cfg.Schema {
				return nil, &Refused{Reason: fmt.Sprintf("pattern %q matches the replica's own schema %q", text, f.Schema),
					Hint: "in one database, the replica needs a schema that no pattern matches"}
			}
			if other, ok := byName[f.Name]; ok {
				return nil, &Refused{Reason: fmt.Sprintf("tables %q of schemas %q and %q would have one replica", f.Name, other, f.Schema),
					Hint: "make a stream for each schema"}
			}
			byName[f.Name] = f.Schema
			oids = append(oids, f.OID)
		}
		if n == 0 {
			return nil, &Refused{Reason: fmt.Sprintf("pattern %q matches no table of the source", text),
				Hint: "names are taken as they stand, without case folding; a bare name is in schema public"}
		}
	}
	tables, err := describeTables(ctx, tx, oids)
	if err != nil {
		return nil, err
	}
	for _, t := range tables {
		t.Target = c.cfg.Schema
	}
	return tables, c.refuseReplicas(ctx, tx, tables)
}

// refuseReplicas refuses a table that is itself a replica: of a chain of streams, the last could feed the first.
func (c *creation) refuseReplicas(ctx context.Context, tx pgx.Tx, tables []*table) error {
	var made bool
	if err := tx.QueryRow(ctx, `SELECT to_regclass('pgveil.replica_table') IS NOT NULL`).Scan(&made); err != nil || !made {
		return sqlError("look for other streams", err)
	}
	for _, t := range tables {
		var is bool
		err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pgveil.replica_table JOIN pgveil.replica_checkpoint USING (stream)
			WHERE target_schema = $1 AND source_table = $2)`, t.Schema, t.Name).Scan(&is)
		if err != nil {
			return sqlError("look for other streams", err)
		}
		if is {
			return &Refused{Reason: fmt.Sprintf("%s is the replica of another stream", t), Hint: "leave it out of --tables"}
		}
	}
	return nil
}

// sameDatabase asks by an advisory lock, which is held per database: names and addresses may differ, and
// pg_control_system() may be closed to us.
func (c *creation) sameDatabase(ctx context.Context) (bool, error) {
	key := int64(binary.BigEndian.Uint64(secret.Random(8).Expose()))
	if _, err := c.dst.Exec(ctx, `SELECT pg_advisory_lock($1)`, key); err != nil {
		return false, sqlError("compare source and target", err)
	}
	defer c.dst.Exec(ctx, `SELECT pg_advisory_unlock($1)`, key)
	var free bool
	err := c.src.QueryRow(ctx, `SELECT pg_try_advisory_xact_lock($1)`, key).Scan(&free)
	return !free, sqlError("compare source and target", err)
}

// mark writes the new marks, reads them all, and sets the policies of the matched tables' columns.
func (c *creation) mark(ctx context.Context, tx pgx.Tx, tables []*table) error {
	if err := ensureMarkTable(ctx, tx); err != nil {
		return err
	}
	if err := writeMarks(ctx, tx, c.cfg.Marks); err != nil {
		return err
	}
	marks, err := readMarks(ctx, tx)
	if err != nil {
		return err
	}
	for _, m := range c.cfg.Marks {
		if !slices.ContainsFunc(tables, func(t *table) bool { return t.Schema == m.Schema && t.Name == m.Table }) {
			return &Refused{Reason: fmt.Sprintf("%s marks a table that no pattern matches", m), Hint: "add the table to --tables"}
		}
	}
	n, err := setPolicies(tables, marks)
	if err != nil {
		return err
	}
	if n == 0 {
		return &Refused{Reason: "no column of the matched tables is marked, so the replica would be a clear copy",
			Hint: "--protect schema.table.column=policy, or INSERT INTO pgveil.mark at the source"}
	}
	for _, t := range tables {
		for _, col := range t.marked() {
			if c.tokenizers[col.Policy] != nil {
				continue
			}
			tok, err := c.cfg.Tokenizer(col.Policy)
			if err != nil {
				return fmt.Errorf("policy %q of %s column %q: %w", col.Policy, t, col.Name, err)
			}
			c.tokenizers[col.Policy] = tok
		}
	}
	return nil
}

// setPolicies applies marks to tables and returns how many it applied.
func setPolicies(tables []*table, marks []Mark) (int, error) {
	n := 0
	for _, t := range tables {
		for _, m := range marks {
			if m.Schema != t.Schema || m.Table != t.Name {
				continue
			}
			col := t.column(m.Column)
			if col == nil {
				return 0, &Refused{Reason: fmt.Sprintf("pgveil.mark names column %q, which %s has not", m.Column, t),
					Hint: "correct the row in pgveil.mark at the source"}
			}
			col.Policy = m.Policy
			n++
		}
	}
	return n, nil
}

// publish makes the publication, or takes over the one an interrupted Create left, and returns its fingerprint.
func (c *creation) publish(ctx context.Context, tx pgx.Tx, tables []*table) (string, error) {
	names := []string{"pgveil.mark"}
	for _, t := range tables {
		names = append(names, "ONLY "+t.sourceName())
	}
	pub := quoteName(c.cfg.slot())
	if _, err := tx.Exec(ctx, `DROP PUBLICATION IF EXISTS `+pub); err != nil {
		return "", sqlError("drop the publication of an interrupted create", err)
	}
	if _, err := tx.Exec(ctx, `CREATE PUBLICATION `+pub+` FOR TABLE `+strings.Join(names, ", ")); err != nil {
		return "", sqlError("create publication "+c.cfg.slot(), err)
	}
	return fingerprint(ctx, tx, c.cfg.slot())
}

// fingerprint changes when the publication is altered or made anew, and when a table leaves it and comes back: changes
// in between never reach the slot. Hashes stand for whole catalog rows, which may hold a row filter's literals.
func fingerprint(ctx context.Context, q querier, publication string) (string, error) {
	var text string
	err := q.QueryRow(ctx, `SELECT concat_ws(' ', p.oid, p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate, p.pubviaroot, p.puballtables,
			(SELECT string_agg(hashtextextended(r::text, 0)::text, ' ' ORDER BY r.oid) FROM pg_publication_rel r WHERE r.prpubid = p.oid))
		FROM pg_publication p WHERE p.pubname = $1`, publication).Scan(&text)
	if err == pgx.ErrNoRows {
		return "", nil
	}
	return text, sqlError("read the publication", err)
}

// makeTarget makes the state tables, the schema and the empty replica tables.
func (c *creation) makeTarget(ctx context.Context, tx pgx.Tx, tables []*table) error {
	if c.cfg.Schema == "" || c.cfg.Schema == "pgveil" || strings.HasPrefix(c.cfg.Schema, "pg_") {
		return &Refused{Reason: fmt.Sprintf("schema %q cannot hold a replica", c.cfg.Schema), Hint: "--schema NAME"}
	}
	for _, schema := range []string{"pgveil", c.cfg.Schema} {
		var there bool
		err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)`, schema).Scan(&there)
		if err == nil && !there {
			_, err = tx.Exec(ctx, `CREATE SCHEMA `+quoteName(schema))
		}
		if err != nil {
			return sqlError(fmt.Sprintf("create schema %q at the target", schema), err)
		}
	}
	if _, err := tx.Exec(ctx, stateTables); err != nil {
		return sqlError("create the state tables", err)
	}
	for _, t := range tables {
		if err := c.makeTable(ctx, tx, t); err != nil {
			return err
		}
	}
	for _, role := range c.cfg.Readers {
		grants := []string{"GRANT USAGE ON SCHEMA " + quoteName(c.cfg.Schema)}
		for _, t := range tables {
			grants = append(grants, "GRANT SELECT ON TABLE "+t.targetName())
		}
		for _, g := range grants {
			if _, err := tx.Exec(ctx, g+" TO "+quoteName(role)); err != nil {
				return sqlError(fmt.Sprintf("let role %q read", role), err)
			}
		}
	}
	return nil
}

func (c *creation) makeTable(ctx context.Context, tx pgx.Tx, t *table) error {
	var b strings.Builder
	fmt.Fprintf(&b, "CREATE TABLE %s (", t.targetName())
	for _, col := range t.Columns {
		typ := col.targetType(c.tokenizers[col.Policy])
		var known bool
		if err := tx.QueryRow(ctx, `SELECT to_regtype($1) IS NOT NULL`, typ).Scan(&known); err != nil {
			return sqlError("look for a type", err)
		}
		if !known {
			return &Refused{Reason: fmt.Sprintf("%s column %q is of type %s, which the target does not have", t, col.Name, typ),
				Hint: "create the type at the target with the same schema and name"}
		}
		fmt.Fprintf(&b, "%s %s, ", quoteName(col.Name), typ)
	}
	b.WriteString("PRIMARY KEY (")
	for n, i := range t.key() {
		if n > 0 {
			b.WriteString(", ")
		}
		b.WriteString(quoteName(t.Columns[i].Name))
	}
	b.WriteString("))")
	_, err := tx.Exec(ctx, b.String())
	if sqlState(err) == "42P07" {
		return &Refused{Reason: fmt.Sprintf("the target has a relation %s already", t.targetName()),
			Hint: "choose another --schema, or drop it"}
	}
	return sqlError("create "+t.targetName(), err)
}

// protect hands the marked columns of each table to cfg.Protect and records that it returned.
func protect(ctx context.Context, q querier, cfg Config, tables []*table) error {
	for _, t := range tables {
		if t.Protected {
			continue
		}
		for _, col := range t.marked() {
			if err := cfg.Protect(ctx, t.Target, t.Name, col.Name, col.Policy); err != nil {
				return fmt.Errorf("protect column %q of %s: %w", col.Name, t.targetName(), err)
			}
		}
		_, err := q.Exec(ctx, `UPDATE pgveil.replica_table SET protected = true
			WHERE stream = $1 AND source_schema = $2 AND source_table = $3`, cfg.Name, t.Schema, t.Name)
		if err != nil {
			return sqlError("record that the columns are protected", err)
		}
		t.Protected = true
	}
	return nil
}
