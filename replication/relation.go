package replication

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pglogrepl"
)

// relation is a table as the source announced it in this session: one of the stream's, or pgveil.mark.
type relation struct {
	t      *table
	marks  bool
	tokens []Tokenizer // by column; nil passes
	key    []int       // the primary key's columns in its order

	insertSQL, deleteSQL string
}

// relation judges a Relation message. The source sends one before the first row of a table, and again after anything
// that may have changed it. Columns are compared with those that were copied, by the message, which is in order with
// the rows, and by the catalog, which knows what the message does not: whether a column was dropped and added again.
func (a *applier) relation(ctx context.Context, m *pglogrepl.RelationMessage) error {
	if m.Namespace == "pgveil" && m.RelationName == "mark" {
		a.relations[m.RelationID] = &relation{marks: true}
		return nil
	}
	var t *table
	for _, known := range a.c.Tables {
		if known.OID == m.RelationID {
			t = known
		}
	}
	if t == nil {
		return needsResync(nil, "the publication has table %q.%q, which was not copied", m.Namespace, m.RelationName)
	}
	if d := t.sameRelation(m); d != "" {
		return stopped(t, "%s", d)
	}
	if err := a.check(ctx); err != nil {
		return err
	}
	a.relations[m.RelationID] = newRelation(t, a.tokenizers)
	return nil
}

func newRelation(t *table, tokenizers map[string]Tokenizer) *relation {
	r := &relation{t: t, key: t.key(), tokens: make([]Tokenizer, len(t.Columns))}
	params := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		params[i] = "$" + strconv.Itoa(i+1)
		if c.Policy != "" {
			r.tokens[i] = tokenizers[c.Policy]
		}
	}
	r.insertSQL = "INSERT INTO " + t.targetName() + " (" + t.columnList() + ") VALUES (" + strings.Join(params, ", ") + ")"
	r.deleteSQL = "DELETE FROM ONLY " + t.targetName() + " WHERE " + r.where(1)
	return r
}

// where compares the primary key with parameters from $first.
func (r *relation) where(first int) string {
	var b strings.Builder
	for n, i := range r.key {
		if n > 0 {
			b.WriteString(" AND ")
		}
		fmt.Fprintf(&b, "%s = $%d", quoteName(r.t.Columns[i].Name), first+n)
	}
	return b.String()
}

// value is a column of a tuple as it goes into the replica; nil is NULL.
func (r *relation) value(a *applier, i int, c *pglogrepl.TupleDataColumn) ([]byte, error) {
	switch c.DataType {
	case pglogrepl.TupleDataTypeNull:
		return nil, nil
	case pglogrepl.TupleDataTypeText:
		if r.tokens[i] == nil {
			return c.Data, nil
		}
		token, err := tokenize(r.tokens[i], c.Data)
		if err != nil {
			return nil, stopped(r.t, "column %q of a row (key: %s) in the transaction that commits at %s: %v",
				r.t.Columns[i].Name, r.t.keyNames(), a.final, err)
		}
		return token, nil
	}
	return nil, stopped(r.t, "column %q came as %q, which cannot be applied", r.t.Columns[i].Name, c.DataType)
}

func (r *relation) check(tuple *pglogrepl.TupleData) error {
	if tuple == nil || len(tuple.Columns) != len(r.t.Columns) {
		return errShape
	}
	return nil
}

func (r *relation) insert(ctx context.Context, a *applier, tuple *pglogrepl.TupleData) error {
	if r.marks {
		return r.setMark(a, tuple)
	}
	if err := r.check(tuple); err != nil {
		return err
	}
	params := make([][]byte, len(tuple.Columns))
	var err error
	for i, c := range tuple.Columns {
		if params[i], err = r.value(a, i, c); err != nil {
			return err
		}
	}
	return a.exec(ctx, 'I', r.t, fmt.Sprintf("i%d", r.t.OID), r.insertSQL, params)
}

// keyParams appends the key's values: from old where the message has it (the key changed, or REPLICA IDENTITY FULL),
// else from row.
func (r *relation) keyParams(a *applier, params [][]byte, old, row *pglogrepl.TupleData) ([][]byte, error) {
	if old == nil {
		old = row
	}
	if err := r.check(old); err != nil {
		return nil, err
	}
	for _, i := range r.key {
		v, err := r.value(a, i, old.Columns[i])
		if err != nil {
			return nil, err
		}
		if v == nil {
			return nil, stopped(r.t, "key column %q came without a value", r.t.Columns[i].Name)
		}
		params = append(params, v)
	}
	return params, nil
}

// update sets every column the message carries. An unchanged TOASTed value is not in it and stays as it is; that is
// why a changed key is an UPDATE of the old row and not a delete and an insert, which would lose it.
func (r *relation) update(ctx context.Context, a *applier, old, row *pglogrepl.TupleData) error {
	if r.marks {
		return r.changeMark(a, old, row)
	}
	if err := r.check(row); err != nil {
		return err
	}
	var set, shape strings.Builder
	params := make([][]byte, 0, len(row.Columns)+len(r.key))
	for i, c := range row.Columns {
		if c.DataType == pglogrepl.TupleDataTypeToast {
			fmt.Fprintf(&shape, "_%d", i)
			continue
		}
		v, err := r.value(a, i, c)
		if err != nil {
			return err
		}
		params = append(params, v)
		if len(params) > 1 {
			set.WriteString(", ")
		}
		fmt.Fprintf(&set, "%s = $%d", quoteName(r.t.Columns[i].Name), len(params))
	}
	if len(params) == 0 {
		return nil // nothing the source would have had to write
	}
	sql := "UPDATE ONLY " + r.t.targetName() + " SET " + set.String() + " WHERE " + r.where(len(params)+1)
	params, err := r.keyParams(a, params, old, row)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("u%d%s", r.t.OID, shape.String())
	return a.exec(ctx, 'U', r.t, name, sql, params)
}

func (r *relation) remove(ctx context.Context, a *applier, old *pglogrepl.TupleData) error {
	if r.marks {
		return r.unsetMark(a, old)
	}
	params, err := r.keyParams(a, nil, old, nil)
	if err != nil {
		return err
	}
	return a.exec(ctx, 'D', r.t, fmt.Sprintf("d%d", r.t.OID), r.deleteSQL, params)
}

// The rows of pgveil.mark are not applied. One that changes what the copy was made with ends the stream at that very
// place, before a row that follows it.

func markOf(tuple *pglogrepl.TupleData) (Mark, error) {
	if tuple == nil || len(tuple.Columns) < 4 {
		return Mark{}, errShape
	}
	c := tuple.Columns
	return Mark{string(c[0].Data), string(c[1].Data), string(c[2].Data), string(c[3].Data)}, nil
}

func (r *relation) setMark(a *applier, tuple *pglogrepl.TupleData) error {
	m, err := markOf(tuple)
	if err != nil {
		return err
	}
	return a.marked(m)
}

func (r *relation) unsetMark(a *applier, old *pglogrepl.TupleData) error {
	m, err := markOf(old)
	if err != nil {
		return err
	}
	m.Policy = ""
	return a.marked(m)
}

func (r *relation) changeMark(a *applier, old, row *pglogrepl.TupleData) error {
	if old != nil {
		if err := r.unsetMark(a, old); err != nil {
			return err
		}
	}
	return r.setMark(a, row)
}

func (r *relation) truncateMarks(a *applier) error {
	for _, t := range a.c.Tables {
		for _, c := range t.marked() {
			return needsResync(t, "the mark of column %q was removed at the source", c.Name)
		}
	}
	return nil
}

// marked compares a mark with the one the table was copied with; an empty policy is a mark that went away.
func (a *applier) marked(m Mark) error {
	for _, t := range a.c.Tables {
		if t.Schema != m.Schema || t.Name != m.Table {
			continue
		}
		if c := t.column(m.Column); c == nil && m.Policy != "" || c != nil && c.Policy != m.Policy {
			return needsResync(t, "the mark of column %q was changed at the source", m.Column)
		}
	}
	return nil
}
