package pgwire

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"pgveil/internal/netloop"
	"pgveil/internal/scram"
)

var errNoTLS = errors.New("the server does not support TLS")

// dial connects to the backing database, tries its hosts in order, and negotiates TLS as its sslmode says.
func (s *Server) dial(ctx context.Context) (net.Conn, error) {
	cfg := s.cfg.Backing
	tries := []*pgconn.FallbackConfig{{Host: cfg.Host, Port: cfg.Port, TLSConfig: cfg.TLSConfig}}
	tries = append(tries, cfg.Fallbacks...)
	var last error
	for _, t := range tries {
		network, addr := pgconn.NetworkAddress(t.Host, t.Port)
		dialed, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, network, addr)
		if err != nil {
			last = err
			continue
		}
		conn := net.Conn(netloop.NewSocket(dialed))
		if t.TLSConfig != nil {
			conn, err = startTLS(conn, t.TLSConfig)
		}
		if err == nil {
			return conn, nil
		}
		last = err
	}
	return nil, last
}

func startTLS(conn net.Conn, cfg *tls.Config) (net.Conn, error) {
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	defer conn.SetDeadline(time.Time{})
	request := appendInt32(appendInt32(nil, 8), codeSSL)
	if _, err := conn.Write(request); err != nil {
		conn.Close()
		return nil, err
	}
	var answer [1]byte
	if _, err := io.ReadFull(conn, answer[:]); err != nil {
		conn.Close()
		return nil, err
	}
	if answer[0] != 'S' {
		conn.Close()
		return nil, errNoTLS
	}
	t := tls.Client(conn, cfg)
	if err := t.Handshake(); err != nil {
		conn.Close()
		return nil, err
	}
	return t, nil
}

// backend is a connection of the backing database that is logged in and ready.
type backend struct {
	*wire
	greeting []byte // the messages from ParameterStatus to ReadyForQuery, for the client
	pid      uint32
	status   byte // of the transaction, from ReadyForQuery
	params   map[string]string
}

// login connects as the client's role, with the keys its own login proved.
func (s *Server) login(ctx context.Context, st *startup, keys scram.Keys) (*backend, error) {
	unreachable := &failure{code: "08006", message: "the backing database cannot be reached", hint: "Check that it runs and that --backing names it."}
	conn, err := s.dial(ctx)
	if err != nil {
		s.metrics.unreachable.Inc()
		s.cfg.Logger.Error("the backing database cannot be reached", "error", err)
		return nil, unreachable
	}
	b := &backend{wire: newWire(conn), params: map[string]string{}}
	conn.SetDeadline(time.Now().Add(s.cfg.ConnectTimeout))
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if err := s.greet(b, st, keys); err != nil {
		conn.Close()
		var f *failure
		var server *serverError
		if !errors.As(err, &f) && !errors.As(err, &server) {
			s.cfg.Logger.Error("login to the backing database failed", "error", err)
			return nil, unreachable
		}
		return nil, err
	}
	conn.SetDeadline(time.Time{})
	return b, nil
}

// serverError is an ErrorResponse of the backing database, passed on as it came.
type serverError struct{ body []byte }

func (*serverError) Error() string { return "the backing database refused the connection" }

func (s *Server) greet(b *backend, st *startup, keys scram.Keys) error {
	packet := appendInt32([]byte{0, 0, 0, 0}, version30)
	for _, p := range st.params {
		packet = appendString(packet, p)
	}
	packet = append(packet, 0)
	copy(packet, appendInt32(nil, len(packet)))
	if _, err := b.w.Write(packet); err != nil {
		return err
	}
	exchange := scram.NewClient(keys)
	for {
		if err := b.w.Flush(); err != nil {
			return err
		}
		kind, n, err := b.header()
		if err != nil {
			return err
		}
		body, err := b.take(kind, n, maxEarlyBody)
		if err != nil {
			return err
		}
		switch kind {
		case 'R':
			if err := s.answer(b, st.user, exchange, body); err != nil {
				return err
			}
		case 'E':
			return &serverError{append([]byte(nil), body...)}
		case 'v': // NegotiateProtocolVersion: not asked for, as 3.0 was
		case 'Z':
			if len(body) != 1 {
				return errMalformed
			}
			b.status = body[0]
			b.keep(kind, body)
			return nil
		default:
			b.note(kind, body)
			b.keep(kind, body)
		}
	}
}

// keep adds a message to the greeting.
func (b *backend) keep(kind byte, body []byte) {
	b.greeting = append(b.greeting, kind)
	b.greeting = appendInt32(b.greeting, len(body)+4)
	b.greeting = append(b.greeting, body...)
}

// note remembers what the session needs of a ParameterStatus or BackendKeyData.
func (b *backend) note(kind byte, body []byte) {
	c := cursor{b: body}
	switch kind {
	case 'S':
		name, value := c.string(), c.string()
		if c.done() {
			b.params[string(name)] = string(value)
		}
	case 'K':
		b.pid = uint32(c.int32())
	}
}

// answer carries on the authentication that the server asks for.
func (s *Server) answer(b *backend, role string, exchange *scram.Client, body []byte) error {
	code, rest, err := authRequest(body)
	if err != nil {
		return err
	}
	stale := &failure{code: "28P01", message: fmt.Sprintf("the backing database does not accept the stored verifier of role %q", role),
		hint: "Its password was changed there: set it again with `pgveil role add " + role + " --password-stdin`."}
	switch code {
	case authOK:
		return nil
	case authSASL:
		if !bytes.Contains(append([]byte{0}, rest...), []byte("\x00"+scram.Mechanism+"\x00")) {
			return stale
		}
		first := exchange.First()
		out := appendInt32(appendString(nil, scram.Mechanism), len(first))
		return b.send('p', append(out, first...))
	case authSASLContinue:
		final, err := exchange.Final(rest)
		if errors.Is(err, scram.ErrOtherVerifier) {
			s.cfg.Logger.Warn("stored verifier is stale", "role", role)
			return stale
		}
		if err != nil {
			return err
		}
		return b.send('p', final)
	case authSASLFinal:
		return exchange.Verify(rest)
	case authCleartext, authMD5:
		s.cfg.Logger.Warn("the backing database asks for another authentication method than SCRAM-SHA-256", "role", role, "code", code)
		return &failure{code: "28000", message: "the backing database does not use SCRAM-SHA-256 for role " + strconv.Quote(role),
			hint: "Set password_encryption = 'scram-sha-256' and scram-sha-256 in pg_hba.conf there, then `pgveil role add " + role + " --password-stdin`."}
	}
	return &failure{code: "28000", message: "the backing database asks for an authentication method that is not supported (code " + strconv.Itoa(code) + ")"}
}

// cancel forwards a CancelRequest: clients hold the server's own process ID and key, so any node can.
func (s *Server) cancel(packet []byte) {
	ctx, stop := context.WithTimeout(s.ctx, 10*time.Second)
	defer stop()
	conn, err := s.dial(ctx)
	if err != nil {
		s.cfg.Logger.Warn("cancel request could not be forwarded", "error", err)
		return
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	conn.Write(packet)
	io.Copy(io.Discard, conn) // the server closes when it has signalled
}
