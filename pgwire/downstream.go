package pgwire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"strconv"
	"time"

	"pgveil/sql"
)

func itoa(n int) string { return strconv.Itoa(n) }

// errFatal ends the session after the client was told why.
var errFatal = errors.New("session ended by an error of the front-end")

// downstream relays what has come from the server to the client.
func (x *session) downstream() error {
	for {
		err := x.replies()
		if err == nil || errors.Is(err, errAway) {
			if flushed := x.client.w.Flush(); flushed != nil {
				return flushed
			}
		}
		if err != nil {
			return err
		}
		if x.leaving() {
			x.goodbye()
			return errGone
		}
		switch err := x.down.more(); {
		case err == nil:
		case errors.Is(err, errIdle), errors.Is(err, errTurn):
			return err
		case errors.Is(err, os.ErrDeadlineExceeded) && x.stopping.Load():
			x.server.conn.SetReadDeadline(time.Time{})
		default:
			return x.lost(err)
		}
	}
}

// replies handles what is buffered. It returns nil when it needs more.
func (x *session) replies() error {
	c := x.server
	for {
		if c.rest > 0 {
			if err := c.pass(x.client); err != nil {
				return err
			}
		}
		have := c.r.unread()
		if c.rest > 0 || len(have) < headSize {
			return nil
		}
		e := x.fifo.head()
		if kind := have[0]; kind == 'd' || kind == 'D' && (e == nil || e.probe == nil && !x.dropping && x.current(e) == nil) {
			// Rows and COPY data that nothing is done to, of any size.
			if length := binary.BigEndian.Uint32(have[1:]); length >= 4 && length <= maxLength {
				if err := c.forwardRun(x.client, kind); err != nil {
					return err
				}
				continue
			}
		}
		if !c.whole() {
			if x.down.inline && c.large() {
				return errAway
			}
			if x.down.inline || len(have) < headSize {
				return nil
			}
			if err := x.client.w.Flush(); err != nil {
				return err
			}
		}
		if err := x.reply(e); err != nil {
			return err
		}
	}
}

// lost tells the client why the server's connection ended, unless that is known to it.
func (x *session) lost(err error) error {
	f := &failure{severity: "FATAL", code: "08006", message: "the connection to the backing database was lost", hint: "The transaction was not confirmed. Connect again."}
	known := x.cleanEnd.Load() || x.told
	x.fifo.peek(func(e *expected) bool {
		if e.kind == '!' {
			f, known = e.refusal, false
		}
		return true
	})
	if known {
		return errGone
	}
	if x.killed.Load() {
		f = errShutdown
	}
	x.say(f)
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// reply handles one message of the server that answers e.
func (x *session) reply(e *expected) error {
	mark := x.server.r.from
	kind, n, err := x.server.header()
	if err != nil {
		return x.lost(err)
	}
	if x.server.trace != nil && !x.down.traced {
		x.server.trace.received(kind, n)
	}
	err = x.replied(e, kind, n)
	x.down.traced = errors.Is(err, errAway)
	switch {
	case x.down.traced:
		x.server.r.from = mark
	case errors.Is(err, errMalformed):
		x.srv.cfg.Logger.Error("replies of the backing database could not be matched", "session", x.pid, "message", string(rune(kind)))
		return x.fatal(&failure{code: "08P01", message: "the replies of the backing database could not be matched to the client's messages"})
	}
	return err
}

func (x *session) replied(e *expected, kind byte, n int) error {
	body, err := x.server.take(kind, n, maxBody)
	if err != nil {
		return x.fatal(err)
	}
	switch kind {
	case 'N', 'A':
		return x.client.send(kind, body)
	case 'S':
		x.parameter(body)
		return x.client.send(kind, body)
	case 'Z':
		err := x.ready(body)
		if x.held.Load() {
			x.up.kick()
		}
		return err
	case 'E':
		return x.failed(e, body)
	}
	if e == nil {
		return errMalformed
	}
	if e.probe != nil {
		return x.probed(e, kind, body)
	}
	if x.dropping {
		return x.dropped(e, kind)
	}
	return x.answered(e, kind, body)
}

// current is what is done to rows that answer e.
func (x *session) current(e *expected) *shown {
	if e.kind == 'Q' {
		return x.rows
	}
	if e.portal != nil {
		return e.portal.cols
	}
	return nil
}

// answered handles a reply that the client waits for.
func (x *session) answered(e *expected, kind byte, body []byte) error {
	switch kind {
	case '1':
		x.statements.parsed(e.stmt)
		x.fifo.pop()
	case '2':
		x.fifo.pop()
	case '3':
		if e.stmt != nil {
			x.statements.dropped(e.stmt.name)
		}
		x.fifo.pop()
	case 'T':
		return x.described(e, body)
	case 'n':
		if e.kind == 'D' {
			x.fifo.pop()
		}
		if e.swallow {
			return nil
		}
	case 'D':
		return x.dataRow(e, body)
	case 'C', 'I', 's':
		x.rows = nil
		if e.copyIn {
			e.copyIn = false
			x.fifo.copied(e)
		}
		if e.kind == 'E' {
			x.inGroup++
			x.fifo.pop()
		}
	case 'G':
		e.copyIn = true
	}
	return x.client.send(kind, body)
}

// described handles RowDescription.
func (x *session) described(e *expected, body []byte) error {
	var v *view
	var plan *sql.Plan
	switch {
	case e.kind == 'Q':
		v, plan = e.view, e.plan
	case e.stmt != nil:
		v, plan = e.stmt.view, e.stmt.plan
	case e.portal != nil:
		v, plan = e.portal.stmt.view, e.portal.stmt.plan
	}
	s, body, err := x.describe(v, plan, body)
	if e.kind == 'D' {
		x.fifo.pop()
	}
	if err != nil {
		return x.fatal(err)
	}
	if s != nil {
		if s.intent = e.intent; s.intent == nil && e.portal != nil {
			s.intent = e.portal.intent
		}
	}
	if e.kind == 'Q' {
		x.rows = s
	} else if e.portal != nil {
		e.portal.cols = s
	}
	if e.swallow {
		return nil
	}
	return x.client.send('T', body)
}

// lastView is the database's newest view.
func (x *session) lastView() *view {
	return x.db.last()
}

// dataRow handles a row that something is done to.
func (x *session) dataRow(e *expected, body []byte) error {
	s := x.current(e)
	if s == nil {
		return x.client.send('D', body)
	}
	if x.down.inline {
		return errAway // the audit may have to be waited for, and the cipher takes its time
	}
	if s.intent == nil {
		var err error
		if s.intent, err = x.reads.result(s); err != nil {
			return x.rowFailed(e, err)
		}
	}
	row, err := s.row(x.row[:0], body)
	if err == nil {
		x.row = row
		err = x.reads.use(s.intent)
	}
	if err != nil {
		return x.rowFailed(e, err)
	}
	x.tally.clear.Add(int64(s.clear))
	x.tally.masked.Add(int64(s.masked))
	return x.client.send('D', row)
}

// rowFailed ends a result in the middle. The server knows nothing of it, so that anything but a lone query must end the session: a write beside
// it would be committed although the client was told of an error.
func (x *session) rowFailed(e *expected, err error) error {
	if !x.alone(e) {
		return x.fatal(err)
	}
	x.dropping = true
	return x.client.send('E', failureOf(err).response())
}

// alone tells whether e is a single SELECT, outside of a transaction block, with nothing else before its Sync.
func (x *session) alone(e *expected) bool {
	plan := e.plan
	if e.portal != nil {
		plan = e.portal.stmt.plan
	}
	if plan == nil || plan.Statements != 1 || !plan.ReadOnly || x.status.Load() != 'I' || x.inGroup > 0 {
		return false
	}
	if e.kind == 'Q' {
		return true
	}
	synced, others := false, false
	x.fifo.peek(func(o *expected) bool {
		if o.kind == 'S' {
			synced = true
			return false
		}
		others = others || o != e && o.kind != 'C'
		return true
	})
	return synced && !others
}

// fatal tells the client and ends the session.
func (x *session) fatal(err error) error {
	x.say(failureOf(err).fatal())
	return errFatal
}

// dropped passes over what is left of a result that an error of ours ended.
func (x *session) dropped(e *expected, kind byte) error {
	switch kind {
	case 'C', 'I', 's', '1', '2', '3', 'n':
		if e.kind != 'Q' {
			x.fifo.pop()
		}
	case 'T':
		if e.kind == 'D' {
			x.fifo.pop()
		}
	}
	return nil
}

// probed handles a reply to a query of ours.
func (x *session) probed(e *expected, kind byte, body []byte) error {
	switch kind {
	case 'D':
		e.probe.row(body)
	case '3':
		x.fifo.pop()
		e.probe.closed++
		if e.probe.closed == probeCloses {
			e.probe.finish()
		}
	case '1', '2', 'C':
		x.fifo.pop()
	}
	return nil
}

// failed handles ErrorResponse.
func (x *session) failed(e *expected, body []byte) error {
	x.told = bytes.Contains(body, []byte("VFATAL\x00")) || bytes.Contains(body, []byte("VPANIC\x00"))
	if e == nil || e.kind == '!' { // of no statement: the server ends the connection
		return x.client.send('E', body)
	}
	switch {
	case x.dropping:
	case e.probe != nil && e.probe.pipelined:
		if err := x.client.send('E', body); err != nil {
			return err
		}
		e.probe.fail(errSkipped)
	case e.probe != nil:
		e.probe.fail(&serverError{append([]byte(nil), body...)})
	case e.refusal != nil:
		if err := x.client.send('E', e.refusal.response()); err != nil {
			return err
		}
	default:
		if err := x.client.send('E', x.scrub(e, body)); err != nil {
			return err
		}
	}
	x.erred.Store(true)
	if e.copyIn {
		e.copyIn = false
		x.fifo.copyFailed(e)
	}
	if e.kind != 'Q' && e.kind != 'F' {
		x.fifo.skip(x.skipped)
	}
	return nil
}

// skipped takes back what was noted of a message that the server ignored.
func (x *session) skipped(e *expected) {
	if e.probe != nil {
		e.probe.fail(errSkipped)
	}
	if e.kind == 'P' && e.stmt != nil {
		x.statements.failed(e.stmt)
	}
}

// ready handles ReadyForQuery.
func (x *session) ready(body []byte) error {
	if len(body) != 1 {
		return errMalformed
	}
	e := x.fifo.head()
	if e != nil && e.kind != 'Q' && e.kind != 'F' {
		x.fifo.skip(x.skipped)
		e = x.fifo.head()
	}
	if cap(x.row) > maxIdle {
		x.row = nil
	}
	x.status.Store(int32(body[0]))
	if body[0] == 'I' {
		x.erred.Store(false)
	}
	x.rows, x.dropping, x.inGroup = nil, false, 0
	if e == nil {
		return x.client.send('Z', body)
	}
	ours := e.probe != nil
	if ours {
		e.probe.fail(errGone) // it has been filled already
	}
	x.fifo.pop()
	if ours {
		return nil
	}
	return x.client.send('Z', body)
}

// parameter handles ParameterStatus.
func (x *session) parameter(body []byte) {
	c := cursor{b: body}
	name, value := string(c.string()), string(c.string())
	if c.done() {
		x.params[name] = value
		if name == "application_name" {
			x.noteName()
		}
		x.checkEncoding()
	}
}

// scrub maps an error's position back to the client's text, and drops details that show what a protected column holds: the DETAIL and CONTEXT
// of a constraint's or guard's violation.
func (x *session) scrub(e *expected, body []byte) []byte {
	v, text, edited := e.view, e.text, e.edited
	if e.stmt != nil {
		v, text, edited = e.stmt.view, e.stmt.text, e.stmt.edited
	}
	if e.portal != nil {
		v, text, edited = e.portal.stmt.view, e.portal.stmt.text, e.portal.stmt.edited
	}
	if v == nil {
		v = x.lastView()
	}
	if v == nil || v.schema.Empty() && edited == nil {
		return body
	}
	var schema, table string
	hide, detail := false, false // both fields, or DETAIL alone
	if !errorFields(body, func(kind byte, b []byte) {
		switch kind {
		case 's':
			schema = string(b)
		case 't':
			table = string(b)
		case 'D', 'W':
			hide = hide || v.schema.Owns(string(b))
		case 'M': // of REFRESH … CONCURRENTLY: the error names no table
			detail = v.schema.Owns(string(b))
		}
	}) {
		return body
	}
	if _, ok := v.tables[tableKey(schema, table)]; ok && table != "" {
		hide = true
	}
	out := make([]byte, 0, len(body))
	errorFields(body, func(kind byte, b []byte) {
		switch {
		case hide && kind == 'W', (hide || detail) && kind == 'D':
			return
		case kind == 'P' && edited != nil:
			if p, err := strconv.Atoi(string(b)); err == nil {
				b = []byte(itoa(edited.Position(text, p)))
			}
		}
		out = appendString(append(out, kind), string(bytes.Clone(b)))
	})
	return append(out, 0)
}
