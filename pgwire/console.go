package pgwire

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"slices"
	"time"
)

// consoleDatabase is the name under which clients find the console instead of a database.
const consoleDatabase = "pgveil"

// console is an administrator's connection. It speaks the protocol as far as its statements need, and needs no backing database.
// One goroutine serves it.
type console struct {
	srv      *Server
	wire     *wire
	role     string
	addr     string
	key      []byte        // process ID and secret, as in BackendKeyData
	canceled chan struct{} // holds a token when the running statement was canceled

	prepared map[string]*command
	portals  map[string]*portalOfCommand
	skipping bool // everything until Sync, because a message failed
}

// portalOfCommand is a bound command of the console.
type portalOfCommand struct {
	*command
	formats []int // of its columns: 0 text, 1 binary
	ran     bool
	left    [][]any
}

// admit lets an administrator in.
func (s *Server) admit(c *wire, role string, final []byte) error {
	if !slices.Contains(s.cfg.Admins, role) {
		return &failure{code: "42501", message: "permission denied for the console", hint: "`pgveil serve --admin-roles` names the roles that may administer."}
	}
	if final != nil {
		c.send('R', append(appendInt32(nil, authSASLFinal), final...))
	}
	return c.send('R', appendInt32(nil, authOK))
}

// consoleProcesses begin above every process ID of an operating system, so that no session has one of them.
const consoleProcesses = 1 << 30

// console serves an administrator until he leaves or the front-end stops.
func (s *Server) console(c *wire, st *startup) {
	k := &console{srv: s, wire: c, role: st.user, addr: st.addr, key: make([]byte, 8), canceled: make(chan struct{}, 1),
		prepared: map[string]*command{}, portals: map[string]*portalOfCommand{}}
	rand.Read(k.key)
	binary.BigEndian.PutUint32(k.key, binary.BigEndian.Uint32(k.key)%consoleProcesses+consoleProcesses)
	s.mu.Lock()
	s.consoles[string(k.key)] = k
	s.mu.Unlock()
	stopped := context.AfterFunc(s.ctx, func() { c.conn.SetReadDeadline(time.Now()) })
	defer func() {
		stopped()
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.consoles, string(k.key))
	}()
	for _, p := range k.parameters(st) {
		c.send('S', appendString(appendString(nil, p[0]), p[1]))
	}
	c.send('K', k.key)
	c.send('Z', []byte{'I'})
	err := k.serve()
	if s.ctx.Err() != nil {
		err = errShutdown
	}
	if f := (*failure)(nil); errors.As(err, &f) {
		c.conn.SetWriteDeadline(time.Now().Add(lastWordsTime))
		c.send('E', f.fatal().response())
		c.w.Flush()
	}
}

// parameters are what drivers want to know. The version is the oldest that is supported: a newer one makes psql warn.
func (k *console) parameters(st *startup) [][2]string {
	name := ""
	for i := 0; i < len(st.params); i += 2 {
		if st.params[i] == "application_name" {
			name = st.params[i+1]
		}
	}
	return [][2]string{
		{"server_version", "13.0 (" + k.srv.title() + ")"}, {"server_encoding", "UTF8"}, {"client_encoding", "UTF8"},
		{"standard_conforming_strings", "on"}, {"DateStyle", "ISO, MDY"}, {"IntervalStyle", "postgres"}, {"TimeZone", "UTC"},
		{"integer_datetimes", "on"}, {"is_superuser", "off"}, {"session_authorization", k.role}, {"application_name", name},
	}
}

// interrupt cancels what a console does, if that is what the CancelRequest is for.
func (s *Server) interrupt(packet []byte) bool {
	s.mu.Lock()
	k := s.consoles[string(packet[8:])]
	s.mu.Unlock()
	if k == nil {
		return false
	}
	select {
	case k.canceled <- struct{}{}:
	default:
	}
	return true
}

// serve answers messages until the client terminates.
func (k *console) serve() error {
	for {
		if err := k.flush(); err != nil {
			return err
		}
		kind, n, err := k.wire.header()
		if err != nil {
			return err
		}
		body, err := k.wire.take(kind, n, maxEarlyBody)
		if err != nil {
			return failureOf(err)
		}
		if kind == 'X' {
			return nil
		}
		if k.skipping && kind != 'S' {
			continue
		}
		if err := k.message(kind, body); err != nil {
			f := failureOf(err)
			if f.severity != "" {
				return f
			}
			if err := k.wire.send('E', f.response()); err != nil {
				return err
			}
			k.skipping = kind != 'Q' && kind != 'F'
		}
		if kind == 'Q' || kind == 'S' || kind == 'F' {
			k.skipping = false
			if err := k.wire.send('Z', []byte{'I'}); err != nil {
				return err
			}
		}
	}
}

// flush sends the answers, unless more messages have come already.
func (k *console) flush() error {
	if k.wire.whole() {
		return nil
	}
	return k.wire.w.Flush()
}

// message handles one message of the client.
func (k *console) message(kind byte, body []byte) error {
	c := cursor{b: body}
	switch kind {
	case 'Q':
		text := string(c.string())
		if !c.done() {
			return errMalformed
		}
		return k.simple(text)
	case 'P':
		return k.parse(&c)
	case 'B':
		return k.bind(&c)
	case 'D':
		return k.describe(&c)
	case 'E':
		return k.execute(&c)
	case 'C':
		what, name := c.byte(), string(c.string())
		if what == 'S' {
			delete(k.prepared, name)
		} else {
			delete(k.portals, name)
		}
		return k.wire.send('3', nil)
	case 'H':
		return k.wire.w.Flush()
	case 'S', 'c', 'd', 'f':
		return nil
	case 'F':
		return &failure{code: "0A000", message: "the console has no functions", hint: consoleHint}
	}
	return (&failure{code: "08P01", message: "invalid frontend message type"}).fatal()
}

// simple runs the statements of a Query. None runs if one of them is unknown.
func (k *console) simple(text string) error {
	commands, err := k.srv.commands(text)
	if err != nil {
		return err
	}
	if len(commands) == 0 {
		return k.wire.send('I', nil)
	}
	for _, c := range commands {
		p := &portalOfCommand{command: c, formats: make([]int, len(c.columns))}
		if err := k.run(p); err != nil {
			return err
		}
		if c.columns != nil {
			k.wire.send('T', p.description())
		}
		if err := k.send(p, 0); err != nil {
			return err
		}
	}
	return nil
}

func (k *console) parse(c *cursor) error {
	name, text := string(c.string()), string(c.string())
	for range c.count() {
		c.int32() // types of parameters, of which there are none
	}
	if !c.done() {
		return errMalformed
	}
	commands, err := k.srv.commands(text)
	if err != nil {
		return err
	}
	switch len(commands) {
	case 0:
		commands = []*command{{}}
	case 1:
	default:
		return &failure{code: "42601", message: "cannot insert multiple commands into a prepared statement"}
	}
	if len(k.prepared) >= maxPrepared {
		clear(k.prepared)
	}
	k.prepared[name] = commands[0]
	return k.wire.send('1', nil)
}

// maxPrepared bounds the statements and portals that a console remembers.
const maxPrepared = 1000

func (k *console) bind(c *cursor) error {
	portal, name := string(c.string()), string(c.string())
	for range c.count() {
		c.int16()
	}
	parameters := c.count()
	formats := make([]int, c.count())
	for i := range formats {
		formats[i] = c.int16()
	}
	statement := k.prepared[name]
	switch {
	case parameters > 0:
		return &failure{code: "08P01", message: "the console's statements have no parameters"}
	case !c.done():
		return errMalformed
	case statement == nil:
		return &failure{code: "26000", message: "prepared statement does not exist"}
	}
	switch len(formats) {
	case len(statement.columns):
	case 0:
		formats = make([]int, len(statement.columns))
	case 1:
		formats = slices.Repeat(formats, len(statement.columns))
	default:
		return &failure{code: "08P01", message: "bind message has the wrong number of result formats"}
	}
	if len(k.portals) >= maxPrepared {
		clear(k.portals)
	}
	k.portals[portal] = &portalOfCommand{command: statement, formats: formats}
	return k.wire.send('2', nil)
}

func (k *console) describe(c *cursor) error {
	what, name := c.byte(), string(c.string())
	var p *portalOfCommand
	if what == 'S' {
		statement := k.prepared[name]
		if statement == nil {
			return &failure{code: "26000", message: "prepared statement does not exist"}
		}
		p = &portalOfCommand{command: statement, formats: make([]int, len(statement.columns))}
		k.wire.send('t', appendInt16(nil, 0))
	} else if p = k.portals[name]; p == nil {
		return errNoPortal
	}
	if p.columns == nil {
		return k.wire.send('n', nil)
	}
	return k.wire.send('T', p.description())
}

var errNoPortal = &failure{code: "34000", message: "portal does not exist"}

func (k *console) execute(c *cursor) error {
	name, limit := string(c.string()), c.int32()
	p := k.portals[name]
	switch {
	case !c.done():
		return errMalformed
	case p == nil:
		return errNoPortal
	case p.tag == "":
		return k.wire.send('I', nil)
	}
	if err := k.run(p); err != nil {
		return err
	}
	return k.send(p, limit)
}

// run runs the command, if the portal has not done so.
func (k *console) run(p *portalOfCommand) (err error) {
	if p.ran || p.run == nil {
		return nil
	}
	p.ran = true
	p.left, err = p.run(k)
	return err
}

// send sends rows, at most limit unless that is 0, and how the command ended.
func (k *console) send(p *portalOfCommand, limit int) error {
	n := len(p.left)
	if limit > 0 {
		n = min(n, limit)
	}
	for _, row := range p.left[:n] {
		if err := k.wire.send('D', p.row(row)); err != nil {
			return err
		}
	}
	p.left = p.left[n:]
	if len(p.left) > 0 {
		return k.wire.send('s', nil)
	}
	return k.wire.send('C', appendString(nil, p.tag))
}

// pause holds all statements back, and returns when none is running. If it is canceled, or the client goes, nobody is held back.
func (k *console) pause() error {
	select {
	case <-k.canceled: // of an earlier statement
	default:
	}
	k.srv.gate.shut()
	gone, stop := k.watch()
	defer stop()
	every := time.NewTicker(quietEvery)
	defer every.Stop()
	for !k.srv.quiet() {
		select {
		case <-every.C:
		case <-k.canceled:
			k.srv.resume()
			return &failure{code: "57014", message: "canceling statement due to user request"}
		case <-gone:
			k.srv.resume()
			return errGone
		case <-k.srv.ctx.Done():
			return errShutdown
		}
		if !k.srv.gate.closed.Load() {
			return &failure{code: "55000", message: "RESUME came before everything was quiet"}
		}
	}
	return nil
}

// watch reads ahead while a statement runs, to see whether the client goes. stop must be called before anything else is read.
func (k *console) watch() (gone <-chan struct{}, stop func()) {
	closed, done := make(chan struct{}), make(chan struct{})
	if k.wire.r.Buffered() > 0 { // it has sent more: it is there
		return closed, func() {}
	}
	go func() { // ends by stop
		defer close(done)
		var timeout interface{ Timeout() bool }
		if err := k.wire.r.fill(); err != nil && !(errors.As(err, &timeout) && timeout.Timeout()) {
			close(closed)
		}
	}()
	return closed, func() {
		k.wire.conn.SetReadDeadline(time.Now())
		<-done
		if k.srv.ctx.Err() == nil {
			k.wire.conn.SetReadDeadline(time.Time{})
		}
	}
}
