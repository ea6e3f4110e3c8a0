package pgwire

import (
	"io"
	"sync"
	"sync/atomic"

	"pgveil/internal/netloop"
)

const (
	readSize  = 64 << 10
	writeSize = 16 << 10
	// A message that has come in part keeps this at most beyond its own size while the session waits for the rest.
	leftover = 4 << 10
)

var (
	readBuffers  = sync.Pool{New: func() any { return new([readSize]byte) }}
	writeBuffers = sync.Pool{New: func() any { return new([writeSize]byte) }}
)

// earlySize is enough for what an honest client sends before it is authenticated.
const earlySize = 1 << 10

// reader buffers what a connection receives. It holds a buffer only while there is something in it; until the session is ready that is a small one, because
// anybody can open a connection and send nothing.
type reader struct {
	src      io.Reader
	early    bool // the session is not ready
	pooled   *[readSize]byte
	buf      []byte // of pooled, or a small one of its own
	from, to int    // what is unread
	received atomic.Int64
}

// Buffered is how many bytes can be had without reading.
func (b *reader) Buffered() int { return b.to - b.from }

// unread is what can be had without reading. It is valid until the next read.
func (b *reader) unread() []byte { return b.buf[b.from:b.to] }

// next takes n bytes of what is buffered.
func (b *reader) next(n int) []byte {
	out := b.buf[b.from : b.from+n : b.from+n]
	b.from += n
	return out
}

// need reads until n bytes are buffered; n is at most readSize. An end in the middle is io.ErrUnexpectedEOF.
func (b *reader) need(n int) error {
	for b.Buffered() < n {
		if err := b.fill(); err != nil {
			if err == io.EOF && b.Buffered() > 0 {
				return io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

// Read implements io.Reader.
func (b *reader) Read(p []byte) (int, error) {
	if b.Buffered() == 0 {
		if err := b.fill(); err != nil {
			return 0, err
		}
	}
	return copy(p, b.next(min(len(p), b.Buffered()))), nil
}

// fill reads once, behind what is buffered, whose place may change.
func (b *reader) fill() error {
	if b.early && b.buf == nil {
		b.buf = make([]byte, earlySize)
	}
	if b.pooled == nil && (!b.early || b.Buffered() == len(b.buf)) {
		b.pooled = readBuffers.Get().(*[readSize]byte)
		b.to = copy(b.pooled[:], b.unread())
		b.from, b.buf = 0, b.pooled[:]
	}
	if b.from == b.to {
		b.from, b.to = 0, 0
	}
	if b.to == len(b.buf) {
		if b.from == 0 {
			panic("pgwire: a read past the buffer")
		}
		b.to = copy(b.buf, b.unread())
		b.from = 0
	}
	for {
		n, err := b.src.Read(b.buf[b.to:])
		b.to += n
		if n > 0 {
			b.received.Add(int64(n))
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// release gives the buffer back; a small rest is kept in one of its own size.
func (b *reader) release() {
	if b.pooled == nil || b.Buffered() > leftover {
		return
	}
	rest := append([]byte(nil), b.unread()...)
	readBuffers.Put(b.pooled)
	b.pooled, b.buf, b.from, b.to = nil, rest, 0, len(rest)
}

// writer buffers what a connection sends. Where a loop serves the connection, Flush waits until the kernel has taken everything, unless nonblock is set:
// then whoever writes must look at Behind.
type writer struct {
	dst      io.Writer
	sock     *netloop.Socket
	buf      *[writeSize]byte // nil while nothing is in it
	n        int
	nonblock bool // belongs to whoever writes
	sent     atomic.Int64
}

// Write implements io.Writer.
func (w *writer) Write(p []byte) (int, error) {
	if w.n+len(p) > writeSize {
		if err := w.push(); err != nil {
			return 0, err
		}
		if len(p) >= writeSize/2 {
			return len(p), w.write(p)
		}
	}
	if len(p) == 0 {
		return 0, nil
	}
	if w.buf == nil {
		w.buf = writeBuffers.Get().(*[writeSize]byte)
	}
	w.n += copy(w.buf[w.n:], p)
	return len(p), nil
}

// push writes what is buffered.
func (w *writer) push() error {
	if w.n == 0 {
		return nil
	}
	n := w.n
	w.n = 0
	return w.write(w.buf[:n])
}

// write sends p in pieces, so that a socket never keeps more than one that the kernel did not take.
func (w *writer) write(p []byte) error {
	w.sent.Add(int64(len(p)))
	for len(p) > 0 {
		n := min(len(p), readSize)
		if _, err := w.dst.Write(p[:n]); err != nil {
			return err
		}
		p = p[n:]
		if err := w.drain(); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) drain() error {
	if w.nonblock || !w.behind() {
		return nil
	}
	return w.sock.Drain(0)
}

// Flush sends what is buffered, and what a loop's thread has left behind: the event that there is room for it may have come meanwhile, and was not for
// whoever writes now.
func (w *writer) Flush() error {
	if err := w.push(); err != nil {
		return err
	}
	return w.drain()
}

// release gives the buffer back when it is empty.
func (w *writer) release() {
	if w.buf != nil && w.n == 0 {
		writeBuffers.Put(w.buf)
		w.buf = nil
	}
}

// behind tells whether what was flushed has not left yet.
func (w *writer) behind() bool { return w.sock != nil && w.sock.Behind() }
