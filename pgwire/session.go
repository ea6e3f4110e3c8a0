package pgwire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"pgveil/catalog"
	"pgveil/engine"
	"pgveil/internal/netloop"
	"pgveil/sql"
)

// session is one client connection and its server connection. Its upstream direction reads the client and writes the server; the downstream
// one reads the server and writes the client.
type session struct {
	srv    *Server
	ctx    context.Context
	cancel context.CancelFunc
	client *wire
	server *wire
	role   string
	dbName string
	db     *database
	addr   string
	facts  []any   // of the connection, for the log
	ticket *ticket // its place among the connections
	pid    uint32
	began  time.Time
	key    []byte // a CancelRequest for the server's process
	tally  tally
	name   atomic.Pointer[string] // application_name

	up, down       direction
	halves         atomic.Int32 // directions that have not ended
	upErr, downErr error        // why they have
	fifo           *fifo
	status         atomic.Int32 // transaction status of the last ReadyForQuery: I, T or E
	stopping       atomic.Bool  // tell the client when it is idle
	unsynced       atomic.Bool  // extended messages were sent since the last Sync; upstream writes it
	took           atomic.Bool  // of taking
	held           atomic.Bool  // the client's next statement waits for RESUME
	killed         atomic.Bool  // by an administrator
	encodingOK     atomic.Bool  // client_encoding and standard_conforming_strings fit
	cleanEnd       atomic.Bool  // the client said Terminate
	erred          atomic.Bool  // an error was answered since the transaction began: portals may not be what they were noted as

	statements statements
	reads      reads

	// of the upstream direction
	skipping bool      // ours: everything until Sync is dropped, because a message of the client was refused
	since    time.Time // a view of the database must not be older
	stale    bool      // a statement may have changed the schema
	private  *view
	loaded   time.Time // when private was
	both     *view     // private and what all see
	shared   *view     // the half of both that all see
	prepared *view     // under which the first of SQL's own prepared statements was made
	forgets  bool      // a statement may have dropped prepared statements
	settings bool      // a setting may have changed since the last Sync
	portals  map[string]*portal
	forgot   bool // since the last Sync the unnamed portal was replaced by one that nothing is noted of
	doubtful bool // the same before a Sync, and it may have failed: the older one may still be there

	// of the downstream direction
	rows     *shown // of the result that a simple query is returning
	dropping bool   // an error of ours ended the result: its remaining messages are not for the client
	inGroup  int    // Executes answered since the last Sync
	params   map[string]string
	row      []byte // scratch
	told     bool   // the server has said why it ends the connection
}

// open authenticates the client and logs in to the backing database in its name. It gives nil without an error for an administrator at the console.
func (s *Server) open(c *wire, st *startup) (*session, error) {
	if st.newer {
		if err := c.send('v', st.negotiation()); err != nil {
			return nil, err
		}
	}
	keys, final, err := s.authenticate(c, st)
	if err != nil {
		return nil, err
	}
	if st.db == consoleDatabase {
		return nil, s.admit(c, st.user, final)
	}
	if err := s.enter(c); err != nil {
		return nil, err
	}
	defer s.gate.leave()
	ctx, cancel := context.WithCancel(context.Background()) // a session outlives the order to stop by the time it needs to finish
	stopping := context.AfterFunc(s.ctx, cancel)            // until it is a session
	b, err := s.login(ctx, st, keys)
	stopping()
	if err != nil {
		cancel()
		return nil, err
	}
	x := &session{srv: s, ctx: ctx, cancel: cancel, client: c, server: b.wire, role: st.user, dbName: st.db, db: s.database(st.db), addr: st.addr,
		facts: st.facts(), ticket: st.ticket, pid: b.pid, began: time.Now(), fifo: newFIFO(), portals: map[string]*portal{}, params: b.params, key: cancelRequest(b.greeting)}
	x.noteName()
	x.statements.init()
	x.reads.init(x)
	x.fifo.stuck = x.close
	x.status.Store(int32(b.status))
	x.checkEncoding()
	x.since = time.Now() // what was made before this connection is known to it
	if final != nil {
		c.send('R', append(appendInt32(nil, authSASLFinal), final...))
	}
	c.send('R', appendInt32(nil, authOK))
	if _, err := c.w.Write(b.greeting); err == nil {
		err = c.w.Flush()
	}
	if err != nil {
		cancel()
		b.conn.Close()
		return nil, err
	}
	return x, nil
}

// close ends both directions at once. It may be called from anywhere.
func (x *session) close() {
	x.cancel()
	x.server.conn.Close()
	x.client.conn.Close()
	x.down.kick()
	x.up.kick()
}

// start relays until either side ends. It returns at once: what is left to do when the session ends is done by the directions' ends.
func (x *session) start() {
	x.halves.Store(2)
	x.up = direction{src: x.client, dst: x.server, step: x.guarded(x.upstream), stop: x.upEnded, over: func() bool { return x.client.sock.Closed() || x.held.Load() && !x.waits() }}
	x.down = direction{src: x.server, dst: x.client, step: x.guarded(x.downstream), stop: x.downEnded,
		over: func() bool { return x.server.sock.Closed() || x.leaving() }}
	x.up.state.Store(away)
	x.down.state.Store(away)
	x.client.r.early, x.server.r.early = false, false
	if x.srv.cfg.Trace {
		x.trace()
	}
	if !x.srv.add(x) {
		x.stopping.Store(true)
	}
	if err := x.adopt(); err != nil { // no loops on this platform
		go x.up.serve()
		go x.down.serve()
	}
}

// adopt hands both sockets to a loop. While that goes on the directions are nobody's.
func (x *session) adopt() error {
	l := x.srv.loops.Least()
	if l == nil || x.client.sock == nil || x.server.sock == nil {
		return errors.ErrUnsupported
	}
	err := x.server.sock.Adopt(l, func(in, out bool) { tell(x.server.sock, in, &x.down, out, &x.up) })
	if err != nil {
		return err
	}
	if err := x.client.sock.Adopt(l, func(in, out bool) { tell(x.client.sock, in, &x.up, out, &x.down) }); err != nil {
		x.srv.cfg.Logger.Error("connection could not be served", "error", err)
		x.client.conn.Close()
	}
	for _, d := range []*direction{&x.down, &x.up} {
		d.again = func() { l.Post(func() { d.ready() }) }
		d.state.Store(idle)
		d.again()
	}
	return nil
}

// tell passes a socket's event on to the direction that reads it and to the one that writes it.
func tell(s *netloop.Socket, in bool, reads *direction, out bool, writes *direction) {
	if in && !reads.ready() {
		s.Wake(true, false)
	}
	if out && s.Behind() && !writes.ready() {
		s.Wake(false, true)
	}
}

// upEnded follows the end of the client's messages.
func (x *session) upEnded(err error) {
	x.upErr = err
	if !x.cleanEnd.Load() && !errors.Is(err, io.EOF) {
		x.server.conn.Close()
		x.down.kick()
	} else if errors.Is(err, errMalformed) { // the server says so, and ends the connection
		x.server.w.Flush()
	} else { // the server finishes what it was sent, as it would for the client itself
		if !x.cleanEnd.Swap(true) {
			x.server.send('X', nil)
		}
		x.server.w.Flush()
		x.server.closeWrite() // the server takes Terminate for an error where it waits for COPY data, and goes on until it finds the end
	}
	x.halfEnded()
}

// downEnded follows the end of the server's messages.
func (x *session) downEnded(err error) {
	x.downErr = err
	x.fifo.close()
	x.cancel()
	x.server.conn.Close() // wakes upstream where it writes
	if x.client.sock != nil {
		x.client.sock.Drain(lastWordsTime)
	}
	x.client.conn.Close() // and where it reads
	x.up.kick()
	x.halfEnded()
}

// halfEnded does what is left when both directions have ended.
func (x *session) halfEnded() {
	if x.halves.Add(-1) > 0 {
		return
	}
	x.close()
	for _, c := range []*wire{x.client, x.server} {
		c.release()
		c.w.release()
		if c.sock != nil {
			c.sock.Release()
		}
	}
	x.reads.finish()
	x.srv.cfg.Logger.Info("session ended", append([]any{"session", x.pid, "role", x.role, "database", x.dbName, "addr", x.addr,
		"application_name", printable(x.params["application_name"]), "duration", time.Since(x.began), "reason", reason(x, x.upErr, x.downErr),
		"received", x.client.r.received.Load(), "sent", x.client.w.sent.Load()}, x.facts...)...)
	x.ticket.leave()
	x.srv.remove(x)
}

// guarded turns a defect of ours into the end of this session alone. What was panicked with is not logged: it may hold a value.
func (x *session) guarded(step func() error) func() error {
	return func() (err error) {
		defer func() {
			if r := recover(); r != nil {
				x.srv.metrics.panics.Inc()
				x.srv.cfg.Logger.Error("session panicked", "session", x.pid, "stack", stack())
				err = errPanicked
			}
		}()
		return step()
	}
}

var errPanicked = errors.New("a defect of the front-end ended the session")

func reason(x *session, up, down error) string {
	switch {
	case x.killed.Load():
		return "killed"
	case x.cleanEnd.Load():
		return "client terminated"
	case x.stopping.Load():
		return "shutdown"
	case errors.Is(up, io.EOF), errors.Is(up, net.ErrClosed):
		return "client disconnected"
	case down != nil:
		return "server connection lost"
	}
	return "connection lost"
}

// finish asks the session to end: at once if it is idle, else when the server has answered everything.
func (x *session) finish() {
	x.stopping.Store(true)
	if x.fifo.isEmpty() {
		x.server.conn.SetReadDeadline(time.Now()) // wakes downstream where no loop does
	}
	x.down.kick()
}

// leaving tells whether the session was asked to end, and has nothing to finish.
func (x *session) leaving() bool { return x.stopping.Load() && x.fifo.isEmpty() }

// lastWordsTime is how long a client may take to receive why its session ends.
const lastWordsTime = time.Second

// say sends the client why its session ends. It does not wait for a client that does not read; downEnded does, for a moment.
func (x *session) say(f *failure) {
	if x.server.rest > 0 {
		return // the client would take it for the rest of a message
	}
	x.client.w.nonblock = true
	x.client.conn.SetWriteDeadline(time.Now().Add(lastWordsTime))
	x.client.send('E', f.response())
	x.client.w.Flush()
}

var errShutdown = &failure{severity: "FATAL", code: "57P01", message: "terminating connection due to administrator command"}

// goodbye is what PostgreSQL says when it shuts down.
func (x *session) goodbye() {
	x.say(errShutdown)
}

// checkEncoding notes whether texts and values are what they seem: UTF-8, with backslashes that mean nothing. SQL_ASCII on both sides, or over a
// UTF8 database, passes bytes through unchanged.
func (x *session) checkEncoding() {
	enc, server := x.params["client_encoding"], x.params["server_encoding"]
	ok := enc == "UTF8" || enc == "SQL_ASCII" && (server == "UTF8" || server == "SQL_ASCII")
	x.encodingOK.Store(ok && x.params["standard_conforming_strings"] != "off")
}

// look gives the database as this session sees it now.
func (x *session) look() (*view, error) {
	snap, err := x.srv.cfg.Catalog.Current()
	if err != nil {
		return nil, err
	}
	idle := x.status.Load() == 'I' && !x.unsynced.Load() && x.fifo.isEmpty()
	if idle {
		if x.stale || x.private != nil {
			x.since = time.Now()
		}
		x.stale, x.private = false, nil
	}
	shared := x.db.peek(snap, x.since)
	if shared == nil {
		if x.up.inline {
			return nil, errAway
		}
		if shared, err = x.db.look(x.ctx, snap, x.since); err != nil {
			return nil, err
		}
	}
	if len(snap.Columns(x.dbName)) > 0 && (x.stale || x.private != nil && (x.private.snap.Epoch() != snap.Epoch() || time.Since(x.loaded) > maxAge)) {
		// Changes that are not committed are seen on the session's own connection only.
		v, err := load(x.ctx, x.query, snap, x.dbName)
		if err != nil {
			return nil, err
		}
		x.stale, x.private, x.loaded, x.both = false, v, time.Now(), nil
	}
	if x.private == nil {
		return shared, nil
	}
	if x.both == nil || x.shared != shared {
		// What the session has dropped may come back when it rolls back to a savepoint, and others go on making things.
		x.both, x.shared = x.private.union(shared), shared
	}
	return x.both, nil
}

// access is what the session's login role may do with a policy's values.
func (x *session) access(v *view) func(policy string) (sql.Access, bool) {
	return func(policy string) (sql.Access, bool) {
		if v.lapsed {
			return sql.Access{}, false
		}
		p := v.snap.Policy(policy)
		if p == nil || p.Transform == nil {
			return sql.Access{}, false
		}
		a := sql.Access{Tokenize: v.snap.May(x.role, catalog.Tokenize, policy), Reveal: v.snap.May(x.role, catalog.Reveal, policy)}
		mask := v.snap.May(x.role, catalog.Mask, policy)
		switch {
		case p.Method() == engine.OneWay: // there is no value to show: who may see one gets a mask, not a token that looks like one
			if a.Reveal || mask {
				a.View = sql.Mask
			}
			a.Reveal = false
		case a.Reveal:
			a.View = sql.Clear
		case mask:
			a.View = sql.Mask
		}
		return a, true
	}
}

// views tells whether the role sees values or masks of any protected column of the database.
func (x *session) views(v *view) bool {
	access := x.access(v)
	for _, c := range v.snap.Columns(x.dbName) {
		if a, ok := access(c.Policy.Name); !ok || a.View != sql.Token {
			return true
		}
	}
	return false
}

// tokenizes tells whether the role may tokenize with any policy of the database's columns.
func (x *session) tokenizes(v *view) bool {
	access := x.access(v)
	for _, c := range v.snap.Columns(x.dbName) {
		if a, ok := access(c.Policy.Name); ok && a.Tokenize {
			return true
		}
	}
	return false
}

// convert carries out steps on a value and gives a fresh slice.
func (x *session) convert(v *view, value []byte, steps []sql.Step) ([]byte, error) {
	for _, st := range steps {
		p := v.snap.Policy(st.Policy)
		if p == nil || p.Transform == nil {
			return nil, &failure{code: "42704", message: fmt.Sprintf("policy %q cannot be used", st.Policy), hint: "`pgveil doctor` shows what is wrong with it."}
		}
		var err error
		switch st.Op {
		case sql.Tokenize:
			value, err = p.Transform.AppendToken(nil, value, p.Active)
		case sql.TokenizeForColumn:
			value, err = p.Transform.AppendToken(nil, value, p.ColumnVersion)
		case sql.TokenOrValue:
			if !p.Transform.Is(value) {
				value, err = p.Transform.AppendToken(nil, value, p.ColumnVersion)
			}
		case sql.Detokenize:
			value, err = p.Transform.AppendPlain(nil, value)
		case sql.CheckToken:
			_, err = p.Transform.AppendPlain(nil, value)
		default:
			err = errMalformed
		}
		if err != nil {
			return nil, err
		}
	}
	return value, nil
}
