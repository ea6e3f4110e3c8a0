package replication

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
)

const (
	heartbeat     = time.Second            // between looks at leadership; a standby takes over within a few of them
	firstBackoff  = 100 * time.Millisecond // doubles up to lastBackoff
	lastBackoff   = 5 * time.Second
	steadySession = 30 * time.Second // a session that lasted so long starts the back-off anew
	retryStopped  = 30 * time.Second // Config.RetryStopped's default
)

// Worker copies and follows one stream. Any number of workers may run for a stream, on any number of nodes: one leads,
// the others wait to take over.
type Worker struct {
	cfg Config
	log *slog.Logger

	// Tests set these.
	hook     func(point string) // called where a kill is interesting
	patience time.Duration      // with a slot that is in use

	leading atomic.Bool
}

// NewWorker returns a worker that has not begun. It does no I/O.
func NewWorker(cfg Config) (*Worker, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if cfg.RetryStopped == 0 {
		cfg.RetryStopped = retryStopped
	}
	if cfg.Metrics == nil {
		cfg.Metrics = NewMetrics()
	}
	return &Worker{cfg: cfg, log: cfg.logger(), hook: func(string) {}, patience: slotPatience}, nil
}

// Leading reports whether this worker leads its stream.
func (w *Worker) Leading() bool { return w.leading.Load() }

// Run keeps the stream going until ctx ends, and then returns nil. Everything that can pass, it waits out: a source or
// target that is away, a slot in use, another leader. What cannot pass becomes the stream's status and is tried again
// every Config.RetryStopped. The only error is ErrUnknownStream, also for a stream that is dropped meanwhile.
func (w *Worker) Run(ctx context.Context) error {
	for b := newBackoff(); ; {
		began := time.Now()
		err := w.lead(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, ErrUnknownStream):
			return err
		}
		w.log.Warn("replication lost its target", "error", err)
		if !b.wait(ctx, time.Since(began)) {
			return nil
		}
	}
}

// lead waits for the stream's advisory lock and runs sessions while it is held. The lock belongs to a connection of
// its own, whose loss ends the running session; a session that does not notice is fenced by the epoch.
func (w *Worker) lead(ctx context.Context) error {
	conn, err := connect(ctx, target, w.cfg.Target)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	l := &leader{w: w, conn: conn}
	if err := l.acquire(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var beat sync.WaitGroup
	beat.Go(func() { cancel(l.beat(ctx)) })
	w.setLeading(true)
	w.log.Info("replication leads")
	defer func() {
		w.setLeading(false)
		cancel(nil)
		beat.Wait()
	}()
	err = l.sessions(ctx)
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, ErrUnknownStream) {
		return cause
	}
	return err
}

func (w *Worker) setLeading(on bool) {
	w.leading.Store(on)
	v := 0.0
	if on {
		v = 1
	}
	w.cfg.Metrics.leader.WithLabelValues(w.cfg.Name).Set(v)
}

// leader is the worker while it holds the lock.
type leader struct {
	w *Worker

	epoch     atomic.Int64
	sourceLSN atomic.Uint64 // where the source's WAL ends, as last heard

	// haltedAt is where the commit record of a source transaction begins that could not be applied, or of one after it.
	// Up to there each transaction is a group of its own, and the stream's status stays. Only the running session's
	// applier uses it.
	haltedAt pglogrepl.LSN

	mu     sync.Mutex
	conn   *pgx.Conn
	copied map[*table]int64 // progress not yet written
	wrote  pglogrepl.LSN    // sourceLSN as last written
}

func (l *leader) acquire(ctx context.Context) error {
	for {
		var exists, ok bool
		err := l.conn.QueryRow(ctx, `SELECT to_regclass('pgveil.replica_checkpoint') IS NOT NULL`).Scan(&exists)
		if err == nil && exists {
			err = l.conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pgveil.replica_checkpoint WHERE stream = $1)`, l.w.cfg.Name).Scan(&exists)
		}
		if err == nil && !exists {
			return ErrUnknownStream
		}
		if err == nil {
			err = l.conn.QueryRow(ctx, `SELECT pg_try_advisory_lock(hashtextextended('pgveil.replica ' || $1, 0))`, l.w.cfg.Name).Scan(&ok)
		}
		if err != nil {
			return sqlError("become the stream's leader", err)
		}
		if ok {
			return nil
		}
		if !sleep(ctx, heartbeat) {
			return ctx.Err()
		}
	}
}

// beat looks every second whether the connection that holds the lock lives and the stream is still ours, and writes
// what a status needs.
func (l *leader) beat(ctx context.Context) error {
	for sleep(ctx, heartbeat) {
		if err := l.pulse(ctx); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (l *leader) pulse(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, 5*heartbeat)
	defer cancel()
	var epoch int64
	var lag *int64
	at := pglogrepl.LSN(l.sourceLSN.Load())
	err := l.conn.QueryRow(ctx, `SELECT epoch, ($2::pg_lsn - lsn)::bigint FROM pgveil.replica_checkpoint WHERE stream = $1`,
		l.w.cfg.Name, at.String()).Scan(&epoch, &lag)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return ErrUnknownStream
	case err != nil:
		return sqlError("look at the checkpoint", err)
	}
	if lag != nil && at != 0 {
		l.w.cfg.Metrics.lag.WithLabelValues(l.w.cfg.Name).Set(float64(max(*lag, 0)))
	}
	// An idle stream must write nothing: where source and target are one cluster, each write is WAL to follow.
	if at > l.wrote+idleBytes {
		l.wrote = at
		if _, err := l.conn.Exec(ctx, `UPDATE pgveil.replica_checkpoint SET source_lsn = $3 WHERE stream = $1 AND epoch = $2`,
			l.w.cfg.Name, epoch, at.String()); err != nil {
			return sqlError("write the source's position", err)
		}
	}
	for t, rows := range l.copied {
		delete(l.copied, t)
		if _, err := l.conn.Exec(ctx, `UPDATE pgveil.replica_table SET rows_copied = $4
			WHERE stream = $1 AND source_schema = $2 AND source_table = $3`, l.w.cfg.Name, t.Schema, t.Name, rows); err != nil {
			return sqlError("write the copy's progress", err)
		}
	}
	return nil
}

// progress keeps a number for the next pulse.
func (l *leader) progress(t *table, rows int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.copied == nil {
		l.copied = map[*table]int64{}
	}
	l.copied[t] = rows
}

// sessions runs one session after the other; it returns when the leader must step down.
func (l *leader) sessions(ctx context.Context) error {
	for b := newBackoff(); ; {
		began := time.Now()
		err := newSession(l).run(ctx)
		if ctx.Err() != nil || errors.Is(err, ErrUnknownStream) || errors.Is(err, errFenced) {
			return err
		}
		if err == nil || errors.Is(err, errSingly) { // nil: the copy is visible
			b = newBackoff()
			continue
		}
		l.w.cfg.Metrics.retries.WithLabelValues(l.w.cfg.Name).Inc()
		var h *halt
		if errors.As(err, &h) {
			if err := l.report(ctx, h); err != nil {
				return err
			}
			if !sleep(ctx, l.w.cfg.RetryStopped) {
				return ctx.Err()
			}
			b = newBackoff()
			continue
		}
		l.w.log.Warn("replication retries", "error", err)
		if err := l.retrying(ctx, err); err != nil {
			return err
		}
		if !b.wait(ctx, time.Since(began)) {
			return ctx.Err()
		}
	}
}

// report writes a halt into the state tables, and into the log if it is news.
func (l *leader) report(ctx context.Context, h *halt) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	name, epoch := l.w.cfg.Name, l.epoch.Load()
	tag, err := l.conn.Exec(ctx, `UPDATE pgveil.replica_checkpoint SET phase = $3, reason = $4, updated_at = clock_timestamp()
		WHERE stream = $1 AND epoch = $2 AND (phase, reason) IS DISTINCT FROM ($3, $4)`, name, epoch, string(h.phase), h.Error())
	if err != nil {
		return sqlError("write the stream's status", err)
	}
	if _, err := l.conn.Exec(ctx, `UPDATE pgveil.replica_table SET reason = '' WHERE stream = $1 AND reason <> ''`, name); err != nil {
		return sqlError("write the stream's status", err)
	}
	if h.table != nil {
		_, err := l.conn.Exec(ctx, `UPDATE pgveil.replica_table SET reason = $4
			WHERE stream = $1 AND source_schema = $2 AND source_table = $3`, name, h.table.Schema, h.table.Name, h.reason)
		if err != nil {
			return sqlError("write the stream's status", err)
		}
	}
	l.w.cfg.Metrics.setPhase(name, h.phase)
	if tag.RowsAffected() > 0 {
		l.w.log.Error("replication stands still", "phase", h.phase, "reason", h.Error())
	}
	return nil
}

// retrying leaves the phase as it is and says why nothing moves.
func (l *leader) retrying(ctx context.Context, cause error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err := l.conn.Exec(ctx, `UPDATE pgveil.replica_checkpoint SET reason = $3 WHERE stream = $1 AND epoch = $2
		AND phase NOT IN ('stopped', 'needs_resync') AND reason <> $3`, l.w.cfg.Name, l.epoch.Load(), "retrying: "+cause.Error())
	return sqlError("write the stream's status", err)
}

type backoff struct{ next time.Duration }

func newBackoff() *backoff { return &backoff{next: firstBackoff} }

// wait pauses; it reports false if ctx ended. Jitter keeps many streams from returning to a server at one instant.
func (b *backoff) wait(ctx context.Context, lasted time.Duration) bool {
	if lasted > steadySession {
		b.next = firstBackoff
	}
	pause := b.next/2 + rand.N(b.next/2+1)
	b.next = min(2*b.next, lastBackoff)
	return sleep(ctx, pause)
}

// sleep reports false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
