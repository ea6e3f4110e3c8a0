package main

import (
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"pgveil/drivers/go/check"
)

// one reads one text of one row.
func one(conn *pgx.Conn, query string, args ...any) (string, error) {
	rows, err := conn.Query(ctx, query, args...)
	if err != nil {
		return "", err
	}
	return pgx.CollectExactlyOneRow(rows, pgx.RowTo[string])
}

// wants fails unless the query gives one row of that one text.
func wants(conn *pgx.Conn, want, query string, args ...any) error {
	got, err := one(conn, query, args...)
	return errors.Join(err, check.Same(got, want))
}

func protected(c *check.C) {
	app, support, analyst, backing := open(c.URL), open(c.Support), open(c.Analyst), open(c.Backing)
	defer func() {
		for _, conn := range []*pgx.Conn{app, support, analyst, backing} {
			conn.Close(ctx)
		}
	}()
	c.Do("tls", func() error { conn := open(c.TLS()); defer conn.Close(ctx); return conn.Ping(ctx) })
	for _, name := range modeNames {
		mode := modes[name]
		conn := open(c.URL)
		protectedIn(c, conn, support, analyst, backing, name, mode)
		conn.Close(ctx)
	}
	c.Do("protected.batch", func() error {
		b := &pgx.Batch{}
		for i := range 20 {
			b.Queue("INSERT INTO people (name, ssn) VALUES ($1, $2)", "Batch", fmt.Sprintf("512-34-%04d", 1000+i))
			b.Queue("SELECT ssn FROM people WHERE ssn = $1", fmt.Sprintf("512-34-%04d", 1000+i))
		}
		r := app.SendBatch(ctx, b)
		defer r.Close()
		for i := range 20 {
			if _, err := r.Exec(); err != nil {
				return err
			}
			var got string
			if err := r.QueryRow().Scan(&got); err != nil {
				return err
			}
			if err := check.Same(got, fmt.Sprintf("512-34-%04d", 1000+i)); err != nil {
				return err
			}
		}
		return r.Close()
	})
	c.Do("protected.rollback", func() error {
		tx, err := app.Begin(ctx)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "INSERT INTO people (name, ssn) VALUES ($1, $2)", "Lost", check.SSN3); err != nil {
			return err
		}
		if err := tx.Rollback(ctx); err != nil {
			return err
		}
		return wants(app, "0", "SELECT count(*)::text FROM people WHERE ssn = $1", check.SSN3)
	})
	c.Do("protected.delete", func() error { _, err := app.Exec(ctx, "DELETE FROM people"); return err })
}

// protectedIn runs the checks of the protected table with statements sent in one mode.
func protectedIn(c *check.C, app, support, analyst, backing *pgx.Conn, name string, mode pgx.QueryExecMode) {
	var id string
	c.Do("protected.insert."+name, func() (err error) {
		if _, err := app.Exec(ctx, "DELETE FROM people", mode); err != nil {
			return err
		}
		id, err = one(app, "INSERT INTO people (name, email, ssn) VALUES ($1, $2, $3) RETURNING id::text", mode, "One", check.Email1, check.SSN1)
		return err
	})
	c.Do("protected.read."+name, func() error {
		return wants(app, check.SSN1, "SELECT ssn FROM people WHERE id = $1::text::int8", mode, id)
	})
	c.Do("protected.find."+name, func() error {
		for range 12 {
			if err := wants(app, "One", "SELECT name FROM people WHERE ssn = $1", mode, check.SSN1); err != nil {
				return err
			}
		}
		return nil
	})
	c.Do("protected.in."+name, func() error {
		return wants(app, "One", "SELECT name FROM people WHERE ssn IN ($1, $2)", mode, check.SSN1, check.SSN2)
	})
	c.Do("protected.group."+name, func() error {
		var ssn string
		var n int
		err := app.QueryRow(ctx, "SELECT ssn, count(*) FROM people WHERE name = $1 GROUP BY ssn", mode, "One").Scan(&ssn, &n)
		return errors.Join(err, check.Same(fmt.Sprint(ssn, n), check.SSN1+"1"))
	})
	c.Do("protected.upsert."+name, func() error {
		return wants(app, check.SSN3, "INSERT INTO people (id, name, ssn) VALUES ($1::text::int8, $2, $3) ON CONFLICT (id) DO UPDATE SET ssn = excluded.ssn RETURNING ssn",
			mode, id, "One", check.SSN3)
	})
	c.Do("protected.case."+name, func() error {
		return wants(app, check.SSN1, "UPDATE people SET ssn = CASE WHEN ssn = $1 THEN $2 ELSE NULL END RETURNING ssn", mode, check.SSN3, check.SSN1)
	})
	c.Do("protected.update."+name, func() error {
		tag, err := app.Exec(ctx, "UPDATE people SET ssn = $1 WHERE ssn = $2", mode, check.SSN2, check.SSN1)
		return errors.Join(err, check.Same(tag, "UPDATE 1"))
	})
	c.Do("protected.masked."+name, func() error {
		return wants(support, "***-**-5462", "SELECT ssn FROM people WHERE id = $1::text::int8", mode, id)
	})
	c.Do("protected.token."+name, func() error {
		got, err := one(analyst, "SELECT ssn FROM people WHERE id = $1::text::int8", mode, id)
		if err := errors.Join(err, check.IsToken(got)); err != nil {
			return err
		}
		return wants(backing, got, "SELECT ssn FROM people WHERE id = $1::text::int8", mode, id)
	})
	c.Do("protected.invalid."+name, func() error {
		_, err := app.Exec(ctx, "UPDATE people SET ssn = $1", mode, "219-09-99x8")
		return check.Refused(err, code(err), "22P02", "219-09")
	})
}
