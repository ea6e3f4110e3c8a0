package replication

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"
)

// sourceCheck is the time between looks at the source's catalog for what the stream does not tell.
const sourceCheck = 10 * time.Second

// session is one attempt of a leader: connections to both sides, the copy if it is still to be made, and the stream
// until something fails.
type session struct {
	*leader
	c          *checkpoint
	epochText  []byte
	tokenizers map[string]Tokenizer

	repl *pgconn.PgConn // owned by the receiver while streaming
	dst  *pgx.Conn      // owned by the applier while streaming

	durable atomic.Uint64 // LSN up to which the target has committed; the receiver acknowledges it

	mu  sync.Mutex
	src *pgx.Conn // catalog queries of watch and of the applier
}

func newSession(l *leader) *session {
	return &session{leader: l, tokenizers: map[string]Tokenizer{}}
}

func (s *session) cfg() Config { return s.w.cfg }

func (s *session) run(ctx context.Context) (err error) {
	if err := s.open(ctx); err != nil {
		return err
	}
	defer s.close()
	if err := s.check(ctx); err != nil {
		return err
	}
	if err := checkIdentity(ctx, s.repl, s.c); err != nil {
		return err
	}
	for _, t := range s.c.Tables {
		for _, col := range t.marked() {
			if err := s.loadTokenizer(col.Policy); err != nil {
				return err
			}
		}
	}
	if s.c.LSN == nil {
		return s.copyAll(ctx) // the next session streams
	}
	if err := checkSlot(ctx, s.src, s.c); err != nil {
		return err
	}
	return s.stream(ctx)
}

// open connects to the target first and takes the next epoch there; from then on no other worker can commit.
func (s *session) open(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.dst, err = connect(ctx, target, s.cfg().Target); err != nil {
		return err
	}
	if s.c, err = lead(ctx, s.dst, s.cfg().Name); err != nil {
		return err
	}
	s.epoch.Store(s.c.Epoch)
	s.epochText = strconv.AppendInt(nil, s.c.Epoch, 10)
	if s.src, err = connect(ctx, source, s.cfg().Source); err != nil {
		return err
	}
	s.repl, err = connectReplication(ctx, s.cfg().Source)
	return err
}

func (s *session) close() {
	if s.repl != nil {
		closeConn(s.repl)
	}
	if s.src != nil {
		closeConn(s.src)
	}
	if s.dst != nil {
		closeConn(s.dst)
	}
}

func (s *session) loadTokenizer(policy string) error {
	if s.tokenizers[policy] != nil {
		return nil
	}
	tok, err := s.cfg().Tokenizer(policy)
	if err != nil {
		return fmt.Errorf("policy %q: %w", policy, err)
	}
	s.tokenizers[policy] = tok
	return nil
}

// check compares the source's catalog with what was recorded. It may run ahead of the stream, which is safe: it only
// stops earlier.
func (s *session) check(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	published, err := fingerprint(ctx, s.src, s.c.Publication)
	switch {
	case err != nil:
		return err
	case published == "":
		return needsResync(nil, "publication %q is gone at the source", s.c.Publication)
	case published != s.c.Published:
		return needsResync(nil, "publication %q was altered at the source, so changes may be missing", s.c.Publication)
	}
	oids := make([]uint32, len(s.c.Tables))
	for i, t := range s.c.Tables {
		oids[i] = t.OID
	}
	now, err := describeTables(ctx, s.src, oids)
	if err != nil {
		return err
	}
	byOID := map[uint32]*table{}
	for _, n := range now {
		byOID[n.OID] = n
	}
	for _, t := range s.c.Tables {
		n := byOID[t.OID]
		if n == nil {
			return needsResync(t, "the table is gone at the source")
		}
		if d := t.differs(n); d != "" {
			return stopped(t, "%s", d)
		}
		if n.facts.identity != "d" && n.facts.identity != "f" {
			return stopped(t, "the replica identity was changed at the source")
		}
	}
	return nil
}

// stream runs the three parts of a streaming session: the receiver owns the replication connection, the applier the
// target's, and watch asks the source what the stream does not say. The first error ends all three.
func (s *session) stream(ctx context.Context) error {
	if err := startReplication(ctx, s.repl, s.c, s.w.patience); err != nil {
		return err
	}
	// Once more, now that nobody else can move the slot.
	if err := checkSlot(ctx, s.src, s.c); err != nil {
		return err
	}
	s.durable.Store(uint64(*s.c.LSN))
	s.w.log.Info("replication streams", "lsn", s.c.LSN.String(), "epoch", s.c.Epoch)
	q := newQueue()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.receive(ctx, q) })
	group.Go(func() error { return newApplier(s, q).run(ctx) })
	group.Go(func() error { return s.watch(ctx) })
	return group.Wait()
}

// watch hears every second how far the source's WAL is, and looks at its catalog every sourceCheck.
func (s *session) watch(ctx context.Context) error {
	for last := time.Now(); ; {
		if err := s.hearSource(ctx); err != nil {
			return err
		}
		if !sleep(ctx, heartbeat) {
			return ctx.Err()
		}
		if time.Since(last) < sourceCheck {
			continue
		}
		if err := s.check(ctx); err != nil {
			return err
		}
		last = time.Now()
	}
}

func (s *session) hearSource(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var text string
	if err := s.src.QueryRow(ctx, `SELECT pg_current_wal_flush_lsn()::text`).Scan(&text); err != nil {
		return sqlError("ask the source's position", err)
	}
	lsn, err := pglogrepl.ParseLSN(text)
	s.sourceLSN.Store(uint64(lsn))
	return err
}
