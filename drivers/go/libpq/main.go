// Command libpq checks lib/pq behind database/sql, with its own COPY and LISTEN.
package main

import (
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/lib/pq"

	"pgveil/drivers/go/check"
	"pgveil/drivers/go/sqldb"
)

func main() { check.Run("github.com/lib/pq", plain, protected) }

func open(dsn string) *sql.DB {
	db, err := sql.Open("postgres", dsn)
	if err != nil {
		panic(err)
	}
	return db
}

func code(err error) (state, position string) {
	var e *pq.Error
	if errors.As(err, &e) {
		return string(e.Code), e.Position
	}
	return "", ""
}

func plain(c *check.C) {
	db := open(c.URL)
	defer db.Close()
	sqldb.Plain(c, db, code)
	c.Do("array", func() error {
		var got []string
		err := db.QueryRow("SELECT $1::text[]", pq.Array([]string{"a,b", `"q"`, ""})).Scan(pq.Array(&got))
		return errors.Join(err, check.Same(fmt.Sprintf("%q", got), `["a,b" "\"q\"" ""]`))
	})
	c.Do("copy.in", func() error { return copyIn(db) })
	c.Do("listen", func() error {
		l := pq.NewListener(c.URL, time.Second, time.Second, nil)
		defer l.Close()
		if err := l.Listen("drivers_pq"); err != nil {
			return err
		}
		if _, err := db.Exec("SELECT pg_notify('drivers_pq', $1)", "told"); err != nil {
			return err
		}
		select {
		case n := <-l.Notify:
			return check.Same(n.Extra, "told")
		case <-time.After(5 * time.Second):
			return errors.New("no notification")
		}
	})
	c.Do("binary", func() error {
		other := open(c.URL + "&binary_parameters=yes")
		defer other.Close()
		var got []byte
		err := other.QueryRow("SELECT $1::bytea", []byte{0, 255}).Scan(&got)
		return errors.Join(err, check.Same(got, []byte{0, 255}))
	})
}

func copyIn(db *sql.DB) error {
	if _, err := db.Exec("CREATE TABLE drivers_copied (id int, note text)"); err != nil {
		return err
	}
	defer db.Exec("DROP TABLE drivers_copied")
	tx, err := db.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	stmt, err := tx.Prepare(pq.CopyIn("drivers_copied", "id", "note"))
	if err != nil {
		return err
	}
	for i := range 10_000 {
		if _, err := stmt.Exec(i, "note\t\\"); err != nil {
			return err
		}
	}
	if _, err := stmt.Exec(); err != nil {
		return err
	}
	if err := errors.Join(stmt.Close(), tx.Commit()); err != nil {
		return err
	}
	var n int
	err = db.QueryRow("SELECT count(*) FROM drivers_copied").Scan(&n)
	return errors.Join(err, check.Same(n, 10_000))
}

func protected(c *check.C) {
	c.Do("tls", func() error { db := open(c.TLS()); defer db.Close(); return db.Ping() })
	sqldb.Protected(c, open, code)
	c.Do("protected.binary", func() error {
		db := open(c.URL + "&binary_parameters=yes")
		defer db.Close()
		var got string
		err := db.QueryRow("INSERT INTO people (name, ssn) VALUES ($1, $2) RETURNING ssn", "Binary", check.SSN1).Scan(&got)
		return errors.Join(err, check.Same(got, check.SSN1))
	})
	c.Do("protected.clean", func() error {
		db := open(c.URL)
		defer db.Close()
		_, err := db.Exec("DELETE FROM people")
		return err
	})
}
