package pgwire

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"

	"pgveil/internal/netloop"
)

const (
	// maxBody bounds a message that must be held in memory to be looked at; others are streamed whatever their size.
	maxBody = 256 << 20
	// maxLength is the longest message that PostgreSQL reads or writes (MaxAllocSize), as its length counts it.
	maxLength = 1<<30 - 1 + 4
	// maxEarlyBody bounds a message before authentication, as PostgreSQL does.
	maxEarlyBody = 64 << 10
	headSize     = 5
)

var errMalformed = errors.New("malformed message")

// tooLarge says that a message cannot be held.
type tooLarge struct{ kind byte }

func (e *tooLarge) Error() string { return fmt.Sprintf("message %q is too large", e.kind) }

// wire frames one connection: messages of a type byte, a length of 4 bytes that counts itself, and a body.
// One side reads and one writes; they may differ.
type wire struct {
	conn net.Conn        // with TLS, where that is used
	sock *netloop.Socket // beneath it; nil where no loop will ever serve it
	r    *reader
	w    *writer
	body []byte // of the last message that did not fit the reader's buffer
	head [headSize]byte
	rest int // bytes of a message being forwarded that have not come yet

	trace *tracer // nil: nobody wants to know
}

// newWire frames conn.
func newWire(conn net.Conn) *wire {
	sock := socketUnder(conn)
	return &wire{conn: conn, sock: sock, r: &reader{src: conn, early: true}, w: &writer{dst: conn, sock: sock}}
}

// socketUnder finds the socket beneath TLS and what was read ahead; nil where there is none.
func socketUnder(conn net.Conn) *netloop.Socket {
	switch c := conn.(type) {
	case *netloop.Socket:
		return c
	case *tls.Conn:
		return socketUnder(c.NetConn())
	case *early:
		return socketUnder(c.Conn)
	}
	return nil
}

// header reads a message's type and the length of its body. The body must be taken by take or skip before the next header.
func (c *wire) header() (kind byte, length int, err error) {
	if err := c.r.need(headSize); err != nil {
		return 0, 0, err
	}
	copy(c.head[:], c.r.next(headSize))
	return c.parseHead()
}

func (c *wire) parseHead() (kind byte, length int, err error) {
	n := binary.BigEndian.Uint32(c.head[1:])
	if n < 4 || n > maxLength {
		return 0, 0, errMalformed
	}
	return c.head[0], int(n - 4), nil
}

// whole tells whether a complete message has come, so that header and take will not wait.
func (c *wire) whole() bool {
	have := c.r.unread()
	return len(have) >= headSize && uint32(len(have)-1) >= binary.BigEndian.Uint32(have[1:])
}

// large tells whether the message that is coming does not fit the reader's buffer.
func (c *wire) large() bool { return binary.BigEndian.Uint32(c.r.unread()[1:]) >= readSize }

// take gives the body, which is valid until the next read.
func (c *wire) take(kind byte, length, limit int) ([]byte, error) {
	if length > limit {
		return nil, &tooLarge{kind}
	}
	if length <= readSize {
		if err := c.r.need(length); err != nil {
			return nil, err
		}
		return c.r.next(length), nil
	}
	c.body = c.body[:0]
	for len(c.body) < length { // memory is taken as bytes come, not as they are announced
		if c.r.Buffered() == 0 {
			if err := c.r.need(1); err != nil {
				return nil, err
			}
		}
		c.body = append(c.body, c.r.next(min(length-len(c.body), c.r.Buffered()))...)
	}
	return c.body, nil
}

// pass goes on with a message that is being forwarded, as far as it has come.
func (c *wire) pass(dst *wire) error {
	n := min(c.rest, c.r.Buffered())
	c.rest -= n
	_, err := dst.w.Write(c.r.next(n))
	return err
}

// forwardRun forwards the messages of one kind that have come, one after another, and the beginning of one that has come in part. It looks at
// their headers only.
func (c *wire) forwardRun(dst *wire, kind byte) error {
	have := c.r.unread()
	n := 0
	for n+headSize <= len(have) && have[n] == kind {
		length := binary.BigEndian.Uint32(have[n+1:])
		if length < 4 || length > maxLength {
			break // header says so
		}
		if c.trace != nil {
			c.trace.received(kind, int(length)-4)
			dst.trace.sent(kind, int(length)-4)
		}
		n += int(length) + 1
	}
	c.rest = max(0, n-len(have))
	_, err := dst.w.Write(c.r.next(n - c.rest))
	return err
}

// skip reads over the body.
func (c *wire) skip(length int) error {
	for length > 0 {
		if c.r.Buffered() == 0 {
			if err := c.r.need(1); err != nil {
				return err
			}
		}
		length -= len(c.r.next(min(length, c.r.Buffered())))
	}
	return nil
}

// send writes one message.
func (c *wire) send(kind byte, body []byte) error {
	if c.trace != nil {
		c.trace.sent(kind, len(body))
	}
	var head [headSize]byte
	head[0] = kind
	binary.BigEndian.PutUint32(head[1:], uint32(len(body)+4))
	if _, err := c.w.Write(head[:]); err != nil {
		return err
	}
	_, err := c.w.Write(body)
	return err
}

// closeWrite tells the other side that nothing more comes; everything must have been flushed.
func (c *wire) closeWrite() {
	if t, ok := c.conn.(*tls.Conn); ok {
		t.CloseWrite()
	}
	if c.sock != nil {
		c.sock.Drain(lastWordsTime)
		c.sock.CloseWrite()
	}
}

// maxIdle is what a buffer may keep between statements.
const maxIdle = 64 << 10

// release gives up what reading does not need between messages.
func (c *wire) release() {
	c.body = nil
	c.r.release()
}

// cursor reads the fields of a body; the first failure sticks.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) take(n int) []byte {
	if c.bad || n < 0 || n > len(c.b) {
		c.bad = true
		return nil
	}
	out := c.b[:n:n]
	c.b = c.b[n:]
	return out
}

func (c *cursor) byte() byte {
	if b := c.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (c *cursor) int16() int {
	if b := c.take(2); b != nil {
		return int(int16(binary.BigEndian.Uint16(b)))
	}
	return 0
}

// count is an int16 that counts something.
func (c *cursor) count() int {
	n := c.int16()
	if n < 0 {
		c.bad = true
		return 0
	}
	return n
}

func (c *cursor) int32() int {
	if b := c.take(4); b != nil {
		return int(int32(binary.BigEndian.Uint32(b)))
	}
	return 0
}

// string reads up to a NUL, without it. The bytes are the body's.
func (c *cursor) string() []byte {
	if c.bad {
		return nil
	}
	for i, x := range c.b {
		if x == 0 {
			out := c.b[:i:i]
			c.b = c.b[i+1:]
			return out
		}
	}
	c.bad = true
	return nil
}

// value reads a length and that many bytes; null is length -1.
func (c *cursor) value() (v []byte, null bool) {
	n := c.int32()
	if n == -1 {
		return nil, true
	}
	return c.take(n), false
}

// done says that the body ended exactly here.
func (c *cursor) done() bool { return !c.bad && len(c.b) == 0 }

func appendString(dst []byte, s string) []byte { return append(append(dst, s...), 0) }

func appendInt16(dst []byte, n int) []byte { return binary.BigEndian.AppendUint16(dst, uint16(n)) }

func appendInt32(dst []byte, n int) []byte { return binary.BigEndian.AppendUint32(dst, uint32(n)) }
