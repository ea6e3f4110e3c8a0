package pgwire

import (
	"sync/atomic"

	"pgveil/sql"
)

// verdicts are what becomes of statements, by sql.Verdict; a statement that is refused has none.
var verdicts = [...]string{sql.Relay: sql.Relay.String(), sql.Covered: sql.Covered.String(), sql.Rewritten: sql.Rewritten.String(), refused: "refused"}

const refused = sql.Rewritten + 1

// tally counts what one session does. Each counter has one writer.
type tally struct {
	statements    [len(verdicts)]atomic.Int64
	clear, masked atomic.Int64 // values shown
}

// totals are sums over sessions: first the statements by verdict, then what follows.
type totals [toServer + 1 + len(states)]int64

const (
	shownClear = len(verdicts) + iota // values
	shownMasked
	fromClient // bytes, without TLS's own
	toClient
	fromServer
	toServer
	// then the sessions by state
)

// state is what a session does now.
type state int

const (
	stateIdle state = iota
	stateActive
	stateInTransaction
	statePaused
)

// states are the names, as in pg_stat_activity.
var states = [...]string{"idle", "active", "idle in transaction", "paused"}

func (s state) String() string { return states[s] }

// state is what the session does now.
func (x *session) state() state {
	switch {
	case x.held.Load():
		return statePaused
	case x.active():
		return stateActive
	case x.status.Load() != 'I':
		return stateInTransaction
	}
	return stateIdle
}

// add adds what a session has done so far.
func (t *totals) add(x *session) {
	for i := range x.tally.statements {
		t[i] += x.tally.statements[i].Load()
	}
	t[shownClear] += x.tally.clear.Load()
	t[shownMasked] += x.tally.masked.Load()
	t[fromClient] += x.client.r.received.Load()
	t[toClient] += x.client.w.sent.Load()
	t[fromServer] += x.server.r.received.Load()
	t[toServer] += x.server.w.sent.Load()
}

// in is the number of sessions in a state.
func (t *totals) in(s state) int64 { return t[toServer+1+int(s)] }

// totals gives for each database what its sessions have done since the start.
func (s *Server) totals() map[string]*totals {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make(map[string]*totals, len(s.databases))
	for name, db := range s.databases {
		t := db.past
		all[name] = &t
	}
	for x := range s.sessions {
		t := all[x.dbName]
		t.add(x)
		t[toServer+1+int(x.state())]++
	}
	return all
}

// noteName takes over the client's application_name, for others to read.
func (x *session) noteName() {
	name := x.params["application_name"]
	x.name.Store(&name)
}
