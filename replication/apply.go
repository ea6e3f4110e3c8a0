package replication

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	maxBatchOps   = 500                    // statements sent to the target before their results are read
	maxBatchBytes = 1 << 20                // of them
	maxGroupOps   = 20_000                 // changes after which a group commits though more source transactions wait
	maxGroupAge   = 200 * time.Millisecond // the same, so that a backlog becomes visible bit by bit
	idleBytes     = 64 << 10               // WAL of others that moves an idle checkpoint within a second
	idleInterval  = 10 * time.Second
	firstWrite    = time.Second
	idleTick      = 250 * time.Millisecond
	maxPrepared   = 256 // statements; one per table and set of unchanged columns
)

// applier turns the stream into transactions of the target. It is the only user of the target's connection.
//
// A target transaction holds one or more whole source transactions: all that piled up while the last one committed.
type applier struct {
	*session
	q    *queue
	conn *pgconn.PgConn

	relations map[uint32]*relation
	prepared  map[string]bool

	inSource bool          // between Begin and Commit of the source
	final    pglogrepl.LSN // of the source transaction being read: where its commit record begins
	open     bool          // a target transaction is open, or in the batch
	end      pglogrepl.LSN // of the last whole source transaction of the group
	commit   time.Time     // its commit time at the source
	groupOps int
	began    time.Time // the group
	counts   map[byte]int

	position pglogrepl.LSN // everything before it was sent
	urgent   bool          // the source asked for an answer
	written  pglogrepl.LSN // of the checkpoint
	wrote    time.Time
	moves    int // of the checkpoint in this session

	batch *pgconn.Batch
	ops   []op
	bytes int
}

// op is a statement in the batch.
type op struct {
	kind byte   // of the pgoutput message; 0 for one of ours
	t    *table // whose rows it changes
	one  bool   // it must touch exactly one row
}

func newApplier(s *session, q *queue) *applier {
	return &applier{session: s, q: q, conn: s.dst.PgConn(), relations: map[uint32]*relation{}, prepared: map[string]bool{},
		counts: map[byte]int{}, written: *s.c.LSN, position: *s.c.LSN, wrote: time.Now(), batch: &pgconn.Batch{}}
}

// run applies until something fails. Where a source transaction cannot be applied and the group holds whole ones
// before it, those are lost with the group; errSingly asks for a session that commits them one by one up to there.
func (a *applier) run(ctx context.Context) error {
	err := a.loop(ctx)
	var h *halt
	if errors.As(err, &h) && a.haltedAt < a.final {
		a.haltedAt = a.final
		if a.open && a.end > a.written {
			return errSingly
		}
	}
	return err
}

var errSingly = errors.New("a transaction cannot be applied; those before it are applied one by one")

func (a *applier) loop(ctx context.Context) error {
	tick := time.NewTicker(idleTick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-a.q.filled:
		case <-tick.C:
		}
		for _, i := range a.q.take() {
			if err := a.item(ctx, i); err != nil {
				return err
			}
			a.q.done(i)
		}
		if err := a.settle(ctx); err != nil {
			return err
		}
	}
}

func (a *applier) item(ctx context.Context, i item) error {
	if i.data == nil {
		// In mid-transaction the position may be beyond changes that are not applied.
		if !a.inSource {
			a.position = max(a.position, i.lsn)
		}
		a.urgent = a.urgent || i.urgent
		return nil
	}
	m, err := decode(i.data)
	if err != nil {
		return err
	}
	switch m := m.(type) {
	case nil, *pglogrepl.OriginMessage, *pglogrepl.TypeMessage:
		return nil
	case *pglogrepl.BeginMessage:
		a.inSource, a.final = true, m.FinalLSN
		return nil
	case *pglogrepl.CommitMessage:
		a.inSource = false
		a.position = max(a.position, m.TransactionEndLSN)
		if a.open {
			a.end, a.commit = m.TransactionEndLSN, m.CommitTime
		}
		if a.groupOps >= maxGroupOps || time.Since(a.began) > maxGroupAge || m.CommitLSN <= a.haltedAt {
			return a.settle(ctx)
		}
		return nil
	case *pglogrepl.RelationMessage:
		return a.relation(ctx, m)
	}
	if err := a.change(ctx, m); err != nil {
		return err
	}
	if len(a.ops) < maxBatchOps && a.bytes < maxBatchBytes {
		return nil
	}
	if err := a.flush(ctx); err != nil {
		return err
	}
	a.w.hook("mid-apply")
	return nil
}

// decode keeps a malformed message from ending the process: pglogrepl indexes what it is given. STREAM ABORT, which
// PostgreSQL 18 sends for an empty transaction although streaming was not asked for, says nothing to version 1.
func decode(data []byte) (m pglogrepl.Message, err error) {
	defer func() {
		if recover() != nil {
			m, err = nil, fmt.Errorf("the source sent a malformed message of type %q", data[0])
		}
	}()
	if data[0] == 'A' {
		return nil, nil
	}
	if m, err = pglogrepl.Parse(data); err != nil {
		return nil, fmt.Errorf("the source sent a message of type %q that version 1 does not have", data[0])
	}
	return m, nil
}

// settle commits a group if one is complete, or moves an idle checkpoint.
func (a *applier) settle(ctx context.Context) error {
	switch {
	case a.inSource:
		return nil
	case a.open:
		return a.commitGroup(ctx)
	case a.position < a.written || a.position == a.written && a.moves > 0:
		a.urgent = false
		return nil
	}
	// The first write of a session says that it streams, though nothing may have happened since the last one.
	idle := time.Since(a.wrote)
	if !a.urgent && (a.moves > 0 || idle < firstWrite) && idle < idleInterval && (a.position < a.written+idleBytes || idle < time.Second) {
		return nil
	}
	if err := a.advance(ctx, a.position, time.Time{}); err != nil {
		return err
	}
	a.moved(a.position)
	return nil
}

// commitGroup commits the open target transaction together with the checkpoint, which is the fence too.
func (a *applier) commitGroup(ctx context.Context) error {
	a.position = max(a.position, a.end)
	a.batch.ExecParams(advance, advanceParams(a.cfg().Name, a.epochText, a.position, pglogrepl.LSN(a.sourceLSN.Load()), a.commit, a.position > a.haltedAt), nil, nil, nil)
	a.ops = append(a.ops, op{one: true})
	if err := a.flush(ctx); err != nil {
		return err
	}
	a.w.hook("before-commit")
	r := a.conn.ExecParams(ctx, "COMMIT", nil, nil, nil, nil).Read()
	if r.Err != nil {
		// The transaction may have committed all the same; the next session asks the checkpoint.
		return sqlError("commit at the target", r.Err)
	}
	if tag := r.CommandTag.String(); tag != "COMMIT" {
		return fmt.Errorf("the target answered %s to COMMIT", tag)
	}
	a.w.hook("after-commit")
	a.open = false
	a.moved(a.position)
	a.count()
	return nil
}

// moved tells the receiver, and so the source, what is durable.
func (a *applier) moved(to pglogrepl.LSN) {
	a.written, a.wrote, a.urgent = to, time.Now(), false
	a.moves++
	a.durable.Store(uint64(to))
	if to > a.haltedAt {
		a.w.cfg.Metrics.setPhase(a.cfg().Name, Streaming)
	}
}

func (a *applier) count() {
	m, name := a.w.cfg.Metrics, a.cfg().Name
	for kind, n := range a.counts {
		m.applied.WithLabelValues(name, kindNames[kind]).Add(float64(n))
	}
	clear(a.counts)
	a.groupOps = 0
	m.commits.WithLabelValues(name).Inc()
	m.lastCommit.WithLabelValues(name).Set(float64(a.commit.UnixMicro()) / 1e6)
}

var kindNames = map[byte]string{'I': "insert", 'U': "update", 'D': "delete", 'T': "truncate"}

// begin opens the target transaction before its first change.
func (a *applier) begin() {
	if a.open {
		return
	}
	a.open, a.began = true, time.Now()
	a.batch.ExecParams("BEGIN", nil, nil, nil, nil)
	a.ops = append(a.ops, op{})
}

// exec adds one row's statement to the batch. name stands for sql, which is prepared once.
func (a *applier) exec(ctx context.Context, kind byte, t *table, name, sql string, params [][]byte) error {
	if err := a.prepare(ctx, t, name, sql); err != nil {
		return err
	}
	a.begin()
	a.batch.ExecPrepared(name, params, nil, nil)
	a.added(op{kind: kind, t: t, one: true})
	for _, p := range params {
		a.bytes += len(p)
	}
	return nil
}

func (a *applier) added(o op) {
	a.ops = append(a.ops, o)
	a.counts[o.kind]++
	a.groupOps++
}

func (a *applier) prepare(ctx context.Context, t *table, name, sql string) error {
	if a.prepared[name] {
		return nil
	}
	if len(a.prepared) >= maxPrepared {
		if err := a.flush(ctx); err != nil {
			return err
		}
		if err := a.conn.Exec(ctx, "DEALLOCATE ALL").Close(); err != nil {
			return sqlError("forget prepared statements", err)
		}
		clear(a.prepared)
	}
	if _, err := a.conn.Prepare(ctx, name, sql, nil); err != nil {
		return classify(t, sqlError("prepare a change of the replica", err))
	}
	a.prepared[name] = true
	return nil
}

// flush sends the batch and judges each result.
func (a *applier) flush(ctx context.Context) error {
	if len(a.ops) == 0 {
		return nil
	}
	r := a.conn.ExecBatch(ctx, a.batch)
	n := 0
	var bad error
	for r.NextResult() {
		tag, err := r.ResultReader().Close()
		if err != nil {
			break // Close gives it again
		}
		if bad == nil {
			bad = a.ops[n].judge(tag)
		}
		n++
	}
	err := r.Close()
	if err != nil {
		o := a.ops[min(n, len(a.ops)-1)]
		err = sqlError("apply "+kindNames[o.kind], err)
		if o.t != nil {
			err = classify(o.t, err)
		}
	}
	if err == nil && bad == nil && n != len(a.ops) {
		err = fmt.Errorf("the target answered %d of %d statements", n, len(a.ops))
	}
	a.batch, a.ops, a.bytes = &pgconn.Batch{}, a.ops[:0], 0
	if bad != nil {
		return bad
	}
	return err
}

// judge holds a statement to the one row it is about: any other number means that the replica is not what the source
// was, and going on would hide it.
func (o op) judge(tag pgconn.CommandTag) error {
	switch n := tag.RowsAffected(); {
	case !o.one || n == 1:
		return nil
	case o.kind == 0:
		return errFenced
	default:
		return needsResync(o.t, "%s of one row found %d in the replica (key: %s)", kindNames[o.kind], n, o.t.keyNames())
	}
}

func (a *applier) change(ctx context.Context, m pglogrepl.Message) error {
	switch m := m.(type) {
	case *pglogrepl.InsertMessage:
		r, err := a.of(m.RelationID)
		if err != nil {
			return err
		}
		return r.insert(ctx, a, m.Tuple)
	case *pglogrepl.UpdateMessage:
		r, err := a.of(m.RelationID)
		if err != nil {
			return err
		}
		return r.update(ctx, a, m.OldTuple, m.NewTuple)
	case *pglogrepl.DeleteMessage:
		r, err := a.of(m.RelationID)
		if err != nil {
			return err
		}
		return r.remove(ctx, a, m.OldTuple)
	case *pglogrepl.TruncateMessage:
		return a.truncate(m)
	}
	return fmt.Errorf("the source sent a message of type %q that this stream does not expect", m.Type())
}

func (a *applier) of(oid uint32) (*relation, error) {
	if r := a.relations[oid]; r != nil {
		return r, nil
	}
	return nil, fmt.Errorf("the source sent a row of relation %d before its columns", oid)
}

// truncate empties the replicas of all tables of one TRUNCATE at once. CASCADE was resolved by the source, which names
// every published table; sequences are not replicated, so RESTART IDENTITY has nothing to do.
func (a *applier) truncate(m *pglogrepl.TruncateMessage) error {
	var names []string
	var first *table
	for _, oid := range m.RelationIDs {
		r, err := a.of(oid)
		if err != nil {
			return err
		}
		if r.marks {
			if err := r.truncateMarks(a); err != nil {
				return err
			}
			continue
		}
		first = r.t
		names = append(names, r.t.targetName())
	}
	if len(names) == 0 {
		return nil
	}
	a.begin()
	a.batch.ExecParams("TRUNCATE TABLE ONLY "+strings.Join(names, ", ONLY "), nil, nil, nil, nil)
	a.added(op{kind: 'T', t: first})
	return nil
}

var errShape = errors.New("the source sent a row with another number of columns than it announced")
