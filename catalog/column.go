package catalog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"pgveil/engine"
)

// lockTimeout bounds the wait for a table: who waits for ACCESS EXCLUSIVE makes every later statement wait behind it.
const lockTimeout = "5s"

// Protect marks a column and puts the guard on it, so that it holds tokens of the policy's column version or NULL.
//
// The column must be empty or hold such tokens already; clear values in it are an *Error with CodeHoldsValues, and what
// cannot be protected is one with CodeUnsupported and the reason. The service role must be a member of the table's
// owner. The table is locked while its rows are checked. Protecting a column again under the same policy puts back
// a guard that was dropped.
//
// Other nodes know of the column when they are told, usually within milliseconds. A statement they began before cannot
// store a clear value: the guard refuses it.
func (s *Store) Protect(ctx context.Context, database, schema, table, column, policy string) error {
	what := fmt.Sprintf("protect %s.%s.%s in database %q", schema, table, column, database)
	if err := s.Refresh(ctx); err != nil {
		return err
	}
	snapshot, err := s.Current()
	if err != nil {
		return err
	}
	p := snapshot.Policy(policy)
	if p == nil {
		if slices.ContainsFunc(snapshot.policyInfos, func(i PolicyInfo) bool { return i.Name == policy }) {
			return &Error{CodeTampered, fmt.Sprintf("policy %q cannot be used", policy), "`pgveil doctor` says why"}
		}
		return unknown("policy", policy)
	}
	conn, err := s.target(ctx, database)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		t, err := openTarget(ctx, tx, place{Database: database, Schema: schema, Table: table, Column: column})
		if err != nil {
			return err
		}
		if err := t.suits(ctx, tx, p); err != nil {
			return err
		}
		if err := t.guard(ctx, tx, p); err != nil {
			return err
		}
		if err := t.holdsOnlyTokens(ctx, tx, p); err != nil {
			return err
		}
		// The mark is committed while the table is still locked: nobody sees the one without the other.
		return s.mark(ctx, what, t.place, p)
	})
	if err != nil {
		return explain(what, err)
	}
	return s.Refresh(ctx)
}

// mark writes the protected column's row.
func (s *Store) mark(ctx context.Context, what string, at place, checked *Policy) error {
	return s.change(ctx, what, func(ctx context.Context, c *change) error {
		p, err := c.soundPolicy(ctx, checked.Name)
		if err == nil && p.ID != checked.ID { // dropped and made again since the column was checked under it
			err = unknown("policy", checked.Name)
		}
		if err != nil {
			return err
		}
		r := columnRow{place: at, PolicyID: p.ID}
		var old columnRow
		err = c.QueryRow(ctx, `SELECT id::text, database_name, schema_name, table_name, column_name, relid, attnum, policy_id::text, mac
			FROM pgveil.protected_column WHERE database_name = $1
			AND (relid = $2 AND attnum = $3 OR schema_name = $4 AND table_name = $5 AND column_name = $6)
			ORDER BY (relid = $2 AND attnum = $3) DESC LIMIT 1`, at.Database, at.RelID, at.Attnum, at.Schema, at.Table, at.Column).
			Scan(&old.ID, &old.Database, &old.Schema, &old.Table, &old.Column, &old.RelID, &old.Attnum, &old.PolicyID, &old.MAC)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			r.ID = newID()
			_, err = c.Exec(ctx, `INSERT INTO pgveil.protected_column
				(id, database_name, schema_name, table_name, column_name, relid, attnum, policy_id, mac)
				VALUES ($1::text::uuid, $2, $3, $4, $5, $6, $7, $8::text::uuid, $9)`,
				r.ID, r.Database, r.Schema, r.Table, r.Column, r.RelID, r.Attnum, r.PolicyID, c.sign(r))
			return err
		case err != nil:
			return err
		}
		if err := c.believe(old, "the row of this protected column"); err != nil {
			return err
		}
		if old.PolicyID != p.ID {
			return &Error{CodeExists, fmt.Sprintf("column %s.%s.%s is protected under another policy", at.Schema, at.Table, at.Column),
				"release it first: `pgveil column release`"}
		}
		if r.ID = old.ID; old.place == r.place {
			return nil
		}
		// Renamed directly, or dropped and made again, since it was protected.
		_, err = c.Exec(ctx, `UPDATE pgveil.protected_column SET schema_name = $2, table_name = $3, column_name = $4, relid = $5, attnum = $6, mac = $7
			WHERE id = $1::text::uuid`, r.ID, r.Schema, r.Table, r.Column, r.RelID, r.Attnum, c.sign(r))
		return err
	})
}

// Release takes guard and mark off a column. It is refused with CodeHoldsTokens while the column holds anything, unless
// force is given: its tokens would stay tokens and be read as they are. Where the column or its database is gone, the
// mark alone is removed.
func (s *Store) Release(ctx context.Context, database, schema, table, column string, force bool) error {
	what := fmt.Sprintf("release %s.%s.%s in database %q", schema, table, column, database)
	columns, err := s.Columns(ctx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(columns, func(c ColumnInfo) bool {
		return c.Database == database && c.Schema == schema && c.Table == table && c.Column == column
	})
	if i < 0 {
		return &Error{CodeUnknown, fmt.Sprintf("column %s.%s.%s in database %q is not protected", schema, table, column, database),
			"`pgveil column list` shows the protected ones"}
	}
	if !columns[i].Exists {
		return s.unmark(ctx, what, columns[i].id)
	}
	conn, err := s.target(ctx, database)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	return explain(what, pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		t, err := openTarget(ctx, tx, place{Database: database, Schema: schema, Table: table, Column: column})
		if err != nil {
			return err
		}
		if !force {
			var held bool
			err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM ONLY `+t.table()+` WHERE `+t.column()+` IS NOT NULL)`).Scan(&held)
			if err != nil {
				return err
			}
			if held {
				return &Error{CodeHoldsTokens, fmt.Sprintf("column %s.%s.%s holds tokens", schema, table, column),
					"released, they stay tokens and no role sees values any more; empty the column first, or force it"}
			}
		}
		if err := t.unguard(ctx, tx); err != nil {
			return err
		}
		return s.unmark(ctx, what, columns[i].id)
	}))
}

func (s *Store) unmark(ctx context.Context, what, id string) error {
	return s.change(ctx, what, func(ctx context.Context, c *change) error {
		_, err := c.Exec(ctx, `DELETE FROM pgveil.protected_column WHERE id = $1::text::uuid`, id)
		c.forget("column", id)
		c.dirty = true
		return err
	})
}

// target connects to the database a column is in, and sees to it that no row is hidden from the checks.
func (s *Store) target(ctx context.Context, database string) (*pgx.Conn, error) {
	conn, err := s.connect(ctx, database)
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == "3D000" { // invalid_catalog_name
		return nil, &Error{CodeUnknown, fmt.Sprintf("unknown database %q", database), "give the one the table is in with --database"}
	}
	if err != nil {
		return nil, err
	}
	// With row_security off a policy that would hide rows from the owner is an error instead.
	if _, err := conn.Exec(ctx, `SET lock_timeout = '`+lockTimeout+`'; SET row_security = off`); err != nil {
		closeConn(conn)
		return nil, err
	}
	return conn, nil
}

// target is a column that is being protected or released, its table locked.
type target struct {
	place
	typ           string
	length        int // of varchar(n), else 0
	kind          string
	persistence   string
	partition     bool
	inherits      bool
	generated     bool
	hasDefault    bool
	deterministic bool
}

func (t *target) table() string  { return pgx.Identifier{t.Schema, t.Table}.Sanitize() }
func (t *target) column() string { return pgx.Identifier{t.Column}.Sanitize() }

// openTarget locks the table and reads what decides whether the column can be protected.
func openTarget(ctx context.Context, tx pgx.Tx, at place) (*target, error) {
	t := &target{place: at}
	name := at.Schema + "." + at.Table
	err := tx.QueryRow(ctx, `SELECT c.oid, c.relkind::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = $1 AND c.relname = $2`, at.Schema, at.Table).Scan(&t.RelID, &t.kind)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, &Error{CodeUnknown, fmt.Sprintf("unknown table %s in database %q", name, at.Database),
			"give it as schema.table, and its database with --database"}
	}
	if err != nil {
		return nil, err
	}
	if why := notATable[t.kind]; why != "" {
		return nil, t.unsupported(why, "protect the columns of the tables behind it")
	}
	if _, err := tx.Exec(ctx, `LOCK TABLE ONLY `+t.table()+` IN ACCESS EXCLUSIVE MODE`); err != nil {
		return nil, err
	}
	err = tx.QueryRow(ctx, `
		SELECT c.oid, a.attnum, CASE WHEN t.typtype = 'd' THEN 'domain ' ELSE '' END || format_type(a.atttypid, NULL),
			CASE WHEN a.atttypid = 'varchar'::regtype AND a.atttypmod >= 4 THEN a.atttypmod - 4 ELSE 0 END,
			c.relkind::text, c.relpersistence::text, c.relispartition,
			EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid OR i.inhparent = c.oid),
			a.attgenerated <> '', a.atthasdef AND a.attgenerated = '', coalesce(l.collisdeterministic, true)
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
		JOIN pg_type t ON t.oid = a.atttypid
		LEFT JOIN pg_collation l ON l.oid = a.attcollation
		WHERE n.nspname = $1 AND c.relname = $2 AND a.attname = $3`, at.Schema, at.Table, at.Column).
		Scan(&t.RelID, &t.Attnum, &t.typ, &t.length, &t.kind, &t.persistence, &t.partition, &t.inherits,
			&t.generated, &t.hasDefault, &t.deterministic)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, &Error{CodeUnknown, fmt.Sprintf("unknown column %q of table %s in database %q", at.Column, name, at.Database), ""}
	}
	return t, err
}

// notATable says what else a relation can be (pg_class.relkind).
var notATable = map[string]string{
	"v": "a view's", "m": "a materialized view's", "f": "a foreign table's", "p": "a partitioned table's",
	"i": "an index's", "I": "an index's", "S": "a sequence's", "c": "a composite type's", "t": "a TOAST table's",
}

func (t *target) unsupported(why, hint string) error {
	return &Error{CodeUnsupported, fmt.Sprintf("column %s.%s.%s cannot be protected: it is %s", t.Schema, t.Table, t.Column, why), hint}
}

// typicalLen is the length of value for which a token must fit into a varchar(n) that is longer than that: addresses and
// numbers are shorter. A longer value whose token does not fit is an error when it is written, never cut.
const typicalLen = 64

// suits refuses the columns in which tokens would give wrong answers or would not do.
func (t *target) suits(ctx context.Context, tx pgx.Tx, p *Policy) error {
	switch {
	case t.Schema == "pgveil" || t.Schema == "information_schema" || strings.HasPrefix(t.Schema, "pg_"):
		return t.unsupported("a system table's", "")
	case t.persistence == "t":
		return t.unsupported("a temporary table's", "")
	case t.partition:
		return t.unsupported("a partition's", "partitioned tables are not supported yet")
	case t.inherits:
		return t.unsupported("of a table in an inheritance tree", "ALTER TABLE … NO INHERIT it first")
	case t.typ != "text" && t.typ != "character varying":
		return t.unsupported("of type "+t.typ, "only text and varchar columns can hold tokens")
	case t.generated:
		return t.unsupported("a generated column", "protect the column it is computed from, and drop this one")
	case t.hasDefault:
		return t.unsupported("given a DEFAULT, which would be a clear value", "ALTER TABLE … ALTER COLUMN … DROP DEFAULT")
	case !t.deterministic:
		return t.unsupported("of a nondeterministic collation, under which tokens of equal values differ", "ALTER TABLE … ALTER COLUMN … TYPE text COLLATE \"C\"")
	}
	if need := p.Transform.MaxTokenLen(min(t.length, typicalLen)); t.length > 0 && need > t.length {
		return t.unsupported(fmt.Sprintf("of type varchar(%d), and a token may take %d characters", t.length, need), "ALTER TABLE … ALTER COLUMN … TYPE text")
	}
	return t.dependents(ctx, tx)
}

// dependents refuses what PostgreSQL itself computes from the column: it would now compute it from tokens.
func (t *target) dependents(ctx context.Context, tx pgx.Tx) error {
	var generated, policy, index *string
	err := tx.QueryRow(ctx, `
		SELECT (SELECT min(o.attname::text) FROM pg_depend d
				LEFT JOIN pg_attrdef f ON d.classid = 'pg_attrdef'::regclass AND f.oid = d.objid
				JOIN pg_attribute o ON o.attrelid = f.adrelid AND o.attnum = f.adnum
					OR d.classid = 'pg_class'::regclass AND o.attrelid = d.objid AND o.attnum = d.objsubid -- before version 15
				WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = $1 AND d.refobjsubid = $2 AND o.attnum <> $2 AND o.attgenerated <> ''),
			(SELECT min(y.polname::text) FROM pg_depend d JOIN pg_policy y ON d.classid = 'pg_policy'::regclass AND y.oid = d.objid
				WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = $1 AND d.refobjsubid = $2),
			(SELECT min(r.relname::text) FROM pg_depend d JOIN pg_index i ON d.classid = 'pg_class'::regclass AND i.indexrelid = d.objid
				JOIN pg_class r ON r.oid = i.indexrelid
				WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = $1 AND d.refobjsubid = $2
				AND (i.indexprs IS NOT NULL OR i.indpred IS NOT NULL) AND (i.indisunique OR i.indisexclusion))`,
		t.RelID, t.Attnum).Scan(&generated, &policy, &index)
	switch {
	case err != nil:
		return err
	case generated != nil:
		return t.unsupported(fmt.Sprintf("what generated column %q is computed from", *generated), "drop the generated column")
	case policy != nil:
		return t.unsupported(fmt.Sprintf("named by row security policy %q", *policy), "drop the policy, or let it name another column")
	case index != nil:
		return t.unsupported(fmt.Sprintf("in the expression of unique index %q", *index), "drop the index, or make it one on the column itself")
	}
	return nil
}

// guard puts the guard on the column, in the place of an earlier one.
func (t *target) guard(ctx context.Context, tx pgx.Tx, p *Policy) error {
	if err := t.unguard(ctx, tx); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `ALTER TABLE ONLY `+t.table()+` ADD CONSTRAINT `+pgx.Identifier{guardName(t.Column)}.Sanitize()+
		` CHECK (`+engine.Guard(p.Policy, t.column())+`)`)
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == "23514" { // check_violation
		return t.holdsValues(p)
	}
	return err
}

func (t *target) holdsValues(p *Policy) error {
	return &Error{CodeHoldsValues, fmt.Sprintf("column %s.%s.%s holds values that are not tokens of policy %q", t.Schema, t.Table, t.Column, p.Name),
		"set it to NULL, protect it, and write the values again through the front-end"}
}

// unguard drops the guards of the column, under whatever name the column had then.
func (t *target) unguard(ctx context.Context, tx pgx.Tx) error {
	rows, err := tx.Query(ctx, `SELECT conname::text FROM pg_constraint
		WHERE conrelid = $1 AND contype = 'c' AND conkey = ARRAY[$2::int2] AND starts_with(conname::text, 'pgveil_guard_')`, t.RelID, t.Attnum)
	if err != nil {
		return err
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	for _, name := range names {
		if err == nil {
			_, err = tx.Exec(ctx, `ALTER TABLE ONLY `+t.table()+` DROP CONSTRAINT `+pgx.Identifier{name}.Sanitize())
		}
	}
	return err
}

// guardName is pgveil_guard_<column>, with a long name cut to what PostgreSQL keeps and made distinct again.
func guardName(column string) string {
	name := "pgveil_guard_" + column
	if len(name) <= maxNameLen {
		return name
	}
	return strings.ToValidUTF8(name[:maxNameLen-9], "") + "_" + shortHash(column)
}

// holdsOnlyTokens reads what the column holds. The guard knows a token by its structure; that it is one of the version
// the column is to be at, only the keys know, and a column of two versions would give wrong answers.
func (t *target) holdsOnlyTokens(ctx context.Context, tx pgx.Tx, p *Policy) error {
	rows, err := tx.Query(ctx, `SELECT `+t.column()+` FROM ONLY `+t.table()+` WHERE `+t.column()+` IS NOT NULL`, pgx.QueryResultFormats{pgx.TextFormatCode})
	if err != nil {
		return err
	}
	defer rows.Close()
	var plain []byte
	for rows.Next() {
		token := rows.RawValues()[0]
		if v, ok := p.Transform.Version(token); ok && v != p.ColumnVersion {
			return &Error{CodeHoldsValues, fmt.Sprintf("column %s.%s.%s holds tokens of key version %d; columns of policy %q are at version %d",
				t.Schema, t.Table, t.Column, v, p.Name, p.ColumnVersion), "set it to NULL, protect it, and write the values again through the front-end"}
		}
		if plain, err = p.Transform.AppendPlain(plain[:0], token); err != nil {
			return t.holdsValues(p)
		}
	}
	clear(plain[:cap(plain)])
	return rows.Err()
}
