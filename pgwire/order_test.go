package pgwire_test

import (
	"github.com/jackc/pgx/v5"

	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgproto3/v2"
	"github.com/jackc/pgx/v5/pgconn"
)

// raw is a session spoken message by message.
type raw struct {
	t    *testing.T
	conn net.Conn
	fe   *pgproto3.Frontend
}

func (f *front) raw(role string) *raw {
	f.t.Helper()
	h, err := f.as(role).PgConn().Hijack()
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { h.Conn.Close() })
	h.Conn.SetDeadline(time.Now().Add(30 * time.Second))
	return &raw{f.t, h.Conn, pgproto3.NewFrontend(pgproto3.NewChunkReader(h.Conn), h.Conn)}
}

// send writes the messages in one go.
func (r *raw) send(messages ...pgproto3.FrontendMessage) {
	r.t.Helper()
	var b []byte
	for _, m := range messages {
		var err error
		if b, err = m.Encode(b); err != nil {
			r.t.Fatal(err)
		}
	}
	if _, err := r.conn.Write(b); err != nil {
		r.t.Fatal(err)
	}
}

// until reads to the n-th message of a kind and describes what came, rows by their first value.
func (r *raw) until(kind string, n int) string {
	r.t.Helper()
	var got []string
	for {
		m, err := r.fe.Receive()
		if err != nil {
			r.t.Fatalf("after %v: %v", got, err)
		}
		name := strings.TrimPrefix(fmt.Sprintf("%T", m), "*pgproto3.")
		switch m := m.(type) {
		case *pgproto3.DataRow:
			name = "row " + string(m.Values[0])
		case *pgproto3.ErrorResponse:
			name = "error " + m.Code
		case *pgproto3.RowDescription, *pgproto3.NoticeResponse, *pgproto3.ParameterStatus:
			continue
		}
		got = append(got, name)
		if strings.HasPrefix(name, kind) {
			if n--; n == 0 {
				return strings.Join(got, ", ")
			}
		}
	}
}

func group(query string, params ...string) []pgproto3.FrontendMessage {
	b := &pgproto3.Bind{}
	for _, p := range params {
		b.Parameters = append(b.Parameters, []byte(p))
	}
	return []pgproto3.FrontendMessage{&pgproto3.Parse{Query: query}, b, &pgproto3.Execute{}, &pgproto3.Sync{}}
}

const groupDone = "ParseComplete, BindComplete, row " + anSSN + ", CommandComplete, ReadyForQuery"

func TestASessionOutlivesAFailedProbe(t *testing.T) {
	t.Parallel()
	f := withJane(t)
	app := f.as("app")
	hit := false
	set := func(ms int) { // which may time out itself
		for {
			if _, err := app.Exec(t.Context(), fmt.Sprintf("set statement_timeout = %d", ms), pgx.QueryExecModeSimpleProtocol); err == nil {
				return
			}
		}
	}
	for range 500 {
		set(1)
		_, err := f.rows(app, "select ssn from customers where id = 1", simple()...)
		var pe *pgconn.PgError
		if errors.As(err, &pe) && pe.Code != "57014" {
			t.Fatalf("after a timeout: %v", err)
		}
		hit = hit || err != nil
		set(0)
		if err != nil {
			f.want(app, []string{anSSN}, "select ssn from customers where id = 1", simple()...)
		}
	}
	t.Logf("a timeout was met: %v", hit)
}

func TestAChangeBetweenParseAndBindKeepsTokenizing(t *testing.T) {
	t.Parallel()
	f := withJane(t)
	r := f.raw("app")
	r.send(&pgproto3.Parse{Name: "s", Query: "select tokenize('ssn', $1)"})
	time.Sleep(100 * time.Millisecond)
	if err := f.store.Grant(t.Context(), f.role("support"), "tokenize", "phone"); err != nil {
		t.Fatal(err)
	}
	f.refresh()
	var first string
	for i := range 3 {
		r.send(&pgproto3.Bind{PreparedStatement: "s", Parameters: [][]byte{[]byte(anSSN)}}, &pgproto3.Execute{}, &pgproto3.Sync{})
		got := r.until("ReadyForQuery", 1)
		got = strings.TrimPrefix(got, "ParseComplete, ")
		if i == 0 {
			first = got
		}
		if got != first || strings.Contains(got, anSSN) || !strings.Contains(got, "row ") {
			t.Fatalf("answer %d: %q, the first was %q", i, got, first)
		}
	}
}

func TestOperatorsOfTheSessionDoNotReachOurQueries(t *testing.T) {
	t.Parallel()
	f := withJane(t)
	direct := f.direct()
	f.must(direct, "create schema evil", "grant all on schema evil to public")
	app := f.as("app")
	for _, types := range [][2]string{{"oid", "regclass"}, {"oid", "oid"}, {"int2", "int4"}, {`"char"`, "text"}, {"name", "text"}, {`"char"`, "unknown"}} {
		if types[1] == "unknown" {
			continue
		}
		f.must(app, fmt.Sprintf("create function evil.no(%s, %s) returns boolean language sql immutable as 'select false'", types[0], types[1]))
		for _, op := range []string{"=", "<>", ">", ">="} {
			f.must(app, fmt.Sprintf("create operator evil.%s (leftarg = %s, rightarg = %s, function = evil.no)", op, types[0], types[1]))
		}
	}
	f.must(app, "set search_path = evil, pg_catalog, public")
	f.refused(app, "0A000", "select upper(ssn) from customers", simple()...)
	f.want(app, []string{anSSN}, "select ssn from customers where ssn operator(pg_catalog.=) '"+anSSN+"'", simple()...)
	f.must(app, "begin", "create temp table x (i int)")
	f.refused(app, "0A000", "select upper(ssn) from customers", simple()...)
}

func TestTerminateLosesNothing(t *testing.T) {
	t.Parallel()
	f := withJane(t)
	for _, end := range []string{"Terminate", "half-close"} {
		r := f.raw("app")
		r.send(&pgproto3.Query{String: "select pg_sleep(0.3)"}, &pgproto3.Query{String: "insert into notes values (1)"}, &pgproto3.Query{String: "insert into notes values (2)"})
		if end == "Terminate" {
			r.send(&pgproto3.Terminate{})
		} else {
			r.conn.(*net.TCPConn).CloseWrite()
		}
		got, err := io.ReadAll(r.conn)
		if err != nil || strings.Count(string(got), "INSERT 0 1") != 2 {
			t.Errorf("%s: %d bytes of replies, %v", end, len(got), err)
		}
		f.want(f.direct(), []string{"2"}, "select count(*) from notes")
		f.must(f.direct(), "delete from notes")
	}
}

func TestCopyAndSyncInEveryOrder(t *testing.T) {
	t.Parallel()
	f := withJane(t)
	f.must(f.as("app"), "create table target (v int)")
	data, bad, done := &pgproto3.CopyData{Data: []byte("1\n")}, &pgproto3.CopyData{Data: []byte("x\n")}, &pgproto3.CopyDone{}
	sync := &pgproto3.Sync{}
	check := func(name, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, want)
		}
	}
	after := func(r *raw, name string) {
		t.Helper()
		r.send(group("select ssn from customers where id = $1", "1")...)
		check(name+", and then", r.until("ReadyForQuery", 1), groupDone)
	}
	r := f.raw("app")
	r.send(&pgproto3.Query{String: "copy target from stdin"})
	r.until("CopyInResponse", 1)
	r.send(sync, data, sync, done)
	check("Sync in a simple COPY", r.until("ReadyForQuery", 1), "CommandComplete, ReadyForQuery")
	after(r, "Sync in a simple COPY")

	r.send(&pgproto3.Query{String: "copy target from stdin"})
	r.until("CopyInResponse", 1)
	r.send(bad, done)
	check("bad data in a simple COPY", r.until("ReadyForQuery", 1), "error 22P02, ReadyForQuery")
	after(r, "bad data in a simple COPY")

	r.send(group("copy target from stdin")...)
	r.until("CopyInResponse", 1)
	r.send(append([]pgproto3.FrontendMessage{bad, sync}, group("select ssn from customers where id = 1")...)...)
	check("bad data, Sync and a group at once", r.until("ReadyForQuery", 2), "error 22P02, ReadyForQuery, "+groupDone)
	after(r, "bad data, Sync and a group at once")

	g := group("copy target from stdin")
	r.send(append(append(g[:3:3], &pgproto3.Flush{}, data, done, sync), group("select ssn from customers where id = 1")...)...)
	check("everything in one go", r.until("ReadyForQuery", 2), "ParseComplete, BindComplete, CopyInResponse, CommandComplete, ReadyForQuery, "+groupDone)

	r.send(&pgproto3.Parse{Name: "s", Query: "select 1"}, sync, &pgproto3.Query{String: "deallocate s"})
	r.until("ReadyForQuery", 2)
	r.send(&pgproto3.Parse{Name: "s", Query: "select ssn from customers where id = 1"}, done, &pgproto3.Bind{PreparedStatement: "s"}, &pgproto3.Execute{}, sync)
	check("a stray CopyDone", r.until("ReadyForQuery", 1), groupDone)
	f.want(f.direct(), []string{"2"}, "select count(*) from target")
}

func TestShutdownTellsASessionInATransaction(t *testing.T) {
	t.Parallel()
	f := withJane(t)
	app := f.as("app")
	f.must(app, "begin", "select ssn from customers where id = 1")
	silent, err := net.Dial("tcp", f.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	time.Sleep(50 * time.Millisecond)
	began := time.Now()
	f.stop()
	if d := time.Since(began); d > 4*time.Second {
		t.Errorf("shutdown took %v", d)
	}
	if _, err := app.Exec(t.Context(), "select 1"); err == nil || !strings.Contains(err.Error(), "57P01") {
		t.Errorf("%v, want 57P01", err)
	}
}

func TestAVanishedClientFreesItsServerConnection(t *testing.T) {
	t.Parallel()
	f := withJane(t)
	app := f.as("app")
	pid := app.PgConn().PID()
	h, err := app.PgConn().Hijack()
	if err != nil {
		t.Fatal(err)
	}
	q, err := (&pgproto3.Query{String: "select repeat('x', 100000) -- " + strings.Repeat("y", 100_000)}).Encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	go func() { // fills both directions: it sends and never reads
		for range 2000 {
			if _, err := h.Conn.Write(q); err != nil {
				return
			}
		}
	}()
	time.Sleep(time.Second)
	h.Conn.(*net.TCPConn).SetLinger(0)
	h.Conn.Close()
	direct := f.direct()
	for range 100 {
		got, err := f.rows(direct, "select count(*) from pg_stat_activity where pid = $1", pid)
		if err == nil && got[0] == "0" {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Error("the server connection is still there 10 s after its client has gone")
}
