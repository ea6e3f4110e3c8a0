package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"pgveil/internal/cluster"
	"pgveil/internal/secret"
)

// A backing is the PostgreSQL that dev works on: a private cluster, or one that --backing names.
type backing struct {
	cluster *cluster.Cluster // nil for somebody else's server

	admin    *pgconn.Config // a superuser's login
	host     string
	port     int
	query    string // of connection URLs: sslmode and what else the user's DSN says
	super    string // name and password of the superuser over TCP
	password secret.Bytes
}

func privateBacking(c *cluster.Cluster, password secret.Bytes) (*backing, error) {
	admin, err := pgconn.ParseConfig(c.LocalDSN("postgres"))
	if err != nil {
		return nil, err
	}
	return &backing{
		cluster: c, admin: admin, host: "127.0.0.1", port: c.Port(), query: "sslmode=disable",
		super: cluster.Superuser, password: password,
	}, nil
}

// foreignBacking uses the server of a DSN, whose role must be a superuser.
func foreignBacking(dsn string) (*backing, error) {
	admin, err := pgconn.ParseConfig(dsn)
	if err != nil {
		return nil, badDSN("--backing", err)
	}
	b := &backing{admin: admin, host: admin.Host, port: int(admin.Port), super: admin.User, password: secret.New([]byte(admin.Password))}
	if u, err := url.Parse(dsn); err == nil && strings.HasPrefix(u.Scheme, "postgres") {
		q := u.Query()
		for _, k := range []string{"host", "port", "user", "password", "dbname"} {
			q.Del(k)
		}
		b.query = q.Encode()
	}
	return b, nil
}

// badDSN reports a DSN that cannot be parsed, without its text, which may hold a password.
func badDSN(where string, err error) *failure {
	// The cause names a key or a file; pgconn's own errors quote the DSN, in which they do not find every password.
	for parse := (*pgconn.ParseConfigError)(nil); errors.As(err, &parse); {
		if err = errors.Unwrap(parse); err == nil {
			text := parse.Error()
			err = errors.New(text[strings.LastIndex(text, "`: ")+len("`: "):])
		}
	}
	return misconfigured("%s is not a connection string: %w", where, err).
		hint("postgres://user@host:5432/database, the password in PGPASSWORD or ~/.pgpass")
}

// connect opens a superuser's connection to the database.
func (b *backing) connect(ctx context.Context, database string) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig("")
	if err != nil {
		return nil, err
	}
	config.Config = *b.admin.Copy()
	config.Database = database
	return pgx.ConnectConfig(ctx, config)
}

// url is the connection string of a role straight to this server.
func (b *backing) url(role string, password secret.Bytes, database string) string {
	u := url.URL{Scheme: "postgres", User: url.UserPassword(role, string(password.Expose())), Path: "/" + database, RawQuery: b.query}
	if strings.HasPrefix(b.host, "/") {
		q := u.Query()
		q.Set("host", b.host)
		q.Set("port", strconv.Itoa(b.port))
		u.RawQuery = q.Encode()
	} else {
		u.Host = net.JoinHostPort(b.host, strconv.Itoa(b.port))
	}
	return u.String()
}

// check refuses a server that the demonstration cannot work on.
func (b *backing) check(ctx context.Context) error {
	conn, err := b.connect(ctx, b.admin.Database)
	if err != nil {
		return fmt.Errorf("backing database: %w", err)
	}
	defer conn.Close(ctx)
	var number int
	var wal string
	var super bool
	err = conn.QueryRow(ctx, `SELECT current_setting('server_version_num')::int, current_setting('wal_level'), rolsuper
		FROM pg_catalog.pg_roles WHERE rolname = current_user`).Scan(&number, &wal, &super)
	switch {
	case err != nil:
		return err
	case number/10000 < cluster.Oldest:
		return failed("the backing database is PostgreSQL %d, older than %d", number/10000, cluster.Oldest)
	case wal != "logical":
		return failed("the backing database has wal_level = %s, replication needs logical", wal).
			hint("ALTER SYSTEM SET wal_level = logical; then restart PostgreSQL")
	case !super:
		return failed("dev needs a superuser on the backing database, to make roles and databases").
			hint("--backing with a superuser's DSN, or leave it out for a private cluster")
	}
	return nil
}
