// Command pgx checks jackc/pgx's own interface.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"pgveil/drivers/go/check"
)

var ctx = context.Background()

func main() { check.Run("github.com/jackc/pgx/v5", plain, protected) }

func open(dsn string) *pgx.Conn {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		panic(err)
	}
	return conn
}

// code is the SQLSTATE of an error, or empty.
func code(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

var modes = map[string]pgx.QueryExecMode{
	"prepared": pgx.QueryExecModeCacheStatement, "described": pgx.QueryExecModeCacheDescribe, "exec": pgx.QueryExecModeExec, "simple": pgx.QueryExecModeSimpleProtocol,
}

var modeNames = []string{"prepared", "described", "exec", "simple"}

func plain(c *check.C) {
	conn := open(c.URL)
	defer conn.Close(ctx)
	c.Do("connect", func() error { return conn.Ping(ctx) })
	types(c, conn)
	for _, mode := range modeNames {
		c.Do("parameter."+mode, func() error {
			for i := range 12 {
				var got string
				if err := conn.QueryRow(ctx, "SELECT $1::text || $2::int8::text", modes[mode], "sent-marker", i).Scan(&got); err != nil {
					return err
				}
				if err := check.Same(got, fmt.Sprint("sent-marker", i)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	c.Do("batch", func() error {
		b := &pgx.Batch{}
		for i := range 50 {
			b.Queue("SELECT $1::int4 * 2", i)
		}
		r := conn.SendBatch(ctx, b)
		defer r.Close()
		for i := range 50 {
			var got int
			if err := r.QueryRow().Scan(&got); err != nil {
				return err
			}
			if err := check.Same(got, 2*i); err != nil {
				return err
			}
		}
		return r.Close()
	})
	c.Do("pipeline", func() error { return pipeline(conn) })
	c.Do("copy.in", func() error {
		if _, err := conn.Exec(ctx, "CREATE TEMP TABLE copied (id int8, note text)"); err != nil {
			return err
		}
		n, err := conn.CopyFrom(ctx, pgx.Identifier{"copied"}, []string{"id", "note"}, pgx.CopyFromSlice(10_000, func(i int) ([]any, error) { return []any{int64(i), "note"}, nil }))
		return errors.Join(err, check.Same(n, 10_000))
	})
	c.Do("copy.out", func() error {
		var b bytes.Buffer
		tag, err := conn.PgConn().CopyTo(ctx, &b, "COPY copied TO STDOUT")
		return errors.Join(err, check.Same(tag, "COPY 10000"), check.Same(bytes.Count(b.Bytes(), []byte("\n")), 10_000))
	})
	c.Do("copy.error", func() error {
		_, err := conn.PgConn().CopyFrom(ctx, strings.NewReader("x\ty\n"), "COPY copied FROM STDIN")
		return check.Refused(err, code(err), "22P02", "")
	})
	c.Do("transaction", func() error { return transaction(conn) })
	c.Do("cancel", func() error { return cancel(conn) })
	c.Do("listen", func() error { return listen(c, conn) })
	c.Do("notice", func() error {
		cfg, err := pgx.ParseConfig(c.URL)
		if err != nil {
			return err
		}
		var got []string
		cfg.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { got = append(got, n.Severity+" "+n.Code+" "+n.Message) }
		other, err := pgx.ConnectConfig(ctx, cfg)
		if err != nil {
			return err
		}
		defer other.Close(ctx)
		_, err = other.Exec(ctx, "DO $$ BEGIN RAISE WARNING 'noted %', 1; END $$")
		return errors.Join(err, check.Same(got, "[WARNING 01000 noted 1]"))
	})
	c.Do("error.position", func() error {
		_, err := conn.Exec(ctx, "SELECT 1 + no_such_column", pgx.QueryExecModeExec)
		var e *pgconn.PgError
		if !errors.As(err, &e) {
			return fmt.Errorf("got %v", err)
		}
		return check.Same(fmt.Sprint(e.Code, " ", e.Position), "42703 12")
	})
	c.Do("error.detail", func() error {
		conn.Exec(ctx, "CREATE TEMP TABLE uniques (id int PRIMARY KEY); INSERT INTO uniques VALUES (1)")
		_, err := conn.Exec(ctx, "INSERT INTO uniques VALUES ($1)", 1)
		var e *pgconn.PgError
		if !errors.As(err, &e) {
			return fmt.Errorf("got %v", err)
		}
		return check.Same(fmt.Sprint(e.Code, "|", e.ConstraintName, "|", e.Detail), "23505|uniques_pkey|Key (id)=(1) already exists.")
	})
	c.Do("cursor", func() error { return cursor(conn) })
	c.Do("large", func() error {
		var got string
		err := conn.QueryRow(ctx, "SELECT $1::text", strings.Repeat("x", 8<<20)).Scan(&got)
		return errors.Join(err, check.Same(len(got), 8<<20))
	})
	c.Do("largeobject", func() error { return largeObject(conn) })
}

func types(c *check.C, conn *pgx.Conn) {
	when := time.Date(2024, 2, 29, 12, 34, 56, 789012000, time.UTC)
	num := pgtype.Numeric{Int: big.NewInt(-12345678901234567), Exp: -4, Valid: true}
	for _, t := range []struct {
		name  string
		value any
	}{
		{"int2", int16(-32768)}, {"int4", int32(2147483647)}, {"int8", int64(-9223372036854775808)}, {"numeric", num}, {"float4", float32(1.5)}, {"float8", 1e-300},
		{"bool", true}, {"text", "Grüße \\ ' \" 🐘"}, {"bytea", []byte{0, 1, 255, 92}}, {"date", time.Date(2024, 2, 29, 0, 0, 0, 0, time.UTC)}, {"timestamp", when},
		{"timestamptz", when}, {"uuid", [16]byte{1, 2, 3, 255}}, {"json", map[string]any{"a": []any{1.0, nil}}}, {"jsonb", map[string]any{"a": "b"}},
		{"int4[]", []int32{1, -2, 3}}, {"text[]", []string{"a,b", `"q"`, ""}}, {"text", nil},
	} {
		name := t.name
		if t.value == nil {
			name = "null"
		}
		c.Do("types."+name, func() error {
			for _, mode := range typeModes(t.name) {
				rows, err := conn.Query(ctx, "SELECT $1::"+t.name, mode, t.value)
				if err != nil {
					return err
				}
				got, err := pgx.CollectExactlyOneRow(rows, func(r pgx.CollectableRow) (string, error) {
					v, err := r.Values()
					if err != nil {
						return "", err
					}
					if at, ok := v[0].(time.Time); ok {
						v[0] = at.UTC()
					}
					return fmt.Sprint(v[0]), nil
				})
				if err := errors.Join(err, check.Same(got, fmt.Sprint(t.value))); err != nil {
					return err
				}
			}
			return nil
		})
	}
}

// typeModes are the modes in which pgx can send the type: without a description it must know it by the Go type.
func typeModes(name string) []pgx.QueryExecMode {
	switch name {
	case "uuid", "json", "jsonb":
		return []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe}
	}
	return []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol}
}

// pipeline sends several Syncs, one group failing, without waiting.
func pipeline(conn *pgx.Conn) error {
	p := conn.PgConn().StartPipeline(ctx)
	p.SendQueryParams("SELECT $1::int4", [][]byte{[]byte("1")}, nil, nil, nil)
	p.SendQueryParams("SELECT 1 / $1::int4", [][]byte{[]byte("0")}, nil, nil, nil)
	p.SendQueryParams("SELECT 'skipped'", nil, nil, nil, nil)
	if err := p.Sync(); err != nil {
		return err
	}
	p.SendQueryParams("SELECT 2", nil, nil, nil, nil)
	if err := p.Sync(); err != nil {
		return err
	}
	var seen []string
	for {
		r, err := p.GetResults()
		switch {
		case err != nil:
			seen = append(seen, code(err))
			continue
		case r == nil:
			err := p.Close()
			return errors.Join(err, check.Same(seen, "[1 22012 sync 2 sync]"))
		}
		switch r := r.(type) {
		case *pgconn.ResultReader:
			got := r.Read()
			if got.Err != nil {
				seen = append(seen, code(got.Err))
				continue
			}
			seen = append(seen, string(got.Rows[0][0]))
		case *pgconn.PipelineSync:
			seen = append(seen, "sync")
		}
	}
}

func transaction(conn *pgx.Conn) error {
	if _, err := conn.Exec(ctx, "CREATE TEMP TABLE kept (id int)"); err != nil {
		return err
	}
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(ctx)
	if _, err := tx.Exec(ctx, "INSERT INTO kept VALUES ($1)", 1); err != nil {
		return err
	}
	inner, err := tx.Begin(ctx) // a savepoint
	if err != nil {
		return err
	}
	_, err = inner.Exec(ctx, "INSERT INTO kept VALUES (1 / $1::int)", 0)
	if err := errors.Join(check.Refused(err, code(err), "22012", ""), inner.Rollback(ctx), tx.Commit(ctx)); err != nil {
		return err
	}
	lost, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	if _, err := lost.Exec(ctx, "DELETE FROM kept"); err != nil {
		return err
	}
	if err := lost.Rollback(ctx); err != nil {
		return err
	}
	var n int
	err = conn.QueryRow(ctx, "SELECT count(*) FROM kept").Scan(&n)
	return errors.Join(err, check.Same(n, 1))
}

func cancel(conn *pgx.Conn) error {
	go func() {
		time.Sleep(200 * time.Millisecond) // the statement has begun; where it has not, the cancel is for nothing and the check fails
		conn.PgConn().CancelRequest(ctx)
	}()
	_, err := conn.Exec(ctx, "SELECT pg_sleep(20)")
	return errors.Join(check.Refused(err, code(err), "57014", ""), conn.Ping(ctx))
}

func listen(c *check.C, conn *pgx.Conn) error {
	if _, err := conn.Exec(ctx, "LISTEN drivers_pgx"); err != nil {
		return err
	}
	other := open(c.URL)
	defer other.Close(ctx)
	if _, err := other.Exec(ctx, "SELECT pg_notify('drivers_pgx', $1)", "told"); err != nil {
		return err
	}
	wait, stop := context.WithTimeout(ctx, 5*time.Second)
	defer stop()
	n, err := conn.WaitForNotification(wait)
	if err != nil {
		return err
	}
	return check.Same(n.Channel+" "+n.Payload, "drivers_pgx told")
}

// cursor reads a result in portions of a declared cursor.
func cursor(conn *pgx.Conn) error {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(ctx)
	if _, err := tx.Exec(ctx, "DECLARE c CURSOR FOR SELECT g FROM generate_series(1, 250) g"); err != nil {
		return err
	}
	total := 0
	for {
		tag, err := tx.Exec(ctx, "FETCH 100 FROM c")
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return check.Same(total, 250)
		}
		total += int(tag.RowsAffected())
	}
}

func largeObject(conn *pgx.Conn) error {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(ctx)
	objects := tx.LargeObjects()
	oid, err := objects.Create(ctx, 0)
	if err != nil {
		return err
	}
	o, err := objects.Open(ctx, oid, pgx.LargeObjectModeRead|pgx.LargeObjectModeWrite)
	if err != nil {
		return err
	}
	if _, err := o.Write([]byte("large")); err != nil {
		return err
	}
	if _, err := o.Seek(0, io.SeekStart); err != nil {
		return err
	}
	got, err := io.ReadAll(o)
	return errors.Join(err, check.Same(string(got), "large"))
}
