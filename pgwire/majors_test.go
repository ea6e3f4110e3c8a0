package pgwire_test

import (
	"fmt"
	"net/url"
	"testing"

	"github.com/jackc/pgx/v5"

	"pgveil/internal/pgtest"
)

// TestOtherMajors is the slice on the other versions of PostgreSQL: pass-through login, writes, reads by role, search, calls, refusals, guard.
func TestOtherMajors(t *testing.T) {
	for _, major := range []int{13, 17, 18} {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			admin := pgtest.ServerMajor(t, major)
			u, err := url.Parse(admin)
			if err != nil {
				t.Fatal(err)
			}
			conn, err := pgx.Connect(t.Context(), admin)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(t.Context())
			name := fmt.Sprintf("slice%d", major)
			if _, err := conn.Exec(t.Context(), "create database "+name); err != nil {
				t.Fatal(err)
			}
			u.Path = "/" + name
			f := newFront(t, u.String())
			app := f.as("app")
			for _, m := range modes {
				f.must(app, "delete from customers")
				f.want(app, []string{anSSN + "|" + anEmail}, "insert into customers (id, ssn, email, phone, card) values (1, $1, $2, $3, $4) returning ssn, email", m, anSSN, anEmail, aPhone, aCard)
				f.want(app, []string{anSSN}, "select detokenize('ssn', ssn) from customers where card = $1", m, aCard)
				f.want(f.as("support"), []string{"***-**-6789"}, "select ssn from customers where id = $1", m, 1)
				f.refused(app, "0A000", "select upper(ssn) from customers where id = $1", m, 1)
				f.want(app, []string{anSSN + "|1"}, "select s, count(*) from (select ssn as s, email from customers group by ssn, 2) q group by s", m)
				f.want(app, []string{anSSN}, "insert into customers (id, ssn) values (1, $1) on conflict (id) do update set ssn = excluded.ssn returning ssn", m, anSSN)
				f.want(app, []string{"1"}, "select id from customers where ssn = any (array[$1, $2]) and ssn is not distinct from $2", m, "987-65-4321", anSSN)
			}
			stored, err := f.rows(f.direct(), "select ssn from customers")
			if err != nil || stored[0] == anSSN {
				t.Errorf("stored: %v", err)
			}
			f.want(f.as("analyst"), stored, "select ssn from customers")
			f.refused(f.direct(), "23514", "insert into customers (id, ssn) values (2, '"+anSSN+"')", simple()...)
			f.must(f.direct(), "create view sneaky as select upper(ssn) as s from customers", "create function body() returns text language sql as 'select ssn from customers'")
			f.refused(f.as("app"), "0A000", "select * from sneaky")
			f.refused(f.as("app"), "0A000", "select body()")
		})
	}
}
