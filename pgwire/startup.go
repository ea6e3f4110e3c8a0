package pgwire

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"pgveil/internal/netloop"
)

// Codes that stand in the place of the protocol version (the manual's "Message Formats").
const (
	codeCancel  = 80877102
	codeSSL     = 80877103
	codeGSSENC  = 80877104
	version30   = 3 << 16
	version32   = 3<<16 | 2 // PostgreSQL 18's; it differs from 3.0 in the length of cancel keys alone
	maxName     = 63        // NAMEDATALEN - 1
	maxStartup  = 10_000    // bytes behind the length, as PostgreSQL's MAX_STARTUP_PACKET_LENGTH
	earlyBuffer = 1 << 10   // bytes read ahead of a start-up packet
	maxKey      = 256       // bytes of a cancel key, from protocol 3.2 on; before, there are 4
	minKey      = 4
	tlsRecord   = 0x16 // the first byte of a ClientHello, and of no start-up packet: it would be 369 MB long
)

// startup is what a client's start-up packet asks for, and what is known of its connection.
type startup struct {
	params []string // name, value, …, as they came, without _pq_ options
	user   string
	db     string
	cancel []byte // a whole CancelRequest: then nothing else of the packet is set

	version uint32   // asked for, and after negotiate agreed
	newer   bool     // less was agreed than asked for: NegotiateProtocolVersion must be sent
	pq      []string // names of _pq_ options; we know none

	addr   string  // the client's
	tls    channel // zero without TLS
	method string  // of authentication, once it succeeded
	ticket *ticket
}

// early is a connection on which the first packets are read: some bytes may have been read ahead.
type early struct {
	net.Conn
	r *bufio.Reader
}

// Read gives what was read ahead, and after that reads the connection itself: of what comes later nothing is held back.
func (e *early) Read(p []byte) (int, error) {
	if e.r.Buffered() > 0 {
		return e.r.Read(p)
	}
	return e.Conn.Read(p)
}

// wire gives the connection for messages: the bare one, unless the client did not wait for an answer to its start-up packet.
func (e *early) wire() *wire {
	if e.r.Buffered() > 0 {
		return newWire(e)
	}
	return newWire(e.Conn)
}

func newEarly(conn net.Conn) *early { return &early{conn, bufio.NewReaderSize(conn, earlyBuffer)} }

// negotiate takes TLS in either form, answers GSSENCRequest and reads the start-up packet. The wire is the client's, in its TLS form if
// it has one, also where there is an error; it is nil after a handshake that failed.
func (s *Server) negotiate(conn net.Conn) (*wire, *startup, error) {
	st := &startup{}
	e, err := s.purpose(newEarly(conn), st)
	if t := (tlsError{}); errors.As(err, &t) {
		return nil, st, err
	}
	return e.wire(), st, err
}

// purpose reads packets up to the one that says what the client wants, into st.
func (s *Server) purpose(e *early, st *startup) (*early, error) {
	first, err := e.r.Peek(1)
	if err != nil {
		return e, err
	}
	if first[0] == tlsRecord {
		if e, err = s.directTLS(e, st); err != nil {
			return e, err
		}
	}
	for range 4 { // GSSENCRequest, SSLRequest, StartupMessage: no honest client needs more
		body, code, err := readStartup(e.r)
		if err != nil {
			return e, err
		}
		switch code {
		case codeSSL, codeGSSENC:
			if e, err = s.encryption(e, st, code); err != nil {
				return e, err
			}
		case codeCancel:
			if n := len(body) - 12; n < minKey || n > maxKey {
				return e, &failure{code: "08P01", message: "invalid length of query cancel packet"}
			}
			st.cancel = body
			return e, nil
		default:
			if err := st.parse(code, body[8:]); err != nil {
				return e, err
			}
			s.agree(st)
			return e, nil
		}
	}
	return e, errMalformed
}

// encryption answers SSLRequest, with a handshake behind it where there is a certificate, and GSSENCRequest.
func (s *Server) encryption(e *early, st *startup, code uint32) (*early, error) {
	// Bytes that came before the answer were not encrypted: someone may have put them there (CVE-2021-23222).
	if e.r.Buffered() > 0 {
		what := map[uint32]string{codeSSL: "SSL request", codeGSSENC: "GSSAPI encryption request"}[code]
		return e, &failure{code: "08P01", message: "received unencrypted data after " + what}
	}
	if st.tls.state != nil {
		return e, unsupported(code)
	}
	config := s.tls.Load()
	if code == codeGSSENC || config == nil {
		_, err := e.Write([]byte("N"))
		return e, err
	}
	if _, err := e.Write([]byte("S")); err != nil {
		return e, err
	}
	t, ch, err := accept(e.Conn, config)
	if err != nil {
		return e, err
	}
	st.tls = ch
	return newEarly(t), nil
}

// directTLS accepts TLS without an SSLRequest before it (sslnegotiation=direct). Such a client must name the protocol that it speaks by
// ALPN, so that it cannot be made to talk to a server of another protocol, nor another's client to us.
func (s *Server) directTLS(e *early, st *startup) (*early, error) {
	config := s.tls.Load()
	if config == nil {
		return e, tlsError{errors.New("the client begins with TLS, but there is no certificate")}
	}
	t, ch, err := accept(e, config)
	if err != nil {
		return e, err
	}
	st.tls = ch
	if ch.state.NegotiatedProtocol != alpn {
		return newEarly(t), &failure{code: "08P01", message: "received direct SSL connection request without ALPN protocol negotiation extension"}
	}
	return newEarly(t), nil
}

// readStartup reads a packet that has no type byte: its length, a code, and the rest. body is the whole packet.
func readStartup(r io.Reader) (body []byte, code uint32, err error) {
	var head [8]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, 0, err
	}
	n := binary.BigEndian.Uint32(head[:4])
	if n < 8 || n > maxStartup+4 {
		return nil, 0, &failure{code: "08P01", message: "invalid length of startup packet"}
	}
	body = make([]byte, n)
	copy(body, head[:])
	if _, err := io.ReadFull(r, body[8:]); err != nil {
		return nil, 0, err
	}
	return body, binary.BigEndian.Uint32(head[4:]), nil
}

// unsupported is PostgreSQL's answer to a protocol that it does not speak.
func unsupported(code uint32) *failure {
	return &failure{code: "0A000", message: fmt.Sprintf("unsupported frontend protocol %d.%d: server supports 3.0 to 3.2", code>>16, code&0xffff)}
}

// parse reads a StartupMessage behind its version.
func (st *startup) parse(version uint32, b []byte) error {
	if version>>16 != 3 {
		return unsupported(version)
	}
	st.version = version
	c := cursor{b: b}
	for {
		name := string(c.string())
		if name == "" {
			break
		}
		value := string(c.string())
		if c.bad {
			break
		}
		switch {
		case strings.HasPrefix(name, "_pq_."):
			st.pq = append(st.pq, name)
			continue
		case name == "user":
			st.user = value
		case name == "database":
			st.db = value
		case name == "replication" && !falseWord(value):
			return &failure{code: "0A000", message: "replication connections are not supported by the front-end",
				hint: "Connect to the backing database directly: its WAL holds the tokens of protected columns."}
		}
		st.params = append(st.params, name, value)
	}
	if !c.done() {
		return &failure{code: "08P01", message: "invalid startup packet layout: expected terminator as last byte"}
	}
	if st.user == "" {
		return &failure{code: "28000", message: "no PostgreSQL user name specified in startup packet"}
	}
	if st.db == "" {
		st.db = st.user
		st.params = append(st.params, "database", st.db)
	}
	// The server cuts longer names, at a byte; what is protected is looked up by the name that it uses.
	st.user, st.db = st.user[:min(len(st.user), maxName)], st.db[:min(len(st.db), maxName)]
	return nil
}

func falseWord(v string) bool {
	switch strings.ToLower(v) {
	case "", "0", "f", "false", "off", "no", "n":
		return true
	}
	return false
}

// agree settles on a protocol version: the one asked for, or the newest that the backing database speaks. A client that asks for 3.0 and
// no option is not told anything, as it may not know the answer.
func (s *Server) agree(st *startup) {
	st.newer = len(st.pq) > 0
	if st.version == version30 {
		return
	}
	if newest := s.newest(st); st.version > newest {
		st.version, st.newer = newest, true
	}
}

// negotiation is the body of NegotiateProtocolVersion: the version agreed, and the options that are not known.
func (st *startup) negotiation() []byte {
	b := appendInt32(nil, int(st.version))
	b = appendInt32(b, len(st.pq))
	for _, name := range st.pq {
		b = appendString(b, name)
	}
	return b
}

// handle brings one client connection to a session that is ready, which then goes on by itself, or ends it.
func (s *Server) handle(accepted net.Conn) {
	conn := netloop.NewSocket(accepted)
	running := false
	began := time.Now()
	defer func() {
		if r := recover(); r != nil {
			// Nothing of r is logged: it may hold what the client sent.
			s.metrics.panics.Inc()
			s.cfg.Logger.Error("session panicked", "addr", conn.RemoteAddr().String(), "stack", stack())
		}
		if !running {
			conn.Close()
			s.wg.Done()
		}
	}()
	s.metrics.accepted.Inc()
	s.keepAlive(accepted)
	started := s.starting(conn)
	defer started()
	conn.SetDeadline(began.Add(s.cfg.ConnectTimeout))
	st := &startup{addr: conn.RemoteAddr().String()}
	seat, err := s.limits.enter(conn)
	if err != nil {
		// The answer is lost where a connection is closed with bytes unread.
		conn.SetReadDeadline(began.Add(refusalWait))
		conn.Read(make([]byte, earlyBuffer))
		s.rejected(newWire(conn), st, began, err)
		return
	}
	defer func() {
		if !running {
			seat.leave()
		}
	}()
	client, st, err := s.welcome(conn, seat)
	switch {
	case err != nil:
		s.rejected(client, st, began, err)
		return
	case st.cancel != nil:
		if !s.interrupt(st.cancel) {
			s.cancel(st.cancel)
		}
		return
	}
	x, err := s.open(client, st)
	if err != nil {
		s.rejected(client, st, began, err)
		return
	}
	conn.SetDeadline(time.Time{})
	started()
	if x == nil {
		s.console(client, st)
		return
	}
	s.metrics.start.Observe(time.Since(began).Seconds())
	running = true
	x.start()
}

// welcome finds out who connects, behind a load balancer if there is one, and what for.
func (s *Server) welcome(conn net.Conn, seat *ticket) (*wire, *startup, error) {
	addr, err := s.origin(conn)
	if err != nil {
		return nil, &startup{addr: addr}, err
	}
	client, st, err := s.negotiate(conn)
	st.addr, st.ticket = addr, seat
	return client, st, err
}

// keepAlive makes TCP find out that the client's machine is gone.
func (s *Server) keepAlive(conn net.Conn) {
	t, ok := conn.(*net.TCPConn)
	if !ok {
		return
	}
	t.SetNoDelay(true)
	if s.cfg.KeepAlive < 0 {
		t.SetKeepAlive(false)
		return
	}
	t.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: s.cfg.KeepAlive, Interval: max(s.cfg.KeepAlive/keepAliveProbes, time.Second), Count: keepAliveProbes})
}

// refusalWait is how long a client that finds no place may take to send its first packet.
const refusalWait = 100 * time.Millisecond

// keepAliveProbes unanswered end a connection: after twice the idle time.
const keepAliveProbes = 4

// tlsName is the TLS version for the log.
func (st *startup) tlsName() string {
	if st.tls.state == nil {
		return "none"
	}
	return tls.VersionName(st.tls.state.Version)
}
