// Package sqldb holds the checks of every driver behind database/sql.
package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"pgveil/drivers/go/check"
)

// Plain runs the checks that any PostgreSQL passes. code gives the SQLSTATE and the position of an error.
func Plain(c *check.C, db *sql.DB, code func(error) (state, position string)) {
	db.SetMaxOpenConns(4)
	c.Do("connect", func() error { return db.Ping() })
	types(c, db)
	c.Do("parameter", func() error {
		for i := range 12 {
			var got string
			if err := db.QueryRow("SELECT $1::text || $2::int8::text", "sent-marker", i).Scan(&got); err != nil {
				return err
			}
			if err := check.Same(got, fmt.Sprint("sent-marker", i)); err != nil {
				return err
			}
		}
		return nil
	})
	c.Do("prepared", func() error {
		stmt, err := db.Prepare("SELECT $1::int4 + 1")
		if err != nil {
			return err
		}
		defer stmt.Close()
		for i := range 12 {
			var got int
			if err := stmt.QueryRow(i).Scan(&got); err != nil {
				return err
			}
			if err := check.Same(got, i+1); err != nil {
				return err
			}
		}
		return nil
	})
	c.Do("transaction", func() error { return transaction(db, code) })
	c.Do("cancel", func() error {
		ctx, stop := context.WithTimeout(context.Background(), 300*time.Millisecond)
		defer stop()
		began := time.Now()
		_, err := db.ExecContext(ctx, "SELECT pg_sleep(20)")
		if err == nil || time.Since(began) > 5*time.Second {
			return fmt.Errorf("%v after %s", err, time.Since(began))
		}
		return db.Ping()
	})
	c.Do("error.position", func() error {
		_, err := db.Exec("SELECT 1 + no_such_column")
		state, position := code(err)
		return check.Same(state+" "+position, "42703 12")
	})
	c.Do("error.unique", func() error {
		if _, err := db.Exec("CREATE TABLE drivers_uniques (id int PRIMARY KEY)"); err != nil {
			return err
		}
		defer db.Exec("DROP TABLE drivers_uniques")
		_, err := db.Exec("INSERT INTO drivers_uniques VALUES (1), (1)")
		state, _ := code(err)
		return check.Same(state, "23505")
	})
	c.Do("large", func() error {
		var got string
		err := db.QueryRow("SELECT $1::text", strings.Repeat("x", 8<<20)).Scan(&got)
		return errors.Join(err, check.Same(len(got), 8<<20))
	})
	c.Do("rows", func() error {
		rows, err := db.Query("SELECT g, 'row ' || g FROM generate_series(1, 20000) g")
		if err != nil {
			return err
		}
		defer rows.Close()
		n := 0
		for ; rows.Next(); n++ {
		}
		return errors.Join(rows.Err(), check.Same(n, 20_000))
	})
}

func types(c *check.C, db *sql.DB) {
	for _, t := range []struct{ typ, value string }{
		{"int2", "-32768"}, {"int4", "2147483647"}, {"int8", "-9223372036854775808"}, {"numeric", "-1234567890123.4567"}, {"float4", "1.5"}, {"float8", "1e-300"},
		{"text", "Grüße \\ ' \" 🐘"}, {"uuid", "01020304-0506-0708-090a-0b0c0d0e0f10"}, {"json", `{"a": [1, null]}`}, {"jsonb", `{"a": "b"}`},
		{"int4[]", "{1,-2,3}"}, {"text[]", `{"a,b","\"q\"",""}`},
	} {
		c.Do("types."+t.typ, func() error {
			var got string
			err := db.QueryRow("SELECT $1::"+t.typ, t.value).Scan(&got)
			return errors.Join(err, check.Same(got, t.value))
		})
	}
	c.Do("types.bool", func() error {
		var got bool
		err := db.QueryRow("SELECT $1::bool", true).Scan(&got)
		return errors.Join(err, check.Same(got, true))
	})
	c.Do("types.bytea", func() error {
		var got []byte
		err := db.QueryRow("SELECT $1::bytea", []byte{0, 1, 255, 92}).Scan(&got)
		return errors.Join(err, check.Same(got, []byte{0, 1, 255, 92}))
	})
	for typ, want := range map[string]time.Time{
		"date": time.Date(2024, 2, 29, 0, 0, 0, 0, time.UTC), "timestamp": time.Date(2024, 2, 29, 12, 34, 56, 789012000, time.UTC),
		"timestamptz": time.Date(2024, 2, 29, 12, 34, 56, 789012000, time.UTC),
	} {
		c.Do("types."+typ, func() error {
			var got any
			if err := db.QueryRow("SELECT $1::"+typ, want).Scan(&got); err != nil {
				return err
			}
			if at, ok := got.(time.Time); ok {
				return check.Same(at.UTC(), want)
			}
			return check.Same(got, want.Format(time.DateOnly)) // pgdriver leaves a date as text
		})
	}
	c.Do("types.null", func() error {
		var got sql.NullString
		err := db.QueryRow("SELECT $1::text", nil).Scan(&got)
		return errors.Join(err, check.Same(got.Valid, false))
	})
}

func transaction(db *sql.DB, code func(error) (string, string)) error {
	if _, err := db.Exec("CREATE TABLE drivers_kept (id int)"); err != nil {
		return err
	}
	defer db.Exec("DROP TABLE drivers_kept")
	tx, err := db.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	for _, s := range []string{"INSERT INTO drivers_kept VALUES (1)", "SAVEPOINT s"} {
		if _, err := tx.Exec(s); err != nil {
			return err
		}
	}
	_, err = tx.Exec("INSERT INTO drivers_kept VALUES (1 / $1::int)", 0)
	if state, _ := code(err); state != "22012" {
		return fmt.Errorf("SQLSTATE %q, want 22012: %v", state, err)
	}
	if _, err := tx.Exec("ROLLBACK TO s"); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	lost, err := db.Begin()
	if err != nil {
		return err
	}
	_, err = lost.Exec("DELETE FROM drivers_kept")
	if err := errors.Join(err, lost.Rollback()); err != nil {
		return err
	}
	var n int
	err = db.QueryRow("SELECT count(*) FROM drivers_kept").Scan(&n)
	return errors.Join(err, check.Same(n, 1))
}

// one reads one text of one row.
func one(db *sql.DB, query string, args ...any) (got string, err error) {
	err = db.QueryRow(query, args...).Scan(&got)
	return got, err
}

func wants(db *sql.DB, want, query string, args ...any) error {
	got, err := one(db, query, args...)
	return errors.Join(err, check.Same(got, want))
}

// Protected runs the checks of the protected table with plain SQL. open connects.
func Protected(c *check.C, open func(dsn string) *sql.DB, code func(error) (string, string)) {
	app, support, analyst, backing := open(c.URL), open(c.Support), open(c.Analyst), open(c.Backing)
	for _, db := range []*sql.DB{app, support, analyst, backing} {
		defer db.Close()
	}
	var id string
	c.Do("protected.insert", func() (err error) {
		if _, err := app.Exec("DELETE FROM people"); err != nil {
			return err
		}
		id, err = one(app, "INSERT INTO people (name, email, ssn) VALUES ($1, $2, $3) RETURNING id", "One", check.Email1, check.SSN1)
		return err
	})
	c.Do("protected.read", func() error { return wants(app, check.SSN1, "SELECT ssn FROM people WHERE id = $1", id) })
	c.Do("protected.find", func() error { return wants(app, "One", "SELECT name FROM people WHERE ssn = $1", check.SSN1) })
	c.Do("protected.prepared", func() error {
		stmt, err := app.Prepare("SELECT ssn FROM people WHERE ssn IN ($1, $2)")
		if err != nil {
			return err
		}
		defer stmt.Close()
		for range 12 {
			var got string
			err := stmt.QueryRow(check.SSN1, check.SSN3).Scan(&got)
			if err := errors.Join(err, check.Same(got, check.SSN1)); err != nil {
				return err
			}
		}
		return nil
	})
	c.Do("protected.update", func() error {
		_, err := app.Exec("UPDATE people SET ssn = $1 WHERE ssn = $2", check.SSN2, check.SSN1)
		return errors.Join(err, wants(app, check.SSN2, "SELECT ssn FROM people WHERE id = $1", id))
	})
	c.Do("protected.masked", func() error { return wants(support, "***-**-5462", "SELECT ssn FROM people WHERE id = $1", id) })
	c.Do("protected.token", func() error {
		got, err := one(analyst, "SELECT ssn FROM people WHERE id = $1", id)
		return errors.Join(err, check.IsToken(got), wants(backing, got, "SELECT ssn FROM people WHERE id = $1", id))
	})
	c.Do("protected.invalid", func() error {
		_, err := app.Exec("UPDATE people SET ssn = $1", "219-09-99x8")
		state, _ := code(err)
		return check.Refused(err, state, "22P02", "219-09")
	})
	c.Do("protected.rollback", func() error {
		tx, err := app.Begin()
		if err != nil {
			return err
		}
		_, err = tx.Exec("INSERT INTO people (name, ssn) VALUES ($1, $2)", "Lost", check.SSN3)
		return errors.Join(err, tx.Rollback(), wants(app, "0", "SELECT count(*) FROM people WHERE ssn = $1", check.SSN3))
	})
	c.Do("protected.delete", func() error { _, err := app.Exec("DELETE FROM people WHERE ssn = $1", check.SSN2); return err })
}
