package pgwire_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"pgveil/internal/pgtest"
)

// badLengths are what a message must not announce.
var badLengths = []uint32{0, 1, 2, 3, 0x7fffffff, 0x80000000, 0xffffffff}

func withLength(kind string, n uint32) []byte {
	return append(binary.BigEndian.AppendUint32([]byte(kind), n), "\x00\x03\x00\x00user\x00x\x00\x00"...)
}

// afterFirst speaks SCRAM up to the server-first-message and then sends what it is given.
func (f *front) afterFirst(send []byte) []byte {
	f.t.Helper()
	conn, err := net.Dial("tcp", f.addr)
	if err != nil {
		f.t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	first := "n,,n=,r=abcdefghijklmnopqrstuvwx"
	conn.Write(packet(196608, "user\x00"+f.role("app")+"\x00\x00"))
	conn.Write(message('p', "SCRAM-SHA-256\x00"+string(binary.BigEndian.AppendUint32(nil, uint32(len(first))))+first))
	got := make([]byte, 0, 500)
	for !bytes.Contains(got, []byte("i=")) { // of the server-first-message
		k, err := conn.Read(got[len(got):cap(got)])
		if err != nil {
			f.t.Fatalf("%q %v", got, err)
		}
		got = got[:len(got)+k]
	}
	conn.Write(send)
	conn.(*net.TCPConn).CloseWrite()
	rest, err := io.ReadAll(conn)
	if err != nil && !strings.Contains(err.Error(), "reset") {
		f.t.Error(err)
	}
	return rest
}

// TestNothingButAPasswordDuringSCRAM: a second start-up packet, a query or anything else in the middle of the exchange ends the connection, and reaches nobody.
func TestNothingButAPasswordDuringSCRAM(t *testing.T) {
	t.Parallel()
	f := newFront(t, pgtest.Database(t))
	super := f.direct()
	before, err := f.rows(super, "select count(*) from pg_stat_activity where usename like '%"+f.suffix+"'")
	if err != nil {
		t.Fatal(err)
	}
	sends := map[string][]byte{
		"a start-up packet":                     packet(196608, "user\x00postgres\x00\x00"),
		"a start-up packet with a search path":  packet(196608, "user\x00"+f.role("app")+"\x00search_path\x00evil\x00\x00"),
		"an SSLRequest":                         packet(80877103, ""),
		"a query":                               message('Q', "select 1\x00"),
		"Terminate":                             message('X', ""),
		"a proof of zeros":                      message('p', "c=biws,r=x,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
		"an empty proof":                        message('p', ""),
		"a message of 64 KiB and a byte":        message('p', strings.Repeat("p", 64<<10+1)),
		"a proof and a query in the same write": append(message('p', "c=biws,r=x,p=AAAA"), message('Q', "select 1\x00")...),
	}
	for _, n := range badLengths {
		sends[fmt.Sprintf("a length of %#x", n)] = withLength("p", n)
	}
	for name, send := range sends {
		if got := f.afterFirst(send); bytes.Contains(got, []byte("R\x00\x00\x00\x08\x00\x00\x00\x00")) || bytes.IndexByte(got, 'Z') >= 0 && bytes.Contains(got, []byte("Z\x00\x00\x00\x05")) {
			t.Errorf("%s: let in: %q", name, got)
		}
	}
	for _, n := range badLengths {
		if got := talk(t, f.addr, withLength("", n)); len(got) > 0 && !bytes.Contains(got, []byte("C08P01\x00")) {
			t.Errorf("a start-up packet of length %#x: %q", n, got)
		}
	}
	f.want(super, before, "select count(*) from pg_stat_activity where usename like '%"+f.suffix+"'")
	if strings.Contains(f.log.String(), "panicked") {
		t.Error("a session panicked")
	}
}

// TestLengthsThatOverflowAfterAuthentication: every kind of message with every impossible length, alone and after a good one.
func TestLengthsThatOverflowAfterAuthentication(t *testing.T) {
	t.Parallel()
	f := withJane(t)
	other := f.as("app")
	for _, n := range badLengths {
		for _, kind := range "QPBDECSHFXdcfp!\x00" {
			r := f.raw("app")
			r.conn.Write(append(message('Q', "select 1\x00"), withLength(string(kind), n)...))
			r.conn.(*net.TCPConn).CloseWrite()
			got, err := io.ReadAll(r.conn)
			if err != nil && !strings.Contains(err.Error(), "reset") {
				t.Errorf("%q of length %#x: %v", kind, n, err)
			}
			if bytes.Count(got, []byte("Z\x00\x00\x00\x05")) > 1 {
				t.Errorf("%q of length %#x was answered: %q", kind, n, got)
			}
			r.conn.Close()
		}
		f.want(other, []string{anSSN}, "select ssn from customers where id = 1")
	}
	if strings.Contains(f.log.String(), "panicked") {
		t.Error("a session panicked")
	}
}

// TestAStartupSearchPathDoesNotReachOurQueries: what the front-end asks on the session's connection means PostgreSQL's own catalogs, whatever stands before them.
func TestAStartupSearchPathDoesNotReachOurQueries(t *testing.T) {
	t.Parallel()
	f := withJane(t)
	f.must(f.direct(), "create schema evil", "grant all on schema evil to public",
		"create table evil.pg_class (oid oid, relname name, relnamespace oid)", "create table evil.pg_namespace (oid oid, nspname name)", "create table evil.pg_attribute (attrelid oid)",
		"create table evil.pg_prepared_statements (name text, statement text, from_sql bool)", "grant all on all tables in schema evil to public",
		"create function evil.to_regclass(text) returns regclass language sql as 'select null::regclass'", "create function evil.unnest(text[]) returns setof text language sql as 'select null::text'",
		"create function evil.eq(oid, oid) returns bool language sql as 'select false'", "create operator evil.= (leftarg = oid, rightarg = oid, function = evil.eq)")
	for _, params := range []string{"&search_path=evil,public,pg_catalog", "&options=-c%20search_path%3Devil%2Cpublic%2Cpg_catalog"} {
		app := f.connect(f.url("app") + params)
		f.want(app, []string{"evil, public, pg_catalog"}, "select replace(replace(current_setting('search_path'), ' ', ''), ',', ', ')", simple()...)
		for _, m := range modes {
			f.want(app, []string{anSSN}, "select ssn from public.customers where id = 1", m)
			f.refused(app, "0A000", "select upper(ssn) from public.customers", m)
		}
		f.want(f.connect(f.url("analyst")+params), []string{"false"}, "select ssn = '"+anSSN+"' from public.customers where id = 1", simple()...)
	}
}

// TestAnExpiredRoleIsRefused: VALID UNTIL is the server's to check, and is not gone around.
func TestAnExpiredRoleIsRefused(t *testing.T) {
	t.Parallel()
	f := withJane(t)
	f.want(f.as("app"), []string{"1"}, "select 1")
	f.must(f.direct(), "alter role "+f.role("app")+" valid until '2001-01-01'")
	_, err := pgx.Connect(t.Context(), f.url("app"))
	var pe *pgconn.PgError
	if !errors.As(err, &pe) || pe.Code != "28P01" {
		t.Errorf("%v, want SQLSTATE 28P01", err)
	}
}

// behind serves anew before a listener in the place of the backing database.
func (f *front) behind(serve func(net.Conn)) (restore func()) {
	f.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.t.Fatal(err)
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go serve(conn)
		}
	}()
	f.stop()
	real := f.dsn
	u, err := url.Parse(f.dsn)
	if err != nil {
		f.t.Fatal(err)
	}
	u.Host, u.RawQuery = l.Addr().String(), "sslmode=disable"
	f.dsn = u.String()
	f.serve()
	f.t.Cleanup(func() { l.Close() })
	return func() { f.dsn = real }
}

// TestErrorsDuringLoginThatLackSomething pass as the server sent them, and end the login.
func TestErrorsDuringLoginThatLackSomething(t *testing.T) {
	t.Parallel()
	f := withJane(t)
	bodies := []string{"", "\x00", "S", "SFATAL", "SFATAL\x00\x00", "SFATAL\x00VFATAL\x00Mno\x00\x00", "C\x00", "\xff"}
	var next atomic.Pointer[string]
	restore := f.behind(func(c net.Conn) {
		defer c.Close()
		c.Read(make([]byte, 10_000))
		c.Write(message('E', *next.Load()))
	})
	defer restore()
	for _, body := range bodies {
		next.Store(&body)
		ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
		if conn, err := pgx.Connect(ctx, f.url("app")); err == nil || ctx.Err() != nil {
			t.Errorf("%q: connected is %v; %v", body, conn != nil, err)
		}
		stop()
	}
	if strings.Contains(f.log.String(), "panicked") {
		t.Error("a session panicked")
	}
}

// TestShutdownDoesNotWaitForALogin that the backing database does not answer.
func TestShutdownDoesNotWaitForALogin(t *testing.T) {
	t.Parallel()
	f := withJane(t)
	asked := make(chan struct{}, 1)
	restore := f.behind(func(c net.Conn) {
		c.Read(make([]byte, 10_000))
		asked <- struct{}{}
		io.Copy(io.Discard, c)
		c.Close()
	})
	defer restore()
	go pgx.Connect(t.Context(), f.url("app"))
	<-asked
	began := time.Now()
	f.stop()
	if d := time.Since(began); d > 4*time.Second {
		t.Errorf("shutdown took %v", d)
	}
}
