package replication

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
)

// DropOptions say how much goes with a stream. The zero value drops the stream at both sides and keeps the replica's
// tables.
type DropOptions struct {
	Tables     bool // drop the replica's tables too
	KeepSource bool // leave slot and publication: for a source that is gone for good
}

// dropPatience bounds the wait for a worker to let go of the slot. It notices within a heartbeat.
const dropPatience = 15 * time.Second

// Drop ends a stream: its state first, which stops every worker, then its slot and publication at the source, so that
// the source no longer keeps WAL for it. Of cfg it reads Name, Source and Target. It may be repeated after a failure,
// also where the state is gone already; then it looks for the slot and publication all the same. pgveil.mark stays,
// because other streams may read it.
func Drop(ctx context.Context, cfg Config, o DropOptions) error {
	if err := cfg.checkName(); err != nil {
		return err
	}
	if !o.KeepSource {
		// Before anything is dropped, so that a wrong DSN leaves the stream as it is.
		src, err := connect(ctx, source, cfg.Source)
		if err != nil {
			return err
		}
		defer closeConn(src)
	}
	if err := dropTarget(ctx, cfg, o.Tables); err != nil {
		return err
	}
	if o.KeepSource {
		return nil
	}
	return dropSource(ctx, cfg)
}

func dropTarget(ctx context.Context, cfg Config, tables bool) error {
	conn, err := connect(ctx, target, cfg.Target)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	c, err := lead(ctx, conn, cfg.Name) // fences a worker that would commit meanwhile
	if errors.Is(err, ErrUnknownStream) {
		return nil
	}
	if err != nil {
		return err
	}
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `DELETE FROM pgveil.replica_checkpoint WHERE stream = $1`, cfg.Name); err != nil {
			return err
		}
		if !tables {
			return nil
		}
		for _, t := range c.Tables {
			if _, err := tx.Exec(ctx, `DROP TABLE IF EXISTS `+t.targetName()); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return sqlError("drop the stream's state", err)
	}
	// A worker may be writing into them for a second yet.
	_, err = patiently(ctx, func() (bool, error) { err := dropStaging(ctx, conn, cfg.Name); return err == nil, err })
	return err
}

func dropSource(ctx context.Context, cfg Config) error {
	conn, err := connectReplication(ctx, cfg.Source)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	_, err = patiently(ctx, func() (bool, error) {
		err := pglogrepl.DropReplicationSlot(ctx, conn, cfg.slot(), pglogrepl.DropReplicationSlotOptions{})
		if s := sqlState(err); s == "42704" {
			return true, nil
		} else if s == "55006" {
			return false, sqlError("drop the slot", err)
		}
		return true, sqlError("drop the slot", err)
	})
	if err != nil {
		return err
	}
	src, err := connect(ctx, source, cfg.Source)
	if err != nil {
		return err
	}
	defer closeConn(src)
	_, err = src.Exec(ctx, `DROP PUBLICATION IF EXISTS `+quoteName(cfg.slot()))
	return sqlError("drop the publication", err)
}

// patiently repeats f until it is done, for dropPatience.
func patiently(ctx context.Context, f func() (done bool, err error)) (bool, error) {
	for until := time.Now().Add(dropPatience); ; {
		done, err := f()
		if done || time.Now().After(until) {
			return done, err
		}
		if !sleep(ctx, 200*time.Millisecond) {
			return false, ctx.Err()
		}
	}
}
