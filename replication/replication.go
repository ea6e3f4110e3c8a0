// Package replication keeps protected replicas: tables of another PostgreSQL database, copied and then followed,
// in which the marked columns hold tokens.
//
// Start with Create, which prepares both sides and remembers the stream, and Worker.Run, which copies and follows
// it. Status tells how far it is, Drop ends it.
//
//	source database                                   target database
//	┌───────────────────────┐   COPY in the slot's    ┌──────────────────────────┐
//	│ tables with a key     │   exported snapshot     │ staging tables           │
//	│ pgveil.mark           │ ──────────────────────▶ │   └─ one transaction ─┐  │
//	│ publication, slot     │   pgoutput, version 1   │ replica tables ◀──────┘  │
//	│   pgveil_<stream>     │ ──────────────────────▶ │ pgveil.replica_checkpoint│
//	└───────────────────────┘ ◀────────────────────── └──────────────────────────┘
//	                            acknowledged: only what the target has committed
//
// Each change of the replica and the checkpoint that says so commit in one target transaction, so that a worker
// killed at any point neither loses nor repeats a change. What cannot be continued without a gap (a lost slot, another
// cluster) is the phase needs_resync, and what cannot be applied without a guess (a value outside its policy's format,
// changed columns) is the phase stopped: both say why, and neither goes on.
//
// Out of scope: keys and policies (the caller hands in a Tokenizer per policy), the catalog of protected columns
// (Config.Protect), and reading the replica, which is the front-end's.
package replication

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"time"

	"pgveil/internal/secret"
)

// A Tokenizer turns values of one policy into tokens, all at one key version. It must be deterministic and safe for
// concurrent use, and its errors must not hold the value.
type Tokenizer interface {
	// Append appends the token for plain to dst. plain is the text form of one value in UTF-8, never NULL.
	Append(dst, plain []byte) ([]byte, error)
	// MaxTokenLen returns an upper bound, in bytes, of the token of a value of plainLen bytes.
	MaxTokenLen(plainLen int) int
}

// Config describes one stream and what the worker needs of the rest of the program.
type Config struct {
	// Name of the stream: a lower-case letter, then up to 39 lower-case letters, digits or underscores. Slot and
	// publication are called pgveil_<Name>.
	Name string
	// Source is the DSN of the database that is copied: a direct endpoint, not a transaction pooler.
	Source secret.Bytes
	// Target is the DSN of the database that holds the replica and the stream's state: a direct endpoint too.
	Target secret.Bytes

	// Schema of the replica's tables in the target database. Only Create reads it, as the next three fields.
	Schema string
	// Tables are the patterns of the tables to copy (see ParsePattern). Each must match at least one.
	Tables []string
	// Marks are written to pgveil.mark at the source beside those that stand there already.
	Marks []Mark
	// Readers are roles of the target cluster that are granted USAGE on Schema and SELECT on its tables.
	Readers []string

	// Tokenizer returns the tokenizer of a policy. It is asked again at every start of a stream.
	Tokenizer func(policy string) (Tokenizer, error)
	// Protect registers a column of the replica as protected and puts its guard on the table. It must be idempotent,
	// and must return only when every node knows the column, since rows become visible after it.
	Protect func(ctx context.Context, schema, table, column, policy string) error

	// RetryStopped is the pause after which a stopped stream is tried again; 0 means 30 s.
	RetryStopped time.Duration
	// Logger gets what an operator should see; nil is silent. It never gets a value.
	Logger *slog.Logger
	// Metrics counts for this stream; nil counts nothing. One Metrics may serve many streams.
	Metrics *Metrics
}

// ErrUnknownStream is returned for a stream that was never created, or was dropped.
var ErrUnknownStream = errors.New("no such stream")

// ErrStreamExists is returned by Create.
var ErrStreamExists = errors.New("the stream exists already")

// nameRule keeps pgveil_<name> within what a replication slot may be called, and within NAMEDATALEN
// (PostgreSQL manual, CREATE_REPLICATION_SLOT).
var nameRule = regexp.MustCompile(`^[a-z][a-z0-9_]{0,39}$`)

func (c Config) slot() string { return "pgveil_" + c.Name }

func (c Config) logger() *slog.Logger {
	if c.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return c.Logger.With("stream", c.Name)
}

// check is for those who tokenize: Drop and Status do not.
func (c Config) check() error {
	if c.Tokenizer == nil || c.Protect == nil {
		return errors.New("replication: Config without Tokenizer or Protect")
	}
	return c.checkName()
}

func (c Config) checkName() error {
	if !nameRule.MatchString(c.Name) {
		return fmt.Errorf("stream name %q: want a lower-case letter, then at most 39 lower-case letters, digits or underscores", c.Name)
	}
	return nil
}
