package replication

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
)

// update changes columns of the checkpoint row in a transaction of its own, while the stream is ours.
func (s *session) update(ctx context.Context, set string) error {
	tag, err := s.dst.Exec(ctx, `UPDATE pgveil.replica_checkpoint SET `+set+`, updated_at = clock_timestamp()
		WHERE stream = $1 AND epoch = $2`, s.cfg().Name, s.c.Epoch)
	if err == nil && tag.RowsAffected() != 1 {
		return errFenced
	}
	return sqlError("write the checkpoint", err)
}

// copyAll copies every table as it was when the slot was made, and makes all of them visible in the transaction that
// writes the first checkpoint. A copy that is interrupted starts over: its snapshot is gone with its connection.
func (s *session) copyAll(ctx context.Context) error {
	if err := protect(ctx, s.dst, s.cfg(), s.c.Tables); err != nil {
		return err
	}
	at, snapshot, err := s.makeSlot(ctx)
	if err != nil {
		return err
	}
	s.w.cfg.Metrics.setPhase(s.cfg().Name, Copying)
	s.w.log.Info("replication copies", "tables", len(s.c.Tables), "lsn", at.String())
	tx, err := s.src.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return sqlError("begin at the source", err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	// The name comes from the server and is hexadecimal; SET takes no parameter.
	if _, err := tx.Exec(ctx, "SET TRANSACTION SNAPSHOT '"+snapshot+"'"); err != nil {
		return sqlError("take the slot's snapshot", err)
	}
	if err := s.checkSnapshot(ctx, tx); err != nil {
		return err
	}
	if err := s.dropStaging(ctx, s.dst); err != nil {
		return err
	}
	rows := make([]int64, len(s.c.Tables))
	for i, t := range s.c.Tables {
		if rows[i], err = s.copyTable(ctx, i, t); err != nil {
			return err
		}
	}
	return s.publish(ctx, at, rows)
}

// checkSnapshot looks for what happened at the source between Create and the snapshot, and between the snapshot and
// our locks. A rewriting ALTER TABLE in the latter gap leaves a table that looks empty to the snapshot (PostgreSQL
// manual, "MVCC Caveats"): its file is another one than the snapshot's catalog says.
func (s *session) checkSnapshot(ctx context.Context, tx pgx.Tx) error {
	var oids []uint32
	for _, t := range s.c.Tables {
		oids = append(oids, t.OID)
		if _, err := tx.Exec(ctx, `LOCK TABLE ONLY `+t.sourceName()+` IN ACCESS SHARE MODE`); err != nil {
			return sqlError("lock "+t.sourceName(), err)
		}
	}
	var moved int
	err := tx.QueryRow(ctx, `SELECT count(*) FROM pg_class WHERE oid = ANY($1) AND relfilenode IS DISTINCT FROM pg_relation_filenode(oid)`, oids).Scan(&moved)
	if err != nil {
		return sqlError("look at the source's tables", err)
	}
	if moved > 0 {
		return errors.New("a table was rewritten or truncated while its snapshot was taken; taking another")
	}
	if err := s.check(ctx); err != nil { // runs in tx, whose connection it uses
		return err
	}
	now, err := describeTables(ctx, tx, oids)
	if err != nil {
		return err
	}
	marks, err := readMarks(ctx, tx)
	if err != nil {
		return err
	}
	if _, err := setPolicies(now, marks); err != nil {
		return needsResync(nil, "%v", err)
	}
	for _, t := range s.c.Tables {
		for _, n := range now {
			if n.OID != t.OID {
				continue
			}
			for _, col := range t.Columns {
				if c := n.column(col.Name); c != nil && c.Policy != col.Policy {
					return needsResync(t, "the mark of column %q was changed at the source before the copy", col.Name)
				}
			}
		}
	}
	return nil
}

// stage names the staging table of the i-th table. The epoch keeps a worker that lost the stream, and does not know it
// yet, out of its successor's.
func (s *session) stage(i int) string {
	return pgx.Identifier{"pgveil", fmt.Sprintf("stage_%s_%d_%d", s.cfg().Name, s.c.Epoch, i)}.Sanitize()
}

func (s *session) dropStaging(ctx context.Context, q querier) error {
	return dropStaging(ctx, q, s.cfg().Name)
}

func dropStaging(ctx context.Context, q querier, stream string) error {
	rows, err := q.Query(ctx, `SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = 'pgveil' AND c.relkind = 'r' AND c.relname ~ ('^stage_' || $1 || '_[0-9]+_[0-9]+$')`, stream)
	if err != nil {
		return sqlError("look for staging tables", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return sqlError("look for staging tables", err)
	}
	for _, n := range names {
		if _, err := q.Exec(ctx, `DROP TABLE `+pgx.Identifier{"pgveil", n}.Sanitize()); err != nil {
			return sqlError("drop a staging table", err)
		}
	}
	return nil
}

// copyTable copies one table into its staging table, tokens in place of marked values, and returns the rows copied.
// The staging table is ours alone: no reader holds a right on it.
func (s *session) copyTable(ctx context.Context, i int, t *table) (int64, error) {
	// Not LIKE the replica with its constraints: those are checked when the rows move there.
	if _, err := s.dst.Exec(ctx, `CREATE UNLOGGED TABLE `+s.stage(i)+` (LIKE `+t.targetName()+`)`); err != nil {
		return 0, sqlError("create a staging table", err)
	}
	if _, err := s.dst.Exec(ctx, `UPDATE pgveil.replica_table SET phase = 'copying', rows_copied = 0
		WHERE stream = $1 AND source_schema = $2 AND source_table = $3`, s.cfg().Name, t.Schema, t.Name); err != nil {
		return 0, sqlError("write the table's phase", err)
	}
	pr, pw := io.Pipe()
	buffered := bufio.NewWriterSize(pw, copyBufferBytes) // the source sends row by row
	tf := &copyTransformer{w: buffered, tokenizers: make([]Tokenizer, len(t.Columns))}
	for n, col := range t.Columns {
		if col.Policy != "" {
			tf.tokenizers[n] = s.tokenizers[col.Policy]
		}
	}
	counted := s.w.cfg.Metrics.copied.WithLabelValues(s.cfg().Name)
	var seen int64
	tf.each = func(rows int64) {
		counted.Add(float64(rows - seen))
		seen = rows
		s.progress(t, rows)
		s.w.hook("mid-copy")
	}
	read := make(chan error, 1)
	var sent int64
	go func() { // ends when the source is read, or when the pipe is closed below
		tag, err := s.src.PgConn().CopyTo(ctx, tf, "COPY "+t.sourceName()+" ("+t.columnList()+") TO STDOUT")
		sent = tag.RowsAffected()
		if err == nil {
			tf.each(tf.rows)
			err = buffered.Flush()
		}
		if err != nil {
			// CopyFrom sends the text of this error to the target's log.
			pw.CloseWithError(errors.New("the source's copy ended early"))
		} else {
			pw.Close()
		}
		read <- err
	}()
	tag, writeErr := s.dst.PgConn().CopyFrom(ctx, pr, "COPY "+s.stage(i)+" ("+t.columnList()+") FROM STDIN")
	pr.CloseWithError(errStagingGone)
	readErr := <-read
	var field *fieldError
	switch {
	case errors.As(readErr, &field):
		return 0, stopped(t, "column %q of row %d of the snapshot (key: %s): %v",
			t.Columns[min(field.field, len(t.Columns)-1)].Name, field.row, t.keyNames(), field.err)
	case readErr != nil && !errors.Is(readErr, errStagingGone):
		return 0, sqlError("copy from "+t.sourceName(), readErr)
	case writeErr != nil:
		return 0, classify(t, sqlError("copy into the staging table", writeErr))
	case sent != tag.RowsAffected() || sent != tf.rows || len(tf.rest) > 0:
		return 0, fmt.Errorf("copy of %s: %d rows were sent and %d arrived", t, sent, tag.RowsAffected())
	}
	return sent, nil
}

const copyBufferBytes = 64 << 10

// errStagingGone is what the reading half of a copy sees when the writing half has failed.
var errStagingGone = errors.New("the staging table takes no more rows")

// publish makes the copy visible, all tables and the checkpoint in one transaction.
func (s *session) publish(ctx context.Context, at pglogrepl.LSN, rows []int64) error {
	tx, err := s.dst.Begin(ctx)
	if err != nil {
		return sqlError("begin at the target", err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	for i, t := range s.c.Tables {
		if err := guarded(ctx, tx, t); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `TRUNCATE TABLE ONLY `+t.targetName()); err != nil {
			return classify(t, sqlError("empty the replica", err))
		}
		tag, err := tx.Exec(ctx, `INSERT INTO `+t.targetName()+` (`+t.columnList()+`) SELECT `+t.columnList()+` FROM `+s.stage(i))
		if err != nil {
			return classify(t, sqlError("fill the replica", err))
		}
		if tag.RowsAffected() != rows[i] {
			return fmt.Errorf("copy of %s: %d rows were staged and %d are left", t, rows[i], tag.RowsAffected())
		}
		_, err = tx.Exec(ctx, `UPDATE pgveil.replica_table SET phase = 'streaming', rows_copied = $4, reason = ''
			WHERE stream = $1 AND source_schema = $2 AND source_table = $3`, s.cfg().Name, t.Schema, t.Name, rows[i])
		if err != nil {
			return sqlError("write the table's phase", err)
		}
	}
	if err := s.dropStaging(ctx, tx); err != nil {
		return err
	}
	s.w.hook("before-publish")
	if err := s.advance(ctx, at, time.Time{}); err != nil {
		return err
	}
	if err := tx.Commit(ctx); err != nil {
		return sqlError("make the copy visible", err)
	}
	s.w.hook("after-publish")
	s.w.log.Info("replication has copied", "lsn", at.String())
	for _, t := range s.c.Tables {
		// For the planner only; the next autovacuum does it too.
		if _, err := s.dst.Exec(ctx, `ANALYZE `+t.targetName()); err != nil {
			return sqlError("analyze the replica", err)
		}
	}
	return nil
}

// guarded refuses a replica whose marked column has no validated CHECK of its own: Protect has not been heard of by
// this table, which may have been made anew.
func guarded(ctx context.Context, q querier, t *table) error {
	for _, col := range t.marked() {
		var there bool
		err := q.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_constraint k
				JOIN pg_attribute a ON a.attrelid = k.conrelid AND k.conkey = ARRAY[a.attnum]
				JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
				WHERE k.contype = 'c' AND k.convalidated AND n.nspname = $1 AND c.relname = $2 AND a.attname = $3)`,
			t.Target, t.Name, col.Name).Scan(&there)
		if err != nil {
			return sqlError("look for the guards", err)
		}
		if !there {
			return stopped(t, "column %q of the replica has no guard", col.Name)
		}
	}
	return nil
}

// advance runs the statement of that name on the target's connection, inside its transaction if one is open.
func (s *session) advance(ctx context.Context, at pglogrepl.LSN, committed time.Time) error {
	params := advanceParams(s.cfg().Name, s.epochText, at, pglogrepl.LSN(s.sourceLSN.Load()), committed, at > s.haltedAt)
	r := s.dst.PgConn().ExecParams(ctx, advance, params, nil, nil, nil).Read()
	if r.Err == nil && r.CommandTag.RowsAffected() != 1 {
		return errFenced
	}
	return sqlError("write the checkpoint", r.Err)
}

// classify turns an error that a retry would meet again into a stop that names the table.
func classify(t *table, err error) error {
	var e *serverError
	if errors.As(err, &e) && e.permanent() {
		return stopped(t, "%v", err)
	}
	return err
}
