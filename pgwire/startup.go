package pgwire

import (
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"time"

	"pgveil/internal/netloop"
)

// Codes that stand in the place of the protocol version (the manual's "Message Formats").
const (
	codeCancel   = 80877102
	codeSSL      = 80877103
	codeGSSENC   = 80877104
	version30    = 3 << 16
	maxName      = 63     // NAMEDATALEN - 1
	maxParamSize = 10_000 // as PostgreSQL's MAX_STARTUP_PACKET_LENGTH
)

// startup is what a client's start-up packet asks for.
type startup struct {
	params []string // name, value, …, as they came, without _pq_ options
	user   string
	db     string
	cancel []byte // a whole CancelRequest: then nothing else is set
	newer  bool   // a minor version above 0, or _pq_ options: NegotiateProtocolVersion must be sent
	minor  uint32
	pq     []string // names of _pq_ options
}

// negotiate answers SSLRequest and GSSENCRequest and reads the start-up packet. It may replace c by its TLS form.
func (s *Server) negotiate(conn net.Conn) (*wire, *startup, error) {
	c := newWire(conn)
	encrypted := false
	for range 4 { // GSSENCRequest, SSLRequest, StartupMessage: no honest client needs more
		body, code, err := readStartup(c)
		if err != nil {
			return c, nil, err
		}
		switch code {
		case codeSSL:
			if encrypted {
				return c, nil, errMalformed
			}
			if c.r.Buffered() > 0 {
				// Bytes that came before the handshake were not encrypted: someone may have put them there (CVE-2021-23222).
				return c, nil, &failure{code: "08P01", message: "received unencrypted data after SSL request"}
			}
			if s.cfg.TLS == nil {
				if _, err := c.conn.Write([]byte("N")); err != nil {
					return c, nil, err
				}
				continue
			}
			if _, err := c.conn.Write([]byte("S")); err != nil {
				return c, nil, err
			}
			t := tls.Server(c.conn, s.cfg.TLS)
			if err := t.Handshake(); err != nil {
				return c, nil, err
			}
			c, encrypted = newWire(t), true
		case codeGSSENC:
			if c.r.Buffered() > 0 {
				return c, nil, errMalformed
			}
			if _, err := c.conn.Write([]byte("N")); err != nil {
				return c, nil, err
			}
		case codeCancel:
			return c, &startup{cancel: body}, nil
		default:
			st, err := parseStartup(code, body[8:])
			return c, st, err
		}
	}
	return c, nil, errMalformed
}

// readStartup reads a packet that has no type byte: its length, a code, and the rest. body is the whole packet, a copy.
func readStartup(c *wire) (body []byte, code uint32, err error) {
	var head [8]byte
	if _, err := io.ReadFull(c.r, head[:]); err != nil {
		return nil, 0, err
	}
	n := binary.BigEndian.Uint32(head[:4])
	if n < 8 || n > maxParamSize {
		return nil, 0, &failure{code: "08P01", message: "invalid length of startup packet"}
	}
	body = make([]byte, n)
	copy(body, head[:])
	if _, err := io.ReadFull(c.r, body[8:]); err != nil {
		return nil, 0, err
	}
	return body, binary.BigEndian.Uint32(head[4:]), nil
}

func parseStartup(version uint32, b []byte) (*startup, error) {
	if version>>16 != 3 {
		return nil, &failure{code: "0A000", message: "unsupported frontend protocol", hint: "The front-end speaks protocol 3.0."}
	}
	st := &startup{minor: version & 0xffff, newer: version != version30}
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
			st.newer, st.pq = true, append(st.pq, name)
			continue
		case name == "user":
			st.user = value
		case name == "database":
			st.db = value
		case name == "replication" && !falseWord(value):
			return nil, &failure{code: "0A000", message: "replication connections are not supported by the front-end",
				hint: "Connect to the backing database directly: its WAL holds the tokens of protected columns."}
		}
		st.params = append(st.params, name, value)
	}
	if !c.done() {
		return nil, &failure{code: "08P01", message: "invalid startup packet layout: expected terminator as last byte"}
	}
	if st.user == "" {
		return nil, &failure{code: "28000", message: "no PostgreSQL user name specified in startup packet"}
	}
	if st.db == "" {
		st.db = st.user
		st.params = append(st.params, "database", st.db)
	}
	// The server cuts longer names, at a byte; what is protected is looked up by the name that it uses.
	st.user, st.db = st.user[:min(len(st.user), maxName)], st.db[:min(len(st.db), maxName)]
	return st, nil
}

func falseWord(v string) bool {
	switch strings.ToLower(v) {
	case "", "0", "f", "false", "off", "no", "n":
		return true
	}
	return false
}

// negotiation is the body of NegotiateProtocolVersion: protocol 3.0 and none of the options.
func (st *startup) negotiation() []byte {
	b := appendInt32(nil, version30)
	b = appendInt32(b, len(st.pq))
	for _, name := range st.pq {
		b = appendString(b, name)
	}
	return b
}

// handle brings one client connection to a session that is ready, which then goes on by itself, or ends it.
func (s *Server) handle(accepted net.Conn) {
	conn := netloop.NewSocket(accepted)
	running, began := false, time.Now()
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
	if t, ok := accepted.(*net.TCPConn); ok {
		t.SetKeepAlive(true)
		t.SetNoDelay(true)
	}
	started := s.starting(conn)
	defer started()
	conn.SetDeadline(time.Now().Add(s.cfg.ConnectTimeout))
	client, st, err := s.negotiate(conn)
	switch {
	case err != nil:
		s.rejected(client, err)
		return
	case st.cancel != nil:
		if !s.interrupt(st.cancel) {
			s.cancel(st.cancel)
		}
		return
	}
	x, err := s.open(client, st)
	if err != nil {
		s.rejected(client, err)
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

// rejected tells a client why it does not get in.
func (s *Server) rejected(c *wire, err error) {
	s.metrics.reject(err)
	if f := failureOf(err); f.code != "XX000" {
		c.send('E', f.fatal().response())
		c.w.Flush()
		return
	}
	s.cfg.Logger.Debug("connection ended before it was ready", "error", err)
}
