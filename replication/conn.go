package replication

import (
	"context"
	"errors"
	"maps"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"pgveil/internal/secret"
)

// connectTimeout bounds one attempt where the DSN does not.
const connectTimeout = 10 * time.Second

// pinned are the settings that decide how a value looks as text, so that what one server writes the other reads as
// the same value (PostgreSQL manual, "Client Connection Defaults"). They travel in the startup packet, which wins over
// ALTER ROLE, ALTER DATABASE and the DSN's options. row_security = off turns a silently filtered copy into an error.
var pinned = map[string]string{
	"DateStyle":           "ISO, MDY",
	"IntervalStyle":       "postgres",
	"TimeZone":            "UTC",
	"extra_float_digits":  "3",
	"client_encoding":     "UTF8",
	"bytea_output":        "hex",
	"lc_monetary":         "C",
	"search_path":         "pg_catalog",
	"row_security":        "off",
	"statement_timeout":   "0",
	"lock_timeout":        "0",
	"application_name":    "pgveil replication",
	"tcp_keepalives_idle": "10", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "3",
	"idle_in_transaction_session_timeout": "0",
	// The epoch's fence and the wait for its predecessor rest on READ COMMITTED's second look at a changed row.
	"default_transaction_isolation": "read committed",
	"default_transaction_read_only": "off",
	"array_nulls":                   "on",
}

type side string

const (
	source side = "source"
	target side = "target"
)

func parse(s side, dsn secret.Bytes) (*pgx.ConnConfig, error) {
	if dsn.Len() == 0 {
		return nil, errors.New("the " + string(s) + " DSN is empty") // libpq's environment would fill it in
	}
	cfg, err := pgx.ParseConfig(string(dsn.Expose()))
	if err != nil {
		// The cause quotes the DSN.
		return nil, errors.New("the " + string(s) + " DSN is not a connection string")
	}
	maps.Copy(cfg.RuntimeParams, pinned)
	if s == target {
		// An acknowledged LSN must be durable, whatever the role's default is.
		cfg.RuntimeParams["synchronous_commit"] = "on"
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = connectTimeout
	}
	return cfg, nil
}

func connect(ctx context.Context, s side, dsn secret.Bytes) (*pgx.Conn, error) {
	cfg, err := parse(s, dsn)
	if err != nil {
		return nil, err
	}
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, sqlError("connect to the "+string(s), err)
	}
	return conn, nil
}

// connectReplication opens a connection that speaks the streaming replication protocol for one database.
func connectReplication(ctx context.Context, dsn secret.Bytes) (*pgconn.PgConn, error) {
	cfg, err := parse(source, dsn)
	if err != nil {
		return nil, err
	}
	cfg.RuntimeParams["replication"] = "database"
	conn, err := pgconn.ConnectConfig(ctx, &cfg.Config)
	if err != nil {
		return nil, sqlError("connect to the source for replication", err)
	}
	return conn, nil
}

// closeConn ends a connection without waiting long for a peer that may be gone.
func closeConn(conn interface{ Close(context.Context) error }) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	conn.Close(ctx)
}

// querier is a connection or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}
