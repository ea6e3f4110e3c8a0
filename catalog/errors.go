package catalog

import (
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
)

// Code tells kinds of Error apart.
type Code string

const (
	CodeInvalid        Code = "invalid"         // a name, action or option is not one
	CodeUnknown        Code = "unknown"         // no such policy, role, column, grant, replica
	CodeExists         Code = "exists"          // there is one already
	CodeInUse          Code = "in_use"          // something still refers to it
	CodeUnsupported    Code = "unsupported"     // the column cannot be protected as it is
	CodeHoldsValues    Code = "holds_values"    // the column holds clear values
	CodeHoldsTokens    Code = "holds_tokens"    // the column holds tokens
	CodePrivilege      Code = "privilege"       // PostgreSQL refuses it to the service role
	CodeBusy           Code = "busy"            // a lock was not given in time
	CodeTampered       Code = "tampered"        // a row does not authenticate
	CodeStale          Code = "stale"           // the snapshot's lease ran out
	CodeNotMigrated    Code = "not_migrated"    // schema pgveil is missing or old
	CodeNotInitialized Code = "not_initialized" // there is no root key yet
)

// Error is a failure a person can act on. It holds names, never a value, key, verifier or connection string.
type Error struct {
	Code    Code
	Message string
	Hint    string // what to do about it; may be empty
}

func (e *Error) Error() string { return e.Message }

// ErrStale is Current's answer when the last successful refresh is too old to decide by.
var ErrStale = &Error{CodeStale, "the control plane has not been read for 10 s",
	"protected statements are refused until the control-plane database answers again"}

// ErrNotMigrated says that schema pgveil is missing or older than this binary.
var ErrNotMigrated = &Error{CodeNotMigrated, "the control-plane database has no schema pgveil, or an old one", "run `pgveil migrate`"}

// ErrNotInitialized says that the installation has no root key yet.
var ErrNotInitialized = &Error{CodeNotInitialized, "the installation has no root key yet", "run `pgveil key init`"}

// errEpoch is for a manifest that does not authenticate: nothing in the catalog can be believed.
var errEpoch = &Error{CodeTampered, "the catalog does not authenticate under this installation's keys",
	"it was changed around pgveil or belongs to another installation; restore schema pgveil from a backup"}

// errRolledBack is for an epoch below one already seen.
var errRolledBack = &Error{CodeTampered, "the catalog went back to an earlier state",
	"if it was restored from a backup on purpose, check its grants with `pgveil role list` and restart the nodes"}

func unknown(kind, name string) *Error {
	return &Error{CodeUnknown, fmt.Sprintf("unknown %s %q", kind, name), fmt.Sprintf("`pgveil %s list` shows them", kind)}
}

func invalid(hint, message string, args ...any) *Error {
	return &Error{CodeInvalid, fmt.Sprintf(message, args...), hint}
}

// explain turns the answers of PostgreSQL that an operator can act on into an *Error and drops every DETAIL, CONTEXT
// and statement text: they may hold a row. what is the path so far ("protect public.t.c").
func explain(what string, err error) error {
	var own *Error
	if err == nil || errors.As(err, &own) {
		return err
	}
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return fmt.Errorf("%s: %w", what, err)
	}
	switch pg.Code {
	case "42501": // insufficient_privilege
		return &Error{CodePrivilege, fmt.Sprintf("%s: PostgreSQL says: %s", what, pg.Message),
			"docs/operations.md lists the privileges of the service role"}
	case "55P03": // lock_not_available
		return &Error{CodeBusy, what + ": the table is in use", "try again when its long transactions have ended"}
	case "42P01", "3F000", "42703": // undefined table, schema, column; the columns of others are looked up, not guessed
		return ErrNotMigrated
	}
	return fmt.Errorf("%s: PostgreSQL says: %s (SQLSTATE %s)", what, pg.Message, pg.Code)
}
