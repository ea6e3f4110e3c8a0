package pgwire

import (
	"cmp"
	"crypto/tls"
	"encoding/binary"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

const consoleHint = "SHOW HELP lists what the console understands."

// command is a statement of the console.
type command struct {
	tag     string // of CommandComplete; "" is the empty statement's
	columns []column
	run     func(*console) ([][]any, error) // nil: it does nothing
}

// column of a result. Its cells are int64, string, bool or time.Time, by its type; none is NULL.
type column struct {
	name string
	kind uint32
}

// Types of columns.
const (
	oidBool        = 16
	oidInt8        = 20
	oidTimestamptz = 1184
)

// sizes are the types' lengths in bytes, as in pg_type.
var sizes = map[uint32]int{oidText: -1, oidBool: 1, oidInt8: 8, oidTimestamptz: 8}

// table is what a SHOW shows.
type table struct {
	name    string
	about   string
	columns []column
	rows    func(*Server) ([][]any, error)
}

func texts(names ...string) []column   { return columns(oidText, names) }
func numbers(names ...string) []column { return columns(oidInt8, names) }
func moment(name string) column        { return column{name, oidTimestamptz} }

func columns(kind uint32, names []string) []column {
	out := make([]column, len(names))
	for i, n := range names {
		out[i] = column{n, kind}
	}
	return out
}

var tables = []table{
	{"CLIENTS", "sessions, and their clients", slices.Concat(numbers("pid"), texts("role", "database", "address", "application_name", "tls", "state"),
		[]column{moment("connected_since")}, numbers("statements", "bytes_received", "bytes_sent")), (*Server).showClients},
	{"SERVERS", "their connections to the backing database", slices.Concat(numbers("pid"), texts("role", "database", "host", "tls", "state"),
		numbers("bytes_received", "bytes_sent")), (*Server).showServers},
	{"STATS", "what was done since the start, by database", slices.Concat(texts("database"), numbers("sessions"), numbers(verdicts[:]...),
		numbers("values_clear", "values_masked", "bytes_received", "bytes_sent")), (*Server).showStats},
	{"CONFIG", "the settings", texts("name", "value", "default"), (*Server).showConfig},
	{"POLICIES", "the policies that can be used", slices.Concat(texts("name", "format", "method"), numbers("active_version", "column_version")), (*Server).showPolicies},
	{"KEYS", "the key versions", slices.Concat(texts("policy"), numbers("version"), texts("state"), []column{{"in_columns", oidBool}, moment("created")}), (*Server).showKeys},
	{"VERSION", "pgveil's version", texts("version"), func(s *Server) ([][]any, error) { return [][]any{{s.title()}}, nil }},
}

// orders are the statements that do something.
var orders = []struct{ name, about string }{
	{"RELOAD", "read certificates and configuration again"},
	{"PAUSE", "hold back new statements and sessions; returns when transactions are finished"},
	{"RESUME", "let them go on"},
	{"KILL pid", "end a session"},
}

// ignored are statements that drivers send on their own, by their first word, with the tags of their answers. They do nothing here.
var ignored = map[string]string{
	"SET": "SET", "RESET": "RESET", "BEGIN": "BEGIN", "START": "START TRANSACTION", "COMMIT": "COMMIT", "END": "COMMIT", "ROLLBACK": "ROLLBACK", "ABORT": "ROLLBACK",
	"DISCARD": "DISCARD ALL", "DEALLOCATE": "DEALLOCATE",
}

// answers are what drivers ask on their own, and what they hear.
var answers = map[string]struct {
	tag    string
	column column
	value  any // nil: the version
}{
	"SELECT 1":                         {"SELECT 1", column{"?column?", oidInt8}, int64(1)},
	"SELECT VERSION ( )":               {"SELECT 1", column{"version", oidText}, nil},
	"SELECT PG_CATALOG.VERSION ( )":    {"SELECT 1", column{"version", oidText}, nil},
	"SELECT CURRENT_DATABASE ( )":      {"SELECT 1", column{"current_database", oidText}, consoleDatabase},
	"SHOW TRANSACTION ISOLATION LEVEL": {"SHOW", column{"transaction_isolation", oidText}, "read committed"},
	"SHOW TRANSACTION_ISOLATION":       {"SHOW", column{"transaction_isolation", oidText}, "read committed"},
	"SHOW STANDARD_CONFORMING_STRINGS": {"SHOW", column{"standard_conforming_strings", oidText}, "on"},
}

func (s *Server) title() string { return "pgveil " + s.cfg.Version }

// commands reads the statements of a text.
func (s *Server) commands(text string) ([]*command, error) {
	all, err := split(text)
	if err != nil {
		return nil, err
	}
	var out []*command
	for _, words := range all {
		c, err := s.command(words)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

// command finds the statement that consists of the words.
func (s *Server) command(words []string) (*command, error) {
	statement := strings.Join(words, " ")
	if len(words) == 2 && words[0] == "SHOW" {
		if words[1] == "HELP" {
			return &command{tag: "SHOW", columns: texts("statement", "about"), run: help}, nil
		}
		if i := slices.IndexFunc(tables, func(t table) bool { return t.name == words[1] }); i >= 0 {
			t := &tables[i]
			return &command{tag: "SHOW", columns: t.columns, run: func(k *console) ([][]any, error) { return t.rows(k.srv) }}, nil
		}
	}
	order := func(f func(*console) error) (*command, error) {
		return &command{tag: words[0], run: func(k *console) ([][]any, error) {
			err := f(k)
			k.srv.cfg.Logger.Info("console", "role", k.role, "addr", k.addr, "statement", statement, "ok", err == nil)
			return nil, err
		}}, nil
	}
	switch {
	case statement == "RELOAD":
		return order((*console).reload)
	case statement == "PAUSE":
		return order((*console).pause)
	case statement == "RESUME":
		return order(func(k *console) error { k.srv.resume(); return nil })
	case len(words) == 2 && words[0] == "KILL":
		if pid, err := strconv.ParseUint(words[1], 10, 32); err == nil {
			return order(func(k *console) error { return k.srv.kill(uint32(pid)) })
		}
	}
	if a, ok := answers[statement]; ok {
		if a.value == nil {
			a.value = s.title()
		}
		return &command{tag: a.tag, columns: []column{a.column}, run: func(*console) ([][]any, error) { return [][]any{{a.value}}, nil }}, nil
	}
	if tag, ok := ignored[words[0]]; ok {
		return &command{tag: tag}, nil
	}
	return nil, &failure{code: "42601", message: "the console does not know this statement", hint: consoleHint}
}

// split cuts a text into statements and those into words, in upper case; what is quoted is one word, as it stands. Comments are left out.
func split(text string) (statements [][]string, err error) {
	var words []string
	end := func() {
		if len(words) > 0 {
			statements, words = append(statements, words), nil
		}
	}
	for text != "" {
		n := 1
		switch c := text[0]; {
		case strings.HasPrefix(text, "--"):
			n = len(text)
			if i := strings.IndexByte(text, '\n'); i >= 0 {
				n = i
			}
		case strings.HasPrefix(text, "/*"):
			n = comment(text)
		case c == ';':
			end()
		case c == '\'' || c == '"':
			n = strings.IndexByte(text[1:], c) + 2
			if n > 1 {
				words = append(words, text[:n])
			}
		case wordByte(c):
			for n < len(text) && wordByte(text[n]) {
				n++
			}
			words = append(words, strings.ToUpper(text[:n]))
		case strings.IndexByte(" \t\r\n\f\v", c) < 0:
			words = append(words, text[:1])
		}
		if n < 1 || n == 1 && strings.IndexByte(`'"`, text[0]) >= 0 {
			return nil, &failure{code: "42601", message: "unterminated quotes or comment", hint: consoleHint}
		}
		text = text[n:]
	}
	end()
	return statements, nil
}

// comment is the length of the comment that text begins with, which may hold others; 0 if it does not end.
func comment(text string) int {
	depth := 0
	for i := 0; i+1 < len(text); i++ {
		switch text[i : i+2] {
		case "/*":
			depth++
			i++
		case "*/":
			depth--
			i++
		}
		if depth == 0 {
			return i + 1
		}
	}
	return 0
}

func wordByte(c byte) bool {
	return c == '_' || c == '.' || c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z' || c >= 0x80
}

func help(*console) ([][]any, error) {
	var rows [][]any
	for _, t := range tables {
		rows = append(rows, []any{"SHOW " + t.name, t.about})
	}
	for _, o := range orders {
		rows = append(rows, []any{o.name, o.about})
	}
	return rows, nil
}

func (k *console) reload() error {
	if err := k.srv.Reload(); err != nil {
		return &failure{code: "F0000", message: "what is configured could not be read: all stays as it was", hint: "The front-end's log has the details."}
	}
	return nil
}

// kill ends the session whose server process has that ID.
func (s *Server) kill(pid uint32) error {
	var found *session
	s.each(func(x *session) {
		if pid != 0 && x.pid == pid { // 0 stands for a server that does not say
			found = x
		}
	})
	if found == nil {
		return &failure{code: "42704", message: "there is no session with process ID " + strconv.FormatUint(uint64(pid), 10), hint: "SHOW CLIENTS lists the sessions."}
	}
	found.kill()
	return nil
}

// kill ends the session, as pg_terminate_backend does: the client is told, and the statement that runs on the server is canceled.
func (x *session) kill() {
	x.killed.Store(true)
	x.server.conn.Close()
	x.down.kick()
	x.interrupt()
	time.AfterFunc(lastWordsTime, func() {
		x.close()
		x.interrupt() // again: the statement may have been on its way to a server that had nothing to cancel yet
	})
}

// interrupt cancels what the session's server process does.
func (x *session) interrupt() {
	if x.key != nil {
		x.srv.cancel(x.key)
	}
}

// cancelRequest makes a CancelRequest from the BackendKeyData among a server's first messages; nil if there is none.
func cancelRequest(greeting []byte) []byte {
	for len(greeting) >= headSize {
		n := int(binary.BigEndian.Uint32(greeting[1:])) + 1
		if greeting[0] == 'K' {
			key := greeting[headSize:n]
			return append(appendInt32(appendInt32(nil, 8+len(key)), codeCancel), key...)
		}
		greeting = greeting[n:]
	}
	return nil
}

// sorted gives the sessions in the order in which they connected.
func (s *Server) sorted() []*session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.SortedFunc(maps.Keys(s.sessions), func(a, b *session) int { return cmp.Or(a.began.Compare(b.began), cmp.Compare(a.pid, b.pid)) })
}

func (s *Server) showClients() (rows [][]any, _ error) {
	for _, x := range s.sorted() {
		var statements int64
		for i := range x.tally.statements {
			statements += x.tally.statements[i].Load()
		}
		rows = append(rows, []any{int64(x.pid), x.role, x.dbName, x.addr, *x.name.Load(), tlsVersion(x.client), x.state().String(), x.began,
			statements, x.client.r.received.Load(), x.client.w.sent.Load()})
	}
	return rows, nil
}

func (s *Server) showServers() (rows [][]any, _ error) {
	for _, x := range s.sorted() {
		state := x.state()
		if state == statePaused {
			state = stateIdle // it is the client who waits
		}
		rows = append(rows, []any{int64(x.pid), x.role, x.dbName, x.server.conn.RemoteAddr().String(), tlsVersion(x.server), state.String(),
			x.server.r.received.Load(), x.server.w.sent.Load()})
	}
	return rows, nil
}

func tlsVersion(c *wire) string {
	if t, ok := c.conn.(*tls.Conn); ok {
		return tls.VersionName(t.ConnectionState().Version)
	}
	return ""
}

func (s *Server) showStats() (rows [][]any, _ error) {
	all := s.totals()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		t := all[name]
		row := []any{name, t.in(stateIdle) + t.in(stateActive) + t.in(stateInTransaction) + t.in(statePaused)}
		for _, n := range t[:toClient+1] {
			row = append(row, n)
		}
		rows = append(rows, row)
	}
	return rows, nil
}

func (s *Server) showConfig() (rows [][]any, _ error) {
	for _, c := range s.cfg.Settings {
		rows = append(rows, []any{c.Name, c.Value, c.Default})
	}
	return rows, nil
}

func (s *Server) showPolicies() (rows [][]any, _ error) {
	snap, err := s.cfg.Catalog.Current()
	if err != nil {
		return nil, err
	}
	for _, p := range snap.Policies() {
		rows = append(rows, []any{p.Name, p.Format, string(p.Method()), int64(p.Active), int64(p.ColumnVersion)})
	}
	return rows, nil
}

func (s *Server) showKeys() (rows [][]any, _ error) {
	snap, err := s.cfg.Catalog.Current()
	if err != nil {
		return nil, err
	}
	for _, k := range snap.Keys() {
		rows = append(rows, []any{k.Policy, int64(k.Version), k.State, k.InColumns, k.Created})
	}
	return rows, nil
}

// description is the body of RowDescription.
func (p *portalOfCommand) description() []byte {
	b := appendInt16(nil, len(p.columns))
	for i, c := range p.columns {
		b = appendInt16(appendInt32(appendString(b, c.name), 0), 0) // of no table
		b = appendInt16(appendInt32(b, int(c.kind)), sizes[c.kind])
		b = appendInt16(appendInt32(b, -1), p.formats[i])
	}
	return b
}

// row is the body of DataRow.
func (p *portalOfCommand) row(cells []any) []byte {
	b := appendInt16(nil, len(cells))
	for i, v := range cells {
		cell := textCell(v)
		if p.formats[i] == 1 {
			cell = binaryCell(v)
		}
		b = append(appendInt32(b, len(cell)), cell...)
	}
	return b
}

func textCell(v any) []byte {
	switch v := v.(type) {
	case string:
		return []byte(v)
	case int64:
		return strconv.AppendInt(nil, v, 10)
	case bool:
		return []byte(strconv.FormatBool(v)[:1])
	case time.Time:
		return v.UTC().AppendFormat(nil, "2006-01-02 15:04:05.999999+00")
	}
	panic("pgwire: a cell of a type that the console does not know")
}

// binaryCell is a cell in the binary format: integers in network order, times in microseconds since 2000.
func binaryCell(v any) []byte {
	switch v := v.(type) {
	case int64:
		return binary.BigEndian.AppendUint64(nil, uint64(v))
	case bool:
		if v {
			return []byte{1}
		}
		return []byte{0}
	case time.Time:
		epoch := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
		return binary.BigEndian.AppendUint64(nil, uint64(v.UnixMicro()-epoch.UnixMicro()))
	}
	return textCell(v)
}
