package pgwire_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"fmt"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgproto3/v2"
	"github.com/jackc/pgx/v5"

	"pgveil/internal/pgtest"
)

// packet is a message without a type byte.
func packet(code uint32, rest string) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(8+len(rest)))
	return append(binary.BigEndian.AppendUint32(b, code), rest...)
}

func message(kind byte, body string) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{kind}, uint32(4+len(body))), body...)
}

// talk sends bytes on a fresh connection and gives everything that comes back until the front-end closes.
func talk(t *testing.T, addr string, sent ...[]byte) []byte {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	for _, b := range sent {
		if _, err := conn.Write(b); err != nil {
			break
		}
	}
	if c, ok := conn.(*net.TCPConn); ok {
		c.CloseWrite()
	}
	got, _ := io.ReadAll(conn)
	return got
}

func TestAbuseBeforeAuthenticationEndsTheConnectionAlone(t *testing.T) {
	t.Parallel()
	f := newFront(t, pgtest.Database(t))
	start := packet(196608, "user\x00"+f.role("app")+"\x00database\x00x\x00\x00")
	for name, tc := range map[string]struct {
		send [][]byte
		want string // SQLSTATE in the answer; "" for none needed
	}{
		"nothing":                        {nil, ""},
		"a length of 3":                  {[][]byte{{0, 0, 0, 3, 0, 0, 0, 0}}, "08P01"},
		"a length of 4 GiB":              {[][]byte{{0xff, 0xff, 0xff, 0xff, 0, 3, 0, 0}}, "08P01"},
		"protocol 2":                     {[][]byte{packet(2<<16, "\x00")}, "0A000"},
		"no terminator":                  {[][]byte{packet(196608, "user\x00x")}, "08P01"},
		"no user":                        {[][]byte{packet(196608, "database\x00x\x00\x00")}, "28000"},
		"replication":                    {[][]byte{packet(196608, "user\x00x\x00replication\x00database\x00\x00")}, "0A000"},
		"five SSLRequests":               {[][]byte{packet(80877103, ""), packet(80877103, ""), packet(80877103, ""), packet(80877103, ""), packet(80877103, "")}, ""},
		"a query instead of a password":  {[][]byte{start, message('Q', "select 1\x00")}, "08P01"},
		"a second startup during SCRAM":  {[][]byte{start, start}, "08P01"},
		"another SASL mechanism":         {[][]byte{start, message('p', "PLAIN\x00\x00\x00\x00\x00")}, "08P01"},
		"a 64 KiB password message":      {[][]byte{start, message('p', strings.Repeat("x", 70_000))}, "54000"},
		"a negative length in SASL":      {[][]byte{start, message('p', "SCRAM-SHA-256\x00\xff\xff\xff\xfe")}, "08P01"},
		"a cancel request with no key":   {[][]byte{packet(80877102, "")}, ""},
		"bytes together with SSLRequest": {[][]byte{append(packet(80877103, ""), start...)}, ""},
	} {
		got := talk(t, f.addr, tc.send...)
		if tc.want != "" && !bytes.Contains(got, []byte("C"+tc.want+"\x00")) {
			t.Errorf("%s: answer of %d bytes, want SQLSTATE %s: %q", name, len(got), tc.want, got)
		}
	}
	f.want(f.as("app"), []string{"1"}, "select 1") // others go on
	if strings.Contains(f.log.String(), "panicked") {
		t.Error("a session panicked")
	}
}

func TestMalformedMessagesAfterAuthentication(t *testing.T) {
	t.Parallel()
	f := withJane(t)
	for name, send := range map[string][]byte{
		"an unknown type":           message('!', "x"),
		"a length of 1":             {'Q', 0, 0, 0, 1},
		"a length of 4 GiB":         {'Q', 0xff, 0xff, 0xff, 0xff},
		"a query without its NUL":   message('Q', "select 1"),
		"a query with two NULs":     message('Q', "select 1\x00\x00"),
		"a Bind that ends early":    append(message('B', "\x00\x00\x00"), message('S', "")...),
		"a Bind of negative counts": append(message('B', "\x00\x00\xff\xff\xff\xff"), message('S', "")...),
		"a Parse of -1 types":       append(message('P', "\x00select 1\x00\xff\xff"), message('S', "")...),
		"a Describe of nothing":     append(message('D', ""), message('S', "")...),
		"an Execute of nothing":     append(message('E', ""), message('S', "")...),
		"a Close of nothing":        append(message('C', ""), message('S', "")...),
		"a FunctionCall of nothing": message('F', ""),
	} {
		conn := f.as("app")
		hijacked, err := conn.PgConn().Hijack()
		if err != nil {
			t.Fatal(err)
		}
		hijacked.Conn.SetDeadline(time.Now().Add(20 * time.Second))
		hijacked.Conn.Write(send)
		hijacked.Conn.Write(message('X', ""))
		got, _ := io.ReadAll(hijacked.Conn)
		hijacked.Conn.Close()
		if !bytes.Contains(got, []byte("SERROR\x00")) && !bytes.Contains(got, []byte("SFATAL\x00")) && len(got) > 0 {
			t.Errorf("%s: answered %q", name, got)
		}
	}
	f.want(f.as("app"), []string{anSSN}, "select ssn from customers where id = 1")
	if strings.Contains(f.log.String(), "panicked") {
		t.Error("a session panicked")
	}
}

// TestAnIndependentCodecReadsWhatWeSend decodes the front-end's answers with another implementation of the protocol.
func TestAnIndependentCodecReadsWhatWeSend(t *testing.T) {
	t.Parallel()
	f := withJane(t)
	h, err := f.as("app").PgConn().Hijack()
	if err != nil {
		t.Fatal(err)
	}
	defer h.Conn.Close()
	h.Conn.SetDeadline(time.Now().Add(20 * time.Second))
	fe := pgproto3.NewFrontend(pgproto3.NewChunkReader(h.Conn), h.Conn)
	send := func(m ...pgproto3.FrontendMessage) {
		for _, x := range m {
			if err := fe.Send(x); err != nil {
				t.Fatal(err)
			}
		}
	}
	// One pipeline: a covered read without a Describe of the client's, a read in two portions, a refusal, and something after it.
	send(&pgproto3.Parse{Name: "s", Query: "select ssn from customers where id = $1"},
		&pgproto3.Bind{PreparedStatement: "s", Parameters: [][]byte{[]byte("1")}}, &pgproto3.Execute{}, &pgproto3.Sync{},
		&pgproto3.Parse{Query: "select card, id from customers order by id"}, &pgproto3.Bind{ResultFormatCodes: []int16{0, 1}},
		&pgproto3.Describe{ObjectType: 'P'}, &pgproto3.Execute{MaxRows: 1}, &pgproto3.Execute{}, &pgproto3.Sync{},
		&pgproto3.Parse{Query: "select upper(ssn) from customers"}, &pgproto3.Bind{}, &pgproto3.Execute{}, &pgproto3.Sync{},
		&pgproto3.Query{String: "select ssn from customers where id = 1; select 2"})
	var got []string
	for ready := 0; ready < 4; {
		m, err := fe.Receive()
		if err != nil {
			t.Fatalf("after %v: %v", got, err)
		}
		switch m := m.(type) {
		case *pgproto3.ReadyForQuery:
			ready++
			got = append(got, "Z"+string(m.TxStatus))
		case *pgproto3.DataRow:
			got = append(got, "D "+string(m.Values[0]))
		case *pgproto3.ErrorResponse:
			got = append(got, "E "+m.Code+" "+m.Routine)
		case *pgproto3.RowDescription:
			got = append(got, "T "+string(m.Fields[0].Name))
		default:
			got = append(got, strings.TrimPrefix(fmt.Sprintf("%T", m), "*pgproto3."))
		}
	}
	want := []string{"ParseComplete", "BindComplete", "D " + anSSN, "CommandComplete", "ZI",
		"ParseComplete", "BindComplete", "T card", "D " + aCard, "PortalSuspended", "D ", "CommandComplete", "ZI",
		"E 0A000 pgveil", "ZI",
		"T ssn", "D " + anSSN, "CommandComplete", "T ?column?", "D 2", "CommandComplete", "ZI"}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestCopyDataBetweenSyncs(t *testing.T) {
	t.Parallel()
	f := withJane(t)
	f.must(f.as("app"), "create table target (v int)")
	h, err := f.as("app").PgConn().Hijack()
	if err != nil {
		t.Fatal(err)
	}
	defer h.Conn.Close()
	h.Conn.SetDeadline(time.Now().Add(20 * time.Second))
	fe := pgproto3.NewFrontend(pgproto3.NewChunkReader(h.Conn), h.Conn)
	until := func(want string) (got []string) {
		for {
			m, err := fe.Receive()
			if err != nil {
				t.Fatalf("after %v: %v", got, err)
			}
			name := strings.TrimPrefix(fmt.Sprintf("%T", m), "*pgproto3.")
			got = append(got, name)
			if name == want {
				return got
			}
		}
	}
	copyIn := func(data string, end ...pgproto3.FrontendMessage) {
		for _, m := range []pgproto3.FrontendMessage{&pgproto3.Parse{Query: "copy target from stdin"}, &pgproto3.Bind{}, &pgproto3.Execute{}, &pgproto3.Sync{}} {
			fe.Send(m)
		}
		until("CopyInResponse")
		fe.Send(&pgproto3.CopyData{Data: []byte(data)})
		for _, m := range end {
			fe.Send(m)
		}
	}
	for range 2 {
		copyIn("1\n2\n", &pgproto3.CopyDone{}, &pgproto3.Sync{})
		until("ReadyForQuery")
		copyIn("not a number\n", &pgproto3.CopyDone{}, &pgproto3.Sync{})
		until("ReadyForQuery")
		copyIn("3\n", &pgproto3.CopyFail{Message: "no"}, &pgproto3.Sync{})
		until("ReadyForQuery")
		// What follows is matched to the right statements.
		fe.Send(&pgproto3.Parse{Query: "select ssn from customers where id = 1"})
		fe.Send(&pgproto3.Bind{})
		fe.Send(&pgproto3.Execute{})
		fe.Send(&pgproto3.Sync{})
		if got := strings.Join(until("ReadyForQuery"), " "); got != "ParseComplete BindComplete DataRow CommandComplete ReadyForQuery" {
			t.Errorf("after COPY: %s", got)
		}
	}
	f.want(f.as("app"), []string{"4"}, "select count(*) from target")
}

func TestTLSForClients(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	f := newFrontTLS(t, dsn, config)
	for _, mode := range []string{"require", "prefer", "disable"} {
		conn, err := pgx.Connect(t.Context(), strings.Replace(f.url("app"), "sslmode=disable", "sslmode="+mode, 1))
		if err != nil {
			t.Errorf("sslmode=%s: %v", mode, err)
			continue
		}
		_, encrypted := conn.PgConn().Conn().(*tls.Conn)
		if encrypted != (mode != "disable") {
			t.Errorf("sslmode=%s: encrypted is %v", mode, encrypted)
		}
		conn.Close(t.Context())
	}
	got := talk(t, f.addr, append(packet(80877103, ""), packet(196608, "user\x00x\x00\x00")...))
	if !bytes.Contains(got, []byte("received unencrypted data after SSL request")) {
		t.Errorf("bytes before the handshake: %q", got)
	}
}

func TestShutdownTellsSessions(t *testing.T) {
	t.Parallel()
	f := withJane(t)
	idle, busy := f.as("app"), f.as("app")
	result := make(chan error, 1)
	go func() {
		_, err := busy.Exec(t.Context(), "select pg_sleep(1)")
		result <- err
	}()
	time.Sleep(300 * time.Millisecond)
	began := time.Now()
	f.stop()
	if d := time.Since(began); d > 4*time.Second {
		t.Errorf("shutdown took %v", d)
	}
	if err := <-result; err != nil {
		t.Errorf("a statement under way was not finished: %v", err)
	}
	if _, err := idle.Exec(t.Context(), "select 1"); err == nil || !strings.Contains(err.Error(), "57P01") {
		t.Errorf("idle session: %v, want 57P01", err)
	}
}
