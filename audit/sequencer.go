package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// sequencer gives entries their numbers and hashes and commits them. One goroutine owns it after Open.
type sequencer struct {
	config Config
	chain  chain
	log    *slog.Logger

	conn    *pgx.Conn // nil after a failure
	head    Entry     // the last committed entry; Seq 0 before the first
	failing bool      // the last batch failed, and that was logged
	written int64     // seq of the last checkpoint written
}

func newSequencer(c Config) (*sequencer, error) {
	if c.Node == "" {
		return nil, &Error{"the audit log needs the node's name", "give each node a name of its own"}
	}
	ch, err := newChain(c.Key)
	if err != nil {
		return nil, err
	}
	log := c.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &sequencer{config: c, chain: ch, log: log}, nil
}

// connect connects and reads the chain's end.
func (s *sequencer) connect(ctx context.Context) error {
	conn, err := dial(ctx, s.config.DSN)
	if err != nil {
		return err
	}
	s.conn = conn
	if err := s.readHead(ctx); err != nil {
		s.disconnect()
		return err
	}
	return nil
}

func (s *sequencer) disconnect() {
	if s.conn != nil {
		closeConn(s.conn)
		s.conn = nil
	}
}

// readHead finds the node's last committed entry.
func (s *sequencer) readHead(ctx context.Context) error {
	head, found, err := s.entry(ctx, `ORDER BY seq DESC LIMIT 1`)
	if err != nil {
		return fmt.Errorf("read the end of the audit log: %w", explain(err))
	}
	if !found {
		head = Entry{hash: s.chain.genesis(s.config.Node)}
	}
	s.head = head
	return nil
}

// entry reads one entry of the node.
func (s *sequencer) entry(ctx context.Context, which string, args ...any) (e Entry, found bool, err error) {
	rows, err := s.conn.Query(ctx, `SELECT `+entryColumns+` FROM pgveil.audit WHERE node = $1 `+which, append([]any{s.config.Node}, args...)...)
	if err != nil {
		return e, false, err
	}
	e, err = pgx.CollectExactlyOneRow(rows, scanEntry)
	if errors.Is(err, pgx.ErrNoRows) {
		return e, false, nil
	}
	return e, err == nil, err
}

// write commits a batch and answers its callers. Nothing is answered before the commit is.
func (s *sequencer) write(batch []*pending) {
	live := batch[:0]
	for _, p := range batch {
		if !p.abandoned.Load() {
			live = append(live, p)
		}
	}
	if len(live) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), writeTimeout)
	defer cancel()
	err := s.commit(ctx, live)
	switch {
	case err != nil && !s.failing:
		s.log.Error("audit: records are refused", "error", err)
	case err == nil && s.failing:
		s.log.Info("audit: records are written again")
	}
	s.failing = err != nil
	for _, p := range live {
		p.done <- err
	}
}

// commit tries until the batch is durable, or a new connection fails too. An error leaves it open whether it is.
func (s *sequencer) commit(ctx context.Context, batch []*pending) error {
	var entries []Entry
	for {
		renewed := s.conn == nil
		if renewed {
			if err := s.connect(ctx); err != nil {
				return err
			}
		}
		// A commit whose answer was lost with the connection was one all the same.
		if entries != nil {
			last := entries[len(entries)-1]
			e, found, err := s.entry(ctx, `AND seq = $2`, last.Seq)
			if err == nil && found && bytes.Equal(e.hash, last.hash) {
				return s.readHead(ctx)
			}
		}
		entries = s.number(batch, entries)
		err := s.insert(ctx, entries)
		if err == nil {
			s.head = entries[len(entries)-1]
			return nil
		}
		var pg *pgconn.PgError
		if errors.As(err, &pg) && pg.Code == "23505" { // unique_violation: another process writes to this chain
			if err = s.readHead(ctx); err == nil {
				continue
			}
		}
		s.disconnect()
		if renewed || ctx.Err() != nil || errors.As(err, &pg) && !shutdown(pg) {
			return fmt.Errorf("append to the audit log: %w", explain(err))
		}
		// The connection was an old one: the server may have been restarted since.
	}
}

// shutdown says whether the server ended the connection (class 57P of the manual's appendix A).
func shutdown(pg *pgconn.PgError) bool { return len(pg.Code) == 5 && pg.Code[:3] == "57P" }

// number makes entries of a batch, after the head. Numbered again, entries keep their time: one that was committed after
// all then has the same hash.
func (s *sequencer) number(batch []*pending, before []Entry) []Entry {
	at := time.Now().UTC().Truncate(time.Microsecond)
	if at.Before(s.head.At) {
		at = s.head.At // a clock that was set back must not reorder what Tail shows
	}
	if before != nil {
		at = before[0].At
	}
	entries := make([]Entry, len(batch))
	prev := s.head
	for i, p := range batch {
		e := Entry{Node: s.config.Node, Seq: prev.Seq + 1, At: at, Record: p.Record, prev: prev.hash}
		e.hash = s.chain.hash(e.prev, &e)
		entries[i], prev = e, e
	}
	return entries
}

const insertEntry = `INSERT INTO pgveil.audit (` + entryColumns + `)
	VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)`

// insert sends all entries at once: one round trip, and one transaction (PostgreSQL manual, pipelining).
func (s *sequencer) insert(ctx context.Context, entries []Entry) error {
	var b pgx.Batch
	for i := range entries {
		b.Queue(insertEntry, entries[i].values()...)
	}
	return s.conn.SendBatch(ctx, &b).Close()
}

// checkEnd refuses to go on after a tampered end.
func (s *sequencer) checkEnd(ctx context.Context) error {
	broken := func(what string) error {
		return &Error{fmt.Sprintf("audit log of node %q: %s", s.config.Node, what),
			"`pgveil audit verify` says more; keep the evidence and start the node under another name"}
	}
	if s.head.Seq > 0 && !bytes.Equal(s.head.hash, s.chain.hash(s.head.prev, &s.head)) {
		return broken(fmt.Sprintf("its last record, %d, was changed, or was written under another key", s.head.Seq))
	}
	c, found, err := readCheckpoint(s.config.CheckpointDir, s.config.Node)
	if err != nil || !found {
		return err
	}
	if !s.chain.signed(c) {
		return broken("its checkpoint is not signed with this installation's key")
	}
	if c.Seq > s.head.Seq {
		return broken(fmt.Sprintf("it ends at record %d, and its checkpoint is at %d", s.head.Seq, c.Seq))
	}
	e, found, err := s.entry(ctx, `AND seq = $2`, c.Seq)
	if err != nil {
		return explain(err)
	}
	if c.Seq > 0 && (!found || !bytes.Equal(e.hash, c.Hash)) {
		return broken(fmt.Sprintf("record %d is not the one of its checkpoint", c.Seq))
	}
	s.written = c.Seq
	return nil
}

// explain drops DETAIL, CONTEXT and statement text of what PostgreSQL said: they may hold a row.
func explain(err error) error {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return err
	}
	switch pg.Code {
	case "42P01", "3F000": // undefined_table, invalid_schema_name
		return &Error{"the control-plane database has no audit log", "run `pgveil migrate`"}
	case "42501": // insufficient_privilege
		return &Error{"PostgreSQL says: " + pg.Message, "docs/operations.md lists the privileges of the service role"}
	}
	return fmt.Errorf("PostgreSQL says: %s (SQLSTATE %s)", pg.Message, pg.Code)
}
