package netloop

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// group is a group of loops that must leave neither goroutines nor descriptors behind.
func group(t *testing.T, n int) *Group {
	t.Helper()
	goroutines, descriptors := runtime.NumGoroutine(), descriptors(t)
	g, err := New(n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for deadline := time.Now().Add(10 * time.Second); g.sockets() > 0; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Errorf("%d sockets are not released", g.sockets())
				break
			}
		}
		g.Close()
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			more, open := runtime.NumGoroutine()-goroutines, countDescriptors()-descriptors
			if more <= 0 && open <= 0 {
				return
			}
			if time.Now().After(deadline) {
				t.Errorf("%d goroutines and %d descriptors are left", more, open)
				return
			}
		}
	})
	return g
}

func (g *Group) sockets() (n int64) {
	for _, l := range g.loops {
		n += l.load.Load()
	}
	return n
}

// descriptors counts what is open, when the runtime's poller has its own.
func descriptors(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	return countDescriptors()
}

func countDescriptors() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return -1
	}
	return len(entries)
}

// pair is a connection and its peer.
func pair(t *testing.T) (*Socket, *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	far, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	near, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	far.SetDeadline(time.Now().Add(30 * time.Second))
	return NewSocket(near), far.(*net.TCPConn)
}

// echo sends back what comes, on the loop's thread, and releases the socket at its end.
type echo struct {
	*Socket
	buf   []byte
	ended bool
}

func adoptEcho(t *testing.T, l *Loop, s *Socket) *echo {
	t.Helper()
	e := &echo{Socket: s, buf: make([]byte, 1+rand.IntN(20_000))}
	s.SetNonblock(true)
	if err := s.Adopt(l, e.happened); err != nil && !errors.Is(err, net.ErrClosed) {
		t.Fatal(err)
	}
	return e
}

func (e *echo) happened(bool, bool) {
	for !e.ended {
		if err := e.Flush(); err != nil {
			e.end()
		}
		if e.Behind() {
			return
		}
		n, err := e.Read(e.buf)
		if errors.Is(err, ErrAgain) {
			return
		}
		if err == nil {
			_, err = e.Write(e.buf[:n])
		}
		if err != nil {
			e.end()
		}
	}
}

func (e *echo) end() {
	e.ended = true
	e.Release()
}

// converse sends random bytes in random pieces, reads them back slowly at times, and stops after n bytes. Nothing but its own bytes may come back.
func converse(t *testing.T, far *net.TCPConn, n int, abort bool) {
	sent := make([]byte, n)
	for i := range sent {
		sent[i] = byte(rand.Uint32())
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer far.Close()
	wg.Go(func() {
		for rest := sent; len(rest) > 0; {
			m, err := far.Write(rest[:min(len(rest), 1+rand.IntN(100_000))])
			if err != nil {
				if !abort {
					t.Errorf("write: %v", err)
				}
				return
			}
			rest = rest[m:]
		}
	})
	got, buf := 0, make([]byte, 64<<10)
	for got < n {
		m, err := far.Read(buf[:1+rand.IntN(len(buf)-1)])
		if !bytes.Equal(buf[:m], sent[got:got+m]) {
			t.Error("another connection's bytes, or another order")
			return
		}
		got += m
		if err != nil {
			if !abort {
				t.Errorf("after %d of %d bytes: %v", got, n, err)
			}
			return
		}
		if abort && rand.IntN(20) == 0 {
			if rand.IntN(2) == 0 {
				far.SetLinger(0)
			}
			return
		}
		if rand.IntN(50) == 0 {
			time.Sleep(time.Millisecond) // so that the other side's buffers fill
		}
	}
}

func TestBytesComeBackInOrder(t *testing.T) {
	g := group(t, 2)
	var wg sync.WaitGroup
	for range 40 {
		s, far := pair(t)
		adoptEcho(t, g.Least(), s)
		wg.Go(func() { converse(t, far, 1+rand.IntN(3_000_000), false) })
	}
	wg.Wait()
}

func TestBothSidesFillUp(t *testing.T) {
	g := group(t, 1)
	s, far := pair(t)
	adoptEcho(t, g.Least(), s)
	data := bytes.Repeat([]byte("0123456789abcdef"), 2<<20) // 32 MiB: more than the kernel's buffers
	go far.Write(data)
	time.Sleep(100 * time.Millisecond) // nobody reads
	for turn := range 2 {
		got := make([]byte, len(data)/2)
		if _, err := io.ReadFull(far, got); err != nil || !bytes.Equal(got, data[:len(got)]) {
			t.Fatalf("half %d: %v", turn, err)
		}
	}
	far.Close()
}

// TestDescriptorsAreReused opens and closes from both sides, so that numbers come back at once.
func TestDescriptorsAreReused(t *testing.T) {
	g := group(t, 2)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 60 {
				s, far := pair(t)
				e := adoptEcho(t, g.Least(), s)
				if rand.IntN(2) == 0 {
					wg.Go(func() {
						time.Sleep(time.Duration(rand.IntN(2000)) * time.Microsecond)
						e.Close() // the handler releases it
					})
				}
				converse(t, far, 200_000, true)
			}
		})
	}
	wg.Wait()
}

func TestBytesThatCameBeforeAdoption(t *testing.T) {
	g := group(t, 1)
	for range 50 {
		s, far := pair(t)
		far.Write([]byte("early"))
		far.CloseWrite()
		time.Sleep(time.Millisecond)
		adoptEcho(t, g.Least(), s)
		if got, err := io.ReadAll(far); string(got) != "early" {
			t.Fatalf("%q %v", got, err)
		}
		far.Close()
	}
}

// TestAdoptionRacesClosing: whoever is first, the connection ends.
func TestAdoptionRacesClosing(t *testing.T) {
	g := group(t, 1)
	for range 300 {
		s, far := pair(t)
		go s.Close()
		adoptEcho(t, g.Least(), s)
		if _, err := far.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("a socket that was closed while it was adopted stays open")
		}
		s.Release()
		far.Close()
	}
}

// waker is a handler that wakes who waits.
func waker(s *Socket) Handler { return s.Wake }

func TestGoroutinesWaitInReadAndDrain(t *testing.T) {
	g := group(t, 2)
	var wg sync.WaitGroup
	for range 20 {
		s, far := pair(t)
		if err := s.Adopt(g.Least(), waker(s)); err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			defer s.Release()
			buf := make([]byte, 30_000)
			for {
				n, err := s.Read(buf)
				if err != nil {
					return
				}
				if _, err := s.Write(buf[:n]); err != nil {
					return
				}
				if err := s.Drain(0); err != nil {
					return
				}
			}
		})
		wg.Go(func() { converse(t, far, 1_000_000, false) })
	}
	wg.Wait()
}

// fill writes until the kernel takes no more.
func fill(t *testing.T, s *Socket) (written int) {
	t.Helper()
	for !s.Behind() {
		n, err := s.Write(make([]byte, 64<<10))
		if err != nil {
			t.Fatal(err)
		}
		written += n
	}
	return written
}

func TestDrainEnds(t *testing.T) {
	g := group(t, 1)
	s, far := pair(t)
	if err := s.Adopt(g.Least(), waker(s)); err != nil {
		t.Fatal(err)
	}
	written := fill(t, s)
	if err := s.Drain(30 * time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("nobody reads: %v", err)
	}
	read := make(chan error, 1)
	go func() {
		_, err := io.CopyN(io.Discard, far, int64(written))
		read <- err
	}()
	if err := s.Drain(10 * time.Second); err != nil {
		t.Errorf("somebody reads: %v", err)
	}
	if err := <-read; err != nil {
		t.Error(err)
	}
	fill(t, s)
	time.AfterFunc(20*time.Millisecond, func() { s.Close() })
	if err := s.Drain(0); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed meanwhile: %v", err)
	}
	s.Release()
	far.Close()

	s, far = pair(t)
	if err := s.Adopt(g.Least(), waker(s)); err != nil {
		t.Fatal(err)
	}
	fill(t, s)
	time.AfterFunc(20*time.Millisecond, func() { far.SetLinger(0); far.Close() })
	if err := s.Drain(0); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("reset meanwhile: %v", err)
	}
	s.Release()
}

func TestPendingBytesAreBounded(t *testing.T) {
	g := group(t, 1)
	s, far := pair(t)
	if err := s.Adopt(g.Least(), waker(s)); err != nil {
		t.Fatal(err)
	}
	fill(t, s)
	var err error
	for range 2 * maxPending / 1000 {
		if _, err = s.Write(make([]byte, 1000)); err != nil {
			break
		}
	}
	if err == nil || len(s.pending) > maxPending {
		t.Errorf("%d bytes are pending: %v", len(s.pending), err)
	}
	s.Release()
	far.Close()
}

// TestALoopGoesToSleep posts while sockets keep the loop awake: no byte may stay in its pipe, which would keep it awake for good.
func TestALoopGoesToSleep(t *testing.T) {
	g := group(t, 1)
	l := g.Least()
	s, far := pair(t)
	adoptEcho(t, l, s)
	for range 300 {
		var wg sync.WaitGroup
		var ran atomic.Int64
		wg.Go(func() {
			for range 20 {
				far.Write([]byte("x"))
				far.Read(make([]byte, 1))
			}
		})
		for range 4 {
			wg.Go(func() {
				for range 50 {
					l.Post(func() { ran.Add(1) })
				}
			})
		}
		wg.Wait()
		for ran.Load() < 200 {
			runtime.Gosched()
		}
		awake := 0
		for range 5 {
			time.Sleep(100 * time.Microsecond)
			if n, _ := syscall.EpollWait(l.epoll, make([]syscall.EpollEvent, 1), 0); n > 0 {
				awake++
			}
		}
		if awake == 5 {
			t.Fatal("a loop with nothing to do does not sleep")
		}
	}
	far.Close()
}

func TestAnEndedLoopTouchesNoDescriptor(t *testing.T) {
	g, err := New(1)
	if err != nil {
		t.Fatal(err)
	}
	l := g.Least()
	g.Close()
	var r, w [2]int // takes the numbers that the loop had
	if syscall.Pipe2(r[:], syscall.O_NONBLOCK) != nil || syscall.Pipe2(w[:], syscall.O_NONBLOCK) != nil {
		t.Fatal("no pipe")
	}
	l.Post(func() {})
	for _, p := range [][2]int{r, w} {
		if n, _ := syscall.Read(p[0], make([]byte, 8)); n > 0 {
			t.Error("an ended loop wrote into somebody else's pipe")
		}
		syscall.Close(p[0])
		syscall.Close(p[1])
	}
}
