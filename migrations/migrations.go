// Package migrations holds the numbered SQL of schema pgveil and applies it.
//
// Start with Apply; Pending says what Apply would do. Each file runs in a transaction of its own and is remembered
// with its checksum in pgveil.migration. There is no way down: a mistake is mended by the next number.
package migrations

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

//go:embed *.sql
var files embed.FS

// lockKey is the advisory lock under which migrations run; the number is the word "pgveil" in ASCII.
const lockKey int64 = 0x70677665696c

// ErrChanged says that an applied migration no longer has the text it was applied with.
var ErrChanged = errors.New("an applied migration has changed: this is not the binary that migrated the database")

// ErrNewer says that the database was migrated by a newer pgveil than this one.
var ErrNewer = errors.New("the database was migrated by a newer pgveil")

// migration is one embedded file.
type migration struct {
	name string // "001_control_plane"
	text string
}

func (m migration) checksum() string {
	sum := sha256.Sum256([]byte(m.text))
	return hex.EncodeToString(sum[:])
}

// all returns the embedded migrations in order of their numbers.
func all() []migration {
	entries, err := files.ReadDir(".") // sorted by name, hence by number
	if err != nil {
		panic("migrations: " + err.Error())
	}
	var ms []migration
	for _, e := range entries {
		text, err := files.ReadFile(e.Name())
		if err != nil {
			panic("migrations: " + err.Error())
		}
		ms = append(ms, migration{e.Name()[:len(e.Name())-len(".sql")], string(text)})
	}
	return ms
}

// Apply brings schema pgveil up to date and returns the names of the migrations it ran, none when there was nothing to do.
//
// It may be called by several processes at once: an advisory lock lets one work and the others find it done.
// The role of conn becomes the owner of what is created; it needs CREATE on the database only if schema pgveil is
// not there yet. A failed migration leaves the ones before it applied.
func Apply(ctx context.Context, conn *pgx.Conn) (applied []string, err error) {
	if _, err := conn.Exec(ctx, `SELECT pg_catalog.pg_advisory_lock($1)`, lockKey); err != nil {
		return nil, fmt.Errorf("lock migrations: %w", err)
	}
	defer func() {
		// The caller's context may be over; a lock kept by an open connection would block everyone else.
		_, unlockErr := conn.Exec(context.WithoutCancel(ctx), `SELECT pg_catalog.pg_advisory_unlock($1)`, lockKey)
		if err == nil && unlockErr != nil {
			err = fmt.Errorf("unlock migrations: %w", unlockErr)
		}
	}()
	if err := bootstrap(ctx, conn); err != nil {
		return nil, err
	}
	todo, err := pending(ctx, conn)
	if err != nil {
		return nil, err
	}
	for _, m := range todo {
		if err := run(ctx, conn, m); err != nil {
			return applied, fmt.Errorf("apply %s: %w", m.name, err)
		}
		applied = append(applied, m.name)
	}
	return applied, nil
}

// Pending returns the names of the migrations Apply would run; all of them for a database without schema pgveil.
// It changes nothing and takes no lock.
func Pending(ctx context.Context, conn *pgx.Conn) ([]string, error) {
	todo, err := pending(ctx, conn)
	var names []string
	for _, m := range todo {
		names = append(names, m.name)
	}
	return names, err
}

// bootstrap makes the schema and the table that remembers. CREATE SCHEMA IF NOT EXISTS asks for CREATE on the
// database even when the schema exists, which the service role need not have.
func bootstrap(ctx context.Context, conn *pgx.Conn) error {
	var exists bool
	err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = 'pgveil')`).Scan(&exists)
	if err == nil && !exists {
		_, err = conn.Exec(ctx, `CREATE SCHEMA pgveil`)
	}
	if err != nil {
		return fmt.Errorf("create schema pgveil: %w", err)
	}
	_, err = conn.Exec(ctx, `CREATE TABLE IF NOT EXISTS pgveil.migration (
		name        text PRIMARY KEY,
		checksum    text NOT NULL,
		applied_at  timestamptz NOT NULL DEFAULT pg_catalog.now()
	)`)
	if err != nil {
		return fmt.Errorf("create table pgveil.migration: %w", err)
	}
	return nil
}

// pending compares what is embedded with what was applied.
func pending(ctx context.Context, conn *pgx.Conn) ([]migration, error) {
	done, err := remembered(ctx, conn)
	if err != nil {
		return nil, fmt.Errorf("read pgveil.migration: %w", err)
	}
	var todo []migration
	for _, m := range all() {
		switch sum, ok := done[m.name]; {
		case !ok:
			todo = append(todo, m)
		case sum != m.checksum():
			return nil, fmt.Errorf("%s: %w", m.name, ErrChanged)
		}
		delete(done, m.name)
	}
	for name := range done {
		return nil, fmt.Errorf("%s is applied: %w", name, ErrNewer)
	}
	return todo, nil
}

// remembered returns name and checksum of the applied migrations; none when the table does not exist.
func remembered(ctx context.Context, conn *pgx.Conn) (map[string]string, error) {
	done := map[string]string{}
	rows, err := conn.Query(ctx, `SELECT name, checksum FROM pgveil.migration`)
	if err == nil {
		var name, sum string
		_, err = pgx.ForEachRow(rows, []any{&name, &sum}, func() error { done[name] = sum; return nil })
	}
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) && (pgErr.Code == "42P01" || pgErr.Code == "3F000") { // undefined_table, invalid_schema_name
		return nil, nil
	}
	return done, err
}

// run applies one migration and remembers it in the same transaction.
func run(ctx context.Context, conn *pgx.Conn, m migration) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, m.text, pgx.QueryExecModeSimpleProtocol); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `INSERT INTO pgveil.migration (name, checksum) VALUES ($1, $2)`, m.name, m.checksum())
		return err
	})
}
