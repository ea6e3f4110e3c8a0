// Package audit is the log of who did what to which protected column: chained by hash, durable before the act.
//
// Start with Open and Log.Append; Verify and Tail read. Append returns when the record is committed, and an error means
// that the act must not happen: no audit, no reveal. A record says who, where from, which policies and columns, how many
// rows and how it ended. It never holds a value, a token or a literal; those who append see to that.
//
//	Append, Append, … ─> queue ─> sequencer ─> one transaction per batch ─> pgveil.audit
//	                                  └─ at most every 60 s ─> DIR/NODE.checkpoint
//
// Each node has one chain. A record's hash is an HMAC over the hash before it and all it says, so that who has not got
// the key cannot change, remove, insert or reorder records without Verify naming the first bad one. What a chain cannot
// show is that its end was cut off: for that there are checkpoints, which are to be kept outside the database.
package audit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	appendTimeout   = 5 * time.Second // Append answers by then, whatever the database does
	writeTimeout    = 4 * time.Second // one batch
	checkpointEvery = 60 * time.Second
	maxBatch        = 512
	queueLen        = 4096
)

// The kinds of record.
const (
	Intent     = "intent"     // before the first value leaves
	Completion = "completion" // after it, with what came of it
	Admin      = "admin"      // a change of the control plane
)

// Record is what a node appends. Empty fields are stored as they are.
type Record struct {
	Kind        string   `json:"kind"` // intent, completion or admin
	Session     int64    `json:"session"`
	Role        string   `json:"role"`     // login role
	Addr        string   `json:"addr"`     // of the client
	Database    string   `json:"database"` // the session's
	Action      string   `json:"action"`   // reveal, tokenize, …
	Outcome     string   `json:"outcome"`
	Fingerprint string   `json:"fingerprint"` // of the statement, without its literals
	Reason      string   `json:"reason"`
	Policies    []string `json:"policies"`
	Columns     []string `json:"columns"` // schema.table.column
	Rows        int64    `json:"rows"`
}

// Config is what Open and Verify need.
type Config struct {
	// DSN is the service role's connection to the control-plane database.
	DSN string

	// Node names this chain: the same name after a restart, and another on each machine. Verify checks all of them
	// and ignores it.
	Node string

	// CheckpointDir is where checkpoints are written and looked for; "" is nowhere. It is made if it does not exist.
	CheckpointDir string

	// Key authenticates chain and checkpoints: 32 bytes, the same on every node.
	Key []byte

	// Logger hears of lost connections and of checkpoints that cannot be written; nil is silent.
	Logger *slog.Logger

	every time.Duration // between checkpoints; 0 is checkpointEvery
}

// Error is a failure an operator can act on.
type Error struct {
	Message string
	Hint    string
}

func (e *Error) Error() string { return e.Message }

// ErrClosed is Append's answer after Close.
var ErrClosed = errors.New("audit log is closed")

// ErrTimeout is Append's answer when the record was not durable in time. It may still become so.
var ErrTimeout = errors.New("audit record was not committed within 5 s")

// Log appends to one node's chain. It is safe for concurrent use.
type Log struct {
	*sequencer
	queue   chan *pending
	closing chan struct{}
	done    chan struct{} // closed when the sequencer has ended
	closed  atomic.Bool
}

// pending is a record on its way.
type pending struct {
	Record
	done      chan error // of capacity 1: the sequencer never waits for a caller
	abandoned atomic.Bool
}

// Open connects, finds the end of the node's chain and starts the sequencer. It refuses a chain whose end was changed or
// lies before the node's checkpoint: appending to it would bury the evidence.
func Open(ctx context.Context, c Config) (*Log, error) {
	s, err := newSequencer(c)
	if err != nil {
		return nil, err
	}
	if c.CheckpointDir != "" {
		if err := os.MkdirAll(c.CheckpointDir, 0o700); err != nil {
			return nil, &Error{Message: "the directory of checkpoints cannot be made: " + err.Error(), Hint: "give one that this account may write to"}
		}
	}
	if err := s.connect(ctx); err != nil {
		return nil, err
	}
	if err := s.checkEnd(ctx); err != nil {
		s.disconnect()
		return nil, err
	}
	l := &Log{sequencer: s, queue: make(chan *pending, queueLen), closing: make(chan struct{}), done: make(chan struct{})}
	go l.run() // ended by Close
	return l, nil
}

// Append writes a record and returns when it is durable: committed with synchronous_commit = on. Any error, also that of
// ctx, means that it may not be; the caller then does not do what it was about to. It answers within 5 s.
// Slices of r may be changed again afterwards.
func (l *Log) Append(ctx context.Context, r Record) error {
	ctx, cancel := context.WithTimeoutCause(ctx, appendTimeout, ErrTimeout)
	defer cancel()
	p := &pending{Record: r.clean(), done: make(chan error, 1)}
	if l.closed.Load() {
		return ErrClosed
	}
	select {
	case l.queue <- p:
	case <-l.done:
		return ErrClosed
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case err := <-p.done:
		return err
	case <-l.done: // the sequencer may have answered just before it ended
		select {
		case err := <-p.done:
			return err
		default:
			return ErrClosed
		}
	case <-ctx.Done():
		p.abandoned.Store(true)
		return context.Cause(ctx)
	}
}

// Close writes what is queued, then a checkpoint, and disconnects. It waits until ctx ends.
func (l *Log) Close(ctx context.Context) error {
	if !l.closed.Swap(true) {
		close(l.closing)
	}
	select {
	case <-l.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("close the audit log: %w", ctx.Err())
	}
}

// run is the sequencer's goroutine: the only one that knows the chain's end.
func (l *Log) run() {
	defer close(l.done)
	defer l.disconnect()
	tick := time.NewTicker(cmp.Or(l.config.every, checkpointEvery))
	defer tick.Stop()
	for {
		select {
		case p := <-l.queue:
			l.write(l.batch(p))
		case <-tick.C:
			l.checkpoint()
		case <-l.closing:
			for {
				select {
				case p := <-l.queue:
					l.write(l.batch(p))
					continue
				default:
				}
				break
			}
			l.checkpoint()
			return
		}
	}
}

// batch takes what has queued up behind first while the batch before was being committed.
func (l *Log) batch(first *pending) []*pending {
	batch := []*pending{first}
	for len(batch) < maxBatch {
		select {
		case p := <-l.queue:
			batch = append(batch, p)
		default:
			return batch
		}
	}
	return batch
}

// clean copies r and takes out what PostgreSQL's text does not hold: one client's odd name must not fail the records of
// others in its batch.
func (r Record) clean() Record {
	for _, f := range []*string{&r.Kind, &r.Role, &r.Addr, &r.Database, &r.Action, &r.Outcome, &r.Fingerprint, &r.Reason} {
		*f = cleanText(*f)
	}
	r.Policies, r.Columns = cleanTexts(r.Policies), cleanTexts(r.Columns)
	return r
}

func cleanTexts(in []string) []string {
	out := make([]string, len(in)) // never nil, which would be NULL
	for i, s := range in {
		out[i] = cleanText(s)
	}
	return out
}

func cleanText(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// dial opens a connection for the log.
func dial(ctx context.Context, dsn string) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil { // its text may hold a password
		return nil, &Error{"the control-plane database's URL cannot be read", "PGVEIL_DATABASE_URL is like postgres://user@host:5432/database"}
	}
	config.RuntimeParams["application_name"] = "pgveil audit"
	config.RuntimeParams["search_path"] = "pg_catalog"
	config.RuntimeParams["synchronous_commit"] = "on" // whatever the role's or the database's default
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect for the audit log: %w", err)
	}
	return conn, nil
}

// closeConn says goodbye within a second.
func closeConn(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	conn.Close(ctx)
}
