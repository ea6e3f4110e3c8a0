package pgwire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"pgveil/sql"
)

// upstream relays what has come from the client to the server.
func (x *session) upstream() error {
	for {
		if x.held.Load() {
			x.held.Store(false)
		}
		err := x.messages()
		if err == nil || errors.Is(err, errAway) {
			if flushed := x.server.w.Flush(); flushed != nil {
				return flushed
			}
		}
		if err != nil {
			return err
		}
		if x.held.Load() && x.crammed() {
			return errIdle
		}
		x.taking(false)
		err = x.up.more()
		if err == io.EOF && x.client.rest > 0 {
			return io.ErrUnexpectedEOF // the server would take Terminate for the rest of the message
		}
		if err != nil {
			return err
		}
	}
}

// messages handles what is buffered. It returns nil when it needs more.
func (x *session) messages() error {
	c := x.client
	for {
		if x.cleanEnd.Load() { // what follows Terminate is for nobody
			c.r.next(c.r.Buffered())
			return nil
		}
		if c.rest > 0 {
			if err := c.pass(x.server); err != nil {
				return err
			}
		}
		have := c.r.unread()
		if c.rest > 0 || len(have) < headSize {
			return nil
		}
		x.taking(true)
		if x.srv.gate.closed.Load() && x.holds(have[0]) {
			return nil
		}
		if have[0] == 'd' && !x.skipping { // CopyData may be of any size
			if length := binary.BigEndian.Uint32(have[1:]); length >= 4 && length <= maxLength {
				if x.up.inline && x.fifo.crowded() {
					return errAway
				}
				x.fifo.push(copyData)
				if err := c.forwardRun(x.server, 'd'); err != nil {
					return err
				}
				continue
			}
		}
		if x.up.inline && (x.fifo.crowded() || c.large()) {
			return errAway
		}
		if !c.whole() && (x.skipping || strings.IndexByte(clientMessages, have[0]) >= 0) {
			if x.up.inline {
				return nil
			}
			if err := x.server.w.Flush(); err != nil {
				return err
			}
		}
		mark := c.r.from
		kind, n, err := c.header()
		if errors.Is(err, errMalformed) {
			return x.nonsense()
		}
		if err != nil {
			return err
		}
		if c.trace != nil && !x.up.traced {
			c.trace.received(kind, n)
		}
		err = x.message(kind, n)
		x.up.traced = errors.Is(err, errAway)
		if x.up.traced {
			c.r.from = mark
		}
		if err != nil {
			return err
		}
	}
}

// clientMessages are the types of what a client may send; what else comes is not waited for.
const clientMessages = "QPBDECSHFdcfX"

// message handles one message of the client.
func (x *session) message(kind byte, n int) error {
	if x.skipping && kind != 'S' && kind != 'X' {
		return x.client.skip(n)
	}
	if strings.IndexByte(clientMessages, kind) < 0 {
		return x.nonsense()
	}
	body, err := x.client.take(kind, n, maxBody)
	if err != nil {
		return x.fail(err)
	}
	switch kind {
	case 'X':
		x.cleanEnd.Store(true)
		return x.server.send(kind, body)
	case 'Q':
		return x.simple(body)
	case 'P':
		return x.parse(body)
	case 'B':
		return x.bind(body)
	case 'D':
		return x.describeMessage(body)
	case 'E':
		return x.execute(body)
	case 'C':
		return x.closeMessage(body)
	case 'S':
		x.skipping = false
		x.doubtful, x.forgot = x.doubtful || x.forgot, false
		return x.pass(synced, body)
	case 'H':
		return x.server.send(kind, body)
	case 'F':
		return x.functionCall(body)
	default: // c, f
		x.fifo.push(&expected{kind: 'd'})
		return x.server.send(kind, body)
	}
}

// nonsense passes on the header of what is no message. The server answers that it is none, behind the replies it owes, and ends the connection.
func (x *session) nonsense() error {
	x.cleanEnd.Store(true)
	if _, err := x.server.w.Write(x.client.head[:]); err != nil {
		return err
	}
	return errMalformed
}

// pass notes what is expected and sends the message.
func (x *session) pass(e *expected, body []byte) error {
	if unsynced := e.kind != 'S' && e.kind != 'Q' && e.kind != 'F'; unsynced != x.unsynced.Load() {
		x.unsynced.Store(unsynced)
	}
	if x.doubtful && x.fifo.isEmpty() {
		x.doubtful = false // erred tells
	}
	if !x.fifo.push(e) && e.kind == 'P' {
		x.statements.failed(e.stmt)
	}
	return x.server.send(e.kind, body)
}

// fail ends the session with an error that the client sees after everything already answered.
func (x *session) fail(err error) error {
	f := failureOf(err)
	x.fifo.push(&expected{kind: '!', refusal: f.fatal()})
	return io.EOF // the server's replies end as after Terminate, where downstream finds the entry
}

// unparsable is sent in the place of a refused message, so that the server raises an error where it stands.
const unparsable = "pgveil refused this statement"

// refuse answers the client's message by an error of ours, in its place among the replies.
func (x *session) refuse(kind byte, name string, err error) error {
	if errors.Is(err, errSkipped) { // the server ignores it, and everything until Sync
		x.skipping = true
		return nil
	}
	if errors.Is(err, errAway) || errors.Is(err, errGone) || x.ctx.Err() != nil {
		return err
	}
	f := failureOf(err)
	if f.code == "XX000" {
		x.srv.cfg.Logger.Error("statement could not be processed", "session", x.pid, "error", safe(err))
	}
	x.tally.statements[refused].Add(1)
	e := &expected{refusal: f}
	if kind == 'Q' || kind == 'F' {
		e.kind = 'Q'
		return x.pass(e, appendString(nil, unparsable))
	}
	e.kind = 'P'
	if kind != 'P' {
		name = probeName // the client's unnamed statement stays
	}
	e.stmt = &statement{name: name}
	x.statements.sent(e.stmt)
	x.skipping = true
	return x.pass(e, appendInt16(appendString(appendString(nil, name), unparsable), 0))
}

// safe is an error's text where it is known to hold nothing of the client's.
func safe(err error) string {
	var server *serverError
	if errors.As(err, &server) {
		return "the server refused an internal query"
	}
	return err.Error()
}

// analysis is what was decided for a text.
type analysis struct {
	view    *view
	plan    *sql.Plan // nil: it mentions nothing protected
	edited  *sql.Edited
	text    string // to send
	changed bool
}

// analyze decides what becomes of a text and makes the tokens that it needs.
func (x *session) analyze(text string) (*analysis, error) {
	if x.settings && !x.unsynced.Load() { // how this text is read depends on what the server is about to say
		if x.up.inline && !x.fifo.isEmpty() {
			return nil, errAway
		}
		if err := x.server.w.Flush(); err != nil {
			return nil, err
		}
		if !x.fifo.idle() {
			return nil, errGone
		}
		x.settings = false
	}
	v, err := x.look()
	if err == nil && x.up.inline && !v.schema.Empty() && x.db.words.unknown(text) {
		return nil, errAway
	}
	if err == nil && !v.schema.Empty() && x.db.words.fresh(text) {
		x.since, x.loaded = time.Now(), time.Time{}
		v, err = x.look()
	}
	if errors.Is(err, errAway) {
		return nil, err
	}
	if err != nil {
		if last := x.db.lastKnown(); last != nil && !errors.Is(err, errSkipped) && !last.schema.Mentions(text) {
			return &analysis{view: last, text: text}, nil
		}
		return nil, err
	}
	return x.analyzeUnder(v, text)
}

func (x *session) analyzeUnder(v *view, text string) (*analysis, error) {
	a := &analysis{view: v, text: text}
	if v.schema.Foreign() && !x.encodingOK.Load() && strings.ContainsFunc(text, func(r rune) bool { return r >= utf8.RuneSelf }) {
		return nil, errEncoding // a name may be spelled in bytes that we do not know
	}
	if x.prepared != nil && x.prepared.columns != v.columns && sql.Prepares(text) {
		if err := x.moved(v); err != nil && err != errMoved { // there may be none left
			return nil, err
		}
	}
	if !v.schema.Mentions(text) {
		return a, nil
	}
	if x.up.inline {
		return nil, errAway
	}
	views := x.views(v)
	if views && x.settings && x.unsynced.Load() {
		return nil, &failure{code: "0A000", message: "a setting was changed in the same pipeline before a statement that names something protected", hint: "Send Sync after SET."}
	}
	if err := x.movedUnderPrepare(v, text); err != nil {
		return nil, err
	}
	plan, err := sql.Analyze(sql.Request{Text: text, Schema: v.schema, Catalog: &resolver{x.ctx, v, x.query}, Access: x.access(v), Views: views, Tokenizes: x.tokenizes(v)})
	if err != nil {
		return nil, err
	}
	if !x.encodingOK.Load() && (views || plan.Verdict != sql.Relay) {
		return nil, errEncoding
	}
	edited, err := plan.Apply(text, func(val *sql.Value) (string, error) { return x.fill(v, val) })
	if err != nil {
		return nil, err
	}
	a.plan, a.edited, a.text, a.changed = plan, &edited, edited.Text, edited.Text != text
	return a, nil
}

// movedUnderPrepare refuses EXECUTE where what is protected has changed since SQL's own prepared statements were made: those were looked at then.
func (x *session) movedUnderPrepare(v *view, text string) error {
	if x.statements.protected() && sql.Executes(text) {
		return &failure{code: "0A000", message: "EXECUTE is not supported in a session that has prepared a protected statement by the protocol: it could run that one", hint: "Run it by Bind and Execute messages, as drivers do, or in another session."}
	}
	if !sql.Prepares(text) {
		return nil
	}
	return x.moved(v)
}

// moved refuses to run SQL's own prepared statements where one was made under a view that has changed in a way that may matter to it. The server knows which
// there are: not every DEALLOCATE drops all, nor does every one succeed.
func (x *session) moved(v *view) error {
	if x.prepared == nil || x.prepared == v {
		return nil
	}
	rows, err := x.query(x.ctx, "SELECT statement FROM pg_catalog.pg_prepared_statements WHERE from_sql")
	if err != nil {
		return err
	}
	if len(rows) > 0 && x.prepared.columns != v.columns {
		return errMoved
	}
	views := x.views(v)
	for _, r := range rows {
		if text := string(r[0]); views && v.schema.Names(text) && !x.prepared.schema.Names(text) {
			return errMoved
		}
	}
	x.prepared = v
	return nil
}

var errMoved = &failure{code: "0A000", message: "what is protected has changed since the session's first PREPARE", hint: "DEALLOCATE ALL, and prepare the statements again."}

func (x *session) fill(v *view, val *sql.Value) (string, error) {
	if val.Param > 0 {
		return "$" + itoa(val.Param), nil
	}
	if val.Null {
		return "NULL", nil
	}
	out, err := x.convert(v, []byte(val.Text), val.Steps)
	if err != nil {
		return "", err
	}
	return sql.QuoteLiteral(string(out)), nil
}

func (x *session) count(a *analysis) {
	verdict := sql.Relay
	if a.plan != nil {
		verdict = a.plan.Verdict
	}
	x.tally.statements[verdict].Add(1)
}

// simple handles Query.
func (x *session) simple(body []byte) error {
	raw, ok := bytes.CutSuffix(body, []byte{0})
	if !ok || bytes.IndexByte(raw, 0) >= 0 {
		return x.refuse('Q', "", errMalformed)
	}
	text := string(raw)
	a, err := x.analyze(text)
	if err != nil {
		return x.refuse('Q', "", err)
	}
	e := &expected{kind: 'Q', view: a.view}
	if a.plan != nil {
		if e.intent, err = x.reads.plan(a.plan); err != nil {
			return x.refuse('Q', "", err)
		}
		e.plan, e.text, e.edited = a.plan, text, a.edited
	}
	x.note(a, text)
	if a.changed {
		body = appendString(make([]byte, 0, len(a.text)+1), a.text)
	}
	return x.pass(e, body)
}

// note remembers what a text may change for the texts after it.
func (x *session) note(a *analysis, text string) {
	x.count(a)
	if sql.Inert(text) {
		x.settings = x.settings && x.unsynced.Load()
		return
	}
	x.stale = x.stale || sql.ChangesSchema(text) || x.private != nil && sql.RollsBack(text)
	x.settings = x.settings && x.unsynced.Load() || sql.ChangesSettings(text)
	if sql.Forgets(text) {
		x.forgets = true
	}
	if x.prepared == nil && sql.Prepares(text) {
		x.prepared = a.view
	}
}

// parse handles Parse.
func (x *session) parse(body []byte) error {
	c := cursor{b: body}
	name, text := string(c.string()), string(c.string())
	types := make([]uint32, c.count())
	for i := range types {
		types[i] = uint32(c.int32())
	}
	if !c.done() {
		return x.refuse('P', name, errMalformed)
	}
	a, err := x.analyze(text)
	if err == nil {
		err = parameterTypes(a.plan, types)
	}
	if err != nil {
		return x.refuse('P', name, err)
	}
	st := &statement{name: name, text: text}
	st.set(a)
	x.note(a, text)
	if a.changed {
		out := appendString(appendString(make([]byte, 0, len(a.text)+len(body)), name), a.text)
		out = appendInt16(out, len(types))
		for _, t := range types {
			out = appendInt32(out, int(t))
		}
		body = out
	}
	x.statements.sent(st)
	return x.pass(&expected{kind: 'P', stmt: st}, body)
}

// set takes over what was decided for the statement's text.
func (st *statement) set(a *analysis) {
	st.view, st.plan, st.edited = a.view, a.plan, a.edited
	// Rows of a cursor are described too: they come from a statement that is not this one.
	st.flagged = a.plan != nil || !a.view.schema.Empty() && !sql.Inert(st.text) && sql.ReadsCursor(st.text)
	if st.flagged && st.plan == nil {
		st.plan = &sql.Plan{Statements: 1}
	}
}

// parameterTypes refuses a parameter that becomes a token but was declared as something else than text.
func parameterTypes(plan *sql.Plan, types []uint32) error {
	if plan == nil {
		return nil
	}
	for n := range plan.Params {
		if n > len(types) {
			continue
		}
		switch types[n-1] {
		case 0, oidText, oidVarchar, 705: // not given, or unknown
		default:
			return &failure{code: "0A000", message: "parameter $" + itoa(n) + " belongs to a protected column but is not declared as text", hint: "Bind it as text or varchar."}
		}
	}
	return nil
}

// maxPortals is how many portals are remembered before those of past transactions are forgotten.
const maxPortals = 64

// bind handles Bind: the values of parameters become tokens.
func (x *session) bind(body []byte) error {
	c := cursor{b: body}
	portalName, name := string(c.string()), string(c.string())
	if c.bad {
		return x.refuse('B', "", errMalformed)
	}
	st, err := x.statement(name)
	if err == nil && st != nil && st.flagged && x.up.inline {
		err = errAway
	}
	if err != nil {
		return x.refuse('B', "", err)
	}
	if st == nil || !st.flagged {
		x.forgot = x.forgot || portalName == "" && x.portals[""] != nil
		delete(x.portals, portalName)
		return x.pass(plainBind, body)
	}
	p := &portal{stmt: st}
	if p.intent, err = x.reads.plan(st.plan); err != nil {
		return x.refuse('B', "", err)
	}
	if body, err = x.bindValues(st, body, &c); err != nil {
		return x.refuse('B', "", err)
	}
	if len(x.portals) > maxPortals && x.status.Load() == 'I' && !x.unsynced.Load() && x.fifo.isEmpty() {
		clear(x.portals) // they ended with their transactions
	}
	x.portals[portalName] = p
	if err := x.pass(&expected{kind: 'B', portal: p}, body); err != nil {
		return err
	}
	// Our own Describe: the rows are shown by what this portal returns now, not by what the client remembers of the statement.
	return x.pass(&expected{kind: 'D', portal: p, swallow: true}, appendString([]byte{'P'}, portalName))
}

// statement finds the statement that a Bind names, and analyzes it again where the database or the catalog has changed since.
// It gives nil for one that was not prepared by the protocol in a database where nothing is protected, and in another one that stands for it.
func (x *session) statement(name string) (*statement, error) {
	st, sure := x.statements.find(name)
	if !sure && x.up.inline {
		return nil, errAway
	}
	if !sure {
		if err := x.server.send('H', nil); err != nil {
			return nil, err
		}
		if err := x.server.w.Flush(); err != nil {
			return nil, err
		}
		if !x.fifo.idle() {
			return nil, errGone
		}
		if st, sure = x.statements.find(name); !sure {
			return nil, &failure{code: "26000", message: "prepared statement " + strconv.Quote(name) + " is not known to be what it was", hint: "Prepare it again under another name."}
		}
	}
	v, err := x.look()
	if errors.Is(err, errAway) {
		return nil, err
	}
	if err != nil {
		if st != nil && !st.flagged && !errors.Is(err, errSkipped) {
			return st, nil
		}
		return nil, err
	}
	if st != nil {
		there, err := x.stillThere(st)
		if err != nil {
			return nil, err
		}
		if !there {
			st = nil
		}
	}
	if st == nil {
		if v.schema.Empty() {
			return nil, nil
		}
		// The server knows none of that name either, or one of SQL's PREPARE, which was analyzed then: it says what rows that will send.
		if err := x.moved(v); err != nil {
			return nil, err
		}
		return &statement{name: name, view: v, plan: &sql.Plan{Statements: 1}, flagged: true}, nil
	}
	if v == st.view && (st.plan == nil || !st.plan.Unpinned) {
		return st, nil
	}
	a, err := x.analyzeUnder(v, st.text)
	if err != nil {
		return nil, err
	}
	was := st.text
	if st.edited != nil {
		was = st.edited.Text
	}
	if a.text != was {
		return nil, &failure{code: "0A000", message: "cached plan must not change: what is protected has changed since the statement was prepared", hint: "Prepare the statement again."}
	}
	fresh := &statement{name: st.name, text: st.text}
	fresh.set(a)
	x.statements.replace(st, fresh)
	return fresh, nil
}

// stillThere makes sure that the server does not take the name for another statement, where SQL may have dropped that one and made another. It says false
// where the server has none of that name.
func (x *session) stillThere(st *statement) (bool, error) {
	if !x.forgets || st.name == "" {
		return true, nil
	}
	rows, err := x.query(x.ctx, "SELECT from_sql FROM pg_catalog.pg_prepared_statements WHERE name OPERATOR(pg_catalog.=) $1", st.name)
	if err != nil || len(rows) == 0 {
		return false, err
	}
	if len(rows) != 1 || len(rows[0]) != 1 || string(rows[0][0]) != "f" {
		return false, &failure{code: "26000", message: "prepared statement " + strconv.Quote(st.name) + " is one of SQL's by now", hint: "Run it by EXECUTE."}
	}
	return true, nil
}

// bindValues rewrites the parameters of a Bind that the plan changes. c stands after the names.
func (x *session) bindValues(st *statement, body []byte, c *cursor) ([]byte, error) {
	if len(st.plan.Params) == 0 {
		return body, nil
	}
	formats := make([]int, c.count())
	for i := range formats {
		formats[i] = c.int16()
	}
	start := len(body) - len(c.b)
	out := append(make([]byte, 0, len(body)+64), body[:start]...)
	n := c.count()
	if c.bad {
		return nil, errMalformed
	}
	out = appendInt16(out, n)
	for i := 1; i <= n; i++ {
		v, null := c.value()
		if c.bad {
			return nil, errMalformed
		}
		steps, ours := st.plan.Params[i]
		switch {
		case null:
			out = appendInt32(out, -1)
			continue
		case ours:
			var err error
			if v, err = x.convert(st.view, v, steps); err != nil {
				return nil, err
			}
		}
		out = append(appendInt32(out, len(v)), v...)
	}
	return append(out, c.b...), nil
}

// describeMessage handles Describe.
func (x *session) describeMessage(body []byte) error {
	c := cursor{b: body}
	what, name := c.byte(), string(c.string())
	e := &expected{kind: 'D'}
	switch {
	case !c.done():
		return x.refuse('D', "", errMalformed)
	case what == 'P':
		e.portal = x.portals[name]
	case what == 'S':
		st, sure := x.statements.find(name)
		if sure {
			e.stmt = st
		}
		e.params = true
	}
	return x.pass(e, body)
}

// execute handles Execute. Rights are checked again: they may have gone since Bind.
func (x *session) execute(body []byte) error {
	c := cursor{b: body}
	name := string(c.string())
	c.int32()
	if !c.done() {
		return x.refuse('E', "", errMalformed)
	}
	p := x.portals[name]
	unsure := name != "" || x.erred.Load() || x.doubtful
	if p == nil && !unsure {
		return x.pass(&expected{kind: 'E'}, body)
	}
	v, err := x.look()
	if err != nil {
		return x.refuse('E', "", err)
	}
	if v.schema.Empty() {
		return x.pass(&expected{kind: 'E', portal: p}, body)
	}
	if p != nil {
		access := x.access(v)
		for _, r := range p.stmt.plan.Reads {
			if a, ok := access(r.Policy); !ok || a.View < r.View {
				return x.refuse('E', "", &failure{code: "42501", message: "permission to see column " + r.Column + " was revoked", hint: "Bind the statement again."})
			}
		}
	}
	if unsure { // the server may know another portal by this name than we: it says itself what rows it will send
		st := &statement{view: v, plan: &sql.Plan{Statements: 1}}
		if p != nil {
			*st = statement{name: p.stmt.name, text: p.stmt.text, view: v, plan: p.stmt.plan, edited: p.stmt.edited, flagged: true}
		}
		p = &portal{stmt: st}
		if err := x.pass(&expected{kind: 'D', portal: p, swallow: true}, appendString([]byte{'P'}, name)); err != nil {
			return err
		}
	}
	return x.pass(&expected{kind: 'E', portal: p}, body)
}

// closeMessage handles Close.
func (x *session) closeMessage(body []byte) error {
	c := cursor{b: body}
	what, name := c.byte(), string(c.string())
	if !c.done() {
		return x.refuse('C', "", errMalformed)
	}
	e := &expected{kind: 'C'}
	if what == 'S' {
		e.stmt = &statement{name: name}
	} else {
		delete(x.portals, name)
	}
	return x.pass(e, body)
}

// largeObjectFunctions are what libpq calls by FunctionCall.
var largeObjectFunctions = []uint32{715, 764, 765, 767, 952, 953, 954, 955, 956, 957, 958, 964, 1004, 3170, 3171, 3172}

// functionCall handles FunctionCall, which calls any function by its OID: relayed where that can show nothing protected.
func (x *session) functionCall(body []byte) error {
	v, err := x.look()
	if err != nil {
		return x.refuse('F', "", err)
	}
	if x.views(v) && (len(body) < 4 || !slices.Contains(largeObjectFunctions, binary.BigEndian.Uint32(body))) {
		return x.refuse('F', "", &failure{code: "0A000", message: "function calls by OID are not supported for a role that may reveal or mask", hint: "Call the function in a SELECT."})
	}
	return x.pass(&expected{kind: 'F'}, body)
}
