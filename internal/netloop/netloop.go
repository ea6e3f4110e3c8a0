// Package netloop serves sockets by event loops: one thread waits for many connections, so that one with nothing to do costs a
// descriptor and no goroutine, and one with something to do is served without waking another thread.
//
// Start with New and NewSocket. A Socket is an ordinary net.Conn until Adopt hands its descriptor to a loop. From then on the loop calls its
// handler when the socket has become readable or writable; the handler must not wait. What has to wait is done in a goroutine, which reads
// the same Socket in its blocking mode.
//
// The events are edges: a handler reads until ErrAgain, or looks at Readable when it comes back. Where the platform has no epoll, Adopt
// answers errors.ErrUnsupported, and the caller stays with goroutines.
package netloop

import (
	"errors"
	"sync/atomic"
)

// ErrAgain says that a read which may not wait found nothing. To crypto/tls it is temporary: a record that has come in part is kept.
var ErrAgain error = again{}

type again struct{}

func (again) Error() string   { return "nothing to read yet" }
func (again) Timeout() bool   { return true }
func (again) Temporary() bool { return true }

// Group is a number of loops. It is safe for concurrent use.
type Group struct{ loops []*Loop }

// New starts n loops. Where the platform has none the group is empty.
func New(n int) (*Group, error) {
	g := &Group{}
	for range n {
		l, err := start()
		if errors.Is(err, errors.ErrUnsupported) {
			break
		}
		if err != nil {
			g.Close()
			return nil, err
		}
		g.loops = append(g.loops, l)
	}
	return g, nil
}

// Least gives the loop with the fewest sockets, or nil where there is none.
func (g *Group) Least() *Loop {
	var best *Loop
	for _, l := range g.loops {
		if best == nil || l.load.Load() < best.load.Load() {
			best = l
		}
	}
	return best
}

// Sockets gives the number of sockets that each loop serves.
func (g *Group) Sockets() []int64 {
	counts := make([]int64, len(g.loops))
	for i, l := range g.loops {
		counts[i] = l.load.Load()
	}
	return counts
}

// Close ends the loops and waits for them. Their sockets must have been released.
func (g *Group) Close() {
	for _, l := range g.loops {
		l.close()
	}
}

// load counts a loop's sockets.
type load struct{ atomic.Int64 }
