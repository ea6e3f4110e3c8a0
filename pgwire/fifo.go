package pgwire

import (
	"slices"
	"sync"
	"time"

	"pgveil/sql"
)

// expected is one message sent to the server, and what its reply is for. kind is the message's type byte. Two kinds are answered by nothing: 'k' stands
// for a run of CopyData, 'd' for CopyDone or CopyFail. They say which Syncs came among the data of a COPY, where the server ignores them.
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

// fifo is what was sent and not yet answered, in order. The upstream direction pushes, the downstream one pops.
type fifo struct {
	mu       sync.Mutex
	queue    []*expected
	skipping bool // an error was answered and no Sync is queued: the server ignores what is pushed until one is
	closed   bool
	stuck    func()     // ends the session
	empty    *sync.Cond // the queue is
	shrunk   *sync.Cond // the queue is below its bound
}

func newFIFO() *fifo {
	f := &fifo{stuck: func() {}}
	f.empty, f.shrunk = sync.NewCond(&f.mu), sync.NewCond(&f.mu)
	return f
}

// push queues e. It says false where the server will ignore the message and answer nothing.
func (f *fifo) push(e *expected) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed && e.probe != nil {
		e.probe.fail(errGone)
	}
	if e.unanswered() && (len(f.queue) == 0 || f.queue[len(f.queue)-1].kind == e.kind) {
		return true // of no COPY, or one more of the same
	}
	if f.skipping && e.kind != '!' {
		if e.kind != 'S' {
			return false
		}
		f.skipping = false
	}
	if len(f.queue) >= maxQueue {
		stuck := time.AfterFunc(stuckTime, f.stuck)
		defer stuck.Stop()
	}
	for len(f.queue) >= maxQueue && !f.closed { // the client goes on when the server has answered
		f.shrunk.Wait()
	}
	f.queue = append(f.queue, e)
	return true
}

// maxQueue bounds what may be unanswered. COPY alone can fill it for good, with Syncs that the server ignores; such a session is ended after stuckTime.
const (
	maxQueue  = 1 << 16
	stuckTime = 10 * time.Minute
)

// What has no state is one for all sessions: a run of CopyData, a Sync, a Bind that nothing is done to.
var (
	copyData  = &expected{kind: 'k'}
	synced    = &expected{kind: 'S'}
	plainBind = &expected{kind: 'B'}
)

// crowded tells whether pushing what one message needs may have to wait.
func (f *fifo) crowded() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.queue) >= maxQueue-8
}

func (e *expected) unanswered() bool { return e.kind == 'k' || e.kind == 'd' }

// trim drops what is answered by nothing and has come to the front: of no COPY, or of one that has failed.
func (f *fifo) trim() {
	for len(f.queue) > 0 && f.queue[0].unanswered() {
		f.queue = f.queue[1:]
	}
	if len(f.queue) < maxQueue {
		f.shrunk.Broadcast()
	}
	if len(f.queue) == 0 {
		f.queue = nil
		f.empty.Broadcast()
	}
}

// copied drops the data of e's COPY, which has succeeded: everything behind e to the end of the data. Syncs in it were ignored.
func (f *fifo) copied(e *expected) {
	f.mu.Lock()
	defer f.mu.Unlock()
	at := slices.Index(f.queue, e)
	for i := at + 1; i < len(f.queue); i++ {
		if f.queue[i].kind == 'd' {
			f.queue = slices.Delete(f.queue, at+1, i+1)
			return
		}
	}
}

// copyFailed drops the Syncs behind e that came before any data of its COPY, which has failed: the server ignored them. One that came among the data, which
// no client sends, is taken for one that ended the skipping.
func (f *fifo) copyFailed(e *expected) {
	f.mu.Lock()
	defer f.mu.Unlock()
	at := slices.Index(f.queue, e)
	for i := at + 1; i < len(f.queue); i++ {
		if f.queue[i].kind != 'S' {
			if f.queue[i].unanswered() {
				f.queue = slices.Delete(f.queue, at+1, i)
			}
			return
		}
	}
}

// skip drops what the server ignores after an error in the extended protocol: everything before the next Sync, be it queued or still to come.
// It calls drop with each before anybody sees the queue without it.
func (f *fifo) skip(drop func(*expected)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.queue) > 0 && f.queue[0].kind != 'S' && f.queue[0].kind != '!' {
		drop(f.queue[0])
		f.queue = f.queue[1:]
	}
	f.skipping = len(f.queue) == 0
	f.trim()
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
	f.trim()
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
	f.shrunk.Broadcast()
}
