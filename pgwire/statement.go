package pgwire

import (
	"sync"

	"pgveil/sql"
)

// statement is a prepared statement of the protocol, named or not.
type statement struct {
	name    string
	text    string
	flagged bool      // it mentions something protected
	plan    *sql.Plan // of a flagged one
	edited  *sql.Edited
	view    *view
	newer   *statement // a later analysis of the same statement; under the mutex of statements
}

// portal is a bound statement. cols is set by the downstream direction from our own Describe, before rows of it arrive.
type portal struct {
	stmt   *statement
	intent *intent
	cols   *shown
}

// statements are the session's prepared statements: what the server has confirmed, and what was sent and not yet answered. Both directions use it.
type statements struct {
	mu        sync.Mutex
	confirmed map[string]*statement
	pending   map[string]*statement
}

func (s *statements) init() {
	s.confirmed, s.pending = map[string]*statement{}, map[string]*statement{}
}

// sent notes a Parse.
func (s *statements) sent(st *statement) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending[st.name] = st
}

// parsed notes ParseComplete.
func (s *statements) parsed(st *statement) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ; st.newer != nil; st = st.newer {
	}
	s.confirmed[st.name] = st
	if s.pending[st.name] == st {
		delete(s.pending, st.name)
	}
}

// failed notes that a Parse was refused or skipped. A failed Parse of the unnamed statement leaves none.
func (s *statements) failed(st *statement) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ; st.newer != nil; st = st.newer {
	}
	if s.pending[st.name] == st {
		delete(s.pending, st.name)
	}
	if st.name == "" {
		delete(s.confirmed, "")
	}
}

// protected tells whether a named statement mentions something protected.
func (s *statements) protected() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range []map[string]*statement{s.confirmed, s.pending} {
		for name, st := range m {
			if name != "" && st.flagged {
				return true
			}
		}
	}
	return false
}

// replace puts a newer analysis of the same statement in the place of an older one.
func (s *statements) replace(old, fresh *statement) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old.newer = fresh
	if s.pending[old.name] == old {
		s.pending[old.name] = fresh
	}
	if s.confirmed[old.name] == old {
		s.confirmed[old.name] = fresh
	}
}

// dropped notes CloseComplete.
func (s *statements) dropped(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.confirmed, name)
}

// find gives the statement that the server will take name for. sure is false when that depends on an answer still to come.
func (s *statements) find(name string) (st *statement, sure bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, c := s.pending[name], s.confirmed[name]
	switch {
	case p == nil:
		return c, true
	case name == "" || c == nil:
		return p, true // the unnamed one is replaced; without an older one a failed Parse leaves nothing to execute
	}
	return nil, false
}
