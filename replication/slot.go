package replication

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// slotPatience bounds the wait for a slot that another connection holds. It is longer than wal_sender_timeout's
// default of 60 s, after which the source itself drops the connection of a worker that vanished.
const slotPatience = 90 * time.Second

// checkIdentity refuses another cluster, or the same one after a promotion: its WAL is not the one the checkpoint's
// LSN counts in.
func checkIdentity(ctx context.Context, conn *pgconn.PgConn, c *checkpoint) error {
	sys, err := pglogrepl.IdentifySystem(ctx, conn)
	switch {
	case err != nil:
		return sqlError("identify the source", err)
	case sys.SystemID != c.SystemID:
		return needsResync(nil, "the source is another cluster: its system identifier is %s, the copy was made from %s", sys.SystemID, c.SystemID)
	case sys.Timeline != c.Timeline:
		return needsResync(nil, "the source is on timeline %d, the copy was made on %d (a standby was promoted, or a backup restored)", sys.Timeline, c.Timeline)
	case sys.DBName != c.SourceDatabase:
		return needsResync(nil, "the source is database %q, the copy was made from %q", sys.DBName, c.SourceDatabase)
	case c.LSN != nil && sys.XLogPos < *c.LSN:
		return needsResync(nil, "the source's WAL ends at %s, before the checkpoint %s", sys.XLogPos, *c.LSN)
	}
	return nil
}

// checkSlot refuses a slot that cannot deliver everything after the checkpoint. START_REPLICATION would not: it
// silently begins at confirmed_flush_lsn where that is further on.
func checkSlot(ctx context.Context, q querier, c *checkpoint) error {
	var plugin, database, status string
	var confirmed *string
	err := q.QueryRow(ctx, `SELECT coalesce(plugin, ''), coalesce(database, ''), coalesce(wal_status, ''), confirmed_flush_lsn::text
		FROM pg_replication_slots WHERE slot_name = $1`, c.Slot).Scan(&plugin, &database, &status, &confirmed)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return needsResync(nil, "slot %q is gone at the source, and with it the changes after %s", c.Slot, *c.LSN)
	case err != nil:
		return sqlError("look at the slot", err)
	case plugin != "pgoutput" || database != c.SourceDatabase || confirmed == nil:
		return needsResync(nil, "slot %q at the source is not the one this stream made", c.Slot)
	case status == "lost":
		return needsResync(nil, "slot %q has lost WAL it needs (wal_status = lost; see max_slot_wal_keep_size)", c.Slot)
	}
	at, err := pglogrepl.ParseLSN(*confirmed)
	if err != nil {
		return sqlError("look at the slot", err)
	}
	if at > *c.LSN {
		return needsResync(nil, "slot %q has moved on to %s, beyond the checkpoint %s: it was made anew or read by someone else", c.Slot, at, *c.LSN)
	}
	return nil
}

// makeSlot makes the stream's slot with an exported snapshot, which lives until conn's next command. A slot left by an
// interrupted copy is dropped first; slot_made, written before the slot is made, says that there may be one.
//
// The command waits for every transaction of the source's cluster that is writing, in any database; none of ours is.
func (s *session) makeSlot(ctx context.Context) (at pglogrepl.LSN, snapshot string, err error) {
	c := s.c
	var taken bool
	err = s.src.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1)`, c.Slot).Scan(&taken)
	switch {
	case err != nil:
		return 0, "", sqlError("look at the slot", err)
	case taken && !c.SlotMade:
		return 0, "", stopped(nil, "the source has a slot %q that this stream did not make", c.Slot)
	case taken:
		err := pglogrepl.DropReplicationSlot(ctx, s.repl, c.Slot, pglogrepl.DropReplicationSlotOptions{})
		if err != nil && sqlState(err) != "42704" {
			return 0, "", sqlError("drop the slot of an interrupted copy", err)
		}
	}
	if err := s.update(ctx, `slot_made = true, phase = 'copying', reason = ''`); err != nil {
		return 0, "", err
	}
	r, err := pglogrepl.CreateReplicationSlot(ctx, s.repl, c.Slot, "pgoutput",
		pglogrepl.CreateReplicationSlotOptions{Mode: pglogrepl.LogicalReplication, SnapshotAction: "EXPORT_SNAPSHOT"})
	if sqlState(err) == "42710" {
		if err := s.update(ctx, `slot_made = false`); err != nil {
			return 0, "", err
		}
		return 0, "", stopped(nil, "the source has a slot %q that this stream did not make", c.Slot)
	}
	if err != nil {
		return 0, "", sqlError("create the slot", err)
	}
	at, err = pglogrepl.ParseLSN(r.ConsistentPoint)
	return at, r.SnapshotName, err
}

// startReplication begins the stream after the checkpoint, and waits with patience for a slot that is in use.
func startReplication(ctx context.Context, conn *pgconn.PgConn, c *checkpoint, patience time.Duration) error {
	until := time.Now().Add(patience)
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		err := pglogrepl.StartReplication(ctx, conn, c.Slot, *c.LSN, pglogrepl.StartReplicationOptions{
			Mode: pglogrepl.LogicalReplication,
			PluginArgs: []string{"proto_version '1'",
				fmt.Sprintf("publication_names '%s'", c.Publication)},
		})
		if err == nil {
			return nil
		}
		if sqlState(err) != "55006" {
			return sqlError("start replication", err)
		}
		if time.Now().After(until) {
			// The message names the PID that holds the slot.
			return stopped(nil, "%v", sqlError("start replication", err))
		}
		// The refusal's ReadyForQuery is still on the connection; the next StartReplication reads past it.
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}
