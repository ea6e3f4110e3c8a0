package replication

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
)

// stateTables stand in the target database, because the checkpoint must commit with the rows it speaks of.
//
// replica_checkpoint.lsn is NULL until the copy is visible. epoch is the fence: whoever leads has raised it, and every
// transaction of the worker updates the row WHERE epoch is its own. slot_made says that a slot of this name can be
// only ours. Rows hold names, counts and reasons, never a value.
const stateTables = `
CREATE TABLE IF NOT EXISTS pgveil.replica_checkpoint (
	stream            text PRIMARY KEY,
	slot              text NOT NULL,
	publication       text NOT NULL,
	published         text NOT NULL,
	target_schema     text NOT NULL,
	source_database   text NOT NULL,
	system_identifier text NOT NULL,
	timeline          integer NOT NULL,
	slot_made         boolean NOT NULL DEFAULT false,
	lsn               pg_lsn,
	source_lsn        pg_lsn,
	epoch             bigint NOT NULL DEFAULT 0,
	phase             text NOT NULL DEFAULT 'pending' CHECK (phase IN ('pending', 'copying', 'streaming', 'stopped', 'needs_resync')),
	reason            text NOT NULL DEFAULT '',
	committed_at      timestamptz,
	updated_at        timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE IF NOT EXISTS pgveil.replica_table (
	stream        text NOT NULL REFERENCES pgveil.replica_checkpoint ON DELETE CASCADE,
	source_schema text NOT NULL,
	source_table  text NOT NULL,
	source_oid    oid NOT NULL,
	columns       jsonb NOT NULL,
	protected     boolean NOT NULL DEFAULT false,
	phase         text NOT NULL DEFAULT 'pending' CHECK (phase IN ('pending', 'copying', 'streaming', 'stopped', 'needs_resync')),
	rows_copied   bigint NOT NULL DEFAULT 0,
	reason        text NOT NULL DEFAULT '',
	PRIMARY KEY (stream, source_schema, source_table)
);
`

// checkpoint is a stream's row of pgveil.replica_checkpoint with its tables.
type checkpoint struct {
	Slot, Publication, Published string
	Schema, SourceDatabase       string
	SystemID                     string
	Timeline                     int32
	SlotMade                     bool
	LSN                          *pglogrepl.LSN
	Epoch                        int64
	Tables                       []*table
}

// lead raises the epoch and returns the stream's state. It waits for a transaction of an earlier epoch that is about
// to commit, so that the checkpoint it reads is the last one: also where the answer to a COMMIT was lost.
func lead(ctx context.Context, q querier, stream string) (*checkpoint, error) {
	var c checkpoint
	var lsn *string
	err := q.QueryRow(ctx, `UPDATE pgveil.replica_checkpoint SET epoch = epoch + 1 WHERE stream = $1
		RETURNING slot, publication, published, target_schema, source_database, system_identifier, timeline, slot_made, lsn::text, epoch`,
		stream).Scan(&c.Slot, &c.Publication, &c.Published, &c.Schema, &c.SourceDatabase, &c.SystemID, &c.Timeline, &c.SlotMade, &lsn, &c.Epoch)
	switch {
	case errors.Is(err, pgx.ErrNoRows) || sqlState(err) == "42P01" || sqlState(err) == "3F000":
		return nil, ErrUnknownStream
	case err != nil:
		return nil, sqlError("read the checkpoint", err)
	}
	if lsn != nil {
		l, err := pglogrepl.ParseLSN(*lsn)
		if err != nil {
			return nil, sqlError("read the checkpoint", err)
		}
		c.LSN = &l
	}
	c.Tables, err = loadTables(ctx, q, stream, c.Schema)
	return &c, err
}

func loadTables(ctx context.Context, q querier, stream, schema string) ([]*table, error) {
	rows, err := q.Query(ctx, `SELECT source_oid, source_schema, source_table, columns, protected
		FROM pgveil.replica_table WHERE stream = $1 ORDER BY source_schema, source_table`, stream)
	if err != nil {
		return nil, sqlError("read pgveil.replica_table", err)
	}
	tables, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*table, error) {
		t := &table{Target: schema}
		var columns []byte
		if err := row.Scan(&t.OID, &t.Schema, &t.Name, &columns, &t.Protected); err != nil {
			return nil, err
		}
		return t, json.Unmarshal(columns, &t.Columns)
	})
	return tables, sqlError("read pgveil.replica_table", err)
}

// saveStream records a new stream.
func saveStream(ctx context.Context, q querier, stream string, c *checkpoint) error {
	_, err := q.Exec(ctx, `INSERT INTO pgveil.replica_checkpoint
		(stream, slot, publication, published, target_schema, source_database, system_identifier, timeline)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		stream, c.Slot, c.Publication, c.Published, c.Schema, c.SourceDatabase, c.SystemID, c.Timeline)
	if err != nil {
		return sqlError("record the stream", err)
	}
	for _, t := range c.Tables {
		columns, err := json.Marshal(t.Columns)
		if err != nil {
			return sqlError("record the stream", err)
		}
		_, err = q.Exec(ctx, `INSERT INTO pgveil.replica_table (stream, source_schema, source_table, source_oid, columns, protected)
			VALUES ($1, $2, $3, $4, $5, $6)`, stream, t.Schema, t.Name, t.OID, columns, t.Protected)
		if err != nil {
			return sqlError("record the stream", err)
		}
	}
	return nil
}

// advance moves the checkpoint inside the caller's transaction; $6 says that what may have stopped the stream is past. errFenced means that the transaction must not commit.
const advance = `UPDATE pgveil.replica_checkpoint SET lsn = $3::text::pg_lsn,
	source_lsn = greatest(source_lsn, $3::text::pg_lsn, $4::text::pg_lsn),
	committed_at = coalesce($5::text::timestamptz, committed_at), updated_at = clock_timestamp(),
	phase = CASE WHEN $6::text::boolean THEN 'streaming' ELSE phase END,
	reason = CASE WHEN $6::text::boolean THEN '' ELSE reason END WHERE stream = $1 AND epoch = $2::text::bigint`

// advanceParams are advance's parameters in text format.
func advanceParams(stream string, epoch []byte, lsn, sourceLSN pglogrepl.LSN, committed time.Time, past bool) [][]byte {
	var at []byte
	if !committed.IsZero() {
		at = committed.UTC().AppendFormat(nil, "2006-01-02 15:04:05.999999+00")
	}
	return [][]byte{[]byte(stream), epoch, []byte(lsn.String()), []byte(sourceLSN.String()), at, strconv.AppendBool(nil, past)}
}
