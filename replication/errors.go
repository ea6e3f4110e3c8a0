package replication

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// Refused is returned by Create where the source or the target is not as a stream needs it.
type Refused struct {
	Reason string
	Hint   string // what to do about it
}

func (e *Refused) Error() string { return e.Reason }

// halt is an error that a repeated attempt will not cure. It ends the session and becomes the stream's status.
type halt struct {
	phase  Phase // Stopped or NeedsResync
	table  *table
	reason string
}

func (e *halt) Error() string {
	if e.table != nil {
		return fmt.Sprintf("%s: %s", e.table, e.reason)
	}
	return e.reason
}

func stopped(t *table, format string, a ...any) error {
	return &halt{phase: Stopped, table: t, reason: fmt.Sprintf(format, a...)}
}

func needsResync(t *table, format string, a ...any) error {
	return &halt{phase: NeedsResync, table: t, reason: fmt.Sprintf(format, a...)}
}

// errFenced says that the checkpoint row carries another epoch: another worker leads, or the stream was dropped.
var errFenced = errors.New("another worker has taken the stream over")

// sqlError names the step that failed, without what the server said about data: a message of class 22 or 23 quotes
// the offending value, and DETAIL and CONTEXT quote whole rows. SQLSTATE, object names and the messages of classes
// that speak of connections, rights and objects alone are kept.
func sqlError(doing string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, context.Canceled) {
		return fmt.Errorf("%s: %w", doing, context.Canceled)
	}
	var e *serverError
	var h *halt
	if errors.As(err, &e) || errors.As(err, &h) || errors.Is(err, errFenced) {
		return fmt.Errorf("%s: %w", doing, err)
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return fmt.Errorf("%s: %w", doing, newServerError(pg))
	}
	var connect *pgconn.ConnectError
	if errors.As(err, &connect) {
		// One line per address tried: user, database and address, never the password.
		return fmt.Errorf("%s: %s", doing, strings.Join(strings.Fields(connect.Error()), " "))
	}
	// What is left comes from the network or from our side of the protocol: text without data of the tables.
	return fmt.Errorf("%s: %w", doing, err)
}

// serverError is what may be told of a *pgconn.PgError.
type serverError struct {
	code, message             string
	table, column, constraint string
}

func newServerError(pg *pgconn.PgError) *serverError {
	e := &serverError{code: pg.Code, table: pg.TableName, column: pg.ColumnName, constraint: pg.ConstraintName}
	switch e.class() {
	case "08", "0A", "25", "28", "3D", "3F", "40", "42", "53", "54", "55", "57", "58":
		e.message = pg.Message
	}
	return e
}

func (e *serverError) class() string {
	if len(e.code) < 2 {
		return ""
	}
	return e.code[:2]
}

func (e *serverError) Error() string {
	var b strings.Builder
	if e.message != "" {
		b.WriteString(e.message)
	} else {
		b.WriteString("the server refused the data")
	}
	fmt.Fprintf(&b, " (SQLSTATE %s", e.code)
	for _, f := range [][2]string{{"table", e.table}, {"column", e.column}, {"constraint", e.constraint}} {
		if f[1] != "" {
			fmt.Fprintf(&b, ", %s %q", f[0], f[1])
		}
	}
	return b.String() + ")"
}

// permanent reports whether the same statement will fail again: bad data, a violated constraint, a missing object or
// right. Deadlocks, shutdowns and full disks pass.
func (e *serverError) permanent() bool {
	switch e.class() {
	case "0A", "22", "23", "42", "3F", "44", "P0":
		return true
	}
	return false
}

func sqlState(err error) string {
	var e *serverError
	if errors.As(err, &e) {
		return e.code
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}
