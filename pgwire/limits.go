package pgwire

import (
	"fmt"
	"net"
	"sync"
	"time"
)

// slowAfter is when a connection that is not authenticated yet may be closed in favour of a new one.
const slowAfter = 5 * time.Second

// limits counts connections, those that are not authenticated apart from those that are: however many of the former there are, they do not
// take the place of the latter.
type limits struct {
	sessions, perRole, startups int // 0: no limit

	mu    sync.Mutex
	early map[*ticket]struct{}
	total int            // authenticated
	roles map[string]int // authenticated, by role
}

// ticket is a connection's place.
type ticket struct {
	limits *limits
	conn   net.Conn
	since  time.Time
	role   string // once admitted
}

var errTooMany = &failure{code: "53300", message: "sorry, too many clients already"}

// enter counts a connection that has just been made. Where there are too many, the oldest one gives way if it is slow, else the new one.
func (l *limits) enter(conn net.Conn) (*ticket, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.startups > 0 && len(l.early) >= l.startups {
		var oldest *ticket
		for t := range l.early {
			if oldest == nil || t.since.Before(oldest.since) {
				oldest = t
			}
		}
		if time.Since(oldest.since) < slowAfter {
			return nil, errTooMany
		}
		delete(l.early, oldest)
		oldest.conn.Close()
	}
	t := &ticket{limits: l, conn: conn, since: time.Now()}
	l.early[t] = struct{}{}
	return t, nil
}

// admit counts the connection as one of the role's. The texts are PostgreSQL's.
func (t *ticket) admit(role string) error {
	l := t.limits
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.sessions > 0 && l.total >= l.sessions:
		return errTooMany
	case l.perRole > 0 && l.roles[role] >= l.perRole:
		return &failure{code: "53300", message: fmt.Sprintf("too many connections for role %q", role)}
	}
	delete(l.early, t)
	l.total++
	l.roles[role]++
	t.role = role
	return nil
}

// leave gives the place up; nil has none.
func (t *ticket) leave() {
	if t == nil {
		return
	}
	l := t.limits
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.early, t)
	if t.role == "" {
		return
	}
	l.total--
	if l.roles[t.role]--; l.roles[t.role] == 0 {
		delete(l.roles, t.role)
	}
}
