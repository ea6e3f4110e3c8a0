package pgwire

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"pgveil/internal/scram"
	"pgveil/internal/secret"
)

// backend is a connection of the backing database that is logged in and ready.
type backend struct {
	*wire
	greeting []byte // the messages from ParameterStatus to ReadyForQuery, for the client
	pid      uint32 // 0 where the server sends no BackendKeyData
	status   byte   // of the transaction, from ReadyForQuery
	params   map[string]string
	let      bool // in, by AuthenticationOk
	asked    bool // for a proof, by the server
	proved   bool // by the server: it holds the verifier
}

// serverError is an ErrorResponse of the backing database, passed on as it came.
type serverError struct{ body []byte }

func (*serverError) Error() string { return "the backing database refused the connection" }

// field gives one field of the error.
func (e *serverError) field(kind byte) (value string) {
	errorFields(e.body, func(k byte, text []byte) {
		if k == kind {
			value = string(text)
		}
	})
	return value
}

var errUnreachable = &failure{code: "08006", message: "the backing database cannot be reached", hint: "Check that it runs and that --backing names it."}

// login connects as the client's role, with the keys its own login proved, to the first host that lets it in and is as
// target_session_attrs wants it. A host that is down, or that answers that it is starting or stopping (57P03), is passed over.
func (s *Server) login(ctx context.Context, st *startup, keys scram.Keys) (*backend, error) {
	return s.loginAs(ctx, st, func(endPoint []byte) *scram.Client { return scram.NewClient(keys, endPoint) })
}

func (s *Server) loginAs(ctx context.Context, st *startup, exchange func(endPoint []byte) *scram.Client) (*backend, error) {
	cfg := s.backing.Load()
	want, err := attrs(cfg)
	if err != nil {
		return nil, err
	}
	var last error = errUnreachable
	for _, want := range passes(want) {
		for _, t := range s.targets(ctx, cfg) {
			b, err := s.try(ctx, cfg, t, want, st, exchange)
			if err == nil {
				s.avoided.forget(t)
				return b, nil
			}
			if !passable(err) {
				return nil, err
			}
			s.avoided.note(t)
			if f := failureOf(err); f.code != "XX000" {
				last = err
				continue
			}
			s.cfg.Logger.Warn("a host of the backing database does not answer", "host", t.name(), "error", err)
		}
	}
	if last == errUnreachable {
		s.metrics.unreachable.Inc()
		s.cfg.Logger.Error("the backing database cannot be reached")
	}
	return nil, last
}

// passes are the rounds of looking at all hosts.
func passes(want string) []string {
	if want == attrsPrefer {
		return []string{attrsStandby, attrsAny}
	}
	return []string{want}
}

// errAttrs says that a server let the client in and is not of the kind that is wanted.
var errAttrs = &failure{code: "08006", message: "no host of the backing database has the session attributes that are wanted",
	hint: "target_session_attrs in --backing asks for them."}

// passable says whether another host may do better: one that has the same roles would answer anything else just so.
func passable(err error) bool {
	var server *serverError
	var f *failure
	switch {
	case errors.As(err, &server):
		return server.field('C') == "57P03"
	case errors.As(err, &f):
		return f == errAttrs
	}
	return true
}

// try logs in to one host, in each way that sslmode allows: the second after the server has refused the first one's lack of TLS.
func (s *Server) try(ctx context.Context, cfg *pgconn.Config, t target, want string, st *startup, exchange func([]byte) *scram.Client) (*backend, error) {
	for way := 0; ; {
		idle := s.cfg.IdleSessionTimeout > 0 && !s.noIdleTimeout.Load()
		b, err := s.attempt(ctx, cfg, t, way, want, st, idle, exchange)
		var server *serverError
		if !errors.As(err, &server) {
			return b, err
		}
		switch code := server.field('C'); {
		case code == "42704" && idle && strings.Contains(server.field('M'), "idle_session_timeout"):
			s.noIdleTimeout.Store(true) // PostgreSQL 13
		case code == "28000" && way+1 < len(t.tls) && t.tls[way] == nil: // sslmode=allow: pg_hba.conf has lines for TLS alone
			way++
		default:
			return nil, err
		}
	}
}

func (s *Server) attempt(ctx context.Context, cfg *pgconn.Config, t target, way int, want string, st *startup, idle bool, exchange func([]byte) *scram.Client) (*backend, error) {
	conn, err := s.dial(ctx, cfg, t, way)
	if err != nil {
		return nil, err
	}
	limit := s.cfg.ConnectTimeout
	if cfg.ConnectTimeout > 0 {
		limit = cfg.ConnectTimeout
	}
	conn.SetDeadline(time.Now().Add(limit))
	b := &backend{wire: newWire(conn), params: map[string]string{}}
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Now()) })()
	err = s.greet(b, cfg, st, s.parameters(cfg, st, idle), exchange(endPoint(conn, cfg)))
	if err == nil {
		err = b.suits(want)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	conn.SetDeadline(time.Time{})
	return b, nil
}

// parameters are the client's start-up parameters. What the connection string and the configuration give comes first in options, so that
// what the client says holds, in its own options, as a parameter of its own or by SET.
func (s *Server) parameters(cfg *pgconn.Config, st *startup, idle bool) []string {
	var options []string
	add := func(name string, d time.Duration) {
		if d > 0 {
			options = append(options, "-c "+name+"="+strconv.FormatInt(d.Milliseconds(), 10))
		}
	}
	add("statement_timeout", s.cfg.StatementTimeout)
	add("idle_in_transaction_session_timeout", s.cfg.IdleInTransactionTimeout)
	if idle {
		add("idle_session_timeout", s.cfg.IdleSessionTimeout)
	}
	if o := cfg.RuntimeParams["options"]; o != "" {
		options = append(options, o)
	}
	if len(options) == 0 {
		return st.params
	}
	own := ""
	params := make([]string, 0, len(st.params)+2)
	for i := 0; i < len(st.params); i += 2 {
		if st.params[i] == "options" {
			own = st.params[i+1] // the last one holds, as for PostgreSQL
			continue
		}
		params = append(params, st.params[i], st.params[i+1])
	}
	if own != "" {
		options = append(options, own)
	}
	return append(params, "options", strings.Join(options, " "))
}

func (s *Server) greet(b *backend, cfg *pgconn.Config, st *startup, params []string, exchange *scram.Client) error {
	if _, err := b.w.Write(packet(st.version, params)); err != nil {
		return err
	}
	for {
		if err := b.w.Flush(); err != nil {
			return err
		}
		kind, n, err := b.header()
		if err != nil {
			return err
		}
		body, err := b.take(kind, n, maxEarlyBody)
		if err != nil {
			return err
		}
		if !b.let && strings.IndexByte("REvN", kind) < 0 {
			return errMalformed // it would be let in without a proof of the server's
		}
		switch kind {
		case 'R':
			if err := s.answer(b, cfg, st.user, exchange, body); err != nil {
				return err
			}
		case 'E':
			return s.refusal(st.user, body)
		case 'v': // the client has had its answer; what differs is the length of the key alone, of which it takes any
		case 'Z':
			if len(body) != 1 {
				return errMalformed
			}
			b.status = body[0]
			b.keep(kind, body)
			return nil
		default:
			b.note(kind, body)
			b.keep(kind, body)
		}
	}
}

// keep adds a message to the greeting.
func (b *backend) keep(kind byte, body []byte) {
	b.greeting = append(b.greeting, kind)
	b.greeting = appendInt32(b.greeting, len(body)+4)
	b.greeting = append(b.greeting, body...)
}

// note remembers what the session needs of a ParameterStatus or BackendKeyData.
func (b *backend) note(kind byte, body []byte) {
	c := cursor{b: body}
	switch kind {
	case 'S':
		name, value := c.string(), c.string()
		if c.done() {
			b.params[string(name)] = string(value)
		}
	case 'K':
		b.pid = uint32(c.int32())
	}
}

// refusal is what the server said. That the password is wrong is said of a client that has just proved it: the verifier is stale.
func (s *Server) refusal(role string, body []byte) error {
	e := &serverError{append([]byte(nil), body...)}
	if e.field('C') == "28P01" {
		return s.stale(role)
	}
	return e
}

func (s *Server) stale(role string) error {
	s.cfg.Logger.Warn("stored verifier is stale", "role", role)
	return &failure{code: "28P01", message: fmt.Sprintf("the backing database does not accept the stored verifier of role %q", role),
		hint: "Its password was changed there, or has expired (VALID UNTIL): set it again with `pgveil role add " + role + " --password-stdin`."}
}

// answer carries on the authentication that the server asks for.
func (s *Server) answer(b *backend, cfg *pgconn.Config, role string, exchange *scram.Client, body []byte) error {
	code, rest, err := authRequest(body)
	if err != nil {
		return err
	}
	switch code {
	case authOK:
		if !b.proved && (b.asked || !trusts(cfg)) {
			return &failure{code: "28000", message: "the backing database let role " + strconv.Quote(role) + " in without proving who it is",
				hint: "channel_binding or require_auth in --backing demands a proof."}
		}
		b.let = true
		return nil
	case authSASL:
		mechanism, first, err := exchange.First(strings.FieldsFunc(string(rest), func(r rune) bool { return r == 0 }))
		_, encrypted := b.conn.(*tls.Conn)
		switch {
		case err != nil:
			return s.stale(role)
		case cfg.ChannelBinding == "require" && mechanism != scram.MechanismPlus:
			return &failure{code: "28000", message: "the backing database does not offer channel binding", hint: "channel_binding=require in --backing demands it."}
		case !encrypted && strings.Contains(string(rest), scram.MechanismPlus):
			return &failure{code: "28000", message: "the backing database offered SCRAM-SHA-256-PLUS over a connection without TLS"}
		}
		b.asked = true
		out := appendInt32(appendString(nil, mechanism), len(first))
		return b.send('p', append(out, first...))
	case authSASLContinue:
		final, err := exchange.Final(rest)
		if errors.Is(err, scram.ErrOtherVerifier) {
			return s.stale(role)
		}
		if err != nil {
			return err
		}
		return b.send('p', final)
	case authSASLFinal:
		if err := exchange.Verify(rest); err != nil {
			return err
		}
		b.proved = true
		return nil
	case authCleartext, authMD5:
		s.cfg.Logger.Warn("the backing database asks for another authentication method than SCRAM-SHA-256", "role", role, "code", code)
		return &failure{code: "28000", message: "the backing database does not use SCRAM-SHA-256 for role " + strconv.Quote(role),
			hint: "Set password_encryption = 'scram-sha-256' and scram-sha-256 in pg_hba.conf there, then `pgveil role add " + role + " --password-stdin`."}
	}
	return &failure{code: "28000", message: "the backing database asks for an authentication method that is not supported (code " + strconv.Itoa(code) + ")"}
}

// trusts says whether a server may let a role in without a password, as pg_hba.conf's trust and peer do.
func trusts(cfg *pgconn.Config) bool {
	if cfg.ChannelBinding == "require" {
		return false
	}
	methods := strings.Split(cfg.RequireAuth, ",")
	return cfg.RequireAuth == "" || slices.Contains(methods, "none") || strings.HasPrefix(methods[0], "!") && !slices.Contains(methods, "!none")
}

// suits returns errAttrs where the server is not of the kind that is wanted.
func (b *backend) suits(want string) error {
	if want == attrsAny {
		return nil
	}
	standby, known := b.params["in_hot_standby"]
	readOnly := standby == "on" || b.params["default_transaction_read_only"] == "on"
	if !known { // before PostgreSQL 14
		answers, err := b.ask("SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('transaction_read_only')")
		if err != nil {
			return err
		}
		standby, readOnly = map[string]string{"t": "on"}[answers[0]], answers[1] == "on"
	}
	ok := map[string]bool{attrsReadWrite: !readOnly, attrsReadOnly: readOnly, attrsPrimary: standby != "on", attrsStandby: standby == "on"}
	if !ok[want] {
		return errAttrs
	}
	return nil
}

// ask runs a query of two columns and one row on a fresh connection.
func (b *backend) ask(query string) (row [2]string, err error) {
	if err := b.send('Q', appendString(nil, query)); err != nil {
		return row, err
	}
	if err := b.w.Flush(); err != nil {
		return row, err
	}
	for {
		kind, n, err := b.header()
		if err != nil {
			return row, err
		}
		body, err := b.take(kind, n, maxEarlyBody)
		if err != nil {
			return row, err
		}
		switch kind {
		case 'D':
			c := cursor{b: body}
			if c.count() != len(row) {
				return row, errMalformed
			}
			for i := range row {
				v, _ := c.value()
				row[i] = string(v)
			}
		case 'E':
			return row, &serverError{append([]byte(nil), body...)}
		case 'Z':
			return row, nil
		}
	}
}

// ErrUnreachable is what Enrol says where no host of the backing database could be connected to.
var ErrUnreachable error = errUnreachable

// Enrol logs in to the backing database with a role's password and gives the keys that the server there accepts: a verifier with its
// own salt and iteration count, and the ClientKey. The password itself is not sent: a server that asks for it is refused. An error of the
// server's is an error with its text.
func Enrol(ctx context.Context, backing *pgconn.Config, role, database string, password secret.Bytes) (scram.Keys, error) {
	if err := checkBacking(backing); err != nil {
		return scram.Keys{}, err
	}
	s := &Server{cfg: Config{Logger: slog.New(slog.DiscardHandler), ConnectTimeout: defaultConnectTimeout}, ctx: ctx}
	s.metrics = newMetrics(s)
	s.backing.Store(backing)
	st := &startup{user: role, db: database, version: version30, params: []string{"user", role, "database", database, "application_name", "pgveil"}}
	var exchange *scram.Client
	b, err := s.loginAs(ctx, st, func(endPoint []byte) *scram.Client {
		exchange = scram.NewPasswordClient(password, endPoint)
		return exchange
	})
	var server *serverError
	var f *failure
	switch {
	case errors.As(err, &server):
		return scram.Keys{}, fmt.Errorf("%s (SQLSTATE %s)", server.field('M'), server.field('C'))
	case errors.As(err, &f) && f.code == "28P01":
		return scram.Keys{}, fmt.Errorf("password authentication failed for role %q", role)
	case err != nil:
		return scram.Keys{}, err
	}
	defer b.conn.Close()
	b.send('X', nil)
	b.w.Flush()
	if !b.proved {
		return scram.Keys{}, errors.New("the backing database did not ask for a password, so it holds no verifier that is known to fit")
	}
	return exchange.Keys(), nil
}
