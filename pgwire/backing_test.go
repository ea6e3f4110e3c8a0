package pgwire_test

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"pgveil/internal/cluster"
	"pgveil/internal/pgtest"
	"pgveil/internal/scram"
	"pgveil/internal/secret"
	"pgveil/pgwire"
)

// server is a PostgreSQL of the test's own, beside pgtest's.
type server struct {
	*cluster.Cluster
	config cluster.Config
	super  secret.Bytes
}

// newServer makes a cluster with TLS.
func newServer(t *testing.T, cert certified) *server {
	t.Helper()
	s := &server{super: secret.New([]byte("superuser's"))}
	s.start(t, func(b cluster.Binaries, owner *cluster.Owner, data string) error {
		return errors.Join(cluster.Init(context.Background(), b, data, s.super), copyFile(owner, cert.cert, filepath.Join(data, "test.crt")),
			copyFile(owner, cert.key, filepath.Join(data, "test.key")))
	})
	return s
}

// standby makes a copy of the cluster that stays in recovery. The cluster is stopped for it.
func (s *server) standby(t *testing.T) *server {
	t.Helper()
	if err := s.Stop(context.Background()); err != nil {
		t.Fatal(err)
	}
	from := s.Data()
	copied := &server{super: s.super}
	copied.start(t, func(_ cluster.Binaries, owner *cluster.Owner, data string) error {
		err := filepath.WalkDir(from, func(path string, d os.DirEntry, err error) error {
			to := filepath.Join(data, strings.TrimPrefix(path, from))
			switch {
			case err != nil:
				return err
			case d.IsDir():
				return errors.Join(os.Mkdir(to, 0o700), owner.Own(to))
			}
			return copyFile(owner, path, to)
		})
		signal := filepath.Join(data, "standby.signal")
		return errors.Join(err, os.WriteFile(signal, nil, 0o600), owner.Own(signal))
	})
	var err error
	if s.Cluster, err = cluster.Start(context.Background(), s.config); err != nil {
		t.Fatal(err)
	}
	return copied
}

// start starts a server on the data directory that fill makes.
func (s *server) start(t *testing.T, fill func(b cluster.Binaries, owner *cluster.Owner, data string) error) {
	t.Helper()
	ctx := context.Background() // it ends after the test's own
	b, err := cluster.Find(ctx, cluster.Options{})
	if errors.Is(err, cluster.ErrNotFound) {
		b, err = cluster.Fetch(ctx, 15)
	}
	if err != nil {
		t.Fatal(err)
	}
	scratch, err := cluster.NewScratch(ctx, "pgveil-leg-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { scratch.Remove(ctx) })
	owner, err := cluster.FindOwner()
	if err != nil {
		t.Fatal(err)
	}
	if err := fill(b, owner, scratch.Data()); err != nil {
		t.Fatal(err)
	}
	s.config = cluster.Config{Binaries: b, Data: scratch.Data(), Log: filepath.Join(scratch.Dir, "log"), Settings: map[string]string{
		"fsync": "off", "ssl": "on", "ssl_cert_file": "test.crt", "ssl_key_file": "test.key", "shared_buffers": "16MB"}}
	if s.Cluster, err = cluster.Start(ctx, s.config); err != nil {
		t.Fatal(err)
	}
	s.config.Port = s.Port() // where it is to be found again
	t.Cleanup(func() { s.Stop(ctx) })
}

// copyFile copies a file and gives the copy to the server's account.
func copyFile(owner *cluster.Owner, from, to string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(to, text, 0o600), owner.Own(to))
}

func (s *server) dsn(database, sslmode string) string {
	return strings.Replace(s.DSN(cluster.Superuser, s.super, database), "sslmode=disable", "sslmode="+sslmode, 1)
}

// hba puts lines before the others of pg_hba.conf.
func (s *server) hba(t *testing.T, f *front, lines string) {
	t.Helper()
	path := filepath.Join(s.Data(), "pg_hba.conf")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append([]byte(lines+"\n"), text...), 0o600); err != nil {
		t.Fatal(err)
	}
	direct := f.direct()
	const loaded = "select pg_conf_load_time()::text"
	before, err := f.rows(direct, loaded)
	if err != nil {
		t.Fatal(err)
	}
	f.must(direct, "select pg_reload_conf()")
	for after := before; after[0] == before[0]; { // a backend reads it after the postmaster
		if after, err = f.rows(direct, loaded); err != nil {
			t.Fatal(err)
		}
	}
}

// backing makes the front-end serve before the hosts, with these parameters in its connection string.
func (f *front) backing(hosts string, params ...string) {
	f.t.Helper()
	var words []string
	ports := []string{}
	names := []string{}
	for _, h := range strings.Split(hosts, ",") {
		name, port, err := net.SplitHostPort(h)
		if err != nil {
			f.t.Fatal(err)
		}
		names, ports = append(names, name), append(ports, port)
	}
	words = append(words, "host="+strings.Join(names, ","), "port="+strings.Join(ports, ","))
	words = append(words, params...)
	config, err := pgconn.ParseConfig(strings.Join(words, " "))
	if err != nil {
		f.t.Fatal(err)
	}
	f.again(func(c *pgwire.Config) { c.Backing = config })
}

const tlsInUse = "select ssl, coalesce(version, '-') from pg_stat_ssl where pid = pg_backend_pid()"

// TestTheBackingLeg is a front-end before servers with TLS, a primary and its standby.
func TestTheBackingLeg(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	primary := newServer(t, ca.server("rsa"))
	f := newFront(t, databaseOf(t, primary.dsn("postgres", "disable"), "leg"))
	at := fmt.Sprintf("127.0.0.1:%d", primary.Port())
	named := fmt.Sprintf("localhost:%d", primary.Port())
	yes, no := []string{"true|TLSv1.3"}, []string{"false|-"}

	t.Run("sslmode", func(t *testing.T) {
		for _, tc := range []struct {
			host string
			with []string
			want []string // nil: it cannot be reached
		}{
			{at, []string{"sslmode=disable"}, no}, {at, []string{"sslmode=allow"}, no}, {at, []string{"sslmode=prefer"}, yes}, {at, []string{"sslmode=require"}, yes},
			{named, []string{"sslmode=verify-full", "sslrootcert=" + ca.file()}, yes},
			{at, []string{"sslmode=verify-full", "sslrootcert=" + ca.file()}, yes}, // by its IP address
			{at, []string{"sslmode=verify-ca", "sslrootcert=" + ca.file()}, yes},
			{at, []string{"sslmode=verify-ca", "sslrootcert=" + newAuthority(t).file()}, nil},
			{at, []string{"sslmode=require", "sslrootcert=" + newAuthority(t).file()}, nil}, // as verify-ca
			{at, []string{"sslmode=verify-full", "sslrootcert=" + newAuthority(t).file()}, nil},
		} {
			f.backing(tc.host, tc.with...)
			if tc.want == nil {
				denied(t, f.url("app"), "08006")
				continue
			}
			f.want(f.as("app"), tc.want, tlsInUse)
		}
	})
	t.Run("a server without TLS", func(t *testing.T) {
		relay := plainOnly(t, at)
		for mode, ok := range map[string]bool{"prefer": true, "allow": true, "require": false, "verify-ca": false, "verify-full": false} {
			params := []string{"sslmode=" + mode}
			if strings.HasPrefix(mode, "verify") {
				params = append(params, "sslrootcert="+ca.file())
			}
			f.backing(relay, params...)
			if !ok {
				denied(t, f.url("app"), "08006")
				continue
			}
			f.want(f.as("app"), no, tlsInUse)
		}
	})
	t.Run("direct TLS and SNI", func(t *testing.T) {
		for _, protocols := range [][]string{{"postgresql"}, nil} {
			relay, name := terminated(t, ca.server("rsa"), protocols, at)
			f.backing(strings.Replace(relay, "127.0.0.1", "localhost", 1), "sslmode=verify-full", "sslrootcert="+ca.file(), "sslnegotiation=direct")
			if protocols == nil {
				denied(t, f.url("app"), "08006")
				continue
			}
			f.want(f.as("app"), no, tlsInUse) // TLS ends before the server here
			if got, _ := name.Load().(string); got != "localhost" {
				t.Errorf("the server's name was sent as %q", got)
			}
		}
	})
	t.Run("pg_hba.conf has lines for TLS alone", func(t *testing.T) {
		primary.hba(t, f, "hostnossl all "+f.role("support")+" all reject")
		for mode, ok := range map[string]bool{"disable": false, "allow": true, "prefer": true} {
			f.backing(at, "sslmode="+mode)
			if !ok {
				denied(t, f.url("support"), "28000")
				continue
			}
			f.want(f.as("support"), yes, tlsInUse)
		}
	})
	t.Run("channel binding", func(t *testing.T) {
		for _, tc := range []struct {
			with []string
			ok   bool
		}{{[]string{"sslmode=require", "channel_binding=require"}, true}, {[]string{"sslmode=disable", "channel_binding=require"}, false},
			{[]string{"sslmode=require", "channel_binding=disable"}, true}, {[]string{"sslmode=disable", "require_auth=scram-sha-256"}, true}} {
			f.backing(at, tc.with...)
			if tc.ok {
				f.want(f.as("app"), []string{"1"}, "select 1")
			} else {
				denied(t, f.url("app"), "28000")
			}
		}
		// The server lets everybody in.
		primary.hba(t, f, "host all "+f.role("analyst")+" all trust")
		f.backing(at, "sslmode=require")
		f.want(f.as("analyst"), []string{"1"}, "select 1")
		for _, demand := range []string{"channel_binding=require", "require_auth=scram-sha-256", "require_auth=!none"} {
			f.backing(at, "sslmode=require", demand)
			denied(t, f.url("analyst"), "28000")
		}
	})
	t.Run("a unix socket", func(t *testing.T) {
		config, err := pgconn.ParseConfig(primary.LocalDSN("leg") + "&sslmode=require")
		if err != nil {
			t.Fatal(err)
		}
		f.again(func(c *pgwire.Config) { c.Backing = config })
		f.want(f.as("app"), []string{"true"}, "select inet_client_addr() is null")
	})
	t.Run("several hosts", func(t *testing.T) { severalHosts(t, f, primary, primary.standby(t)) })
}

func severalHosts(t *testing.T, f *front, primary, standby *server) {
	one, two := fmt.Sprintf("127.0.0.1:%d", primary.Port()), fmt.Sprintf("127.0.0.1:%d", standby.Port())
	closed := unused(t)
	var asked atomic.Int32
	starting := listen(t, func(conn net.Conn) {
		asked.Add(1)
		readPacket(conn)
		conn.Write(message('E', "SFATAL\x00VFATAL\x00C57P03\x00Mthe database system is starting up\x00\x00"))
	})
	recovery := func(want string) {
		t.Helper()
		f.want(f.as("app"), []string{want}, "select pg_is_in_recovery()")
	}
	for _, tc := range []struct {
		hosts, attrs string
		want         string // pg_is_in_recovery; "" for none that suits
	}{
		{closed + "," + one, "any", "false"}, {starting + "," + two, "any", "true"},
		{two + "," + one, "primary", "false"}, {two + "," + one, "read-write", "false"}, {one + "," + two, "standby", "true"}, {one + "," + two, "read-only", "true"},
		{one + "," + two, "prefer-standby", "true"}, {closed + "," + one, "prefer-standby", "false"},
		{two, "primary", ""}, {two, "read-write", ""}, {one, "standby", ""}, {one, "read-only", ""},
	} {
		f.backing(tc.hosts, "sslmode=prefer", "target_session_attrs="+tc.attrs)
		if tc.want == "" {
			if pe := denied(t, f.url("app"), "08006"); !strings.Contains(pe.Hint, "target_session_attrs") {
				t.Errorf("%s: %q", tc.attrs, pe.Message)
			}
			continue
		}
		recovery(tc.want)
	}
	// Nothing but a server that is starting: the client is told so, by it.
	f.backing(starting+","+closed, "sslmode=disable")
	if pe := denied(t, f.url("app"), "57P03"); pe.Message != "the database system is starting up" {
		t.Errorf("got %q", pe.Message)
	}
	// It is not asked again at once, where there is another.
	f.backing(starting+","+one, "sslmode=disable")
	before := asked.Load()
	for range 5 {
		recovery("false")
	}
	if n := asked.Load() - before; n != 1 {
		t.Errorf("the server that is starting was asked %d times", n)
	}
	// A CancelRequest finds the session wherever it is.
	f.backing(two+","+closed+","+one, "sslmode=prefer", "target_session_attrs=primary")
	cancelled(t, f.as("app"))
	f.backing(one+","+two, "sslmode=prefer", "load_balance_hosts=random")
	seen := map[string]bool{}
	for i := 0; len(seen) < 2 && i < 100; i++ {
		got, err := f.rows(f.as("app"), "select pg_is_in_recovery()")
		if err != nil {
			t.Fatal(err)
		}
		seen[got[0]] = true
	}
	if len(seen) != 2 {
		t.Error("load_balance_hosts=random always takes the same host")
	}
}

// listen serves each connection by f, until the test ends, and gives the address.
func listen(t *testing.T, f func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() { // ends with the listener
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				conn.SetDeadline(time.Now().Add(time.Minute))
				f(conn)
			}()
		}
	}()
	return l.Addr().String()
}

// unused is an address where nothing listens.
func unused(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// readPacket reads a packet without a type byte.
func readPacket(conn net.Conn) []byte {
	head := make([]byte, 4)
	if n, _ := conn.Read(head); n != 4 {
		return nil
	}
	body := make([]byte, binary.BigEndian.Uint32(head)-4)
	for n := 0; n < len(body); {
		m, err := conn.Read(body[n:])
		if err != nil {
			return nil
		}
		n += m
	}
	return body
}

// plainOnly is the server at addr as if it were built without TLS.
func plainOnly(t *testing.T, addr string) string {
	t.Helper()
	return listen(t, func(conn net.Conn) {
		first := readPacket(conn)
		if len(first) == 4 { // SSLRequest
			conn.Write([]byte("N"))
			first = readPacket(conn)
		}
		if first != nil {
			connectTo(addr, conn, append(binary.BigEndian.AppendUint32(nil, uint32(len(first)+4)), first...))
		}
	})
}

// terminated is the server at addr behind something that takes direct TLS off, and the name that it was last called by.
func terminated(t *testing.T, cert certified, protocols []string, addr string) (string, *atomic.Value) {
	t.Helper()
	var name atomic.Value
	return listen(t, func(conn net.Conn) {
		c := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{cert.Certificate}, NextProtos: protocols})
		if c.Handshake() == nil {
			name.Store(c.ConnectionState().ServerName)
			connectTo(addr, c, nil)
		}
	}), &name
}

// connectTo sends what conn says to addr, after first, and the other way round.
func connectTo(addr string, conn net.Conn, first []byte) {
	up, err := net.Dial("tcp", addr)
	if err != nil {
		return
	}
	defer up.Close()
	up.Write(first)
	done := make(chan struct{}, 2)
	for _, ends := range [][2]net.Conn{{up, conn}, {conn, up}} {
		go func() { // ends when either connection does
			io.Copy(ends[0], ends[1])
			done <- struct{}{}
		}()
	}
	<-done
}

// TestAServerWithoutCancelKeys: BackendKeyData may be left out.
func TestAServerWithoutCancelKeys(t *testing.T) {
	t.Parallel()
	f := newFront(t, pgtest.Database(t))
	snap, err := f.store.Current()
	if err != nil {
		t.Fatal(err)
	}
	text, _ := snap.Verifier(f.role("app"))
	v, err := scram.ParseVerifier(text)
	if err != nil {
		t.Fatal(err)
	}
	var options atomic.Value
	addr := listen(t, func(conn net.Conn) {
		options.Store(string(readPacket(conn)))
		exchange := scram.NewServer(v, nil)
		conn.Write(message('R', "\x00\x00\x00\x0aSCRAM-SHA-256\x00\x00"))
		first, err := exchange.First(scram.Mechanism, readMessage(t, conn)[5+len(scram.Mechanism)+1+4:])
		if err != nil {
			t.Error(err)
			return
		}
		conn.Write(message('R', "\x00\x00\x00\x0b"+string(first)))
		final, _, err := exchange.Final(readMessage(t, conn)[5:])
		if err != nil {
			t.Error(err)
			return
		}
		conn.Write(message('R', "\x00\x00\x00\x0c"+string(final)))
		conn.Write(message('R', "\x00\x00\x00\x00"))
		conn.Write(append(message('S', "client_encoding\x00UTF8\x00"), message('Z', "I")...))
		conn.Read(make([]byte, 1)) // until it is hung up
	})
	f.backing(addr, "sslmode=disable", "options='endpoint=ep-cool-name-123'")
	conn := f.connect(f.with("app", "sslmode", "disable", "options", "-c geqo=off"))
	if pid, key := conn.PgConn().PID(), conn.PgConn().SecretKey(); pid != 0 || len(key) != 0 {
		t.Errorf("process ID %d and a key of %d bytes came from nowhere", pid, len(key))
	}
	if got, _ := options.Load().(string); !strings.Contains(got, "\x00options\x00endpoint=ep-cool-name-123 -c geqo=off\x00") {
		t.Errorf("start-up packet %q", got)
	}
}

// TestAServerThatSkipsTheProofIsNotBelieved: it asks for one, and lets in without showing that it holds the verifier.
func TestAServerThatSkipsTheProofIsNotBelieved(t *testing.T) {
	t.Parallel()
	f := newFront(t, pgtest.Database(t))
	addr := listen(t, func(conn net.Conn) {
		readPacket(conn)
		conn.Write(message('R', "\x00\x00\x00\x0aSCRAM-SHA-256\x00\x00"))
		readMessage(t, conn)
		conn.Write(message('R', "\x00\x00\x00\x00"))
		conn.Write(message('Z', "I"))
		conn.Read(make([]byte, 1))
	})
	f.backing(addr, "sslmode=disable")
	denied(t, f.url("app"), "28000")
	silent := listen(t, func(conn net.Conn) {
		readPacket(conn)
		conn.Write(message('R', "\x00\x00\x00\x0aSCRAM-SHA-256\x00\x00"))
		readMessage(t, conn)
		conn.Write(message('Z', "I"))
		conn.Read(make([]byte, 1))
	})
	f.backing(silent, "sslmode=disable", "require_auth=scram-sha-256")
	denied(t, f.url("app"), "08P01")
	u, err := url.Parse(f.dsn)
	if err != nil {
		t.Fatal(err)
	}
	// One that offers channel binding where there is no TLS is somebody between.
	between := listen(t, func(conn net.Conn) {
		readPacket(conn)
		conn.Write(message('R', "\x00\x00\x00\x0aSCRAM-SHA-256-PLUS\x00SCRAM-SHA-256\x00\x00"))
		conn.Read(make([]byte, 1))
	})
	f.backing(between, "sslmode=disable")
	denied(t, f.url("app"), "28000")
	f.backing(u.Host, "sslmode=prefer")
	f.want(f.as("app"), []string{"1"}, "select 1")
}
