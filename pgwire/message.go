package pgwire

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
)

const (
	bufferSize = 16 << 10
	// maxBody bounds a message that must be held in memory to be looked at; others are streamed whatever their size.
	maxBody = 256 << 20
	// maxLength is the longest message that PostgreSQL reads or writes (MaxAllocSize), as its length counts it.
	maxLength = 1<<30 - 1 + 4
	// maxEarlyBody bounds a message before authentication, as PostgreSQL does.
	maxEarlyBody = 64 << 10
)

var errMalformed = errors.New("malformed message")

// tooLarge says that a message cannot be held.
type tooLarge struct{ kind byte }

func (e *tooLarge) Error() string { return fmt.Sprintf("message %q is too large", e.kind) }

// wire frames one connection: messages of a type byte, a length of 4 bytes that counts itself, and a body.
// One goroutine reads and one writes; they may differ.
type wire struct {
	conn net.Conn
	r    *bufio.Reader
	w    *bufio.Writer
	body []byte // of the last message read; valid until the next read
	head [5]byte
}

func newWire(conn net.Conn) *wire {
	return &wire{conn: conn, r: bufio.NewReaderSize(conn, bufferSize), w: bufio.NewWriterSize(conn, bufferSize)}
}

// header reads a message's type and the length of its body. The body must be taken by take, forward or skip before the next header.
func (c *wire) header() (kind byte, length int, err error) {
	if _, err := io.ReadFull(c.r, c.head[:]); err != nil {
		return 0, 0, err
	}
	n := binary.BigEndian.Uint32(c.head[1:])
	if n < 4 || n > maxLength {
		return 0, 0, errMalformed
	}
	return c.head[0], int(n - 4), nil
}

// take reads the body into the connection's own buffer, where it is valid until the next take.
func (c *wire) take(kind byte, length, limit int) ([]byte, error) {
	if length > limit {
		return nil, &tooLarge{kind}
	}
	if cap(c.body) < length {
		c.body = make([]byte, length, max(length, 512))
	}
	c.body = c.body[:length]
	_, err := io.ReadFull(c.r, c.body)
	return c.body, err
}

// forward sends the message whose header was just read on to dst without looking at it or holding it.
func (c *wire) forward(dst *wire, length int) error {
	if _, err := dst.w.Write(c.head[:]); err != nil {
		return err
	}
	_, err := io.CopyN(dst.w, c.r, int64(length))
	return err
}

// skip reads over the body.
func (c *wire) skip(length int) error {
	_, err := io.CopyN(io.Discard, c.r, int64(length))
	return err
}

// send writes one message.
func (c *wire) send(kind byte, body []byte) error {
	var head [5]byte
	head[0] = kind
	binary.BigEndian.PutUint32(head[1:], uint32(len(body)+4))
	if _, err := c.w.Write(head[:]); err != nil {
		return err
	}
	_, err := c.w.Write(body)
	return err
}

// maxIdle is what a buffer may keep between statements.
const maxIdle = 64 << 10

// release gives up a body that was large.
func (c *wire) release() {
	if cap(c.body) > maxIdle {
		c.body = nil
	}
}

// drained says that nothing more has arrived: time to flush what was written for the other side.
func (c *wire) drained() bool { return c.r.Buffered() == 0 }

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
