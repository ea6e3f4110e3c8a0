// Package wirescript runs conversations of PostgreSQL's frontend/backend protocol that stand in files, and writes down what the server
// said, so that two servers can be compared. Start with Parse and Script.Run.
//
// A script is a list of steps, one a line; the messages of a send are indented beneath it and go out in one write:
//
//	# a comment
//	codes                          compare errors by severity and SQLSTATE alone
//	places                         compare errors without the place in the server's source
//	from 14                        needs this major version or a later one
//	connect NAME [PARAMETER=VALUE] opens a connection; the one called main is open from the start
//	send [NAME]                    on the connection NAME, else on main
//	    Parse s1 "select $1::int" 23
//	    Bind "" s1 "42"
//	    Execute ""
//	    Sync
//	until [NAME] ReadyForQuery [N] reads until the Nth such message; "until end" reads until the server closes the connection
//	cancel NAME                    asks the server by a CancelRequest to cancel what runs on the connection
//	close NAME                     closes the socket without a word
//
// The messages are those of the manual's "Message Formats", with their fields in order:
//
//	Query TEXT                              Parse STATEMENT TEXT [OID…]
//	Describe S|P NAME                       Bind PORTAL STATEMENT [formats=0,1] [results=1] [VALUE…]
//	Close S|P NAME                          Execute PORTAL [ROWS]
//	CopyData TEXT                           FunctionCall OID [formats=…] [results=0] [VALUE…]
//	CopyFail TEXT                           Sync, Flush, CopyDone, Terminate
//	Message T TEXT                          a message of type T with that body
//	Bytes TEXT                              no message: these bytes
//
// A TEXT is a word, or a Go string in "" or back quotes, and may be repeated: "x"*1000. A VALUE is a TEXT, or NULL.
//
// What the server says is written down as it is, but for what it chooses: process IDs, and the OIDs of the tables that columns are from,
// which are numbered in the order that they come. Out of scope: what comes before the first
// ReadyForQuery, except for the parameters that were reported until then.
package wirescript

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// Timeout bounds each step.
const Timeout = 20 * time.Second

// Main is the connection that is open from the start.
const Main = "main"

// end stands for the end of a connection in until.
const end = "end"

// Dial opens an authenticated connection with these start-up parameters, of which nothing is read any more (see pgconn.PgConn.SyncConn).
type Dial func(ctx context.Context, parameters map[string]string) (*pgconn.HijackedConn, error)

// Transcript is what a server said.
type Transcript struct {
	// Lines has a line a message: the connection, the message's name, its body. A body that is long is there by length and hash.
	Lines []string
	// Received holds the bytes of each connection, from after its first ReadyForQuery on.
	Received map[string][]byte
}

// Run holds the conversation with the server that dial reaches. Where it does not come to its end, the transcript holds what was said and the
// error why; the last step is in it.
func (s *Script) Run(ctx context.Context, dial Dial) (*Transcript, error) {
	r := &run{script: s, dial: dial, out: &Transcript{Received: map[string][]byte{}}, conns: map[string]*conn{}}
	defer r.closeAll()
	if err := r.connect(ctx, Main, nil); err != nil {
		return r.out, err
	}
	for _, st := range s.steps {
		if err := r.step(ctx, st); err != nil {
			return r.out, fmt.Errorf("%s:%d: %w", s.Name, st.line, err)
		}
	}
	return r.out, r.finish()
}

type run struct {
	script *Script
	dial   Dial
	out    *Transcript
	conns  map[string]*conn
	order  []string
	tables []uint32 // that columns came from
}

type conn struct {
	net.Conn
	name   string
	pid    uint32
	secret []byte
	ended  bool
}

func (r *run) closeAll() {
	for _, c := range r.conns {
		c.Close()
	}
}

func (r *run) connect(ctx context.Context, name string, parameters map[string]string) error {
	ctx, stop := context.WithTimeout(ctx, Timeout)
	defer stop()
	h, err := r.dial(ctx, parameters)
	if err != nil {
		return fmt.Errorf("connect %s: %w", name, err)
	}
	r.conns[name] = &conn{Conn: h.Conn, name: name, pid: h.PID, secret: h.SecretKey}
	r.order = append(r.order, name)
	var reported []string
	for k, v := range h.ParameterStatuses {
		reported = append(reported, fmt.Sprintf("%s=%q", k, v))
	}
	slices.Sort(reported)
	r.say("%s: connected %s", name, strings.Join(reported, " "))
	return nil
}

func (r *run) say(format string, args ...any) {
	r.out.Lines = append(r.out.Lines, fmt.Sprintf(format, args...))
}

func (r *run) step(ctx context.Context, st step) error {
	if st.verb == "connect" {
		return r.connect(ctx, st.conn, st.parameters)
	}
	c := r.conns[st.conn]
	if c == nil {
		return fmt.Errorf("no connection %q", st.conn)
	}
	c.SetDeadline(time.Now().Add(Timeout))
	switch st.verb {
	case "send":
		// The server may say much while it is told much, or close the connection: that is heard by until.
		go c.Write(st.bytes)
	case "until":
		return r.until(c, st.kind, st.count)
	case "cancel":
		return cancel(ctx, c)
	case "close":
		c.ended = true
		return c.Close()
	}
	return nil
}

// until reads until the nth message of the kind.
func (r *run) until(c *conn, kind string, n int) error {
	for n > 0 {
		got, err := r.read(c)
		if err != nil {
			return fmt.Errorf("waiting for %s: %w", kind, err)
		}
		if got == kind {
			n--
		} else if got == end {
			return fmt.Errorf("waiting for %s: the server closed the connection", kind)
		}
	}
	return nil
}

// read writes down one message and gives its name. A connection that is reset has ended, too.
func (r *run) read(c *conn) (string, error) {
	if c.ended {
		return "", errors.New("the connection has ended")
	}
	var head [5]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() || errors.Is(err, io.ErrUnexpectedEOF) {
			return "", err
		}
		c.ended = true
		r.say("%s: %s", c.name, end)
		return end, nil
	}
	body := make([]byte, max(0, int(binary.BigEndian.Uint32(head[1:]))-4))
	if _, err := io.ReadFull(c, body); err != nil {
		return "", err
	}
	r.out.Received[c.name] = append(append(r.out.Received[c.name], head[:]...), body...)
	name := names[head[0]]
	if name == "" {
		name = fmt.Sprintf("%q", head[0])
	}
	r.say("%s: %s %s", c.name, name, r.show(head[0], body))
	return name, nil
}

// longest is how much of a body is shown as it is.
const longest = 2048

func (r *run) show(kind byte, body []byte) string {
	switch {
	case kind == 'E' && r.script.Codes:
		return errorFields(body, func(field byte) bool { return field == 'V' || field == 'C' })
	case kind == 'E' && r.script.Places:
		return errorFields(body, func(field byte) bool { return field != 'F' && field != 'L' && field != 'R' })
	case kind == 'T':
		return r.columns(body)
	case kind == 'A' && len(body) > 4:
		from := "?"
		for name, c := range r.conns {
			if c.pid == binary.BigEndian.Uint32(body) {
				from = name
			}
		}
		return fmt.Sprintf("from %s %q", from, body[4:])
	case len(body) > longest:
		h := fnv.New64a()
		h.Write(body)
		return fmt.Sprintf("%d bytes, hash %x", len(body), h.Sum64())
	}
	return fmt.Sprintf("%q", body)
}

// errorFields shows the fields of an error that are shown.
func errorFields(body []byte, shown func(field byte) bool) string {
	var fields []string
	for f := range bytes.SplitSeq(body, []byte{0}) {
		if len(f) > 0 && shown(f[0]) {
			fields = append(fields, fmt.Sprintf("%q", f))
		}
	}
	return strings.Join(fields, " ")
}

// columns shows a RowDescription, whose columns are a name and 18 bytes each.
func (r *run) columns(body []byte) string {
	var out []string
	for b := body[2:]; len(b) > 0; {
		name, rest, ok := bytes.Cut(b, []byte{0})
		if !ok || len(rest) < 18 {
			return fmt.Sprintf("malformed %q", body)
		}
		table := 0
		if oid := binary.BigEndian.Uint32(rest); oid != 0 {
			if !slices.Contains(r.tables, oid) {
				r.tables = append(r.tables, oid)
			}
			table = slices.Index(r.tables, oid) + 1
		}
		out = append(out, fmt.Sprintf("%q of table %d attribute %d type %d length %d modifier %d format %d", name, table, binary.BigEndian.Uint16(rest[4:]),
			binary.BigEndian.Uint32(rest[6:]), int16(binary.BigEndian.Uint16(rest[10:])), int32(binary.BigEndian.Uint32(rest[12:])), binary.BigEndian.Uint16(rest[16:])))
		b = rest[18:]
	}
	return fmt.Sprintf("%d: %s", binary.BigEndian.Uint16(body), strings.Join(out, ", "))
}

// finish ends what is still open, and writes down what had not been read.
func (r *run) finish() error {
	for _, name := range r.order {
		c := r.conns[name]
		if c.ended {
			continue
		}
		c.SetDeadline(time.Now().Add(Timeout))
		c.Write(encode('X', nil))
		for !c.ended {
			if _, err := r.read(c); err != nil {
				return fmt.Errorf("%s: ending %s: %w", r.script.Name, name, err)
			}
		}
	}
	return nil
}

// cancelCode is the protocol version that a CancelRequest has in the place of one.
const cancelCode = 80877102

func cancel(ctx context.Context, c *conn) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, c.RemoteAddr().Network(), c.RemoteAddr().String())
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(Timeout))
	m := binary.BigEndian.AppendUint32(nil, uint32(12+len(c.secret)))
	m = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(m, cancelCode), c.pid)
	if _, err := conn.Write(append(m, c.secret...)); err != nil {
		return err
	}
	_, err = conn.Read(make([]byte, 1))
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// names of the messages that a server sends.
var names = map[byte]string{
	'R': "Authentication", 'K': "BackendKeyData", '2': "BindComplete", '3': "CloseComplete", 'C': "CommandComplete", 'd': "CopyData", 'c': "CopyDone",
	'G': "CopyInResponse", 'H': "CopyOutResponse", 'W': "CopyBothResponse", 'D': "DataRow", 'I': "EmptyQueryResponse", 'E': "ErrorResponse",
	'V': "FunctionCallResponse", 'v': "NegotiateProtocolVersion", 'n': "NoData", 'N': "NoticeResponse", 'A': "NotificationResponse",
	't': "ParameterDescription", 'S': "ParameterStatus", '1': "ParseComplete", 's': "PortalSuspended", 'Z': "ReadyForQuery", 'T': "RowDescription",
}
