package pgwire

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// both runs f with a front-end that relays by one loop and with one that relays by goroutines, as on platforms without loops.
func both(t *testing.T, f func(t *testing.T, m *machine)) {
	for name, loops := range map[string]int{"loops": 1, "goroutines": -1} {
		t.Run(name, func(t *testing.T) { f(t, newMachine(t, loops)) })
	}
}

// connect starts a session and gives its far ends, which have a deadline.
func (m *machine) connect() (x *session, client, server *testEnd) {
	m.t.Helper()
	clientNear, clientFar := socketPair(m.t)
	serverNear, serverFar := socketPair(m.t)
	for _, c := range []net.Conn{clientFar, serverFar} {
		c.SetDeadline(time.Now().Add(30 * time.Second))
		m.t.Cleanup(func() { c.Close() })
	}
	return m.start(clientNear, serverNear), &testEnd{clientFar, m.t}, &testEnd{serverFar, m.t}
}

type testEnd struct {
	net.Conn
	t testing.TB
}

func (e *testEnd) say(b []byte) {
	e.t.Helper()
	if _, err := e.Write(b); err != nil {
		e.t.Fatal(err)
	}
}

func (e *testEnd) hear(want []byte) {
	e.t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(e, got); err != nil || !bytes.Equal(got, want) {
		e.t.Fatalf("%.200q %v, want %.200q", got[:n], err, want)
	}
}

func (e *testEnd) rest() []byte {
	e.t.Helper()
	got, err := io.ReadAll(e)
	if err != nil {
		e.t.Error(err)
	}
	return got
}

var (
	query    = frame(nil, 'Q', "select 1\x00")
	complete = frame(frame(nil, 'C', "SELECT 1\x00"), 'Z', "I")
)

// round is one query and its answer, and how long that took.
func round(client, server *testEnd) time.Duration {
	began := time.Now()
	client.say(query)
	server.hear(query)
	server.say(complete)
	client.hear(complete)
	return time.Since(began)
}

// TestAFloodLeavesTheLoopToOthers: a client that never stops sending shares its loop.
func TestAFloodLeavesTheLoopToOthers(t *testing.T) {
	t.Parallel()
	m := newMachine(t, 1)
	_, flood, sink := m.connect()
	_, client, server := m.connect()
	stop := make(chan struct{})
	go func() {
		flushes := bytes.Repeat(frame(nil, 'H'), 20_000)
		for {
			if _, err := flood.Write(flushes); err != nil {
				return
			}
		}
	}()
	go func() {
		io.Copy(io.Discard, sink)
		close(stop)
	}()
	var took []time.Duration
	for range 30 {
		took = append(took, round(client, server))
	}
	flood.Close()
	client.Close()
	slices.Sort(took)
	if median := took[len(took)/2]; median > 100*time.Millisecond {
		t.Errorf("beside a flood a query takes %v (median), %v (most)", median, took[len(took)-1])
	}
	server.Close()
	sink.Close()
	<-stop
}

// TestWhatALoopLeftBehindIsSent: the server's buffer is full when a statement comes that the next one must wait for.
func TestWhatALoopLeftBehindIsSent(t *testing.T) {
	t.Parallel()
	m := newMachine(t, 1)
	clientNear, clientFar := socketPair(t)
	serverNear, serverFar := socketPair(t)
	clientFar.SetDeadline(time.Now().Add(30 * time.Second))
	serverFar.SetDeadline(time.Now().Add(30 * time.Second))
	serverNear.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	full := 0
	for err := error(nil); err == nil; {
		var n int
		n, err = serverNear.Write(make([]byte, 1000))
		full += n
	}
	client, server := &testEnd{clientFar, t}, &testEnd{serverFar, t}
	set := frame(nil, 'Q', "set x to y\x00")
	client.say(append(set, query...))
	m.start(clientNear, serverNear)
	time.Sleep(50 * time.Millisecond)
	server.hear(append(make([]byte, full), set...))
	server.say(complete)
	server.hear(query)
	server.say(complete)
	client.hear(append(complete[:len(complete):len(complete)], complete...))
	client.Close()
	server.rest()
	server.Close()
}

// TestAHalfClosedClientGetsItsAnswer: it closes its writing side and reads when it likes; nothing is cut off.
func TestAHalfClosedClientGetsItsAnswer(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, m *machine) {
		t.Parallel()
		_, client, server := m.connect()
		client.say(query)
		client.Conn.(interface{ CloseWrite() error }).CloseWrite()
		server.hear(append(query[:len(query):len(query)], frame(nil, 'X')...))
		row := frame(nil, 'D', "\x00\x01\x00\x00\x10\x00", strings.Repeat("v", 4096))
		answer := append(bytes.Repeat(row, 200), complete...)
		go func() {
			server.Write(answer)
			server.Close()
		}()
		time.Sleep(lastWordsTime + 300*time.Millisecond) // it is slow
		if got := client.rest(); !bytes.Equal(got, answer) {
			t.Errorf("%d bytes of %d", len(got), len(answer))
		}
	})
}

// TestALongReplyReachesASlowClient: one message that must be held is sent in pieces.
func TestALongReplyReachesASlowClient(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, m *machine) {
		t.Parallel()
		_, client, server := m.connect()
		client.say(query)
		server.hear(query)
		answer := append(frame(nil, 'N', "SNOTICE\x00M", strings.Repeat("m", 5<<20), "\x00\x00"), complete...)
		go server.Write(answer)
		time.Sleep(100 * time.Millisecond)
		client.hear(answer)
		client.say(frame(nil, 'X'))
		server.hear(frame(nil, 'X'))
		server.Close()
		client.rest()
	})
}

// TestAServerThatStopsReading stops its client alone, and what waits for it is bounded.
func TestAServerThatStopsReading(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, m *machine) {
		t.Parallel()
		_, stuck, silent := m.connect()
		_, client, server := m.connect()
		stuck.SetDeadline(time.Now().Add(300 * time.Millisecond))
		n, err, buf := 0, error(nil), make([]byte, 64<<10)
		for big := frame(nil, 'Q', "select 1", strings.Repeat(" ", 50_000), "\x00"); err == nil; {
			var k int
			k, err = stuck.Write(big)
			n += k
		}
		if !os.IsTimeout(err) || n > 4<<20 {
			t.Errorf("%d bytes were taken from a client whose server does not read: %v", n, err)
		}
		var most time.Duration
		for range 50 {
			most = max(most, round(client, server))
		}
		if most > time.Second {
			t.Errorf("another session waited %v", most)
		}
		client.Close()
		server.Close()
		stuck.Close() // with a message half sent
		for {         // it reads what came before, and learns of the end
			k, err := silent.Read(buf)
			if err == io.EOF || err == nil && bytes.HasSuffix(buf[:k], frame(nil, 'X')) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		silent.Close()
	})
}

// TestErrorsOfTheServerThatLackSomething pass as they come: without SQLSTATE, without terminator, without anything.
func TestErrorsOfTheServerThatLackSomething(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, m *machine) {
		t.Parallel()
		_, client, server := m.connect()
		for _, body := range []string{"", "\x00", "S", "SERROR", "SERROR\x00", "SERROR\x00\x00", "SERROR\x00VERROR\x00Mno\x00\x00", "C\x00\x00", "C22000\x00Mno\x00", "\xff\xff\x00\x00", "SERROR\x00\x00trailing"} {
			client.say(query)
			server.hear(query)
			answer := frame(frame(nil, 'E', body), 'Z', "I")
			server.say(answer)
			client.hear(answer)
			round(client, server)
		}
		client.say(frame(nil, 'X'))
		server.Close()
		client.rest()
	})
}

// TestRepliesThatFitNothing end the session with an error, not the process.
func TestRepliesThatFitNothing(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, m *machine) {
		t.Parallel()
		for name, answer := range map[string][]byte{
			"a length of 0":          {'C', 0, 0, 0, 0},
			"a length of 3":          {'C', 0, 0, 0, 3},
			"a length of 2 GiB":      {'C', 0x7f, 0xff, 0xff, 0xff},
			"a length of 4 GiB":      {'C', 0xff, 0xff, 0xff, 0xff},
			"a row of 4 GiB":         {'D', 0xff, 0xff, 0xff, 0xff},
			"an answer to nothing":   append(slices.Clone(complete), frame(nil, 'C', "SELECT 1\x00")...),
			"ReadyForQuery of no":    frame(nil, 'Z'),
			"an end in a header":     {'C', 0},
			"an end in a row":        frame(nil, 'D', "\x00\x01\x00\x00\x10\x00")[:8],
			"the end of connections": nil,
		} {
			_, client, server := m.connect()
			client.say(query)
			server.hear(query)
			server.say(answer)
			if name == "an end in a header" || name == "an end in a row" || answer == nil {
				server.Close()
			}
			got := client.rest()
			if name == "an end in a row" && bytes.Equal(got, answer) {
				continue // nobody can say more inside a message
			}
			if !bytes.Contains(got, []byte("SFATAL\x00")) {
				t.Errorf("%s: the client got %q", name, got)
			}
			server.Close()
		}
	})
}

// TestAClientThatVanishesAtEveryByte: whatever was said until then, the session ends, and the server gets nothing but whole messages and Terminate.
func TestAClientThatVanishesAtEveryByte(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, m *machine) {
		t.Parallel()
		said := frame(slices.Clone(query), 'P', "a\x00select 1\x00\x00\x00")
		said = frame(frame(frame(said, 'B', "\x00a\x00\x00\x00\x00\x00\x00\x00"), 'E', "\x00\x00\x00\x00\x00"), 'S')
		said = frame(frame(frame(said, 'Q', "copy t from stdin\x00"), 'd', "1 2 3 4\n"), 'c')
		for n := range len(said) + 1 {
			_, client, server := m.connect()
			client.say(said[:n])
			client.Close()
			var got []byte
			for buf := make([]byte, 1000); ; {
				k, err := server.Read(buf)
				got = append(got, buf[:k]...)
				if err != nil && err != io.EOF {
					t.Fatalf("after %d bytes: %v", n, err)
				}
				if err == io.EOF || bytes.HasSuffix(got, frame(nil, 'X')) {
					break
				}
			}
			server.Close()
			if !bytes.HasPrefix(said, bytes.TrimSuffix(got, frame(nil, 'X'))) {
				t.Fatalf("after %d bytes the server got %q", n, got)
			}
		}
	})
}

// TestASessionBornWhileStopping is known to the server that stops: it is ended when its time is over.
func TestASessionBornWhileStopping(t *testing.T) {
	t.Parallel()
	m := newMachine(t, 1)
	m.srv.stop()
	clientNear, clientFar := socketPair(t)
	serverNear, serverFar := socketPair(t)
	defer clientFar.Close()
	defer serverFar.Close()
	x := m.make(clientNear, serverNear)
	x.fifo.push(&expected{kind: 'Q'}) // it has something to finish
	x.start()
	if m.sessions() != 1 {
		t.Error("the session is not known")
	}
	m.srv.each((*session).close)
}

// TestTLSDataWithoutAnEvent: several messages in one flight of records, of which the first read takes part only, while both sides say nothing more.
func TestTLSDataWithoutAnEvent(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, m *machine) {
		t.Parallel()
		clientNear, clientFar := socketPair(t)
		serverNear, serverFar := socketPair(t)
		clientFar.SetDeadline(time.Now().Add(30 * time.Second))
		serverFar.SetDeadline(time.Now().Add(30 * time.Second))
		near, far := encrypt(t, clientNear, clientFar, true)
		back, behind := encrypt(t, serverNear, serverFar, false)
		client, server := &testEnd{far, t}, &testEnd{behind, t}
		flight := bytes.Repeat(query, 10_000)
		client.say(flight[:100_000]) // before the session is adopted
		m.start(near, back)
		client.say(flight[100_000:])
		server.hear(flight)
		answers := bytes.Repeat(complete, 10_000)
		go server.Write(answers)
		client.hear(answers)
		far.(*tls.Conn).CloseWrite() // close_notify; the client still reads
		server.hear(frame(nil, 'X'))
		server.Close()
		client.rest()
	})
}

// TestAnEndInTheMiddleOfCOPY: a server that waits for COPY data does not understand Terminate; it learns of the client's end all the same.
func TestAnEndInTheMiddleOfCOPY(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, m *machine) {
		t.Parallel()
		for _, last := range [][]byte{nil, frame(nil, 'X')} {
			_, client, server := m.connect()
			said := append(frame(frame(nil, 'Q', "copy t from stdin\x00"), 'd', "1\n"), last...)
			client.say(said)
			client.Close()
			if got := server.rest(); !bytes.HasPrefix(got, said) {
				t.Errorf("the server got %q", got)
			}
			server.Close()
		}
	})
}
