package pgwire_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"pgveil/internal/pgtest"
	"pgveil/internal/secret"
	"pgveil/pgwire"
)

// denied fails unless the connection is refused with that SQLSTATE, and gives the error.
func denied(t *testing.T, dsn, code string) *pgconn.PgError {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err == nil {
		conn.Close(t.Context())
	}
	var pe *pgconn.PgError
	if !errors.As(err, &pe) || pe.Code != code {
		t.Errorf("%v, want SQLSTATE %s", err, code)
		return &pgconn.PgError{}
	}
	return pe
}

func TestLoginByClientCertificate(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	f := newFrontTLS(t, pgtest.Database(t), ca.config(ca.server("rsa")))
	reporting := f.role("reporting")
	if err := f.store.AddCertificateRole(t.Context(), reporting, secret.Bytes{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.dropRole(reporting) })
	f.refresh()
	by := func(c certified, role string) string {
		dsn := f.with(role, "sslmode", "verify-full", "sslrootcert", ca.file(), "sslcert", c.cert, "sslkey", c.key)
		return strings.Replace(dsn, ":correct%20horse@", "@", 1)
	}
	own := ca.client(reporting)
	for range 2 {
		f.want(f.connect(by(own, "reporting")), []string{reporting}, "select current_user")
	}
	if out, err := psql(t, by(own, "reporting"), "select session_user"); err != nil || out != reporting {
		t.Errorf("psql: %s", out)
	}
	f.logged("session ended", "role="+reporting, "auth=certificate")
	denied(t, strings.Replace(by(ca.client(reporting, "somebody"), "reporting"), "@", ":x@", 1), "28P01")
	denied(t, strings.Replace(by(ca.client(strings.ToUpper(reporting)), "reporting"), "@", ":x@", 1), "28P01")

	// A client that need not prove anything need not wait either.
	conn, err := tls.Dial("tcp", f.addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"postgresql"}, Certificates: []tls.Certificate{own.Certificate}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	conn.Write(append(packet(196608, "user\x00"+reporting+"\x00database\x00"+f.direct().Config().Database+"\x00\x00"), message('Q', "select 'early'\x00")...))
	var kinds strings.Builder
	for strings.Count(kinds.String(), "Z") < 2 {
		m := readMessage(t, conn)
		kinds.WriteByte(m[0])
		if m[0] == 'D' && !bytes.HasSuffix(m, []byte("early")) {
			t.Errorf("row %q", m)
		}
	}
	if !strings.HasSuffix(kinds.String(), "ZTDCZ") {
		t.Errorf("answered %s", &kinds)
	}

	// A certificate proves one role, and only where the catalog says so.
	denied(t, strings.Replace(by(own, "app"), "@", ":x@", 1), "28P01")
	denied(t, strings.Replace(by(ca.client(f.role("app")), "app"), "@", ":x@", 1), "28P01")
	f.want(f.connect(strings.Replace(by(own, "app"), "@", ":correct%20horse@", 1)), []string{"1"}, "select 1") // with the password, whatever the certificate
	stranger := newAuthority(t)
	if _, err := pgx.Connect(t.Context(), by(stranger.client(reporting), "reporting")); err == nil || !strings.Contains(err.Error(), "tls: ") {
		t.Errorf("a certificate of an authority that is not trusted: %v", err)
	}
	if err := f.store.AddRole(t.Context(), reporting, secret.New([]byte(password))); err != nil {
		t.Fatal(err)
	}
	f.refresh()
	denied(t, strings.Replace(by(own, "reporting"), "@", ":x@", 1), "28P01")
	f.want(f.connect(by(own, "reporting")+"&password=correct%20horse"), []string{reporting}, "select current_user")
}

func TestEnrolmentLearnsTheServersVerifier(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	f := newFrontTLS(t, pgtest.Database(t), ca.config(ca.server("rsa")))
	role := f.role("enrolled")
	f.must(f.direct(), "create role "+role+" login password '"+password+"'") // the server makes its own salt
	t.Cleanup(func() { f.dropRole(role) })
	denied(t, f.url("enrolled"), "28P01")
	backing, err := pgconn.ParseConfig(f.dsn)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pgwire.Enrol(t.Context(), backing, role, backing.Database, secret.New([]byte("wrong horse"))); err == nil || strings.Contains(err.Error(), "horse") {
		t.Errorf("a wrong password: %v", err)
	}
	keys, err := pgwire.Enrol(t.Context(), backing, role, backing.Database, secret.New([]byte(password)))
	if err != nil {
		t.Fatal(err)
	}
	var stored string
	if err := f.direct().QueryRow(t.Context(), "select rolpassword from pg_authid where rolname = $1", role).Scan(&stored); err != nil || keys.Verifier.Exposed() != stored {
		t.Errorf("the verifier is not the server's: %v", err)
	}
	if err := f.store.EnrolRole(t.Context(), role, keys, true); err != nil {
		t.Fatal(err)
	}
	f.refresh()
	f.want(f.as("enrolled"), []string{role}, "select current_user")
	c := ca.client(role)
	f.want(f.connect(f.with("enrolled", "sslmode", "require", "sslcert", c.cert, "sslkey", c.key, "password", "wrong")), []string{role}, "select current_user")
}

// TestTheServerDecidesWhoMayLogIn: what stands in pg_authid besides the password is the server's business.
func TestTheServerDecidesWhoMayLogIn(t *testing.T) {
	t.Parallel()
	f := newFront(t, pgtest.Database(t))
	direct, support := f.direct(), f.role("support")
	f.must(direct, "alter role "+support+" valid until '2001-01-01'")
	if pe := denied(t, f.url("support"), "28P01"); !strings.Contains(pe.Hint, "VALID UNTIL") {
		t.Errorf("an expired role: %q", pe.Hint)
	}
	f.must(direct, "alter role "+support+" valid until 'infinity'")
	f.want(f.as("support"), []string{"1"}, "select 1")
	f.must(direct, "alter role "+support+" nologin")
	if pe := denied(t, f.url("support"), "28000"); !strings.Contains(pe.Message, "not permitted to log in") {
		t.Errorf("NOLOGIN: %q", pe.Message)
	}
	f.must(direct, "alter role "+support+" login connection limit 0")
	denied(t, f.url("support"), "53300")
	denied(t, strings.Replace(f.url("app"), "/"+direct.Config().Database, "/nowhere", 1), "3D000")
	f.logged("connection rejected", `reason="refused by the backing database"`, "sqlstate=3D000", "database=nowhere")
	f.must(direct, "drop owned by "+support, "drop role "+support)
	if pe := denied(t, f.url("support"), "28P01"); !strings.Contains(pe.Message, "stored verifier") {
		t.Errorf("a role that was dropped: %q", pe.Message)
	}
	f.logged("stored verifier is stale", "role="+support)
}

// TestUnknownRolesLookLikeKnownOnes: mechanisms, salt, iterations and error are of the same form, and stay the same.
func TestUnknownRolesLookLikeKnownOnes(t *testing.T) {
	t.Parallel()
	f := newFront(t, pgtest.Database(t))
	first := func(role string) (salt string, shape string) {
		conn, err := net.Dial("tcp", f.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(20 * time.Second))
		conn.Write(packet(196608, "user\x00"+role+"\x00\x00"))
		offer := readMessage(t, conn)
		const clientFirst = "n,,n=,r=abc"
		conn.Write(message('p', "SCRAM-SHA-256\x00"+string(binary.BigEndian.AppendUint32(nil, uint32(len(clientFirst))))+clientFirst))
		reply := readMessage(t, conn)
		fields := strings.Split(string(reply[9:]), ",")
		conn.Write(message('p', "c=biws,"+fields[0]+",p="+strings.Repeat("A", 43)+"="))
		refusal := bytes.ReplaceAll(readMessage(t, conn)[5:], []byte(role), []byte("ROLE"))
		return fields[1], fmt.Sprintf("%q %d %s %q", offer, len(fields[1]), fields[2], refusal)
	}
	known, shape := first(f.role("app"))
	unknown, shape2 := first("ghost")
	if shape != shape2 {
		t.Errorf("a role that exists: %s\none that does not: %s", shape, shape2)
	}
	again, _ := first("ghost")
	other, _ := first("ghost2")
	if unknown != again || unknown == other || unknown == known {
		t.Error("an unknown role's salt must be its own, and stay the same")
	}
}

func TestConnectionLimits(t *testing.T) {
	t.Parallel()
	f := newFront(t, pgtest.Database(t))
	f.again(func(c *pgwire.Config) { c.MaxConnections, c.MaxConnectionsPerRole = 3, 2 })
	app := f.as("app")
	f.as("app")
	if pe := denied(t, f.url("app"), "53300"); pe.Message != fmt.Sprintf("too many connections for role %q", f.role("app")) {
		t.Errorf("of one role: %q", pe.Message)
	}
	f.as("support")
	if pe := denied(t, f.url("analyst"), "53300"); pe.Message != "sorry, too many clients already" {
		t.Errorf("of all: %q", pe.Message)
	}
	denied(t, strings.Replace(f.url("app"), "correct", "in", 1), "28P01") // who does not get in is not told how full it is
	cancelled(t, app)                                                     // takes no place
	app.Close(t.Context())
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) { // the place is free when the session has ended
		conn, err := pgx.Connect(t.Context(), f.url("app"))
		if err == nil {
			conn.Close(t.Context())
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	f.logged("connection rejected", `reason="too many connections"`, "sqlstate=53300")

	f.again(func(c *pgwire.Config) { c.MaxStartups, c.MaxConnections = 2, 1 })
	for range 2 { // who only knocks takes no place of a session's
		conn, err := net.Dial("tcp", f.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) { // until both are accepted
		conn, err := pgx.Connect(t.Context(), f.url("app"))
		var pe *pgconn.PgError
		if errors.As(err, &pe) && pe.Code == "53300" {
			break
		}
		if err == nil {
			conn.Close(t.Context())
		}
		if time.Now().After(deadline) {
			t.Fatalf("with two that have not logged in: %v", err)
		}
	}
}

// dialProxied connects with a header before everything else.
func dialProxied(header string) pgconn.DialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		if err == nil {
			_, err = conn.Write([]byte(header))
		}
		return conn, err
	}
}

func TestClientsBehindALoadBalancer(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	f := newFrontTLS(t, pgtest.Database(t), ca.config(ca.server("rsa")))
	f.again(func(c *pgwire.Config) { c.ProxyFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} })
	const signature = "\r\n\r\n\x00\r\nQUIT\n"
	for name, tc := range map[string]struct{ header, addr string }{
		"version 1":      {"PROXY TCP4 192.0.2.7 127.0.0.1 4711 5432\r\n", "addr=192.0.2.7:4711 "},
		"version 1, v6":  {"PROXY TCP6 2001:db8::7 ::1 4711 5432\r\n", "addr=[2001:db8::7]:4711 "},
		"version 2":      {signature + "\x21\x11\x00\x0c\xc0\x00\x02\x08\x7f\x00\x00\x01\x12\x67\x15\x38", "addr=192.0.2.8:4711 "},
		"version 2, TLV": {signature + "\x21\x11\x00\x11\xc0\x00\x02\x09\x7f\x00\x00\x01\x12\x67\x15\x38\x04\x00\x02xx", "addr=192.0.2.9:4711 "},
		"a health check": {signature + "\x20\x00\x00\x00", "addr=127.0.0.1:"},
		"an unknown one": {"PROXY UNKNOWN\r\n", "addr=127.0.0.1:"},
	} {
		for _, mode := range []string{"disable", "require"} {
			config, err := pgx.ParseConfig(f.with("app", "sslmode", mode, "application_name", strings.ReplaceAll(name, " ", "")+mode))
			if err != nil {
				t.Fatal(err)
			}
			config.DialFunc = dialProxied(tc.header)
			conn, err := pgx.ConnectConfig(t.Context(), config)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			conn.Close(t.Context())
			f.logged("session ended", "application_name="+strings.ReplaceAll(name, " ", "")+mode, tc.addr)
		}
	}
	for name, header := range map[string]string{
		"no header": "", "a long line": "PROXY TCP4 " + strings.Repeat("1", 200) + "\r\n", "no address": "PROXY TCP4 a b 1 2\r\n", "the other family": "PROXY TCP4 ::1 ::1 1 2\r\n",
		"another version": signature + "\x11\x11\x00\x0cxxxxxxxxxxxx", "another command": signature + "\x22\x11\x00\x0cxxxxxxxxxxxx",
		"a short block": signature + "\x21\x11\x00\x04xxxx", "a huge block": signature + "\x21\x11\xff\xff",
	} {
		config, err := pgx.ParseConfig(f.url("app"))
		if err != nil {
			t.Fatal(err)
		}
		config.DialFunc = dialProxied(header)
		if conn, err := pgx.ConnectConfig(t.Context(), config); err == nil {
			conn.Close(t.Context())
			t.Errorf("%s is accepted", name)
		}
	}
	f.logged("connection rejected", `reason="proxy protocol"`)

	// A client that came past the load balancer sends 8 bytes and waits for an answer.
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if conn, err := pgx.Connect(ctx, f.with("app", "sslmode", "require")); err == nil {
		conn.Close(ctx)
		t.Error("SSLRequest without a header is accepted")
	} else if ctx.Err() != nil {
		t.Error("SSLRequest without a header is left waiting")
	}
	f.again(func(c *pgwire.Config) { c.ProxyFrom = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} })
	config, err := pgx.ParseConfig(f.url("app"))
	if err != nil {
		t.Fatal(err)
	}
	config.DialFunc = dialProxied("PROXY TCP4 192.0.2.7 127.0.0.1 4711 5432\r\n")
	if conn, err := pgx.ConnectConfig(t.Context(), config); err == nil {
		conn.Close(t.Context())
		t.Error("somebody who is not a load balancer says who he is")
	}
	f.logged("connection rejected", "addr=127.0.0.1:", "--proxy-protocol-from")
}

func TestReloadKeepsSessions(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	f := newFrontTLS(t, pgtest.Database(t), ca.config(ca.server("rsa")))
	next := ca.config(ca.server("p384"))
	var broken error
	f.again(func(c *pgwire.Config) {
		backing := c.Backing
		c.Reload = func() (pgwire.Files, error) { return pgwire.Files{TLS: next, Backing: backing}, broken }
	})
	shown := func(conn *pgx.Conn) string {
		return conn.PgConn().Conn().(*tls.Conn).ConnectionState().PeerCertificates[0].PublicKeyAlgorithm.String()
	}
	dsn := f.with("app", "sslmode", "require", "channel_binding", "require")
	before := f.connect(dsn)
	if err := f.server.Reload(); err != nil {
		t.Fatal(err)
	}
	after := f.connect(dsn)
	if shown(before) != "RSA" || shown(after) != "ECDSA" {
		t.Errorf("shown %s before and %s after", shown(before), shown(after))
	}
	broken = errors.New("no such file")
	if err := f.server.Reload(); err == nil {
		t.Error("a broken file is no error")
	}
	f.logged("reload failed: what was in use stays")
	if got := shown(f.connect(dsn)); got != "ECDSA" {
		t.Errorf("shown %s after a reload that failed", got)
	}
	f.want(before, []string{"1"}, "select 1")
}

// TestTheLogHasALineAConnection, with nothing in it that a client could use to forge another.
func TestTheLogHasALineAConnection(t *testing.T) {
	t.Parallel()
	f := newFront(t, pgtest.Database(t))
	f.as("app").Close(t.Context())
	f.logged("session ended", "role="+f.role("app"), "application_name=\"\"", "tls=none", "auth=SCRAM-SHA-256\n", "duration=", `reason="client terminated"`, "addr=127.0.0.1:", "received=", "sent=")
	denied(t, strings.Replace(f.with("app", "sslmode", "disable"), f.role("app"), "gh%0Aost", 1), "28P01")
	f.logged("connection rejected", "role=gh?ost", "reason=authentication", "sqlstate=28P01", `cause="no such role is known here"`)
	talk(t, f.addr, packet(196608, "user\x00x\x00"))
	f.logged("connection rejected", "reason=protocol")
	if strings.Contains(f.log.String(), "horse") {
		t.Error("the log holds a password")
	}
}
