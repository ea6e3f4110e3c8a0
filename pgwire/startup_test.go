package pgwire_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"pgveil/internal/pgtest"
	"pgveil/internal/scram"
	"pgveil/internal/secret"
	"pgveil/pgwire"
)

// with is the role's URL with these parameters in place of its own.
func (f *front) with(role string, params ...string) string {
	u, err := url.Parse(f.url(role))
	if err != nil {
		f.t.Fatal(err)
	}
	q := url.Values{}
	for i := 0; i < len(params); i += 2 {
		q.Set(params[i], params[i+1])
	}
	u.RawQuery = strings.ReplaceAll(q.Encode(), "+", "%20") // which is all that libpq takes for a space
	return u.String()
}

// psql runs a statement with the real psql and gives what it prints, error or not.
func psql(t *testing.T, dsn, statement string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "psql", "-XAtc", statement, dsn)
	cmd.Env = append(os.Environ(), "HOME=/nonexistent", "LC_ALL=C") // no ~/.postgresql of the machine's
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// logged waits until the front-end has logged a line with all these texts.
func (f *front) logged(texts ...string) {
	f.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		for line := range strings.Lines(f.log.String()) {
			found := true
			for _, text := range texts {
				found = found && strings.Contains(line, text)
			}
			if found {
				return
			}
		}
		if time.Now().After(deadline) {
			f.t.Errorf("no line of the log has %q:\n%s", texts, f.log.String())
			return
		}
	}
}

// TestTLSStartsEitherWay: behind an SSLRequest or at once, with ALPN as PostgreSQL 17 and later have it.
func TestTLSStartsEitherWay(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	f := newFrontTLS(t, pgtest.Database(t), ca.config(ca.server("rsa")))
	for _, negotiation := range []string{"direct", "postgres"} {
		dsn := f.with("app", "sslmode", "verify-full", "sslrootcert", ca.file(), "sslnegotiation", negotiation)
		big := strings.Repeat("é", 1_000_000)
		f.want(f.connect(dsn), []string{big + "|1"}, "select $1::text, 1", big)
	}
	// OpenSSL says what was agreed on.
	for _, args := range [][]string{{"-alpn", "postgresql"}, {"-alpn", "postgresql", "-starttls", "postgres"}, {"-alpn", "postgresql", "-servername", "other.example"}} {
		cmd := exec.CommandContext(t.Context(), "openssl", append([]string{"s_client", "-connect", f.addr, "-CAfile", ca.file()}, args...)...)
		cmd.Stdin = strings.NewReader("")
		out, _ := cmd.CombinedOutput() // it is cut off, as it says nothing
		if !bytes.Contains(out, []byte("ALPN protocol: postgresql")) || !bytes.Contains(out, []byte("Verify return code: 0 (ok)")) {
			t.Errorf("s_client %v: %s", args, out)
		}
	}
	// Direct TLS of a client that does not say what it speaks ends.
	conn, err := tls.Dial("tcp", f.addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	if got, _ := io.ReadAll(conn); !bytes.Contains(got, []byte("without ALPN")) {
		t.Errorf("direct TLS without ALPN: %q", got)
	}
	if _, err := tls.Dial("tcp", f.addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}); err == nil {
		t.Error("direct TLS for another protocol is accepted")
	}
	f.logged("connection rejected", `reason="tls handshake"`)
	if got := talk(t, f.addr, append(packet(80877104, ""), packet(196608, "user\x00x\x00\x00")...)); !bytes.Contains(got, []byte("received unencrypted data after GSSAPI encryption request")) {
		t.Errorf("bytes behind a GSSENCRequest: %q", got)
	}
}

// TestProtocolVersionsAreNegotiatedAsByTheServer sends start-up packets to the server and to us: the same answer.
func TestProtocolVersionsAreNegotiatedAsByTheServer(t *testing.T) {
	t.Parallel()
	for _, major := range []int{15, 18} {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			t.Parallel()
			f := newFront(t, databaseOf(t, pgtest.ServerMajor(t, major), fmt.Sprintf("versions%d", major)))
			server, err := url.Parse(f.dsn)
			if err != nil {
				t.Fatal(err)
			}
			params := "user\x00" + f.role("app") + "\x00database\x00" + server.Path[1:] + "\x00"
			for name, p := range map[string][]byte{
				"3.0": packet(196608, params+"\x00"), "3.1": packet(196609, params+"\x00"), "3.2": packet(196610, params+"\x00"),
				"3.9999": packet(196608+9999, params+"\x00"), "an option": packet(196608, params+"_pq_.x\x00on\x00\x00"),
				"3.2 and an option":     packet(196610, params+"_pq_.test_protocol_negotiation\x00\x00\x00"),
				"3.9999 and an option":  packet(196608+9999, params+"_pq_.a\x00\x00_pq_.b\x001\x00\x00"),
				"another major version": packet(4<<16, params+"\x00"),
			} {
				want, got := firstMessage(t, server.Host, p), firstMessage(t, f.addr, p)
				if want[0] == 'E' && got[0] == 'E' {
					continue // its fields name a source file
				}
				if !bytes.Equal(got, want) {
					t.Errorf("%s:\n got %q\nwant %q", name, got, want)
				}
			}
			for _, version := range []string{"3.0", "3.2"} {
				dsn := f.with("app", "sslmode", "disable", "max_protocol_version", version)
				conn := f.connect(dsn)
				length := 4
				if major >= 18 && version == "3.2" {
					length = 32
				}
				if n := len(conn.PgConn().SecretKey()); n != length {
					t.Errorf("protocol %s: a cancel key of %d bytes, want %d", version, n, length)
				}
				cancelled(t, conn)
			}
		})
	}
}

// databaseOf makes a database on a server that other tests use too.
func databaseOf(t *testing.T, admin, name string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), admin)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for _, statement := range []string{"drop database if exists " + name + " with (force)", "create database " + name} { // a test may run again
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	u, err := url.Parse(admin)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + name
	return u.String()
}

// cancelled fails unless a statement of the connection's can be cancelled.
func cancelled(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		_, err := conn.Exec(t.Context(), "select pg_sleep(30)")
		done <- err
	}()
	for deadline := time.After(20 * time.Second); ; { // the first request may come before the statement
		if err := conn.PgConn().CancelRequest(context.Background()); err != nil {
			t.Errorf("cancel: %v", err)
		}
		select {
		case err := <-done:
			var pe *pgconn.PgError
			if !errors.As(err, &pe) || pe.Code != "57014" {
				t.Errorf("%v, want 57014", err)
			}
			return
		case <-deadline:
			t.Fatal("the statement is not cancelled")
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// firstMessage sends a packet and gives the first message of the answer.
func firstMessage(t *testing.T, addr string, p []byte) []byte {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := conn.Write(p); err != nil {
		t.Fatal(err)
	}
	return readMessage(t, conn)
}

func readMessage(t *testing.T, r io.Reader) []byte {
	t.Helper()
	head := make([]byte, 5)
	if _, err := io.ReadFull(r, head); err != nil {
		t.Fatal(err)
	}
	body := make([]byte, binary.BigEndian.Uint32(head[1:])-4)
	if _, err := io.ReadFull(r, body); err != nil {
		t.Fatal(err)
	}
	return append(head, body...)
}

func TestStartupPacketsAreBounded(t *testing.T) {
	t.Parallel()
	f := newFront(t, pgtest.Database(t))
	user := "user\x00" + f.role("app") + "\x00options\x00"
	fill := func(n int) []byte { return packet(196608, user+strings.Repeat(" ", n-len(user)-8-2)+"\x00\x00") } // n bytes in all
	if got := talk(t, f.addr, fill(10_004)); !bytes.Contains(got, []byte("SCRAM-SHA-256")) {
		t.Errorf("a packet of 10,000 bytes: %q", got)
	}
	if got := talk(t, f.addr, fill(10_005)); !bytes.Contains(got, []byte("invalid length of startup packet")) {
		t.Errorf("a packet of 10,001 bytes: %q", got)
	}
	for n, want := range map[int]string{3: "invalid length of query cancel packet", 4: "", 256: "", 257: "invalid length of query cancel packet"} {
		got := talk(t, f.addr, packet(80877102, strings.Repeat("x", 4+n)))
		if want == "" && len(got) > 0 || !bytes.Contains(got, []byte(want)) {
			t.Errorf("a cancel key of %d bytes: %q", n, got)
		}
	}
	f.again(func(c *pgwire.Config) { c.ConnectTimeout = 200 * time.Millisecond })
	began := time.Now()
	conn, err := net.Dial("tcp", f.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.Write([]byte{0, 0})
	conn.SetReadDeadline(began.Add(20 * time.Second))
	if _, err := io.ReadAll(conn); err != nil {
		t.Errorf("a client that says nothing: %v", err)
	}
	f.logged("connection rejected", "reason=timeout")
}

func TestStartupParametersReachTheServer(t *testing.T) {
	t.Parallel()
	f := newFront(t, pgtest.Database(t))
	f.want(f.connect(f.with("app", "sslmode", "disable", "options", `-c work_mem=7MB -c application_name=a\ b`)), []string{"7MB|a b"},
		"select current_setting('work_mem'), current_setting('application_name')")
	backing, err := pgconn.ParseConfig(f.dsn + "&options=-c%20geqo%3Doff%20-c%20work_mem%3D5MB")
	if err != nil {
		t.Fatal(err)
	}
	f.again(func(c *pgwire.Config) {
		c.Backing = backing
		c.StatementTimeout, c.IdleSessionTimeout, c.IdleInTransactionTimeout = 50*time.Second, 51*time.Second, 52*time.Second
	})
	const all = "select current_setting('geqo'), current_setting('work_mem'), current_setting('statement_timeout'), current_setting('idle_session_timeout'), current_setting('idle_in_transaction_session_timeout')"
	f.want(f.as("app"), []string{"off|5MB|50s|51s|52s"}, all)
	f.want(f.connect(f.with("app", "sslmode", "disable", "options", "-c work_mem=7MB -c statement_timeout=0")), []string{"off|7MB|0|51s|52s"}, all)
	app := f.connect(f.with("app", "sslmode", "disable", "statement_timeout", "1000", "idle_session_timeout", "2000"))
	f.want(app, []string{"off|5MB|1s|2s|52s"}, all)
	f.must(app, "set statement_timeout = 0")
	f.want(app, []string{"off|5MB|0|2s|52s"}, all)
	f.again(func(c *pgwire.Config) { c.StatementTimeout = 100 * time.Millisecond })
	f.refused(f.as("app"), "57014", "select pg_sleep(20)")
}

// TestPostgreSQL13HasNoIdleSessionTimeout, and sessions there do without.
func TestPostgreSQL13HasNoIdleSessionTimeout(t *testing.T) {
	t.Parallel()
	f := newFront(t, databaseOf(t, pgtest.ServerMajor(t, 13), "idle13"))
	f.again(func(c *pgwire.Config) { c.IdleSessionTimeout, c.StatementTimeout = time.Minute, time.Minute })
	for range 2 {
		f.want(f.as("app"), []string{"1min"}, "show statement_timeout")
	}
	_, err := pgx.Connect(t.Context(), f.with("app", "sslmode", "disable", "idle_session_timeout", "1000"))
	var pe *pgconn.PgError
	if !errors.As(err, &pe) || pe.Code != "42704" {
		t.Errorf("a client's own idle_session_timeout: %v, want 42704", err)
	}
}

// TestChannelBinding is SCRAM-SHA-256-PLUS with libpq and pgx.
func TestChannelBinding(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	f := newFrontTLS(t, pgtest.Database(t), ca.config(ca.server("rsa")))
	for _, kind := range []string{"rsa", "p384", "ed25519"} {
		config := ca.config(ca.server(kind))
		f.again(func(c *pgwire.Config) { c.TLS = config })
		for _, binding := range []string{"require", "prefer", "disable"} {
			dsn := f.with("app", "sslmode", "require", "channel_binding", binding, "application_name", kind+binding)
			mechanism := "SCRAM-SHA-256-PLUS"
			if kind == "ed25519" || binding == "disable" {
				mechanism = "SCRAM-SHA-256"
			}
			possible := binding != "require" || kind != "ed25519"
			out, err := psql(t, dsn, "select 1")
			if possible != (err == nil && out == "1") {
				t.Errorf("psql, %s, channel_binding=%s: %s", kind, binding, out)
			}
			conn, err := pgx.Connect(t.Context(), dsn)
			if possible != (err == nil) {
				t.Errorf("pgx, %s, channel_binding=%s: %v", kind, binding, err)
			}
			if possible {
				conn.Close(t.Context())
				f.logged("session ended", "application_name="+kind+binding, "auth="+mechanism+"\n", `tls="TLS 1.3"`)
			}
		}
	}
	if out, err := psql(t, f.with("app", "sslmode", "disable", "channel_binding", "require"), "select 1"); err == nil {
		t.Errorf("channel_binding=require without TLS: %s", out)
	}
}

// TestADowngradeIsRefused: a client that believes there is no channel binding was told so by somebody else than us.
func TestADowngradeIsRefused(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	f := newFrontTLS(t, pgtest.Database(t), ca.config(ca.server("rsa")))
	for name, tc := range map[string]struct {
		mechanism, first, want string
	}{
		"y where it is offered":   {scram.Mechanism, "y,,n=,r=abc", "SCRAM channel binding negotiation error"},
		"n with -PLUS":            {scram.MechanismPlus, "n,,n=,r=abc", "malformed SCRAM message"},
		"p without -PLUS":         {scram.Mechanism, "p=tls-server-end-point,,n=,r=abc", "malformed SCRAM message"},
		"another type of binding": {scram.MechanismPlus, "p=tls-unique,,n=,r=abc", "unsupported SCRAM channel-binding type"},
		"another mechanism":       {"PLAIN", "n,,n=,r=abc", "client selected an invalid SASL authentication mechanism"},
		"a name to act as":        {scram.Mechanism, "n,a=x,n=,r=abc", "malformed SCRAM message"},
	} {
		conn := f.greeted(t)
		body := append([]byte(tc.mechanism+"\x00"), binary.BigEndian.AppendUint32(nil, uint32(len(tc.first)))...)
		conn.Write(message('p', string(body)+tc.first))
		if got := readMessage(t, conn); !bytes.Contains(got, []byte(tc.want)) {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
		conn.Close()
	}
	// Bound to the certificate of somebody between.
	conn := f.greeted(t)
	defer conn.Close()
	c := scram.NewPasswordClient(secret.New([]byte(password)), []byte("another certificate's hash"))
	mechanism, first, err := c.First([]string{scram.MechanismPlus})
	if err != nil {
		t.Fatal(err)
	}
	body := append([]byte(mechanism+"\x00"), binary.BigEndian.AppendUint32(nil, uint32(len(first)))...)
	conn.Write(message('p', string(body)+string(first)))
	reply := readMessage(t, conn)
	final, err := c.Final(reply[9:])
	if err != nil {
		t.Fatal(err)
	}
	conn.Write(message('p', string(final)))
	if got := readMessage(t, conn); !bytes.Contains(got, []byte("SCRAM channel binding check failed")) {
		t.Errorf("another channel: %q", got)
	}
}

// greeted is a TLS connection of role app that was offered mechanisms.
func (f *front) greeted(t *testing.T) net.Conn {
	t.Helper()
	conn, err := tls.Dial("tcp", f.addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"postgresql"}})
	if err != nil {
		t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	conn.Write(packet(196608, "user\x00"+f.role("app")+"\x00\x00"))
	if got := readMessage(t, conn); string(got[9:]) != "SCRAM-SHA-256-PLUS\x00SCRAM-SHA-256\x00\x00" {
		t.Fatalf("offered %q", got)
	}
	return conn
}
