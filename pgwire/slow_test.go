package pgwire_test

import (
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// resources are what connections must not leave behind.
type resources struct {
	goroutines, descriptors int
	memory                  uint64 // bytes of heap and stacks in use
}

func inUse() resources {
	runtime.GC()
	runtime.GC() // pools keep what they hold for one more
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	entries, _ := os.ReadDir("/proc/self/fd")
	return resources{runtime.NumGoroutine(), len(entries), m.HeapAlloc + m.StackInuse}
}

// returns waits until no more is in use than before.
func (before resources) returns(t *testing.T) {
	t.Helper()
	var now resources
	for deadline := time.Now().Add(15 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		now = inUse()
		if now.goroutines <= before.goroutines && now.descriptors <= before.descriptors && now.memory <= before.memory+8<<20 {
			return
		}
	}
	t.Errorf("before %+v, afterwards %+v", before, now)
}

// latencies are those of a session that does its work beside the others.
func (f *front) latencies(conn *pgx.Conn, n int) (median, worst time.Duration) {
	f.t.Helper()
	var all []time.Duration
	for range n {
		began := time.Now()
		f.want(conn, []string{anSSN}, "select ssn from customers where id = 1", simple()...)
		all = append(all, time.Since(began))
	}
	slices.Sort(all)
	return all[n/2], all[n-1]
}

// TestSlowClientsHarmThemselvesAlone: connections that send a byte now and then, before and after authentication, clients that stop reading in the middle of a
// result, that vanish at every message and that reset. PGVEIL_LONG makes it 5,000.
func TestSlowClientsHarmThemselvesAlone(t *testing.T) {
	early, ready, stalled := 400, 20, 2
	if os.Getenv("PGVEIL_LONG") != "" {
		early, ready, stalled = 4930, 60, 10 // the test server has 100 connections
	}
	f := withJane(t)
	worker, control := f.as("app"), f.direct()
	quiet, _ := f.latencies(worker, 100)
	time.Sleep(200 * time.Millisecond)
	before := inUse()
	const others = "select count(*) from pg_stat_activity where usename = $1"
	connected, err := f.rows(control, others, f.role("app"))
	if err != nil {
		t.Fatal(err)
	}

	var slow []net.Conn
	for range early {
		conn, err := net.Dial("tcp", f.addr)
		if err != nil {
			t.Fatal(err)
		}
		conn.Write([]byte{0, 0})
		slow = append(slow, conn)
	}
	time.Sleep(200 * time.Millisecond)
	each := (int64(inUse().memory) - int64(before.memory)) / int64(early)
	if each > 40<<10 {
		t.Errorf("a connection that has sent 2 bytes takes %d bytes", each)
	}
	hijack := func() net.Conn {
		conn, err := pgx.Connect(t.Context(), f.url("app"))
		if err != nil {
			t.Fatal(err)
		}
		h, err := conn.PgConn().Hijack()
		if err != nil {
			t.Fatal(err)
		}
		return h.Conn
	}
	for range ready {
		conn := hijack()
		conn.Write(message('Q', "select 1"+string(make([]byte, 3000)))[:1500]) // not whole
		slow = append(slow, conn)
	}
	for range stalled {
		conn := hijack()
		conn.Write(message('Q', "select repeat('x', 100) from generate_series(1, 1000000)\x00"))
		io.ReadFull(conn, make([]byte, 100_000)) // and no more
		slow = append(slow, conn)
	}
	stop := make(chan struct{})
	var drip sync.WaitGroup
	drip.Go(func() {
		for i := 0; ; i = (i + 1) % len(slow) {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
				slow[i].Write([]byte{0})
			}
		}
	})
	// A conversation that ends after each of its messages, in good order and by a reset.
	talked := [][]byte{message('Q', "begin\x00"), message('P', "s\x00select ssn from customers where id = $1\x00\x00\x00"), message('B', "\x00s\x00\x00\x00\x00\x01\x00\x00\x00\x011\x00\x00"),
		message('D', "P\x00"), message('E', "\x00\x00\x00\x00\x00"), message('S', ""), message('Q', "copy notes from stdin\x00"), message('d', "1\ta\tb\n"), message('f', "no\x00")}
	for n := range len(talked) + 1 {
		for _, reset := range []bool{false, true} {
			conn := hijack()
			for _, m := range talked[:n] {
				conn.Write(m)
			}
			if n%2 == 0 && reset {
				time.Sleep(2 * time.Millisecond) // so that answers are under way
			}
			if reset {
				conn.(*net.TCPConn).SetLinger(0)
			}
			conn.Close()
		}
	}
	beside, worst := f.latencies(worker, 200)
	close(stop)
	drip.Wait()
	t.Logf("median %v alone, %v beside %d slow clients (worst %v); %d bytes for each before authentication", quiet, beside, len(slow), worst, each)
	if beside > 20*quiet+20*time.Millisecond || worst > 5*time.Second {
		t.Errorf("another session takes %v (median), %v (worst) instead of %v", beside, worst, quiet)
	}
	for i, conn := range slow {
		if i%3 == 0 {
			conn.(*net.TCPConn).SetLinger(0)
		}
		conn.Close()
	}
	before.returns(t)
	for deadline := time.Now().Add(15 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		left, err := f.rows(control, others, f.role("app"))
		if err == nil && left[0] == connected[0] {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%v server connections of %v: %v", left, connected, err)
		}
	}
	f.want(worker, []string{anSSN}, "select ssn from customers where id = 1")
}
