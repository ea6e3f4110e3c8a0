package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"golang.org/x/sync/errgroup"

	"pgveil/internal/scram"
)

// How many connections are held, and how many of them work. Where a process may not have two descriptors for each, there are fewer.
const (
	idleConnections   = 10_000
	activeConnections = 2_000
)

// A front-end that is measured returns what it can to the system when it gets SIGUSR1, and says so on its standard output.
func init() {
	if os.Getenv(asCommand) == "" || os.Getenv("PGVEIL_BENCH") == "" {
		return
	}
	collect := make(chan os.Signal, 1)
	signal.Notify(collect, syscall.SIGUSR1)
	go func() { // ends with the process
		for range collect {
			debug.FreeOSMemory()
			fmt.Println("collected")
		}
	}()
}

// idle measures the front-end's memory for each connection, without and with TLS, before a scripted backing server.
func (b *wireBench) idle() {
	verifier, err := scram.ParseVerifier(b.verifier)
	if err != nil {
		b.t.Fatal(err)
	}
	s := &scriptedServer{verifier: verifier, role: benchRole, behind: fmt.Sprintf("127.0.0.1:%d", b.ports[direct])}
	backing := s.listen(b.t)
	cert, key := filepath.Join(b.scratch, "server.crt"), filepath.Join(b.scratch, "server.key")
	if _, err := devTLS(cert, key); err != nil {
		b.t.Fatal(err)
	}
	b.hold("idle connection", b.startFront("idle.log", backing), "disable")
	s.sessions.Wait() // their descriptors are needed
	b.hold("idle connection, TLS", b.startFront("idle_tls.log", backing, "--tls-cert", cert, "--tls-key", key), "require")
}

// hold opens the connections, has some of them work, and notes by how much the process has grown. Then it stops the process.
func (b *wireBench) hold(name string, p *process, sslmode string) {
	b.t.Helper()
	defer p.stop()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		b.t.Fatal(err)
	}
	count := min(idleConnections, (int(limit.Max)-200)/2)
	b.held = count
	b.step("%s: opening %d", name, count)
	config, err := pgconn.ParseConfig(strings.Replace(b.dsn(front), "sslmode=disable", "sslmode="+sslmode, 1))
	if err != nil {
		b.t.Fatal(err)
	}
	config.Port = uint16(p.port)
	first := b.open(config, 1)
	defer closeAll(first)
	b.work(first) // the process reads its catalog before it is looked at
	b.collect(p)
	before := b.memory(p, "VmRSS")
	began := time.Now()
	conns := b.open(config, count)
	defer closeAll(conns)
	b.step("%s: %d opened in %v", name, count, time.Since(began).Round(time.Millisecond))
	for range 3 {
		b.work(conns[:min(count, activeConnections)])
	}
	grown := func() float64 { return float64(b.memory(p, "VmRSS")-before) / float64(count) }
	b.note(name, "KiB", front, grown())
	b.collect(p)
	b.note(name+", after a collection", "KiB", front, grown())
	b.work(conns) // all are alive
}

// collect has a front-end collect its garbage.
func (b *wireBench) collect(p *process) {
	b.t.Helper()
	p.cmd.Process.Signal(syscall.SIGUSR1)
	if line, err := p.out.ReadString('\n'); line != "collected\n" {
		b.t.Fatalf("pgveil says %q, %v", line, err)
	}
}

// idleWorkers open connections and work on them at a time.
const idleWorkers = 8

// open opens connections.
func (b *wireBench) open(config *pgconn.Config, count int) []*pgconn.PgConn {
	b.t.Helper()
	conns := make([]*pgconn.PgConn, count)
	b.each(count, func(i int) (err error) {
		conns[i], err = pgconn.ConnectConfig(b.t.Context(), config)
		return err
	})
	return conns
}

func closeAll(conns []*pgconn.PgConn) {
	for _, conn := range conns {
		conn.Conn().Close()
	}
}

// work runs a statement on each.
func (b *wireBench) work(conns []*pgconn.PgConn) {
	b.t.Helper()
	b.each(len(conns), func(i int) error {
		results, err := conns[i].Exec(b.t.Context(), "select 1").ReadAll()
		if err == nil && (len(results) != 1 || len(results[0].Rows) != 1 || string(results[0].Rows[0][0]) != "1") {
			err = errors.New("select 1 gives something else")
		}
		return err
	})
}

// each calls f for all numbers below count, a few at a time.
func (b *wireBench) each(count int, f func(i int) error) {
	b.t.Helper()
	var g errgroup.Group
	for worker := range idleWorkers {
		g.Go(func() error {
			for i := worker; i < count; i += idleWorkers {
				if err := f(i); err != nil {
					return fmt.Errorf("connection %d of %d: %w", i, count, err)
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		b.t.Fatal(err)
	}
}

// memory is a line of the process's status, in KiB.
func (b *wireBench) memory(p *process, line string) (kib int) {
	b.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		b.t.Fatal(err)
	}
	_, rest, _ := bytes.Cut(text, []byte("\n"+line+":"))
	if _, err := fmt.Sscan(string(rest), &kib); err != nil {
		b.t.Fatal(err)
	}
	return kib
}

// A scriptedServer lets one role in and answers each of its queries by one row with 1 in it. Connections of others, which are the front-end's
// own, go to a real server.
type scriptedServer struct {
	role     string
	verifier scram.Verifier
	behind   string // address of the real server

	sessions sync.WaitGroup
}

// listen accepts connections until the test ends, and gives the DSN.
func (s *scriptedServer) listen(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() { // ends by l.Close
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.sessions.Go(func() { s.serve(conn) }) // ends with the connection
		}
	}()
	return "postgres://" + l.Addr().String() + "/?sslmode=disable"
}

func (s *scriptedServer) serve(conn net.Conn) {
	defer conn.Close()
	var seen bytes.Buffer
	server := pgproto3.NewBackend(io.TeeReader(conn, &seen), conn)
	message, err := server.ReceiveStartupMessage()
	start, ok := message.(*pgproto3.StartupMessage)
	if err != nil || !ok {
		return
	}
	if start.Parameters["user"] != s.role {
		s.forward(conn, seen.Bytes())
		return
	}
	server = pgproto3.NewBackend(conn, conn) // nothing comes before the server has answered
	if s.login(server) != nil {
		return
	}
	for {
		message, err := server.Receive()
		if err != nil {
			return
		}
		switch message.(type) {
		case *pgproto3.Query:
			server.Send(&pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{{Name: []byte("?column?"), DataTypeOID: 23, DataTypeSize: 4, TypeModifier: -1}}})
			server.Send(&pgproto3.DataRow{Values: [][]byte{[]byte("1")}})
			server.Send(&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")})
			server.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
		default: // Terminate, or what the script does not know
			return
		}
		if server.Flush() != nil {
			return
		}
	}
}

// forward sends what was read to the real server, and then relays.
func (s *scriptedServer) forward(conn net.Conn, read []byte) {
	real, err := net.Dial("tcp", s.behind)
	if err != nil {
		return
	}
	defer real.Close()
	if _, err := real.Write(read); err != nil {
		return
	}
	go func() { // ends with either connection
		io.Copy(real, conn)
		real.Close()
	}()
	io.Copy(conn, real)
}

func (s *scriptedServer) login(server *pgproto3.Backend) error {
	exchange := scram.NewServer(s.verifier, nil)
	server.Send(&pgproto3.AuthenticationSASL{AuthMechanisms: []string{scram.Mechanism}})
	server.SetAuthType(pgproto3.AuthTypeSASL)
	message, err := flushReceive(server)
	if err != nil {
		return err
	}
	initial, ok := message.(*pgproto3.SASLInitialResponse)
	if !ok {
		return errors.New("no SASLInitialResponse")
	}
	reply, err := exchange.First(initial.AuthMechanism, initial.Data)
	if err != nil {
		return err
	}
	server.Send(&pgproto3.AuthenticationSASLContinue{Data: reply})
	server.SetAuthType(pgproto3.AuthTypeSASLContinue)
	if message, err = flushReceive(server); err != nil {
		return err
	}
	response, ok := message.(*pgproto3.SASLResponse)
	if !ok {
		return errors.New("no SASLResponse")
	}
	if reply, _, err = exchange.Final(response.Data); err != nil {
		return err
	}
	server.Send(&pgproto3.AuthenticationSASLFinal{Data: reply})
	server.Send(&pgproto3.AuthenticationOk{})
	for name, value := range map[string]string{"server_version": "15.0", "server_encoding": "UTF8", "client_encoding": "UTF8",
		"standard_conforming_strings": "on", "integer_datetimes": "on", "TimeZone": "UTC", "DateStyle": "ISO, MDY", "is_superuser": "off"} {
		server.Send(&pgproto3.ParameterStatus{Name: name, Value: value})
	}
	server.Send(&pgproto3.BackendKeyData{ProcessID: 1, SecretKey: []byte{0, 0, 0, 1}})
	server.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	return server.Flush()
}

func flushReceive(server *pgproto3.Backend) (pgproto3.FrontendMessage, error) {
	if err := server.Flush(); err != nil {
		return nil, err
	}
	return server.Receive()
}
