package pgwire

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"log/slog"
	"math/big"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"pgveil/catalog"
	"pgveil/internal/netloop"
)

// nothingProtected is a control plane without a protected column.
type nothingProtected struct{ snap catalog.Snapshot }

func (n *nothingProtected) Current() (*catalog.Snapshot, error) { return &n.snap, nil }

// machine is a front-end whose sessions are made by the test, authenticated and logged in, between any two connections.
type machine struct {
	t   testing.TB
	srv *Server
	log *lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// newMachine gives one with n loops, or with goroutines alone where n is below 0. It must have no session left at the end of the test.
func newMachine(t testing.TB, n int) *machine {
	t.Helper()
	m := &machine{t: t, log: &lockedBuffer{}}
	var err error
	m.srv, err = New(Config{Backing: &pgconn.Config{}, Catalog: &nothingProtected{}, Loops: n, Logger: slog.New(slog.NewTextHandler(m.log, &slog.HandlerOptions{Level: slog.LevelError})),
		Service: func(context.Context, string) (*pgx.Conn, error) { return nil, errors.New("no database") },
		Audit:   func(context.Context, AuditRecord) error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		m.settle()
		m.srv.drain()
		if text := m.log.String(); strings.Contains(text, "panicked") {
			t.Error(text)
		}
	})
	return m
}

// settle waits until no session is left.
func (m *machine) settle() {
	m.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); m.sessions() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<20)
			m.t.Errorf("%d sessions do not end\n%s", m.sessions(), stacks[:runtime.Stack(stacks, true)])
			m.srv.each((*session).close)
			return
		}
	}
}

func (m *machine) sessions() int {
	m.srv.mu.Lock()
	defer m.srv.mu.Unlock()
	return len(m.srv.sessions)
}

// start makes a session between the two connections, and starts it.
func (m *machine) start(client, server net.Conn) *session {
	x := m.make(client, server)
	x.start()
	return x
}

func (m *machine) make(client, server net.Conn) *session {
	ctx, cancel := context.WithCancel(context.Background())
	x := &session{srv: m.srv, ctx: ctx, cancel: cancel, client: newWire(client), server: newWire(server), db: m.srv.database("test"), addr: "test",
		began: time.Now(), fifo: newFIFO(), portals: map[string]*portal{}, params: map[string]string{"client_encoding": "UTF8", "server_encoding": "UTF8"}}
	x.statements.init()
	x.reads.init(x)
	x.fifo.stuck = x.close
	x.status.Store('I')
	x.checkEncoding()
	x.since = time.Now()
	m.srv.wg.Add(1)
	return x
}

// socketPair is a connection between two ends of this process, whose near end a loop can serve.
func socketPair(t testing.TB) (near *netloop.Socket, far *net.UnixConn) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		ends[i], err = net.FileConn(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
	}
	return netloop.NewSocket(ends[0]), ends[1].(*net.UnixConn)
}

// pieces writes in pieces of random sizes: messages, their headers and TLS records are torn anywhere.
type pieces struct {
	*net.UnixConn
	r *rand.Rand
}

func (p pieces) Write(b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		size := 1 + p.r.IntN(1+p.r.IntN(40_000))
		if p.r.IntN(8) == 0 {
			size = 1 + p.r.IntN(12)
		}
		var m int
		m, err = p.UnixConn.Write(b[n:min(n+size, len(b))])
		n += m
		if p.r.IntN(4) == 0 {
			runtime.Gosched()
		}
	}
	return n, err
}

var testTLS = sync.OnceValue(func() *tls.Config {
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		panic(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(crand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, InsecureSkipVerify: true}
})

// encrypt puts TLS over both ends of a connection.
func encrypt(t testing.TB, near, far net.Conn, nearServes bool) (net.Conn, net.Conn) {
	t.Helper()
	a, b := tls.Server(near, testTLS()), tls.Client(far, testTLS())
	if !nearServes {
		a, b = tls.Client(near, testTLS()), tls.Server(far, testTLS())
	}
	done := make(chan error, 1)
	go func() { done <- b.Handshake() }()
	if err := errors.Join(a.Handshake(), <-done); err != nil {
		t.Fatal(err)
	}
	return a, b
}

// choices decides what is said: by the bytes of a script, or at random until so many were made.
type choices struct {
	script []byte
	r      *rand.Rand
	left   int
}

func (c *choices) n(k int) int {
	if c.r != nil {
		c.left--
		return c.r.IntN(k)
	}
	if len(c.script) == 0 {
		return 0
	}
	v := int(c.script[0])
	c.script = c.script[1:]
	return v % k
}

func (c *choices) over() bool { return c.r == nil && len(c.script) == 0 || c.r != nil && c.left <= 0 }

// phrases are the statements that the scripted server knows; their first word says what it does.
var phrases = []string{"rows 1", "rows 3", "rows 40", "empty", "error", "set x to y", "create t", "copyin", "copyfail", "copyout 5", "rows 0"}

func (c *choices) phrase(copying bool) string {
	p := phrases[c.n(len(phrases))]
	if strings.HasPrefix(p, "copy") != copying && !strings.HasPrefix(p, "copyout") {
		if p = "rows 2"; copying {
			p = "copyin"
		}
	}
	switch c.n(64) {
	case 0:
		return p + strings.Repeat(" ", 70_000) // does not fit a buffer
	case 1:
		return p + strings.Repeat(" ", 20_000)
	}
	return p
}

func (c *choices) name() string { return []string{"", "", "a", "b"}[c.n(4)] }

func frame(out []byte, kind byte, body ...string) []byte {
	n := 4
	for _, b := range body {
		n += len(b)
	}
	out = binary.BigEndian.AppendUint32(append(out, kind), uint32(n))
	for _, b := range body {
		out = append(out, b...)
	}
	return out
}

// copyData is what a client sends for a COPY, which it ends well or not.
func (c *choices) copyData(out []byte) []byte {
	for range c.n(5) {
		out = frame(out, 'd', strings.Repeat("v", []int{0, 1, 7, 100, 9000, 66_000}[c.n(6)]))
	}
	if c.n(4) == 0 {
		return frame(out, 'f', "no\x00")
	}
	return frame(out, 'c')
}

// say appends some messages of a client that knows the protocol.
func (c *choices) say(out []byte) []byte {
	switch c.n(10) {
	case 0, 1, 2:
		return frame(out, 'Q', c.phrase(false), "\x00")
	case 3:
		return c.copyData(frame(out, 'Q', c.phrase(true), "\x00"))
	case 4:
		out = frame(out, 'C', "Scopy\x00") // a name of its own, so that nothing else runs it
		out = frame(out, 'P', "copy\x00", c.phrase(true), "\x00\x00\x00")
		out = frame(out, 'B', "\x00copy\x00", "\x00\x00\x00\x00\x00\x00")
		out = frame(out, 'E', "\x00\x00\x00\x00\x00")
		if c.n(2) == 0 {
			out = frame(out, 'S') // as libpq does
		}
		return frame(c.copyData(out), 'S')
	case 5:
		return frame(out, 'F', "\x00\x00\x00\x01", "\x00\x00\x00\x00\x00\x00")
	case 6:
		return frame(out, 'H')
	}
	for range 1 + c.n(7) {
		switch c.n(7) {
		case 0, 1:
			out = frame(out, 'P', c.name(), "\x00", c.phrase(false), "\x00\x00\x00")
		case 2, 3:
			out = frame(out, 'B', c.name(), "\x00", c.name(), "\x00\x00\x00\x00\x01\x00\x00\x00\x02xy\x00\x00")
		case 4:
			out = frame(out, 'D', []string{"P", "S"}[c.n(2)], c.name(), "\x00")
		case 5:
			out = frame(out, 'E', c.name(), "\x00\x00\x00\x00\x02")
		case 6:
			out = frame(out, 'C', []string{"P", "S"}[c.n(2)], c.name(), "\x00")
		}
	}
	return frame(out, 'S')
}

var digestSeed = maphash.MakeSeed()

// digest sums up a stream of messages without those that the front-end may add: Flush, and Terminate at the end.
type digest struct {
	sum      maphash.Hash
	messages int
}

func (d *digest) add(kind byte, message []byte) {
	if kind != 'H' && kind != 'X' {
		d.messages++
		d.sum.Write(message)
	}
}

// scripted is a server that answers as PostgreSQL does.
type scripted struct {
	conn   net.Conn
	r      *rand.Rand
	in     *bufio.Reader
	out    []byte
	got    digest
	sent   digest
	body   []byte
	stmts  map[string]string
	ports  map[string]string
	skip   bool // until Sync
	copies byte // 'Q' or 'E' while the client sends COPY data
	text   string
}

func newScripted(conn net.Conn, seed uint64) *scripted {
	s := &scripted{conn: conn, r: rand.New(rand.NewPCG(seed, 2)), in: bufio.NewReaderSize(conn, 32<<10), stmts: map[string]string{}, ports: map[string]string{}}
	s.got.sum.SetSeed(digestSeed)
	s.sent.sum.SetSeed(digestSeed)
	return s
}

func (s *scripted) flush() error {
	_, err := s.conn.Write(s.out)
	s.sent.sum.Write(s.out)
	s.out = s.out[:0]
	return err
}

func (s *scripted) reply(kind byte, body ...string) {
	s.sent.messages++
	s.out = frame(s.out, kind, body...)
}

func (s *scripted) ready() error { s.reply('Z', "I"); return s.flush() }

// fail answers an error at once; outside of a simple query it skips what follows.
func (s *scripted) fail(extended bool) error {
	s.reply('E', "SERROR\x00VERROR\x00C22000\x00Mno\x00\x00")
	s.skip = s.skip || extended
	return s.flush()
}

const oneColumn = "\x00\x01v\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x19\xff\xff\xff\xff\xff\xff\x00\x00"

// run answers a statement. It says false where COPY data comes first.
func (s *scripted) run(kind byte, text string) bool {
	word, count, _ := strings.Cut(strings.TrimRight(text, " "), " ")
	n := 0
	fmt.Sscan(count, &n)
	if s.r.IntN(16) == 0 {
		s.reply('N', "SNOTICE\x00Mlook\x00\x00")
	}
	switch word {
	case "rows":
		if kind == 'Q' {
			s.reply('T', oneColumn)
		}
		for range n {
			s.reply('D', "\x00\x01\x00\x00\x00\x03abc")
			if s.r.IntN(200) == 0 {
				s.reply('D', "\x00\x01\x00\x01\x11\x70", strings.Repeat("z", 70_000))
			}
		}
		s.reply('C', "SELECT 1\x00")
	case "copyout":
		s.reply('H', "\x00\x00\x00")
		for range n {
			s.reply('d', strings.Repeat("o", s.r.IntN(3000)))
		}
		s.reply('c')
		s.reply('C', "COPY 5\x00")
	case "copyin", "copyfail":
		s.reply('G', "\x00\x00\x00")
		s.copies, s.text = kind, word
		return false
	case "empty":
		s.reply('I')
	case "error":
		s.fail(kind == 'E')
	case "set":
		s.reply('S', "application_name\x00x\x00")
		s.reply('C', "SET\x00")
	default:
		s.reply('C', "CREATE\x00")
	}
	return true
}

// serve answers until the client terminates.
func (s *scripted) serve() error {
	defer s.conn.Close()
	for {
		var head [headSize]byte
		if _, err := io.ReadFull(s.in, head[:]); err != nil {
			return fmt.Errorf("a header: %w", err)
		}
		n := int(binary.BigEndian.Uint32(head[1:])) - 4
		if n < 0 || n > 1<<24 {
			return fmt.Errorf("a message %q of %d bytes", head[0], n)
		}
		s.body = append(s.body[:0], head[:]...)
		s.body = append(s.body, make([]byte, n)...)
		if _, err := io.ReadFull(s.in, s.body[headSize:]); err != nil {
			return fmt.Errorf("a body: %w", err)
		}
		s.got.add(head[0], s.body)
		if head[0] == 'X' {
			return s.flush()
		}
		if err := s.answer(head[0], cursor{b: s.body[headSize:]}); err != nil {
			return err
		}
		if len(s.out) > 16<<10 {
			if err := s.flush(); err != nil {
				return err
			}
		}
	}
}

func (s *scripted) answer(kind byte, c cursor) error {
	if s.copies != 0 && kind != 'c' && kind != 'f' {
		return nil // CopyData, and Flush and Sync, which are ignored
	}
	if s.skip && kind != 'S' {
		return nil
	}
	switch kind {
	case 'Q':
		if !s.run('Q', string(c.string())) {
			return s.flush()
		}
		return s.ready()
	case 'F':
		s.reply('V', "\xff\xff\xff\xff")
		return s.ready()
	case 'S':
		s.skip = false
		clear(s.ports)
		return s.ready()
	case 'H':
		return s.flush()
	case 'c', 'f':
		simple := s.copies == 'Q'
		if s.copies == 0 {
			return nil
		}
		if s.copies = 0; kind == 'f' || s.text == "copyfail" {
			s.fail(!simple)
		} else {
			s.reply('C', "COPY 1\x00")
		}
		if simple {
			return s.ready()
		}
	case 'P':
		name, text := string(c.string()), string(c.string())
		if _, taken := s.stmts[name]; taken && name != "" || strings.HasPrefix(text, "error") {
			return s.fail(true)
		}
		s.stmts[name] = text
		s.reply('1')
	case 'B':
		portal, name := string(c.string()), string(c.string())
		text, ok := s.stmts[name]
		if !ok {
			return s.fail(true)
		}
		s.ports[portal] = text
		s.reply('2')
	case 'D':
		of := s.ports
		if c.byte() == 'S' {
			of = s.stmts
		}
		text, ok := of[string(c.string())]
		if !ok {
			return s.fail(true)
		}
		if s.body[headSize] == 'S' {
			s.reply('t', "\x00\x00")
		}
		if strings.HasPrefix(text, "rows") {
			s.reply('T', oneColumn)
		} else {
			s.reply('n')
		}
	case 'E':
		text, ok := s.ports[string(c.string())]
		if !ok {
			return s.fail(true)
		}
		if !s.run('E', text) {
			return s.flush()
		}
	case 'C':
		of := s.ports
		if c.byte() == 'S' {
			of = s.stmts
		}
		delete(of, string(c.string()))
		s.reply('3')
	}
	return nil
}

// manner is how a conversation is carried.
type manner struct {
	loops, tls, half bool // half: the client ends by closing its writing side
	seed             uint64
}

// converse carries one conversation through a session and compares the two ends. It gives the number of messages relayed.
func (m *machine) converse(how manner, c *choices) int {
	m.t.Helper()
	r := rand.New(rand.NewPCG(how.seed, 1))
	clientNear, clientFar := socketPair(m.t)
	serverNear, serverFar := socketPair(m.t)
	if r.IntN(4) == 0 {
		for _, f := range []*net.UnixConn{clientFar, serverFar} {
			f.SetWriteBuffer(4096)
			f.SetReadBuffer(4096)
		}
	}
	deadline := time.Now().Add(time.Minute)
	clientFar.SetDeadline(deadline)
	serverFar.SetDeadline(deadline)
	var near, back net.Conn = clientNear, serverNear
	var client, server net.Conn = pieces{clientFar, rand.New(rand.NewPCG(how.seed, 3))}, pieces{serverFar, rand.New(rand.NewPCG(how.seed, 4))}
	if how.tls {
		near, client = encrypt(m.t, near, client, true)
		back, server = encrypt(m.t, back, server, false)
	}
	m.start(near, back)
	s := newScripted(server, how.seed)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.serve(); err != nil {
			m.t.Errorf("%+v: the server got %v", how, err)
		}
	})
	var sent, got digest
	sent.sum.SetSeed(digestSeed)
	got.sum.SetSeed(digestSeed)
	wg.Go(func() {
		buf := make([]byte, 32<<10)
		slow := rand.New(rand.NewPCG(how.seed, 5))
		for {
			n, err := client.Read(buf[:1+slow.IntN(len(buf))])
			got.sum.Write(buf[:n])
			if err != nil {
				if err != io.EOF {
					m.t.Errorf("%+v: the client got %v", how, err)
				}
				return
			}
			if slow.IntN(500) == 0 {
				time.Sleep(time.Duration(slow.IntN(300)) * time.Microsecond)
			}
		}
	})
	var out []byte
	for !c.over() {
		out = c.say(out)
		if len(out) < r.IntN(60_000) && !c.over() {
			continue
		}
		if err := m.send(client, &sent, out); err != nil {
			m.t.Errorf("%+v: the client wrote: %v", how, err)
			break
		}
		out = out[:0]
	}
	if !how.half {
		out = frame(out, 'X')
	}
	m.send(client, &sent, out)
	if how.half {
		if err := client.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			m.t.Errorf("%+v: %v", how, err)
		}
	}
	wg.Wait()
	client.Close()
	if sent.sum.Sum64() != s.got.sum.Sum64() || sent.messages != s.got.messages {
		m.t.Errorf("%+v: the client sent %d messages and the server got %d, or others", how, sent.messages, s.got.messages)
	}
	if s.sent.sum.Sum64() != got.sum.Sum64() {
		m.t.Errorf("%+v: the client did not get what the server sent", how)
	}
	return s.got.messages + s.sent.messages
}

// send writes whole messages and notes them.
func (m *machine) send(w io.Writer, d *digest, out []byte) error {
	for rest := out; len(rest) > 0; {
		n := 1 + int(binary.BigEndian.Uint32(rest[1:]))
		d.add(rest[0], rest[:n])
		rest = rest[n:]
	}
	_, err := w.Write(out)
	return err
}

// machines are one with loops and one without.
func machines(t testing.TB) map[bool]*machine {
	return map[bool]*machine{true: newMachine(t, 2), false: newMachine(t, -1)}
}

// FuzzConversation: what either side says reaches the other unchanged, however it is torn, with and without loops and TLS.
func FuzzConversation(f *testing.F) {
	f.Add([]byte{0, 0, 9, 3, 7, 2, 5, 1, 9, 8, 7, 4, 7, 1, 2, 3, 0, 1, 2, 3, 9, 6, 5, 4}, uint8(1), uint64(1))
	f.Add([]byte("a conversation of any bytes, which choose what the client says; each is one choice"), uint8(7), uint64(2))
	f.Add([]byte{4, 7, 5, 1, 5, 5, 5, 5, 0, 3, 8, 1, 2, 5, 1}, uint8(2), uint64(3))
	all := machines(f)
	f.Fuzz(func(t *testing.T, script []byte, how uint8, seed uint64) {
		m := *all[how&1 != 0]
		m.t = t
		m.converse(manner{loops: how&1 != 0, tls: how&2 != 0, half: how&4 != 0, seed: seed}, &choices{script: script})
	})
}

// TestMessageSoak relays 200,000 messages of random conversations, several at a time; 50 million with PGVEIL_LONG.
func TestMessageSoak(t *testing.T) {
	t.Parallel()
	goal := int64(200_000)
	if os.Getenv("PGVEIL_LONG") != "" {
		goal = 50_000_000
	}
	all := machines(t)
	began := time.Now()
	var relayed, sessions, seeds atomic.Int64
	first := rand.Uint64() >> 16
	t.Logf("first seed %d", first)
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			for relayed.Load() < goal && !t.Failed() {
				seed := first + uint64(seeds.Add(1))
				r := rand.New(rand.NewPCG(seed, 0))
				how := manner{loops: r.IntN(3) > 0, tls: r.IntN(4) == 0, half: r.IntN(4) == 0, seed: seed}
				relayed.Add(int64(all[how.loops].converse(how, &choices{r: r, left: 1 + r.IntN(1+r.IntN(20_000))})))
				sessions.Add(1)
			}
		})
	}
	wg.Wait()
	for _, m := range all {
		m.settle()
	}
	t.Logf("%d messages in %d sessions, %v", relayed.Load(), sessions.Load(), time.Since(began).Round(time.Millisecond))
}

// tear is a connection's bytes as a fuzzer chose them: whole messages with damage in them.
func tear(r *rand.Rand, good []byte) []byte {
	b := bytes.Clone(good)
	for range r.IntN(6) {
		if len(b) == 0 {
			break
		}
		at := r.IntN(len(b))
		switch r.IntN(4) {
		case 0:
			b[at] = byte(r.Uint32())
		case 1:
			b = append(b[:at], b[min(len(b), at+1+r.IntN(8)):]...)
		case 2:
			b = append(b[:at:at], append([]byte{0xff, 0xff, 0xff, 0xff}, b[at:]...)...)
		case 3:
			b = b[:at]
		}
	}
	return b
}

// FuzzNonsense: damaged messages from both sides end the session, if anything; the server gets whole messages of known kinds, and of anything else the
// header as the last thing.
func FuzzNonsense(f *testing.F) {
	f.Add([]byte{1, 2, 3}, []byte{0, 0, 9, 3, 7, 2, 5, 1, 9, 8, 7, 4}, uint8(1), uint64(1))
	f.Add([]byte("Q\x7f\xff\xff\xff"), []byte("S\x00\x00\x00\x00"), uint8(0), uint64(2))
	f.Add([]byte("E\x00\x00\x00\x03"), []byte("E\x00\x00\x00\x05S"), uint8(3), uint64(3))
	all := machines(f)
	f.Fuzz(func(t *testing.T, raw, script []byte, how uint8, seed uint64) {
		m := *all[how&1 != 0]
		m.t = t
		m.nonsense(raw, script, seed)
	})
}

func (m *machine) nonsense(raw, script []byte, seed uint64) {
	m.t.Helper()
	r := rand.New(rand.NewPCG(seed, 0))
	c := &choices{script: script}
	var good []byte
	for !c.over() {
		good = c.say(good)
	}
	var answers bytes.Buffer
	s := newScripted(nil, seed)
	for rest := good; len(rest) > 0; {
		n := 1 + int(binary.BigEndian.Uint32(rest[1:]))
		s.body = rest[:n]
		s.conn = discard{&answers}
		s.answer(rest[0], cursor{b: rest[headSize:n]})
		rest = rest[n:]
	}
	clientNear, clientFar := socketPair(m.t)
	serverNear, serverFar := socketPair(m.t)
	deadline := time.Now().Add(30 * time.Second)
	clientFar.SetDeadline(deadline)
	serverFar.SetDeadline(deadline)
	m.start(clientNear, serverNear)
	var wg sync.WaitGroup
	exchange := func(conn *net.UnixConn, say []byte) *bytes.Buffer {
		got := &bytes.Buffer{}
		wg.Go(func() {
			pieces{conn, rand.New(rand.NewPCG(seed, uint64(len(say))))}.Write(say)
			conn.CloseWrite()
		})
		wg.Go(func() {
			if _, err := io.Copy(got, conn); errors.Is(err, os.ErrDeadlineExceeded) {
				m.t.Error("a session does not end")
			}
			conn.Close()
		})
		return got
	}
	said, told := tear(r, good), tear(r, answers.Bytes())
	if r.IntN(4) == 0 {
		said = append(said, raw...)
	}
	if r.IntN(4) == 0 {
		told = append(told, raw...)
	}
	exchange(clientFar, said)
	atServer := exchange(serverFar, told)
	wg.Wait()
	for b := atServer.Bytes(); len(b) > 0; {
		if len(b) < headSize {
			break
		}
		n := 1 + uint64(binary.BigEndian.Uint32(b[1:]))
		if known := strings.IndexByte(clientMessages, b[0]) >= 0; !known || n < headSize || n > maxLength+1 {
			if len(b) > headSize {
				m.t.Fatalf("something followed what is no message: %q of %d bytes", b[0], n)
			}
			break // its header went to the server, which says so
		}
		if n > uint64(len(b)) {
			break // the client's connection ended in it
		}
		b = b[n:]
	}
}

// discard is a connection that keeps what is written.
type discard struct{ io.Writer }

func (discard) Read([]byte) (int, error)         { return 0, io.EOF }
func (discard) Close() error                     { return nil }
func (discard) LocalAddr() net.Addr              { return nil }
func (discard) RemoteAddr() net.Addr             { return nil }
func (discard) SetDeadline(time.Time) error      { return nil }
func (discard) SetReadDeadline(time.Time) error  { return nil }
func (discard) SetWriteDeadline(time.Time) error { return nil }
