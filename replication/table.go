package replication

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
)

// column is a column of a source table as it was when the stream was created.
type column struct {
	Name    string `json:"name"`
	Attnum  int16  `json:"attnum"`
	Type    string `json:"type"` // as format_type writes it with search_path pg_catalog
	TypeOID uint32 `json:"type_oid"`
	Typmod  int32  `json:"typmod"`
	Key     int    `json:"key,omitempty"`    // place in the primary key, from 1; 0 is outside
	Policy  string `json:"policy,omitempty"` // of a marked column

	generated bool
}

// table is a source table; its replica has the same name in the stream's schema.
type table struct {
	OID          uint32
	Schema, Name string
	Target       string // schema of the replica
	Columns      []column
	Protected    bool // Config.Protect has returned for each marked column

	facts tableFacts
}

// tableFacts are read from the source's catalog and decide whether a table can be copied.
type tableFacts struct {
	kind, persistence, identity  string
	partition, inherits, hasKids bool
	keyDeferrable                bool
	owned                        bool
}

func (t *table) String() string     { return fmt.Sprintf("table %q.%q", t.Schema, t.Name) }
func (t *table) sourceName() string { return pgx.Identifier{t.Schema, t.Name}.Sanitize() }
func (t *table) targetName() string { return pgx.Identifier{t.Target, t.Name}.Sanitize() }
func quoteName(s string) string     { return pgx.Identifier{s}.Sanitize() }
func (t *table) column(n string) *column {
	for i := range t.Columns {
		if t.Columns[i].Name == n {
			return &t.Columns[i]
		}
	}
	return nil
}

// key returns the indexes of the primary key's columns in the key's order.
func (t *table) key() []int {
	var k []int
	for i, c := range t.Columns {
		if c.Key > 0 {
			k = append(k, i)
		}
	}
	slices.SortFunc(k, func(a, b int) int { return t.Columns[a].Key - t.Columns[b].Key })
	return k
}

// keyNames names the key for an error text; key values never stand in one.
func (t *table) keyNames() string {
	var names []string
	for _, i := range t.key() {
		names = append(names, t.Columns[i].Name)
	}
	return strings.Join(names, ", ")
}

func (t *table) columnList() string {
	var b strings.Builder
	for i, c := range t.Columns {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(quoteName(c.Name))
	}
	return b.String()
}

func (t *table) marked() []column {
	return slices.Collect(func(yield func(column) bool) {
		for _, c := range t.Columns {
			if c.Policy != "" && !yield(c) {
				return
			}
		}
	})
}

// candidates lists what a pattern may match: everything that holds rows, outside PostgreSQL's schemas and ours.
const candidates = `SELECT c.oid, n.nspname, c.relname
	FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
	WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND n.nspname <> 'pgveil'
	  AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
	ORDER BY 2, 3`

const describe = `SELECT c.oid, n.nspname, c.relname, c.relkind::text, c.relpersistence::text, c.relreplident::text, c.relispartition,
		EXISTS (SELECT FROM pg_inherits h WHERE h.inhrelid = c.oid),
		EXISTS (SELECT FROM pg_inherits h WHERE h.inhparent = c.oid),
		i.indexrelid IS NOT NULL AND NOT i.indimmediate, pg_has_role(c.relowner, 'USAGE'),
		a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.atttypid, a.atttypmod, a.attgenerated <> '',
		coalesce((SELECT k.ord FROM unnest(i.indkey::int2[]) WITH ORDINALITY k(num, ord) WHERE k.num = a.attnum AND k.ord <= i.indnkeyatts), 0)::int
	FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
	LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary AND i.indisvalid
	LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
	WHERE c.oid = ANY($1)
	ORDER BY n.nspname, c.relname, a.attnum`

// describeTables reads tables of the source by OID. A table that is gone is absent from the result.
func describeTables(ctx context.Context, q querier, oids []uint32) ([]*table, error) {
	rows, err := q.Query(ctx, describe, oids)
	if err != nil {
		return nil, sqlError("describe the source's tables", err)
	}
	defer rows.Close()
	var tables []*table
	for rows.Next() {
		var t table
		var attnum *int16
		var name, typ *string
		var oid *uint32
		var mod *int32
		var gen *bool
		var key int
		f := &t.facts
		if err := rows.Scan(&t.OID, &t.Schema, &t.Name, &f.kind, &f.persistence, &f.identity, &f.partition, &f.inherits, &f.hasKids,
			&f.keyDeferrable, &f.owned, &attnum, &name, &typ, &oid, &mod, &gen, &key); err != nil {
			return nil, sqlError("describe the source's tables", err)
		}
		if len(tables) == 0 || tables[len(tables)-1].OID != t.OID {
			tables = append(tables, &t)
		}
		if attnum != nil {
			last := tables[len(tables)-1]
			last.Columns = append(last.Columns, column{Name: *name, Attnum: *attnum, Type: *typ, TypeOID: *oid,
				Typmod: *mod, Key: key, generated: *gen})
		}
	}
	return tables, sqlError("describe the source's tables", rows.Err())
}

// usable refuses what the stream could not keep equal to the source.
func (t *table) usable() error {
	refuse := func(reason, hint string) error {
		return &Refused{Reason: fmt.Sprintf("%s %s", t, reason), Hint: hint}
	}
	f := t.facts
	switch {
	case f.kind != "r" || f.partition:
		return refuse("is partitioned or a partition", "partitioned tables are not replicated yet; leave it out of --tables")
	case f.persistence != "p":
		return refuse("is unlogged, so its changes are in no WAL", "ALTER TABLE … SET LOGGED")
	case f.inherits || f.hasKids:
		return refuse("has an inheritance parent or child", "leave it out of --tables")
	case len(t.key()) == 0:
		return refuse("has no primary key", "add a primary key, so that an update can name its row")
	case f.keyDeferrable:
		return refuse("has a deferrable primary key, which is no replica identity", "make the primary key not deferrable")
	case f.identity != "d" && f.identity != "f":
		return refuse("has a replica identity that is not its primary key", "ALTER TABLE … REPLICA IDENTITY DEFAULT")
	case !f.owned:
		return refuse("is not owned by the source's role, so it cannot be added to a publication", "use the owner's role, or be a member of it")
	}
	for _, c := range t.Columns {
		switch {
		case c.generated:
			return refuse(fmt.Sprintf("has the generated column %q, which would be computed over tokens", c.Name),
				"tables with generated columns are not replicated yet")
		case c.Policy != "" && !c.markable():
			return refuse(fmt.Sprintf("has the marked column %q of type %s", c.Name, c.Type),
				"only columns of type text and character varying can be marked yet")
		}
	}
	return nil
}

// Type OIDs of pg_type.dat, which never change.
const (
	oidText    = 25
	oidVarchar = 1043
)

func (c column) markable() bool { return c.TypeOID == oidText || c.TypeOID == oidVarchar }

// targetType is the type of the column in the replica: the source's, but text where a token may be longer than the
// source's varchar(n) allows.
func (c column) targetType(tok Tokenizer) string {
	if c.Policy == "" || c.TypeOID != oidVarchar || c.Typmod < 0 {
		return c.Type
	}
	// atttypmod of varchar(n) is n plus the four bytes of the length word.
	if n := int(c.Typmod) - 4; tok.MaxTokenLen(n) > n {
		return "text"
	}
	return c.Type
}

// differs says how the source's table departs from the one that was copied, or "". Positions count, because a
// tuple of the stream names no columns.
func (t *table) differs(now *table) string {
	if t.Schema != now.Schema || t.Name != now.Name {
		return fmt.Sprintf("the table was renamed to %q.%q at the source", now.Schema, now.Name)
	}
	for _, c := range now.Columns {
		if t.column(c.Name) == nil {
			return fmt.Sprintf("the source has a column %q that was not copied (added or renamed)", c.Name)
		}
	}
	for i, c := range t.Columns {
		n := now.column(c.Name)
		switch {
		case n == nil:
			return fmt.Sprintf("column %q is gone at the source", c.Name)
		case n.TypeOID != c.TypeOID || n.Typmod != c.Typmod:
			return fmt.Sprintf("column %q has another type at the source", c.Name)
		case n.Attnum != 0 && n.Attnum != c.Attnum, now.Columns[i].Name != c.Name:
			return fmt.Sprintf("column %q was dropped and added again at the source", c.Name)
		case n.Key != c.Key:
			return "the primary key was changed at the source"
		case n.generated:
			return fmt.Sprintf("column %q became a generated column", c.Name)
		}
	}
	return ""
}

// sameRelation compares a Relation message with the table. The message has no attnum, and flags the replica identity
// instead of the key: every column under REPLICA IDENTITY FULL.
func (t *table) sameRelation(m *pglogrepl.RelationMessage) string {
	now := &table{Schema: m.Namespace, Name: m.RelationName}
	for _, c := range m.Columns {
		n := column{Name: c.Name, TypeOID: c.DataType, Typmod: c.TypeModifier}
		if old := t.column(c.Name); old != nil && (m.ReplicaIdentity == 'f' || (c.Flags&1 == 1) == (old.Key > 0)) {
			n.Key = old.Key
		} else if old != nil {
			n.Key = -1
		}
		now.Columns = append(now.Columns, n)
	}
	if m.ReplicaIdentity != 'd' && m.ReplicaIdentity != 'f' {
		return "the replica identity was changed at the source"
	}
	return t.differs(now)
}
