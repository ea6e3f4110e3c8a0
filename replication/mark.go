package replication

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// A Mark says that a column of the source holds values of a policy, so that its replica holds their tokens.
// The marks of a source stand in its table pgveil.mark, which is in every stream's publication: a mark that is
// changed later reaches the worker in order with the rows it concerns.
type Mark struct {
	Schema, Table, Column string
	Policy                string
}

// ParseMark reads SCHEMA.TABLE.COLUMN=POLICY. A name with a dot, an equals sign or a quote in it is written in double
// quotes, as in SQL; names are taken as they stand, without case folding.
func ParseMark(s string) (Mark, error) {
	names, rest, err := splitNames(s, "=")
	if err != nil || len(names) != 3 || len(rest) < 2 || rest[0] != '=' {
		return Mark{}, fmt.Errorf("mark %q: want schema.table.column=policy", s)
	}
	for _, n := range names {
		if n.text == "" {
			return Mark{}, fmt.Errorf("mark %q: want schema.table.column=policy", s)
		}
	}
	return Mark{Schema: names[0].text, Table: names[1].text, Column: names[2].text, Policy: rest[1:]}, nil
}

// String returns the form ParseMark reads.
func (m Mark) String() string {
	var b strings.Builder
	for i, n := range []string{m.Schema, m.Table, m.Column} {
		if i > 0 {
			b.WriteByte('.')
		}
		if strings.ContainsAny(n, `.="*?`) {
			n = pgx.Identifier{n}.Sanitize()
		}
		b.WriteString(n)
	}
	return b.String() + "=" + m.Policy
}

// markTable is created at the source. Its primary key is its replica identity.
const markTable = `CREATE TABLE pgveil.mark (
	schema_name text NOT NULL,
	table_name  text NOT NULL,
	column_name text NOT NULL,
	policy      text NOT NULL,
	PRIMARY KEY (schema_name, table_name, column_name)
)`

// ensureMarkTable makes schema pgveil and pgveil.mark at the source if they are missing. It asks first, since
// CREATE SCHEMA IF NOT EXISTS wants the right to create even where the schema exists.
func ensureMarkTable(ctx context.Context, tx pgx.Tx) error {
	var schema, table bool
	err := tx.QueryRow(ctx, `SELECT to_regnamespace('pgveil') IS NOT NULL, to_regclass('pgveil.mark') IS NOT NULL`).Scan(&schema, &table)
	if err != nil {
		return sqlError("look for pgveil.mark", err)
	}
	if !schema {
		if _, err := tx.Exec(ctx, `CREATE SCHEMA pgveil`); err != nil {
			return sqlError("create schema pgveil at the source", err)
		}
	}
	if !table {
		if _, err := tx.Exec(ctx, markTable); err != nil {
			return sqlError("create pgveil.mark at the source", err)
		}
	}
	return nil
}

// writeMarks adds marks. One that stands already with another policy is refused, because another stream may have
// copied the column under it.
func writeMarks(ctx context.Context, tx pgx.Tx, marks []Mark) error {
	for _, m := range marks {
		var policy string
		err := tx.QueryRow(ctx, `INSERT INTO pgveil.mark AS m VALUES ($1, $2, $3, $4)
			ON CONFLICT (schema_name, table_name, column_name) DO NOTHING RETURNING policy`,
			m.Schema, m.Table, m.Column, m.Policy).Scan(&policy)
		if err == pgx.ErrNoRows {
			err = tx.QueryRow(ctx, `SELECT policy FROM pgveil.mark WHERE schema_name = $1 AND table_name = $2 AND column_name = $3`,
				m.Schema, m.Table, m.Column).Scan(&policy)
		}
		if err != nil {
			return sqlError("write pgveil.mark", err)
		}
		if policy != m.Policy {
			return &Refused{
				Reason: fmt.Sprintf("%s.%s.%s is marked at the source with policy %q already", m.Schema, m.Table, m.Column, policy),
				Hint:   "change the row in pgveil.mark first; streams that copied the column must be created anew",
			}
		}
	}
	return nil
}

func readMarks(ctx context.Context, q querier) ([]Mark, error) {
	rows, err := q.Query(ctx, `SELECT schema_name, table_name, column_name, policy FROM pgveil.mark ORDER BY 1, 2, 3`)
	if err != nil {
		return nil, sqlError("read pgveil.mark", err)
	}
	marks, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Mark])
	if err != nil {
		return nil, sqlError("read pgveil.mark", err)
	}
	return marks, nil
}
