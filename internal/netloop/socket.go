package netloop

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Handler is told what happened to a socket. It runs on the loop's thread and must not wait.
type Handler func(readable, writable bool)

// Socket is a connection that can be handed to a loop. It implements net.Conn, so that crypto/tls can be put on it before.
//
// One goroutine, or the loop, reads at a time, and one writes. Close and SetNonblock may be called by any: Close at any time, SetNonblock by
// whoever reads.
type Socket struct {
	conn net.Conn             // until adopted
	loop atomic.Pointer[Loop] // once adopted
	fd   int

	handler  Handler
	readable atomic.Bool // something may have come since the last read that found nothing
	hungUp   atomic.Bool // the other side has closed or failed: reads do not wait any more
	closed   atomic.Bool
	nonblock bool          // of reads; the reader's own
	input    chan struct{} // tells a waiting reader
	output   chan struct{} // tells a waiting writer

	mu       sync.Mutex // of what follows, since TLS may write while it reads, and of being adopted and closed
	pending  []byte     // written and not yet accepted by the kernel
	released bool
	failure  error // of a write
	behind   atomic.Bool
}

// NewSocket wraps conn.
func NewSocket(conn net.Conn) *Socket { return &Socket{conn: conn} }

// Adopted tells whether a loop serves the socket.
func (s *Socket) Adopted() bool { return s.loop.Load() != nil }

// LocalAddr implements net.Conn.
func (s *Socket) LocalAddr() net.Addr { return s.conn.LocalAddr() }

// RemoteAddr implements net.Conn.
func (s *Socket) RemoteAddr() net.Addr { return s.conn.RemoteAddr() }

// SetDeadline implements net.Conn; an adopted socket has none.
func (s *Socket) SetDeadline(t time.Time) error {
	if s.Adopted() {
		return nil
	}
	return s.conn.SetDeadline(t)
}

// SetReadDeadline implements net.Conn; an adopted socket has none.
func (s *Socket) SetReadDeadline(t time.Time) error {
	if s.Adopted() {
		return nil
	}
	return s.conn.SetReadDeadline(t)
}

// SetWriteDeadline implements net.Conn; an adopted socket has none.
func (s *Socket) SetWriteDeadline(t time.Time) error {
	if s.Adopted() {
		return nil
	}
	return s.conn.SetWriteDeadline(t)
}

// SetNonblock says whether the reads that follow answer ErrAgain instead of waiting. It belongs to the reader.
func (s *Socket) SetNonblock(on bool) { s.nonblock = on }

// Readable tells whether a read may find something, or an end.
func (s *Socket) Readable() bool { return s.readable.Load() || s.closed.Load() }

// Closed tells whether Close was called.
func (s *Socket) Closed() bool { return s.closed.Load() }

// Behind tells whether bytes wait for the kernel to take them.
func (s *Socket) Behind() bool { return s.behind.Load() }

func closeWrite(conn net.Conn) error {
	if c, ok := conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return errors.ErrUnsupported
}
