package replication

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"pgveil/internal/secret"
)

// Phase is how far a table of a stream is.
type Phase string

const (
	Pending     Phase = "pending"      // created, not begun
	Copying     Phase = "copying"      // the snapshot is on its way into staging tables
	Streaming   Phase = "streaming"    // visible, and following the source
	Stopped     Phase = "stopped"      // something cannot be applied; tried again every Config.RetryStopped
	NeedsResync Phase = "needs_resync" // going on would leave a gap: drop the stream and create it anew
)

// TableStatus is the state of one table of a stream.
type TableStatus struct {
	Stream       string     `json:"stream"`
	SourceSchema string     `json:"source_schema"`
	Table        string     `json:"table"` // has the same name on both sides
	TargetSchema string     `json:"target_schema"`
	Protected    []string   `json:"protected"` // the marked columns
	Phase        Phase      `json:"phase"`
	RowsCopied   int64      `json:"rows_copied"` // by the snapshot
	LSN          string     `json:"lsn"`         // the source is applied up to here; "" before the copy is visible
	LagBytes     int64      `json:"lag_bytes"`   // WAL of the source, as last heard of, beyond LSN; -1 before the copy is visible
	LastCommit   *time.Time `json:"last_commit"` // at the source, of the last transaction applied; nil before the first
	Updated      time.Time  `json:"updated"`     // when the worker last moved the stream
	Reason       string     `json:"reason"`      // of the phase, or of a retry that is going on; never holds a value
}

const statusQuery = `SELECT t.stream, t.source_schema, t.source_table, c.target_schema,
		ARRAY(SELECT e->>'name' FROM jsonb_array_elements(t.columns) e WHERE e->>'policy' <> ''),
		CASE WHEN c.phase IN ('stopped', 'needs_resync') THEN c.phase ELSE t.phase END,
		t.rows_copied, coalesce(c.lsn::text, ''), coalesce(greatest(c.source_lsn - c.lsn, 0), -1)::bigint,
		c.committed_at, c.updated_at, CASE WHEN t.reason <> '' AND c.phase IN ('stopped', 'needs_resync') THEN t.reason ELSE c.reason END
	FROM pgveil.replica_table t JOIN pgveil.replica_checkpoint c USING (stream)
	WHERE $1 IN ('', t.stream)
	ORDER BY t.stream, t.source_schema, t.source_table`

// Status returns the state of each table of a stream, or of all streams if stream is "". It asks the target database
// alone, so it answers while the source is away; a database without streams has none.
func Status(ctx context.Context, targetDSN secret.Bytes, stream string) ([]TableStatus, error) {
	conn, err := connect(ctx, target, targetDSN)
	if err != nil {
		return nil, err
	}
	defer closeConn(conn)
	rows, _ := conn.Query(ctx, statusQuery, stream) // CollectRows gives its error too
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[TableStatus])
	if s := sqlState(err); s == "42P01" || s == "3F000" {
		return nil, nil // nobody has created a stream here
	}
	return list, sqlError("read the streams' state", err)
}
