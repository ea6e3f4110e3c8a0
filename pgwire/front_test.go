package pgwire_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"pgveil/catalog"
	"pgveil/engine"
	"pgveil/internal/pgtest"
)

const (
	anEmail = "jane.doe@example.com"
	anSSN   = "123-45-6789"
	aPhone  = "+12125550123"
	aCard   = "4111111111111111"
)

// withJane is a front-end with one customer, written through it.
func withJane(t *testing.T) *front {
	t.Helper()
	f := newFront(t, pgtest.Database(t))
	f.must(f.as("app"), fmt.Sprintf("insert into customers values (1, 'Jane', '%s', '%s', '%s', '%s', 'NL')", anEmail, anSSN, aPhone, aCard),
		"insert into customers (id, name) values (2, 'Nobody')")
	return f
}

func TestEachRoleSeesWhatItMaySee(t *testing.T) {
	t.Parallel()
	f := withJane(t)
	const query = "select email, ssn, phone, card, name from customers where id in ($1::int8, 2) order by id"
	stored, err := f.rows(f.direct(), query, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, clear := range []string{anEmail, anSSN, aPhone, aCard} {
		if strings.Contains(stored[0], clear) {
			t.Errorf("a clear value is stored")
		}
	}
	for mode, m := range modes {
		app, support, analyst := f.as("app"), f.as("support"), f.as("analyst")
		for range 2 { // the second time from the driver's cache
			f.want(app, []string{anEmail + "|" + anSSN + "|" + aPhone + "|" + aCard + "|Jane", "∅|∅|∅|∅|Nobody"}, query, m, 1)
			f.want(analyst, stored, query, m, 1)
			got, err := f.rows(support, query, m, 1)
			if err != nil || len(got) != 2 {
				t.Fatalf("%s: %v", mode, err)
			}
			cells := strings.Split(got[0], "|")
			if cells[1] != "***-**-6789" || !strings.HasSuffix(cells[3], "1111") || strings.Contains(got[0], aCard) || strings.Contains(got[0], anEmail) || cells[4] != "Jane" {
				t.Errorf("%s: support sees %q", mode, got[0])
			}
			if got[1] != "∅|∅|∅|∅|Nobody" {
				t.Errorf("%s: NULL is shown as %q", mode, got[1])
			}
		}
	}
}

func TestANullMaskIsShownAsNULL(t *testing.T) {
	t.Parallel()
	f := newFront(t, pgtest.Database(t))
	super := f.direct()
	f.must(super, "create table patients (id int primary key, ssn text)", "grant all on patients to "+f.role("app")+", "+f.role("support"))
	if err := f.store.CreatePolicy(t.Context(), engine.Policy{Name: "hidden", Format: "ssn", Options: engine.Options{Mask: "null"}}); err != nil {
		t.Fatal(err)
	}
	if err := f.store.Protect(t.Context(), super.Config().Database, "public", "patients", "ssn", "hidden"); err != nil {
		t.Fatal(err)
	}
	for role, actions := range map[string][]catalog.Action{"app": {catalog.Tokenize, catalog.Reveal}, "support": {catalog.Mask}} {
		for _, a := range actions {
			if err := f.store.Grant(t.Context(), f.role(role), a, "hidden"); err != nil {
				t.Fatal(err)
			}
		}
	}
	f.refresh()
	app, support := f.as("app"), f.as("support")
	f.must(app, "insert into patients values (1, '"+anSSN+"')")
	for mode, m := range modes {
		f.want(support, []string{"1|∅"}, "select id, ssn from patients", m)
		f.want(app, []string{"1|" + anSSN}, "select id, ssn from patients", m)
		var shown *string
		if err := support.QueryRow(t.Context(), "select ssn from patients", m).Scan(&shown); err != nil || shown != nil {
			t.Errorf("%s: the mask is not NULL (%v)", mode, err)
		}
	}
}

func TestASuperuserHoldsNoGrantByBeingOne(t *testing.T) {
	t.Parallel()
	f := withJane(t)
	super := f.direct()
	f.must(super, "alter role "+f.role("analyst")+" superuser")
	f.refresh()
	stored, _ := f.rows(super, "select ssn from customers where id = 1")
	f.want(f.as("analyst"), stored, "select ssn from customers where id = 1")
	f.refused(f.as("analyst"), "42501", "select detokenize('ssn', ssn) from customers")
	f.refused(f.as("analyst"), "42501", "insert into customers (id, ssn) values (3, '"+anSSN+"')", simple()...)
}

func TestWritesStoreTokensInEveryMode(t *testing.T) {
	t.Parallel()
	f := withJane(t)
	app, direct := f.as("app"), f.direct()
	for _, m := range modes {
		f.must(app, "delete from customers where id >= 10")
		f.want(app, []string{anSSN}, "insert into customers (id, ssn, email) values ($1, $2, $3) returning ssn", m, 10, anSSN, anEmail)
		f.want(app, []string{"987-65-4321"}, "update customers set ssn = $1 where ssn = $2 and id = 10 returning ssn", m, "987-65-4321", anSSN)
		f.want(app, []string{"10|987-65-4321"}, "select id, ssn from customers where ssn in ($1, $2)", m, "987-65-4321", "555-55-5555")
		f.want(app, []string{"10"}, "select id from customers where ssn = tokenize('ssn', $1)", m, "987-65-4321")
		f.want(app, []string{"10"}, "insert into customers (id, ssn) values ($1, tokenize('ssn', $2)) on conflict (id) do update set ssn = $3 returning id", m, 10, anSSN, "222-22-2222")
		f.want(direct, []string{"0"}, "select count(*) from customers where ssn ~ '^[0-9]' or email !~ '^t1_'")
		f.want(app, []string{"10|222-22-2222"}, "select id, ssn from customers where id = 10", m)
		f.want(app, []string{"∅"}, "update customers set ssn = $1 where id = 10 returning ssn", m, nil)
	}
	f.want(app, []string{"1"}, "select c.id from customers c join customers d on c.ssn = d.ssn where d.ssn = $1", anSSN)
	f.must(app, "insert into orders values (1, 1, '"+aCard+"')")
	f.want(app, []string{"1|" + aCard}, "select o.id, c.card from customers c join orders o on o.card = c.card", simple()...)
}

func TestCallsOfTokenizeAndDetokenize(t *testing.T) {
	t.Parallel()
	f := withJane(t)
	app := f.as("app")
	for _, m := range modes {
		tok, err := f.rows(app, "select tokenize('ssn', $1)", m, anSSN)
		if err != nil || tok[0] == anSSN {
			t.Fatalf("tokenize: %v", err)
		}
		f.want(app, []string{anSSN}, "select detokenize('ssn', $1)", m, tok[0])
		f.want(app, []string{anSSN + "|1"}, "select detokenize('ssn', tokenize('ssn', $1)) as x, 1", m, anSSN)
		f.want(app, tok, "select tokenize('ssn', detokenize('ssn', $1))", m, tok[0])
		f.want(app, []string{"1|" + anSSN + "|" + tok[0]}, "select id, detokenize('ssn', ssn), tokenize('ssn', $1) from customers where id = 1", m, anSSN)
		f.want(app, []string{strings.ToLower(tok[0])}, "select lower(tokenize('ssn', $1))", m, anSSN)
		f.want(app, []string{"∅|∅"}, "select tokenize('ssn', $1), detokenize('ssn', $2)", m, nil, nil)
	}
	rows, err := app.Query(t.Context(), "select detokenize('ssn', ssn), detokenize('ssn', ssn) as \"My SSN\", ssn from customers where id = 1")
	if err != nil {
		t.Fatal(err)
	}
	rows.Close()
	var names []string
	for _, d := range rows.FieldDescriptions() {
		names = append(names, d.Name)
	}
	if got := strings.Join(names, ","); got != "detokenize,My SSN,ssn" {
		t.Errorf("column names %s", got)
	}
	f.refused(app, "22P02", "select detokenize('ssn', '123-45-6789')", simple()...)
	f.refused(app, "22P02", "select detokenize('ssn', $1)", "garbage")
	f.refused(app, "22P02", "select tokenize('ssn', 'KQD')", simple()...)
	f.refused(app, "42704", "select tokenize('nosuch', 'x')", simple()...)
	f.refused(f.as("support"), "42501", "select detokenize('ssn', ssn) from customers")
	f.refused(f.as("support"), "42501", "select id from customers where ssn = '"+anSSN+"'", simple()...)
	f.refused(f.as("analyst"), "42501", "select tokenize('ssn', '"+anSSN+"')", simple()...)
	// A token kept in a column that is not protected.
	f.must(app, "insert into notes values (1, null, tokenize('ssn', '"+anSSN+"'))")
	f.want(app, []string{anSSN}, "select detokenize('ssn', note) from notes")
	f.must(app, "update notes set note = 'no token'")
	f.refused(app, "22P02", "select detokenize('ssn', note) from notes")
	f.want(app, []string{"1"}, "select 1") // the session lives on
}

func TestErrorsKeepTheirPlaceAndAbortTheTransaction(t *testing.T) {
	t.Parallel()
	f := withJane(t)
	app := f.as("app")
	for name, m := range modes {
		f.must(app, "begin", "insert into notes values (50)")
		f.refused(app, "0A000", "select upper(ssn) from customers where id = $1", m, 1)
		f.refused(app, "25P02", "select 1", m)
		if _, err := app.Exec(t.Context(), "commit"); !errors.Is(err, pgx.ErrTxCommitRollback) {
			if tag, _ := app.Exec(t.Context(), "select count(*) from notes where id = 50"); tag.RowsAffected() != 1 {
				t.Errorf("%s: after a refusal COMMIT did not roll back: %v", name, err)
			}
		}
		f.want(app, []string{"0"}, "select count(*) from notes where id = 50")
	}
	// A pipeline: the refusal is the third answer of four, and nothing after it runs.
	b := &pgx.Batch{}
	b.Queue("insert into notes values (60)")
	b.Queue("select ssn from customers where id = 1")
	b.Queue("insert into customers (id, ssn) values (61, $1)", "12x-45-6789")
	b.Queue("insert into notes values (62)")
	r := app.SendBatch(t.Context(), b)
	_, err1 := r.Exec()
	var ssn string
	err2 := r.QueryRow().Scan(&ssn)
	_, err3 := r.Exec()
	_, err4 := r.Exec()
	r.Close()
	var pe *pgconn.PgError
	if err1 != nil || err2 != nil || ssn != anSSN || !errors.As(err3, &pe) || pe.Code != "22P02" || err4 == nil {
		t.Errorf("pipeline: %v, %v, %v, %v", err1, err2, err3, err4)
	}
	f.want(app, []string{"0"}, "select count(*) from notes where id >= 60")
	pe = f.refused(app, "42703", "select nosuch, 'é', ssn from customers where card = '"+aCard+"'", simple()...)
	if pe.Position != 8 {
		t.Errorf("position %d, want 8", pe.Position)
	}
	pe = f.refused(app, "42703", "select 'é' from customers where card = '"+aCard+"' and nosuch = 1", simple()...)
	if want := int32(len([]rune("select 'é' from customers where card = '"+aCard+"' and "))) + 1; pe.Position != want {
		t.Errorf("position %d, want %d: it is of the client's text", pe.Position, want)
	}
}

func TestTheGuardStopsWhatNoParserSees(t *testing.T) {
	t.Parallel()
	f := withJane(t)
	direct, app := f.direct(), f.as("app")
	f.refused(direct, "23514", "insert into customers (id, ssn) values (70, '"+anSSN+"')", simple()...)
	f.refused(direct, "23514", "update customers set card = '"+aCard+"' where id = 1", simple()...)
	f.must(direct, `create function sneak(v text) returns void language plpgsql as $$ begin execute 'insert into cust' || 'omers (id, ssn) values (71, ' || quote_literal(v) || ')'; end $$`)
	f.refused(app, "0A000", "select sneak('"+anSSN+"')", simple()...)
	// A role that sees tokens may call it; the guard does not let the value in, and its error does not show it.
	pe := f.refused(f.as("analyst"), "23514", "select sneak('"+anSSN+"')", simple()...)
	if strings.Contains(pe.Detail+pe.Where+pe.Message, anSSN) {
		t.Error("the guard's error shows the value")
	}
	f.want(direct, []string{"0"}, "select count(*) from customers where id > 2")
	pe = f.refused(app, "23505", "insert into customers (id, ssn) values (1, '"+anSSN+"')", simple()...)
	if pe.Detail != "" {
		t.Error("a unique violation on a protected relation keeps its DETAIL")
	}
}

func TestObjectsMadeElsewhereAreSeenAtOnce(t *testing.T) {
	t.Parallel()
	f := withJane(t)
	direct := f.direct()
	app := f.as("app")
	f.want(app, []string{"1"}, "select 1")
	f.must(direct, "create view sneaky as select upper(ssn) as s from customers", "grant select on sneaky to public",
		"create function named() returns text language sql as 'select ssn from customers limit 1'")
	// A new connection sees them at once, an open one within the time the package states.
	fresh := f.as("app")
	f.refused(fresh, "0A000", "select * from sneaky")
	f.refused(fresh, "0A000", "select named()")
	time.Sleep(150 * time.Millisecond)
	f.refused(app, "0A000", "select * from sneaky")
	// What the session makes itself, uncommitted.
	f.must(app, "begin", "create function own() returns int language plpgsql as $$ begin execute 'select 1'; return 1; end $$")
	f.refused(app, "0A000", "select own()")
	f.must(app, "rollback")
	// A rename keeps the protection: by OID.
	f.must(direct, "alter table customers rename to clients", "alter table clients rename column ssn to social")
	f.refresh()
	time.Sleep(150 * time.Millisecond)
	f.want(app, []string{anSSN}, "select social from clients where id = 1")
	f.refused(app, "0A000", "select upper(social) from clients")
}

func TestNamesMeanWhatTheSessionMeans(t *testing.T) {
	t.Parallel()
	f := withJane(t)
	app := f.as("app")
	f.must(f.direct(), "create schema other", "create table other.customers (id int, ssn text)", "grant all on schema other to public", "grant all on other.customers to public")
	f.must(app, "insert into other.customers values (1, 'plain')")
	f.want(app, []string{"plain"}, "select ssn from other.customers")
	if _, err := app.Prepare(t.Context(), "ins", "insert into customers (id, ssn) values ($1, $2)"); err != nil {
		t.Fatal(err)
	}
	f.must(app, "set search_path = other, public")
	f.want(app, []string{"plain"}, "select ssn from customers")
	if _, err := app.Exec(t.Context(), "ins", 80, anSSN); err != nil {
		t.Fatal(err)
	}
	f.want(app, []string{"0"}, "select count(*) from other.customers where id = 80") // the prepared one kept its meaning
	f.want(app, []string{anSSN}, "select ssn from public.customers where id = 80")
	f.must(app, "reset search_path", "create temp table customers (id int, ssn text)")
	f.must(app, "insert into customers values (1, 'temporary')")
	f.want(app, []string{"temporary"}, "select ssn from customers where ssn = 'temporary'", simple()...)
	f.want(app, []string{"TEMPORARY"}, "select upper(ssn) from customers", simple()...)
	f.must(app, "drop table customers")
	f.want(app, []string{anSSN}, "select ssn from customers where id = 80", simple()...)
}

func TestNothingIsShownWithoutADurableIntent(t *testing.T) {
	t.Parallel()
	f := withJane(t)
	app := f.as("app")
	f.want(app, []string{anSSN}, "select ssn from customers where id = 1", simple()...)
	recs := f.records()
	last := recs[len(recs)-1]
	if last.Kind != "intent" || last.Action != "reveal" || last.Role != f.role("app") || strings.Join(last.Columns, ",") != "public.customers.ssn" ||
		last.Fingerprint == "" || last.Session == 0 || strings.Contains(fmt.Sprint(recs), anSSN) {
		t.Errorf("record %+v", last)
	}
	f.failAudit(errors.New("disk full"))
	f.want(app, []string{anSSN}, "select ssn from customers where id = 1", simple()...) // covered by the open intent
	pe := f.refused(app, "58030", "select email from customers where id = 1", simple()...)
	if pe.Hint == "" {
		t.Error("no hint")
	}
	f.refused(app, "58030", "insert into customers (id, ssn) values (90, '"+anSSN+"') returning ssn", simple()...)
	f.want(app, []string{"0"}, "select count(*) from customers where id = 90") // refused before it ran
	f.refused(f.as("support"), "58030", "select email from customers where id = 1")
	f.want(f.as("analyst"), []string{"1"}, "select 1 from customers where id = 1")
}

func TestStatementsThatNameNothingProtectedAreRelayed(t *testing.T) {
	t.Parallel()
	f := withJane(t)
	app := f.as("app")
	f.must(app, "create table plain (id int, v text)", "insert into plain select i, 'x' || i from generate_series(1, 1000) i")
	if n, err := app.CopyFrom(t.Context(), pgx.Identifier{"plain"}, []string{"id", "v"}, pgx.CopyFromRows([][]any{{2000, "a"}, {2001, "b"}})); err != nil || n != 2 {
		t.Errorf("COPY FROM: %d, %v", n, err)
	}
	var out strings.Builder
	if _, err := app.PgConn().CopyTo(t.Context(), &out, "copy (select v from plain where id >= 2000 order by id) to stdout"); err != nil || out.String() != "a\nb\n" {
		t.Errorf("COPY TO: %q, %v", out.String(), err)
	}
	if _, err := app.PgConn().CopyFrom(t.Context(), strings.NewReader("not a number\tx\n"), "copy plain from stdin"); err == nil {
		t.Error("a COPY of a malformed row succeeds")
	}
	f.want(app, []string{"1002"}, "select count(*) from plain")
	f.want(app, []string{strings.Repeat("x", 3_000_000)[:10] + "|3000000"}, "select left(repeat('x', 3000000), 10), length(repeat('x', 3000000))")
	big := strings.Repeat("é", 2_000_000)
	f.want(app, []string{big}, "select $1::text", big)
	var pid uint32
	if err := app.QueryRow(t.Context(), "select pg_backend_pid()").Scan(&pid); err != nil || pid != app.PgConn().PID() {
		t.Errorf("PID %d, %d: %v", pid, app.PgConn().PID(), err)
	}
	c2 := f.as("app")
	began := time.Now()
	go func() { time.Sleep(100 * time.Millisecond); c2.PgConn().CancelRequest(context.Background()) }()
	f.refused(c2, "57014", "select pg_sleep(20)")
	if time.Since(began) > 5*time.Second {
		t.Error("the cancel request did not arrive")
	}
	f.must(app, "listen news")
	f.must(f.direct(), "notify news, 'hello'")
	n, err := app.WaitForNotification(t.Context())
	if err != nil || n.Payload != "hello" {
		t.Errorf("notification: %v", err)
	}
	f.refused(app, "42601", "select 1 from where", simple()...)
	f.refused(app, "22012", "select 1/0")
	f.want(app, nil, "-- nothing", simple()...)
}

func TestWrongPasswordAndUnknownRoleLookAlike(t *testing.T) {
	t.Parallel()
	f := withJane(t)
	for _, u := range []string{strings.Replace(f.url("app"), "correct%20horse", "wrong", 1), strings.Replace(f.url("app"), f.role("app"), "ghost", 1)} {
		_, err := pgx.Connect(t.Context(), u)
		var pe *pgconn.PgError
		if !errors.As(err, &pe) || pe.Code != "28P01" {
			t.Errorf("%v, want 28P01", err)
		}
	}
	if strings.Contains(f.log.String(), "wrong") {
		t.Error("the log holds a password")
	}
	// The role's password was changed behind our back.
	f.must(f.direct(), "alter role "+f.role("support")+" password 'other'")
	_, err := pgx.Connect(t.Context(), f.url("support"))
	var pe *pgconn.PgError
	if !errors.As(err, &pe) || pe.Code != "28P01" || !strings.Contains(pe.Hint, "role add") {
		t.Errorf("stale verifier: %v", err)
	}
}

func TestPoliciesAndGrantsChangeUnderPreparedStatements(t *testing.T) {
	t.Parallel()
	f := withJane(t)
	app := f.as("app")
	const q = "select ssn from customers where id = $1"
	if _, err := app.Prepare(t.Context(), "q", q); err != nil {
		t.Fatal(err)
	}
	f.want(app, []string{anSSN}, "q", 1)
	if _, err := f.store.Rotate(t.Context(), "ssn"); err != nil {
		t.Fatal(err)
	}
	f.refresh()
	f.want(app, []string{anSSN}, "q", 1)
	two, _ := f.rows(app, "select tokenize('ssn', '"+anSSN+"')", simple()...)
	stored, _ := f.rows(f.direct(), "select ssn from customers where id = 1")
	if two[0] == stored[0] {
		t.Error("tokenize still uses the old key version")
	}
	f.want(app, []string{anSSN}, "select detokenize('ssn', $1)", two[0])
	f.want(app, []string{"1"}, "select id from customers where ssn = $1", anSSN) // the column is at its version
	f.must(app, "insert into customers (id, ssn) values (95, tokenize('ssn', '"+anSSN+"'))")
	f.want(f.direct(), []string{"2"}, "select count(*) from customers where ssn = $1", stored[0])
	if err := f.store.Revoke(t.Context(), f.role("app"), "reveal", "ssn"); err != nil {
		t.Fatal(err)
	}
	f.refresh()
	f.want(app, stored, "q", 1)
	f.refused(app, "42501", "select detokenize('ssn', ssn) from customers")
}

func TestAOneWayColumnIsMaskedAndSearched(t *testing.T) {
	t.Parallel()
	f := withJane(t)
	if err := f.store.CreatePolicy(t.Context(), engine.Policy{Name: "badge", Format: "text", Options: engine.Options{Method: "one-way"}}); err != nil {
		t.Fatal(err)
	}
	if err := f.store.Protect(t.Context(), f.direct().Config().Database, "public", "notes", "note", "badge"); err != nil {
		t.Fatal(err)
	}
	for _, a := range []catalog.Action{catalog.Tokenize, catalog.Reveal} {
		if err := f.store.Grant(t.Context(), f.role("app"), a, "badge"); err != nil {
			t.Fatal(err)
		}
	}
	f.refresh()
	app := f.as("app")
	for _, m := range modes {
		f.must(app, "delete from notes")
		f.want(app, []string{"1|********"}, "insert into notes (id, note) values (1, $1) returning id, note", m, "B-1234")
		f.want(app, []string{"1|********"}, "select id, note from notes where note = $1", m, "B-1234")
		f.refused(app, "42501", "select detokenize('badge', note) from notes", m)
	}
	stored, err := f.rows(f.direct(), "select note from notes")
	if err != nil || !strings.HasPrefix(stored[0], "t1_") {
		t.Errorf("stored %q, %v", stored, err)
	}
	f.want(f.as("support"), stored, "select note from notes")
}

func TestABadStoredValueIsNeverShown(t *testing.T) {
	t.Parallel()
	f := withJane(t)
	direct := f.direct()
	f.must(direct, "alter table customers drop constraint pgveil_guard_ssn", "update customers set ssn = 'clear-canary' where id = 2")
	app := f.as("app")
	for _, m := range modes {
		pe := f.refused(app, "22P02", "select ssn from customers where id in ($1::int8, 2) order by id", m, 1)
		if strings.Contains(fmt.Sprintf("%+v", pe), "clear-canary") {
			t.Error("the error shows the value")
		}
		f.want(app, []string{anSSN}, "select ssn from customers where id = 1")
	}
	f.must(app, "begin", "insert into notes values (1)")
	if _, err := f.rows(app, "select ssn from customers"); err == nil {
		t.Error("no error")
	}
	if !app.IsClosed() {
		if _, err := app.Exec(t.Context(), "commit"); err == nil {
			t.Error("the transaction went on after an error that the server does not know of")
		}
	}
	f.want(f.as("app"), []string{"0"}, "select count(*) from notes")
}

func TestNoValueReachesTheServersLogOrOurs(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	f := newFront(t, dsn)
	f.must(f.direct(), "alter role "+f.role("app")+" set log_statement = 'all'", "alter role "+f.role("app")+" set log_min_messages = debug1")
	app := f.as("app")
	canaries := []string{"731-55-8899", "canary.person@example.org", "5500005555555559", "+14155550177"}
	f.must(app, fmt.Sprintf("insert into customers (id, ssn, email, card, phone) values (1, '%s', '%s', '%s', '%s')", canaries[0], canaries[1], canaries[2], canaries[3]))
	for _, m := range modes {
		f.want(app, []string{"1"}, "select id from customers where ssn = $1 and email = $2 and card = $3 and phone = $4", m, canaries[0], canaries[1], canaries[2], canaries[3])
	}
	f.refused(app, "0A000", "select upper(ssn) from customers where ssn = '"+canaries[0]+"'", simple()...)
	f.refused(app, "42601", "select ssn from customers where where ssn = '"+canaries[0]+"'", simple()...)
	f.refused(app, "22P02", "insert into customers (id, card) values (2, '"+canaries[2]+"0')", simple()...)
	f.refused(app, "0A000", "insert into customers (id, card) select 2, '"+canaries[2]+"'", simple()...)
	f.refused(app, "0A000", "insert into customers (id, card) values (3, lower($1))", canaries[2])
	f.refused(app, "42703", "select nosuch from customers where ssn = '"+canaries[0]+"'", simple()...)
	logs := f.log.String()
	if path := pgtest.Server(t).Log(); path != "" {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		logs += string(b)
	}
	for i, c := range canaries {
		if strings.Contains(logs, c) {
			t.Errorf("a log holds canary %d", i)
		}
	}
}
