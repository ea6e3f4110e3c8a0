package pgwire

import (
	"sync"

	"pgveil/sql"
)

// expected is one message sent to the server, and what its reply is for. kind is the message's type byte; 'd' is CopyDone or CopyFail.
type expected struct {
	kind byte

	probe   *probe   // the reply is for the front-end itself
	refusal *failure // the server will raise an error, which this one replaces
	swallow bool     // the reply is not for the client: our own Describe
	stmt    *statement
	portal  *portal
	copyIn  bool // the server has asked for COPY data

	params bool // ParameterDescription comes first

	// of a Query
	view   *view
	plan   *sql.Plan
	text   string
	edited *sql.Edited
	intent *intent
}

// fifo is what was sent and not yet answered, in order. The upstream goroutine pushes, the downstream one pops.
type fifo struct {
	mu       sync.Mutex
	queue    []*expected
	skipping bool // an error was answered and no Sync is queued: the server ignores what is pushed until one is
	closed   bool
	empty    *sync.Cond
}

func newFIFO() *fifo {
	f := &fifo{}
	f.empty = sync.NewCond(&f.mu)
	return f
}

// push queues e. It says false where the server will ignore the message and answer nothing.
func (f *fifo) push(e *expected) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed && e.probe != nil {
		e.probe.fail(errGone)
	}
	if f.skipping && e.kind != '!' {
		if e.kind != 'S' {
			return false
		}
		f.skipping = false
	}
	f.queue = append(f.queue, e)
	return true
}

// skip drops what the server ignores after an error in the extended protocol: everything before the next Sync, be it queued or still to come.
func (f *fifo) skip() (dropped []*expected) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.queue) > 0 && f.queue[0].kind != 'S' && f.queue[0].kind != '!' {
		dropped = append(dropped, f.queue[0])
		f.queue = f.queue[1:]
	}
	f.skipping = len(f.queue) == 0
	if f.skipping {
		f.empty.Broadcast()
	}
	return dropped
}

// head is the message that the server is answering, or nil.
func (f *fifo) head() *expected {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.queue) == 0 {
		return nil
	}
	return f.queue[0]
}

func (f *fifo) pop() *expected {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.queue) == 0 {
		return nil
	}
	e := f.queue[0]
	f.queue[0] = nil
	f.queue = f.queue[1:]
	if len(f.queue) == 0 {
		f.queue = nil
		f.empty.Broadcast()
	}
	return e
}

// peek calls f with each queued message, oldest first, until it says false.
func (f *fifo) peek(visit func(*expected) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range f.queue {
		if !visit(e) {
			return
		}
	}
}

// idle waits until everything sent is answered, or the session ends.
func (f *fifo) idle() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.queue) > 0 && !f.closed {
		f.empty.Wait()
	}
	return !f.closed
}

func (f *fifo) isEmpty() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.queue) == 0
}

// close wakes whoever waits and fails the probes that will not be answered any more.
func (f *fifo) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	for _, e := range f.queue {
		if e.probe != nil {
			e.probe.fail(errGone)
		}
	}
	f.empty.Broadcast()
}
