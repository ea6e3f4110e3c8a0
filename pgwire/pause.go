package pgwire

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// gate holds statements and logins back while the front-end is paused. Its zero value is open.
type gate struct {
	closed atomic.Bool // what every session looks at before a statement

	mu     sync.Mutex
	opened chan struct{} // closed when the gate opens; nil while it is open
	logins int           // to the backing database, under way
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.opened == nil {
		g.opened = make(chan struct{})
	}
	g.closed.Store(true)
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed.Store(false)
	if g.opened != nil {
		close(g.opened)
		g.opened = nil
	}
}

// wait returns when the gate is open, or ctx ends.
func (g *gate) wait(ctx context.Context) {
	g.mu.Lock()
	opened := g.opened
	g.mu.Unlock()
	if opened == nil {
		return
	}
	select {
	case <-opened:
	case <-ctx.Done():
	}
}

// enter counts a login once the gate is open. It says false when it is not: wait, and try again.
func (g *gate) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.opened != nil {
		return false
	}
	g.logins++
	return true
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.logins--
}

// enter waits until a client may log in to the backing database. Whoever got in leaves the gate afterwards.
func (s *Server) enter(c *wire) error {
	for !s.gate.enter() {
		s.gate.wait(s.ctx)
		if s.ctx.Err() != nil {
			return errShutdown
		}
		c.conn.SetDeadline(time.Now().Add(s.cfg.ConnectTimeout)) // the time that it waited is not its own
	}
	return nil
}

// quietEvery is how often PAUSE looks whether the sessions are quiet.
const quietEvery = 10 * time.Millisecond

// quiet tells whether no session is in a transaction or has sent what is not answered, and none is being made.
func (s *Server) quiet() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for x := range s.sessions {
		if x.busy() {
			return false
		}
	}
	s.gate.mu.Lock()
	defer s.gate.mu.Unlock()
	return s.gate.logins == 0
}

// busy tells whether the session has a statement or a transaction to finish. The state of the upstream direction is looked at first: if that is idle after the
// gate was shut, or has held a message back, its next message finds the gate shut.
func (x *session) busy() bool {
	if x.took.Load() {
		return true
	}
	if state := x.up.state.Load(); x.looped() && !x.held.Load() && (state == looping || state == away) {
		return true
	}
	return x.active() || x.status.Load() != 'I'
}

// taking notes, where no loop serves the session, that a message is being taken: from before the gate is looked at until what it asks for is queued. Elsewhere
// the state of the upstream direction tells.
func (x *session) taking(on bool) {
	if !x.looped() {
		x.took.Store(on)
	}
}

// active tells whether something that the client sent is not answered yet.
func (x *session) active() bool { return x.unsynced.Load() || !x.fifo.isEmpty() }

// looped tells whether a loop serves the session.
func (x *session) looped() bool { return x.client.sock != nil && x.client.sock.Adopted() }

// crammed tells whether so much has come from a client who is held back that no more is read.
func (x *session) crammed() bool { return x.client.r.Buffered() > readSize/2 }

// holds tells whether the client's next message begins a statement that must wait for RESUME. It waits itself where no loop serves the session, and
// where a goroutine could do nothing but find out again and again that more has come than it reads.
func (x *session) holds(kind byte) bool {
	if x.unsynced.Load() || strings.IndexByte("QPBDECF", kind) < 0 {
		return false
	}
	x.held.Store(true)
	if !x.looped() || !x.up.inline && x.crammed() {
		x.server.w.Flush()
		for x.fifo.idle() && x.waits() && x.ctx.Err() == nil {
			x.taking(false)
			x.srv.gate.wait(x.ctx)
			x.taking(true)
		}
	} else if x.waits() {
		return true
	}
	x.held.Store(false)
	return false
}

// waits tells whether a statement must wait: for RESUME outside of a transaction, and until it is known where that is.
func (x *session) waits() bool {
	return x.srv.gate.closed.Load() && (!x.fifo.isEmpty() || x.status.Load() == 'I')
}

// resume lets everybody go on.
func (s *Server) resume() {
	s.gate.open()
	s.each(func(x *session) { x.up.kick() })
}
