package main

import (
	"net/url"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"pgveil/internal/secret"
)

// A DSN is a connection URL or a list of key=value words (PostgreSQL manual, "Connection Strings"). These
// functions change one in its own form, so that what else it says (certificates, several hosts) stays.

// withDatabase returns the DSN for another database of the same server.
func withDatabase(dsn, database string) string {
	if u, ok := parseURL(dsn); ok {
		u.Path = "/" + database
		q := u.Query()
		q.Del("dbname")
		u.RawQuery = q.Encode()
		return u.String()
	}
	return dsn + " dbname=" + quoteWord(database) // the last one holds
}

// complete returns the DSN with the user and password that it resolves to here, from PGPASSWORD, ~/.pgpass and
// the like: the worker that uses it later has neither.
func complete(where, dsn string) (secret.Bytes, error) {
	config, err := pgconn.ParseConfig(dsn)
	if err != nil {
		return secret.Bytes{}, badDSN(where, err)
	}
	if u, ok := parseURL(dsn); ok {
		u.User = url.UserPassword(config.User, config.Password)
		q := u.Query()
		q.Del("user")
		q.Del("password")
		u.RawQuery = q.Encode()
		return secret.New([]byte(u.String())), nil
	}
	return secret.New([]byte(dsn + " user=" + quoteWord(config.User) + " password=" + quoteWord(config.Password))), nil
}

// holdsPassword says whether the text itself contains a password.
func holdsPassword(dsn string) bool {
	if u, ok := parseURL(dsn); ok {
		_, has := u.User.Password()
		return has || u.Query().Has("password")
	}
	return strings.Contains(dsn, "password")
}

func parseURL(dsn string) (*url.URL, bool) {
	if !strings.HasPrefix(dsn, "postgres://") && !strings.HasPrefix(dsn, "postgresql://") {
		return nil, false
	}
	u, err := url.Parse(dsn)
	return u, err == nil
}

func quoteWord(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}
