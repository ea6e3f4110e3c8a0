//go:build linux

package netloop

import (
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"
)

// Loop is one thread that waits for events of many sockets.
type Loop struct {
	load  load
	epoll int
	wake  [2]int // a pipe: a byte in it means that something was posted
	ended chan struct{}

	sockets map[int32]*Socket // by descriptor; the loop's own

	mu     sync.Mutex
	posted []func()
	woken  bool // a byte is in the pipe
	closed bool
	freed  bool // the descriptors are closed: their numbers may be somebody else's
}

func start() (*Loop, error) {
	epoll, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	l := &Loop{epoll: epoll, ended: make(chan struct{}), sockets: map[int32]*Socket{}}
	if err := syscall.Pipe2(l.wake[:], syscall.O_CLOEXEC|syscall.O_NONBLOCK); err != nil {
		syscall.Close(epoll)
		return nil, os.NewSyscallError("pipe2", err)
	}
	event := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(l.wake[0])}
	if err := syscall.EpollCtl(epoll, syscall.EPOLL_CTL_ADD, l.wake[0], &event); err != nil {
		l.free()
		return nil, os.NewSyscallError("epoll_ctl", err)
	}
	go l.run() // ends by close
	return l, nil
}

func (l *Loop) free() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.freed = true
	syscall.Close(l.epoll)
	syscall.Close(l.wake[0])
	syscall.Close(l.wake[1])
}

func (l *Loop) close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.Post(func() {})
	<-l.ended
}

// Post has f run on the loop's thread, soon; never, where the loop has ended. It may be called from anywhere.
func (l *Loop) Post(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.freed {
		return
	}
	l.posted = append(l.posted, f)
	if !l.woken {
		// Under the lock: a byte that came after chores has looked would stay, and keep the loop awake.
		l.woken = true
		syscall.Write(l.wake[1], []byte{0})
	}
}

// edges are the events of a socket; EPOLLET is negative in the syscall package's type.
const edges = syscall.EPOLLIN | syscall.EPOLLOUT | syscall.EPOLLRDHUP | 1<<31

// yieldEvery is how often a loop yields. The runtime takes a goroutine that has not yielded for 10 ms for one that computes: it interrupts it
// and takes its processor away, 20 µs after 20 µs, although the loop spends its time in the kernel.
const yieldEvery = 4 * time.Millisecond

func (l *Loop) run() {
	defer close(l.ended)
	defer l.free()
	events := make([]syscall.EpollEvent, 256)
	yielded := time.Now()
	for {
		if now := time.Now(); now.Sub(yielded) > yieldEvery {
			runtime.Gosched()
			yielded = now
		}
		n, err := syscall.EpollWait(l.epoll, events, -1)
		if err != nil && !errors.Is(err, syscall.EINTR) {
			panic("netloop: " + os.NewSyscallError("epoll_wait", err).Error())
		}
		for _, e := range events[:max(n, 0)] {
			if int(e.Fd) == l.wake[0] {
				continue
			}
			if s := l.sockets[e.Fd]; s != nil {
				s.happened(e.Events)
			}
		}
		if l.chores() {
			return
		}
	}
}

// chores runs what was posted, after the events: a descriptor that is closed here cannot have one left among them.
func (l *Loop) chores() (end bool) {
	l.mu.Lock()
	todo := l.posted
	l.posted = nil
	if l.woken {
		var b [8]byte
		syscall.Read(l.wake[0], b[:])
	}
	l.woken = false
	end = l.closed
	l.mu.Unlock()
	for _, f := range todo {
		f()
	}
	return end
}

func (s *Socket) happened(events uint32) {
	in := events&(syscall.EPOLLIN|syscall.EPOLLRDHUP|syscall.EPOLLHUP|syscall.EPOLLERR) != 0
	out := events&(syscall.EPOLLOUT|syscall.EPOLLHUP|syscall.EPOLLERR) != 0
	if events&(syscall.EPOLLRDHUP|syscall.EPOLLHUP|syscall.EPOLLERR) != 0 {
		s.hungUp.Store(true)
	}
	if in {
		s.readable.Store(true)
	}
	s.handler(in, out)
}

// Adopt hands the connection's descriptor to l; h is called for every event from now on, and once when the socket is in its place. Nobody may read
// or write meanwhile. Afterwards the socket must be released.
func (s *Socket) Adopt(l *Loop, h Handler) error {
	raw, ok := s.conn.(syscall.Conn)
	if !ok {
		return errors.ErrUnsupported
	}
	control, err := raw.SyscallConn()
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed.Load() {
		return net.ErrClosed
	}
	fd := -1
	var failed error
	// A copy of the descriptor: closing the connection takes the original out of the runtime's own poller.
	err = control.Control(func(original uintptr) {
		n, _, e := syscall.Syscall(syscall.SYS_FCNTL, original, syscall.F_DUPFD_CLOEXEC, 0)
		if e != 0 {
			failed = os.NewSyscallError("fcntl", e)
			return
		}
		fd = int(n)
	})
	if err = errors.Join(err, failed); err != nil {
		return err
	}
	s.conn.Close()
	s.fd, s.handler = fd, h
	s.input, s.output = make(chan struct{}, 1), make(chan struct{}, 1)
	s.readable.Store(true)
	s.loop.Store(l)
	l.load.Add(1)
	l.Post(func() {
		event := syscall.EpollEvent{Events: edges, Fd: int32(fd)}
		if err := syscall.EpollCtl(l.epoll, syscall.EPOLL_CTL_ADD, fd, &event); err != nil {
			s.Close()
		}
		l.sockets[int32(fd)] = s
		s.handler(true, true)
	})
	return nil
}

// Read implements net.Conn.
func (s *Socket) Read(b []byte) (int, error) {
	if !s.Adopted() {
		return s.conn.Read(b)
	}
	for {
		if s.closed.Load() {
			return 0, net.ErrClosed
		}
		// The flag falls before the read and not after it: an event in between must not be lost.
		if s.hungUp.Load() || s.readable.Swap(false) {
			n, err := syscall.Read(s.fd, b)
			switch {
			case err == nil && n == 0 && len(b) > 0:
				s.readable.Store(true)
				return 0, io.EOF
			case err == nil:
				if n == len(b) { // there may be more; after less there is not
					s.readable.Store(true)
				}
				return n, nil
			case errors.Is(err, syscall.EINTR):
				s.readable.Store(true)
				continue
			case !errors.Is(err, syscall.EAGAIN):
				s.readable.Store(true)
				return 0, os.NewSyscallError("read", err)
			}
		}
		if s.nonblock {
			return 0, ErrAgain
		}
		<-s.input
	}
}

// Write implements net.Conn. On an adopted socket it never waits: what the kernel does not take is kept, and goes out with Flush. Whoever writes
// looks at Behind, and writes no more meanwhile. What TLS writes by itself, because it was asked to, knows no bound but maxPending.
func (s *Socket) Write(b []byte) (int, error) {
	if !s.Adopted() {
		return s.conn.Write(b)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	if len(s.pending) == 0 {
		n = s.push(b)
	}
	if s.failure == nil && len(s.pending)+len(b)-n > maxPending {
		s.failure = errFlooded
	}
	if s.failure != nil {
		return 0, s.failure
	}
	if n < len(b) {
		s.pending = append(s.pending, b[n:]...)
		s.behind.Store(true)
		return len(b), s.flush() // again: the event that there is room may have come before anybody could see that it was waited for
	}
	return len(b), nil
}

// maxPending bounds what the kernel does not take. Who asks for more does not read.
const maxPending = 1 << 20

var errFlooded = errors.New("the other side does not read")

// push writes what the kernel takes.
func (s *Socket) push(b []byte) (n int) {
	for n < len(b) {
		if s.closed.Load() || s.released {
			s.failure = net.ErrClosed
			return n
		}
		m, err := syscall.Write(s.fd, b[n:])
		switch {
		case err == nil:
			n += m
		case errors.Is(err, syscall.EAGAIN):
			return n
		case !errors.Is(err, syscall.EINTR):
			s.failure = os.NewSyscallError("write", err)
			return n
		}
	}
	return n
}

// Flush writes what is pending, as far as the kernel takes it without waiting.
func (s *Socket) Flush() error {
	if !s.behind.Load() {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.flush()
}

func (s *Socket) flush() error {
	n := s.push(s.pending)
	if s.failure != nil {
		return s.failure
	}
	s.pending = slices.Delete(s.pending, 0, n)
	if len(s.pending) == 0 {
		s.pending = nil
		s.behind.Store(false)
	}
	return nil
}

// Drain waits until nothing is pending, at most for the given time; 0 means as long as it takes.
func (s *Socket) Drain(most time.Duration) error {
	if !s.Adopted() {
		return nil
	}
	var timeout <-chan time.Time
	for {
		if err := s.Flush(); err != nil || !s.Behind() {
			return err
		}
		if most > 0 && timeout == nil {
			t := time.NewTimer(most)
			defer t.Stop()
			timeout = t.C
		}
		select {
		case <-s.output:
		case <-timeout:
			return os.ErrDeadlineExceeded
		}
	}
}

// Wake tells whoever waits in Read or Drain that there is something to see. The handler calls it for a side that is not its own.
func (s *Socket) Wake(input, output bool) {
	if input {
		select {
		case s.input <- struct{}{}:
		default:
		}
	}
	if output {
		select {
		case s.output <- struct{}{}:
		default:
		}
	}
}

// Close implements net.Conn: reads and writes end, at once. The descriptor of an adopted socket stays until Release, so that nobody reads another
// connection's bytes from it.
func (s *Socket) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed.Swap(true):
	case !s.Adopted():
		return s.conn.Close()
	case !s.released:
		syscall.Shutdown(s.fd, syscall.SHUT_RDWR)
		s.Wake(true, true)
	}
	return nil
}

// CloseWrite tells the other side that nothing more comes. What is pending must have left.
func (s *Socket) CloseWrite() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !s.Adopted():
		return closeWrite(s.conn)
	case s.closed.Load() || s.released:
		return net.ErrClosed
	}
	return os.NewSyscallError("shutdown", syscall.Shutdown(s.fd, syscall.SHUT_WR))
}

// Release gives the descriptor up, when nobody reads or writes any more.
func (s *Socket) Release() {
	s.Close()
	l := s.loop.Load()
	if l == nil {
		return
	}
	l.Post(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.released {
			return
		}
		s.released, s.pending = true, nil
		delete(l.sockets, int32(s.fd))
		syscall.Close(s.fd)
		l.load.Add(-1)
	})
}
