package pgwire_test

import (
	"context"
	"errors"
	"fmt"
	"github.com/jackc/pgproto3/v2"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// TestHolesStayClosed runs what once showed a token as a value, stored or logged a clear value, or answered wrongly. Each line of statements
// is one session; the last of it must be refused with one of these SQLSTATEs, or give exactly the rows.
func TestHolesStayClosed(t *testing.T) {
	t.Parallel()
	f := withJane(t)
	direct := f.direct()
	f.must(direct, "create schema other", "create table other.customers (id bigint, ssn text, card text)", "grant all on schema other to public", "grant all on other.customers to public",
		"create function reads() returns text language sql stable as 'select ssn from customers where id = 1'",
		"create function of_row(notes) returns text language sql stable as 'select ssn from customers where id = 1'",
		"create function of_text(text) returns text language sql stable as 'select ssn from customers where id = 1'",
		"create function sf(text, int) returns text language sql as 'select ssn from customers where id = 1'", "create aggregate agg1(int) (sfunc = sf, stype = text)",
		"create function opf(int, int) returns text language sql as 'select ssn from customers where id = 1'", "create operator === (leftarg = int, rightarg = int, function = opf)",
		"create type box1 as (a int)", "create function castf(box1) returns text language sql as 'select ssn from customers where id = 1'", "create cast (box1 as text) with function castf(box1)",
		"create function castv(box1) returns varchar language sql as 'select ssn from customers where id = 1'",
		"create function withdef(v text default reads()) returns text language plpgsql as 'begin return v; end'",
		"create table defs (id int, x text default reads())", "grant all on defs to public",
		"create view vop as select 1 === 1 as u", "create table tdef (id int, x text default 1 === 1)", "create domain dd as text default reads()", "create table domt (id int, x dd)",
		"create table bt (b box1)", "create cast (box1 as varchar) with function castv(box1) as implicit",
		"create view v1 as select upper(ssn) as u from customers", "create function f1() returns text language sql as 'select u from v1'", "create view v2 as select f1() as u",
		"create function f2() returns text language sql as 'select u from v2'", "create view v3 as select f2() as u", "create function f3() returns text language sql as 'select u from v3'", "create view v4 as select f3() as u",
		"create type pair as (a bigint, b text)",
		"create table "+strings.Repeat("l", 63)+" (id bigint, ssn text)", "grant all on all tables in schema public to public")
	long := strings.Repeat("l", 63) + "_cut_by_the_server"
	if err := f.store.Protect(t.Context(), direct.Config().Database, "public", strings.Repeat("l", 63), "ssn", "ssn"); err != nil {
		t.Fatal(err)
	}
	f.refresh()
	f.must(direct, "create function f5() returns text language sql as 'select u from v1'", "alter function f5() owner to "+f.role("app"))
	f.must(f.as("app"), "insert into notes values (1, 'x', 'note')", "insert into orders values (1, 1, '"+aCard+"')")
	for _, session := range [][]string{
		// WITH RECURSIVE: a query used before it is defined
		{"with recursive a as (select ssn from b), b as (select ssn from customers) select upper(ssn) from a"},
		{"with recursive a as (select * from notes), notes as (select id, ssn as email, ssn as note from customers) select upper(note) from a"},
		// an alias does not hide an outer column
		{"select (select upper(ssn) from notes ssn limit 1) from customers where id = 1"},
		{"select y from customers c, lateral (select upper(ssn) as y from notes ssn) x"},
		// positions that are not sure
		{"select upper(i) from (select * from customers join orders using (id)) as x(a,b,c,d,e,f,g,h,i)"},
		{"with x(a,b,c,d,e,f,g,h) as (select * from generate_series(1,1) q, customers) select upper(g) from x"},
		{"insert into notes (id, note) select 72, i from (select * from customers join orders using (id)) as x(a,b,c,d,e,f,g,h,i)"},
		// functional notation
		{"select x.row_to_json from (select * from customers, generate_series(1,1) q) x"},
		{"select x.to_json from (select * from customers join orders using (id)) x"},
		{"select n.of_row from notes n"}, {"select (n).of_row from notes n"}, {"select (note).of_text from notes"},
		// names that change their meaning inside one query
		{"set search_path = ''", "set search_path = public; select upper(ssn) from customers"},
		{"set search_path = ''", "set search_path = public; insert into customers (id, ssn) values (200, '" + anSSN + "')"},
		{"set search_path = ''", "set search_path = public; select id from customers where ssn = '" + anSSN + "'"},
		{"set search_path = ''", "set search_path = public; copy customers to stdout"},
		{"set search_path = other", "set search_path = public; copy (select upper(ssn) from customers) to stdout"},
		{"set search_path = other", "set search_path = public; create temp table zz as select ssn from customers; select * from zz"},
		{"set search_path = other", "begin; set local search_path = public; declare c cursor for select upper(ssn) from customers; fetch all from c"},
		{"create temp table customers (x int)", "drop table pg_temp.customers; copy customers to stdout"},
		// queries that are kept
		{"set search_path = other", "prepare p as select upper(ssn) from customers"},
		{"set search_path = other", "declare c cursor with hold for select upper(ssn) from customers"},
		{"declare c cursor with hold for select detokenize('ssn', note) from notes"}, {"prepare p as select detokenize('ssn', note) from notes"},
		// names longer than an identifier
		{"select ssn || '' from " + long}, {"select upper(ssn) from " + long},
		// code
		{`do E'begin raise notice ''%'', (select ssn from \143ustomers where id = 1); end'`}, {`do U&'begin perform 1 from \0063ustomers; end'`},
		{"do 'begin perform 1 from cust'\n'omers; end'"}, {`do E'begin \145xecute (select note from notes limit 1); end'`},
		{"select 1 === 1"}, {"select agg1(1)"}, {"select row(1)::box1::text"}, {"select withdef()"}, {"insert into defs (id) values (1) returning x"},
		{"select * from v3"}, {"select f3()"}, {"select * from v4"},
		{"create table mine (x text default reads())"}, {"create aggregate mine(int) (sfunc = sf, stype = text)", "select mine(1)"},
		{"create operator @@@@ (leftarg = int, rightarg = int, function = opf)", "select 1 @@@@ 2"}, {"create function mine2() returns text language sql as 'select reads()'", "select mine2()"},
		{"create function mine3() returns text language sql as 'select reads()'; select mine3()"},
		{"alter function f5() rename to f6; select f6()"}, {"alter type box1 rename to box2; select row(1)::box2::text"}, {`create function "f 7"() returns text language sql as 'select reads()'; create function f8() returns text language sql as 'select "f 7"()'; select f8()`},
		{"copy (select n.of_row from notes n) to stdout"}, {"copy (select 1 === 1) to stdout"}, {"prepare p as select (note).of_text from notes"}, {"create view vo as select 1 === 1 as u"},
		{"copy (select row(1)::box1::text) to stdout"}, {"declare c cursor with hold for select n.of_row from notes n"}, {"create table cta as select n.of_row from notes n"},
		{"set search_path = ''", "update pg_catalog.pg_settings set setting = 'public' where name = 'search_path'; select upper(ssn) from customers"},
		{"select 5::bigint as id, 'mine'::text as ssn into temp customers; select ssn from customers"},
		{"explain analyze create temp table customers as select 'mine'::text as ssn; select ssn from customers"},
		{"select upper(d) from (select ('(50,foo)'::pair).*, ssn from customers) as x(a, b, d)"}, {"with x(a,b,d) as (select ('(50,foo)'::pair).*, ssn from customers) select upper(d) from x"},
		{`/* conflict */ do E'begin perform 1 from \143ustomers; end'`}, {`select 1 as conflict; do E'begin perform 1 from \143ustomers; end'`},
		{"copy (select most_common_vals from pg_stats where tablename = 'customers') to stdout"}, {"create table st as select * from pg_stats"},
		{"select u from vop"}, {"insert into tdef (id) values (1) returning x"}, {"insert into domt (id) values (1) returning x"}, {"select upper(b) from bt"},
		{"create schema s1 create view v1 as select upper(ssn) as u from public.customers"},
		// what was dropped comes back
		{"begin", "savepoint s", "drop function f5()", "select 1", "rollback to s", "select f5()"},
		// rows that expand
		{"insert into customers (id, name, ssn) values (('(50,foo)'::pair).*, '" + anSSN + "')"},
		{"select most_common_vals::text from pg_stats where tablename = 'customers' and attname = 'ssn'"},
		{"update customers set nosuch = '" + anSSN + "'"}, {"update customers set customers.ssn = '" + anSSN + "'"},
	} {
		for _, role := range []string{"app", "support"} {
			if role == "support" && (strings.Contains(session[0], "create") || strings.Contains(session[0], "detokenize") || session[0] == "begin") {
				continue
			}
			conn := f.as(role)
			n := len(session) - 1
			f.must(conn, session[:n]...)
			_, err := conn.PgConn().Exec(t.Context(), session[n]).ReadAll()
			var pe *pgconn.PgError
			if !errors.As(err, &pe) || pe.Routine != "pgveil" {
				t.Errorf("%s: %q: %v; it must be refused by the front-end", role, session, err)
			}
			conn.Close(t.Context())
		}
	}
	f.must(f.as("app"), "insert into "+long+" values (1, '"+anSSN+"')")
	f.want(f.as("app"), []string{anSSN}, "select ssn from "+long+" where ssn = '"+anSSN+"'", simple()...)
}

func TestNamesakesOfOperatorsAndAggregatesAreNotTakenForPostgreSQLs(t *testing.T) {
	t.Parallel()
	f := withJane(t)
	f.must(f.direct(), "create aggregate public.count(text) (sfunc = textcat, stype = text, initcond = '')")
	f.refused(f.as("app"), "0A000", "select count(ssn) from customers where id = 1")
	f.want(f.as("app"), []string{"1"}, "select pg_catalog.count(ssn) from customers where id = 1")
	f.must(f.direct(), "create function eq(varchar, varchar) returns boolean language sql as 'select true'", "create operator public.= (leftarg = varchar, rightarg = varchar, function = eq)")
	f.refused(f.as("app"), "0A000", "select id from customers where card = '"+aCard+"'", simple()...)
	f.want(f.as("app"), []string{"1"}, "select id from customers where card operator(pg_catalog.=) '"+aCard+"'", simple()...)
}

func TestOneStatementCannotEndTheProcess(t *testing.T) {
	t.Parallel()
	f := withJane(t)
	conn := f.as("analyst")
	for _, chain := range []string{" is null", " isnull", ` collate "C"`, " at time zone x", "+1", " union select 1", " is true", " like 'x'", " union select 'x', true"} {
		f.refused(conn, "54001", "select 'tokenize', true"+strings.Repeat(chain, 60_000), simple()...)
	}
	rows := make([]string, 3000)
	for i := range rows {
		rows[i] = fmt.Sprintf("(%d, '%03d-45-%04d')", i+1000, i%899+1, i)
	}
	f.must(f.as("app"), "insert into customers (id, ssn) values "+strings.Join(rows, ","))
	f.want(f.as("app"), []string{"3000"}, "select count(ssn) from customers where id >= 1000")
}

func TestARoleThatMayTokenizeAloneSearchesByValue(t *testing.T) {
	t.Parallel()
	f := withJane(t)
	if err := f.store.Grant(t.Context(), f.role("analyst"), "tokenize", "ssn"); err != nil {
		t.Fatal(err)
	}
	f.refresh()
	stored, _ := f.rows(f.direct(), "select ssn from customers where id = 1")
	for _, m := range modes {
		f.want(f.as("analyst"), stored, "select ssn from customers where ssn = $1", m, anSSN)
		f.want(f.as("analyst"), stored, "select ssn from customers where ssn = $1", m, stored[0])
	}
	_, err := f.as("analyst").PgConn().Exec(t.Context(), "prepare q(text) as select count(*) from customers where ssn = tokenize('ssn', $1)").ReadAll()
	var pe *pgconn.PgError
	if !errors.As(err, &pe) || pe.Code != "0A000" {
		t.Errorf("PREPARE with tokenize: %v, want 0A000", err)
	}
	f.want(f.as("analyst"), stored, "select ssn from customers where phone = (select phone from customers where id = 1)", simple()...)
}

func TestPreparedStatementsDoNotOutliveTheirMeaning(t *testing.T) {
	t.Parallel()
	f := withJane(t)
	app := f.as("app")
	// SQL's PREPARE before a column is protected, EXECUTE after it.
	f.must(f.direct(), "create table later (id int, ssn text)", "grant all on later to public")
	f.must(app, "prepare ins(int, text) as insert into later values ($1, $2)", "execute ins(1, null)", "prepare other as select 1")
	if err := f.store.Protect(t.Context(), f.direct().Config().Database, "public", "later", "ssn", "ssn"); err != nil {
		t.Fatal(err)
	}
	f.refresh()
	f.refused(app, "0A000", "execute ins(2, '"+anSSN+"')", simple()...)
	f.must(app, "deallocate other")
	f.refused(app, "0A000", "execute ins(2, '"+anSSN+"')", simple()...)
	f.must(app, "deallocate all", "prepare other as select 1", "execute other")
	// A view that it reads shows something protected by now.
	f.must(f.direct(), "create view shows as select note from notes", "grant all on shows to public")
	reader := f.as("app")
	f.must(reader, "prepare rd as select * from shows", "prepare one as select 1", "execute rd")
	f.must(f.direct(), "create or replace view shows as select ssn as note from customers")
	f.want(f.as("app"), []string{"1"}, "select 1") // a new connection, which looks at the database
	f.refused(reader, "0A000", "execute rd", simple()...)
	if err := reader.PgConn().ExecPrepared(t.Context(), "rd", nil, nil, nil).Read().Err; err == nil {
		t.Error("a view that was changed is read by Bind")
	}
	f.must(reader, "deallocate rd", "execute one")
	// The same of the protocol: it is analyzed again, and goes on.
	plain := f.as("app")
	f.must(f.direct(), "create table later2 (id int, ssn text)", "grant all on later2 to public")
	if _, err := plain.Prepare(t.Context(), "ins2", "insert into later2 values (1, $1)"); err != nil {
		t.Fatal(err)
	}
	if err := f.store.Protect(t.Context(), f.direct().Config().Database, "public", "later2", "ssn", "ssn"); err != nil {
		t.Fatal(err)
	}
	f.refresh()
	if _, err := plain.Exec(t.Context(), "ins2", anSSN); err == nil {
		f.want(plain, []string{anSSN}, "select ssn from later2", simple()...)
	}
	f.want(f.direct(), []string{"0"}, "select count(*) from later2 where ssn = $1", anSSN)
	// SQL may put another statement under the name of a protocol's.
	if _, err := app.Prepare(t.Context(), "q", "select id from customers where ssn = $1"); err != nil {
		t.Fatal(err)
	}
	f.must(app, "deallocate q", "prepare q(text) as select $1")
	pe := f.refused(app, "26000", "q", anSSN)
	if strings.Contains(pe.Message+pe.Detail, anSSN) {
		t.Error("the error shows the value")
	}
	// A setting changed in the same pipeline: the text after it would be read otherwise.
	p := f.as("app").PgConn().StartPipeline(context.Background())
	p.SendQueryParams("set standard_conforming_strings = off", nil, nil, nil, nil)
	p.SendQueryParams(`select '\' || ', upper(ssn), name from customers --'`, nil, nil, nil, nil)
	p.Sync()
	for range 3 {
		r, err := p.GetResults()
		if rr, ok := r.(*pgconn.ResultReader); ok && err == nil {
			for rr.NextRow() {
				if strings.Contains(string(rr.Values()[0]), "-45-") || len(rr.Values()) > 1 {
					t.Errorf("rows of a misread text: %d columns", len(rr.Values()))
				}
			}
			rr.Close()
		}
	}
	p.Close()
}

func TestErrorsOfConstraintsDoNotShowTokens(t *testing.T) {
	t.Parallel()
	f := withJane(t)
	f.must(f.direct(), "alter table customers add unique (email)", "create table child (email text references customers(email))", "insert into child select email from customers where id = 1")
	pe := f.refused(f.as("app"), "23503", "delete from customers where id = 1", simple()...)
	if strings.Contains(pe.Detail, "t1_") {
		t.Error("DETAIL shows a token")
	}
	f.must(f.direct(), "create table child2 (email text references customers(email) deferrable initially deferred)", "insert into child2 select email from customers where id = 1", "drop table child")
	app := f.as("app")
	f.must(app, "begin", "delete from customers where id = 1")
	pe = f.refused(app, "23503", "commit", simple()...)
	if strings.Contains(pe.Detail, "t1_") {
		t.Error("the DETAIL of a deferred constraint shows a token")
	}
	f.must(app, "rollback", "create table parent (id int primary key)", "create table other (id int references parent)")
	f.must(f.direct(), "create materialized view copies as select email as e from customers where email is not null", "create unique index on copies (e)",
		"alter materialized view copies owner to "+f.role("app"), "alter table customers drop constraint customers_email_key cascade", "insert into customers (id, email) select 9, email from customers where id = 1")
	if pe = f.refused(app, "21000", "refresh materialized view concurrently copies", simple()...); strings.Contains(pe.Detail, "t1_") {
		t.Error("the DETAIL of a materialized view shows a token")
	}
	for _, c := range []struct{ code, statement, detail string }{
		{"23505", "insert into parent values (1), (1)", "Key (id)=(1) already exists."},
		{"23503", "insert into other values (1)", `Key (id)=(1) is not present in table "parent".`},
		{"23502", "insert into parent values (null)", "Failing row contains (null)."},
	} {
		if pe := f.refused(app, c.code, c.statement, simple()...); pe.Detail != c.detail {
			t.Errorf("%s: DETAIL %q of a table that nothing protected is joined to, want %q", c.statement, pe.Detail, c.detail)
		}
	}
}

func TestPortalsAndPreparedStatementsAreWhatTheServerSays(t *testing.T) {
	t.Parallel()
	f := withJane(t)
	bind := func(portal, stmt string) *pgproto3.Bind {
		return &pgproto3.Bind{DestinationPortal: portal, PreparedStatement: stmt}
	}
	for name, trouble := range map[string][]pgproto3.FrontendMessage{
		"a Bind that fails":    {bind("pp", "b")},
		"a Close that skipped": {&pgproto3.Parse{Query: "not sql"}, &pgproto3.Close{ObjectType: 'P', Name: "pp"}},
		"a Bind that skipped":  {&pgproto3.Parse{Query: "not sql"}, bind("pp", "b")},
	} {
		r := f.raw("app")
		r.send(&pgproto3.Query{String: "begin"}, &pgproto3.Parse{Name: "a", Query: "select ssn from customers where id = 1"}, &pgproto3.Parse{Name: "b", Query: "select 1::text"},
			bind("pp", "a"), &pgproto3.Query{String: "savepoint s"})
		r.until("ReadyForQuery", 2)
		r.send(append(trouble, &pgproto3.Sync{}, &pgproto3.Query{String: "rollback to s"})...)
		r.until("ReadyForQuery", 2)
		r.send(&pgproto3.Execute{Portal: "pp"}, &pgproto3.Sync{})
		if got := r.until("ReadyForQuery", 1); got != "row "+anSSN+", CommandComplete, ReadyForQuery" {
			t.Errorf("%s: %s", name, got)
		}
	}
	// The same of the unnamed portal, in one write.
	r := f.raw("app")
	r.send(&pgproto3.Query{String: "begin"}, &pgproto3.Parse{Name: "a", Query: "select ssn from customers where id = 1"}, &pgproto3.Parse{Name: "b", Query: "select 1::text"},
		&pgproto3.Parse{Name: "save", Query: "savepoint s"}, &pgproto3.Parse{Name: "back", Query: "rollback to s"},
		bind("", "a"), bind("save", "save"), &pgproto3.Execute{Portal: "save"}, &pgproto3.Sync{})
	r.until("ReadyForQuery", 2)
	r.send(&pgproto3.Bind{PreparedStatement: "b", Parameters: [][]byte{nil}}, &pgproto3.Sync{}, bind("back", "back"), &pgproto3.Execute{Portal: "back"}, &pgproto3.Sync{},
		&pgproto3.Execute{}, &pgproto3.Sync{})
	if got := r.until("ReadyForQuery", 3); !strings.HasSuffix(got, "row "+anSSN+", CommandComplete, ReadyForQuery") {
		t.Errorf("a Bind of the unnamed portal that fails: %s", got)
	}
	app := f.as("app")
	if _, err := app.Prepare(t.Context(), "s1", "select id from customers where ssn = $1"); err != nil {
		t.Fatal(err)
	}
	f.refused(app, "0A000", "execute s1('"+anSSN+"')", simple()...)
	// Two texts in one write, of which the first changes how the second is read.
	r = f.raw("app")
	r.send(&pgproto3.Query{String: "set standard_conforming_strings = off"}, &pgproto3.Query{String: `select '\' || ', upper(ssn), name from customers --'`})
	if got := r.until("ReadyForQuery", 2); !strings.Contains(got, "error 0A000") {
		t.Errorf("a text read otherwise: %s", got)
	}
}

func TestKeptTextsAreResolvedAgain(t *testing.T) {
	t.Parallel()
	f := withJane(t)
	f.must(f.direct(), "create schema other", "create table other.customers (id bigint, ssn text)", "grant all on schema other to public", "grant all on other.customers to public")
	for i, text := range []string{"copy customers to stdout", "create table ctas1 as select upper(ssn) as u from customers", "create view lateview as select upper(ssn) as u from customers"} {
		app := f.as("app")
		name := fmt.Sprintf("k%d", i)
		f.must(app, "set search_path = other")
		if _, err := app.Prepare(t.Context(), name, text); err != nil {
			continue // refused at once is as good
		}
		f.must(app, "set search_path = public")
		if _, err := app.PgConn().ExecPrepared(t.Context(), name, nil, nil, nil).Close(); err == nil {
			t.Errorf("%s ran over the protected table", text)
		}
	}
	if err := f.store.Grant(t.Context(), f.role("analyst"), "tokenize", "ssn"); err != nil {
		t.Fatal(err)
	}
	f.refresh()
	analyst := f.as("analyst")
	f.must(analyst, "set search_path = other")
	if _, err := analyst.Prepare(t.Context(), "ins", "insert into customers (id, ssn) values (61, $1)"); err != nil {
		t.Fatal(err)
	}
	f.must(analyst, "set search_path = public")
	if _, err := analyst.Exec(t.Context(), "ins", anSSN); err != nil {
		t.Errorf("a pinned INSERT: %v", err)
	}
	f.want(f.direct(), []string{"1"}, "select count(*) from other.customers")
}

func TestFetchInTheExtendedProtocolIsCovered(t *testing.T) {
	t.Parallel()
	f := withJane(t)
	dsn := f.url("analyst")
	f.must(f.direct(), "create function opens() returns refcursor language plpgsql as $$ declare c refcursor := 'cc'; begin open c for select ssn from customers where id = 1; return c; end $$")
	conn := f.connect(dsn)
	f.must(conn, "begin", "select opens()")
	if err := f.store.Grant(t.Context(), f.role("analyst"), "reveal", "ssn"); err != nil {
		t.Fatal(err)
	}
	f.refresh()
	for _, m := range []pgx.QueryExecMode{pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
		f.want(conn, []string{anSSN}, "fetch all from cc", m)
		f.must(conn, "move backward all in cc")
	}
}
