// Package pgwire is the front-end: it speaks PostgreSQL's frontend/backend protocol 3.0 and 3.2 (the manual's chapter of that name) to
// clients and to the backing database, relays what nothing protected is named in as bytes, and transforms the rest.
//
// Start with New and Server.Serve. One client connection is one session, pinned to one connection of the backing database that is
// logged in as the client's own role:
//
//	client            front-end session                         backing database
//	  |  SSLRequest, StartupMessage    |                               |
//	  |  SCRAM (verifier)              |  SCRAM (ClientKey)            |
//	  |------------------------------->|------------------------------>|
//	  |  Query, Parse, Bind, …         |  upstream: analyze,           |
//	  |------------------------------->|  make tokens, note what is    |
//	  |                                |  expected, send               |
//	  |                                |------------------------------>|
//	  |  RowDescription, DataRow, …    |  downstream: match            |
//	  |<-------------------------------|  each reply to what is        |
//	  |                                |  expected, transform rows     |
//
// Both directions of a session run on the thread of an event loop (internal/netloop) as long as nothing has to be waited for, and in a goroutine when
// something has: so an idle session is two descriptors and a few kilobytes, and relaying wakes no other thread. The queue of expected replies is the
// only thing that they share on the data path. An error of ours keeps its place among the
// replies, and aborts the transaction as an error of the server's would, because the server is made to raise it: the refused message
// is replaced by one that cannot be parsed, and the reply to it by our error.
//
// Out of scope: pooling, the COPY and FunctionCall protocols for protected relations, replication connections; all of these are refused.
package pgwire

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"pgveil/catalog"
	"pgveil/internal/netloop"
)

// Catalog gives the control plane's current state.
type Catalog interface {
	// Current gives an immutable snapshot, or an error when it is too old to be trusted.
	Current() (*catalog.Snapshot, error)
}

// AuditRecord is what the front-end reports before (an intent) and after (a completion) it shows values. It holds no value.
type AuditRecord struct {
	Session     uint32 // process ID of the server connection
	Role        string // login role
	Addr        string // client's address
	Database    string
	Action      string   // "reveal" or "mask"
	Policies    []string // sorted, without duplicates
	Columns     []string // schema.table.column, sorted, without duplicates
	Fingerprint string   // of the statement without its literals
	Kind        string   // "intent" or "completion"
	Rows        int64    // of an intent: its budget; of a completion: rows shown
}

// Config configures a Server. Backing, Catalog, Service and Audit must be given.
type Config struct {
	// Backing says where the backing database is and how TLS is used to it; user, password and database are each client's own.
	Backing *pgconn.Config
	Catalog Catalog
	// Service connects to a database of the backing cluster as the service role, to read its system catalogs.
	Service func(ctx context.Context, database string) (*pgx.Conn, error)
	// Audit returns when the record is durable; where it fails, nothing is shown.
	Audit func(ctx context.Context, r AuditRecord) error
	// TLS is offered to clients; nil means that SSLRequest is answered N. Of it Certificates or GetCertificate say what is shown. With
	// ClientCAs and VerifyClientCertIfGiven, a client whose certificate bears its role's name needs no password, if the catalog says so.
	TLS *tls.Config
	// Reload reads again what TLS and Backing were made of, for Server.Reload; nil means that there is nothing to read.
	Reload func() (Files, error)
	// Logger gets one line a connection; nil means silent.
	Logger *slog.Logger
	// Loops is how many threads relay; 0 means one for every two processors, and less none: then goroutines do, as where the platform has no loops.
	Loops int
	// Trace logs the type and length of every message of every session, and nothing of what it holds.
	Trace bool
	// Admins are the roles that may use the console, by name.
	Admins []string
	// Settings and Version are what the console shows under these names.
	Settings []Setting
	Version  string
	// ConnectTimeout bounds start-up and authentication, as authentication_timeout does; 0 means 60 s.
	ConnectTimeout time.Duration
	// KeepAlive is how long a connection is silent before TCP asks whether the other side is still there; 0 means 60 s, less means never.
	KeepAlive time.Duration

	// MaxConnections and MaxConnectionsPerRole bound the sessions; 0 means no bound.
	MaxConnections, MaxConnectionsPerRole int
	// MaxStartups bounds the connections that are not authenticated yet; 0 means 1000.
	MaxStartups int

	// StatementTimeout, IdleSessionTimeout and IdleInTransactionTimeout are sessions' settings of those names in the backing database, unless
	// the client says otherwise; 0 leaves them as they are there. PostgreSQL 13 has no idle_session_timeout.
	StatementTimeout, IdleSessionTimeout, IdleInTransactionTimeout time.Duration

	// ProxyFrom are the load balancers that say by a PROXY protocol header who connects. If there are any, a connection from elsewhere, or
	// without the header, is refused.
	ProxyFrom []netip.Prefix
}

// Files are the parts of a Config that are made of files.
type Files struct {
	TLS     *tls.Config
	Backing *pgconn.Config
}

// Defaults of Config.
const (
	defaultConnectTimeout = 60 * time.Second
	defaultKeepAlive      = 60 * time.Second
	defaultMaxStartups    = 1000
)

// Setting is a line of SHOW CONFIG. It holds no secret.
type Setting struct{ Name, Value, Default string }

// Server accepts clients. It is safe for concurrent use.
type Server struct {
	cfg     Config
	metrics *metrics
	ctx     context.Context // ends when Serve is told to stop; for what a session waits on
	stop    context.CancelFunc

	loops         *netloop.Group
	gate          gate
	tls           atomic.Pointer[tls.Config] // what Reload read last
	backing       atomic.Pointer[pgconn.Config]
	limits        limits
	avoided       avoided
	protocol      knowledge
	noIdleTimeout atomic.Bool // the backing database has no idle_session_timeout

	mu        sync.Mutex
	sessions  map[*session]struct{}
	early     map[net.Conn]struct{} // not ready yet
	databases map[string]*database
	consoles  map[string]*console // by process ID and key, as in a CancelRequest
	wg        sync.WaitGroup
}

// New checks the configuration and makes a Server.
func New(cfg Config) (*Server, error) {
	if cfg.Backing == nil || cfg.Catalog == nil || cfg.Service == nil || cfg.Audit == nil {
		return nil, errors.New("pgwire: Backing, Catalog, Service and Audit must be configured")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if err := checkBacking(cfg.Backing); err != nil {
		return nil, err
	}
	cfg.ConnectTimeout = cmp.Or(cfg.ConnectTimeout, defaultConnectTimeout)
	cfg.KeepAlive = cmp.Or(cfg.KeepAlive, defaultKeepAlive)
	s := &Server{cfg: cfg, sessions: map[*session]struct{}{}, early: map[net.Conn]struct{}{}, databases: map[string]*database{}, consoles: map[string]*console{}}
	s.metrics = newMetrics(s)
	if cfg.Loops == 0 {
		cfg.Loops = max(1, runtime.NumCPU()/2)
	}
	var err error
	if s.loops, err = netloop.New(cfg.Loops); err != nil {
		return nil, err
	}
	s.limits = limits{sessions: cfg.MaxConnections, perRole: cfg.MaxConnectionsPerRole, startups: cmp.Or(cfg.MaxStartups, defaultMaxStartups),
		early: map[*ticket]struct{}{}, roles: map[string]int{}}
	s.tls.Store(cfg.TLS)
	s.backing.Store(cfg.Backing)
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s, nil
}

// drainTime is how long sessions may finish their statement after a stop.
const drainTime = 5 * time.Second

// Serve accepts clients on l until ctx ends; then it closes l, tells idle sessions that the server shuts down (57P01), lets the others
// finish their statement for a few seconds, and returns nil when all are gone.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	stopped := context.AfterFunc(ctx, func() { l.Close() })
	defer stopped()
	var failure error
	for {
		conn, err := l.Accept()
		if err != nil {
			if ctx.Err() == nil {
				if errors.Is(err, net.ErrClosed) {
					failure = err
					break
				}
				s.cfg.Logger.Warn("accept failed", "error", err)
				time.Sleep(10 * time.Millisecond) // out of file descriptors: others must end first
				continue
			}
			break
		}
		s.wg.Add(1)
		go s.handle(conn) // ends when the session is ready, or does not become so; drain closes it
	}
	s.drain()
	return failure
}

// drain ends all sessions.
func (s *Server) drain() {
	s.stop()
	s.mu.Lock()
	for conn := range s.early {
		conn.Close()
	}
	s.mu.Unlock()
	s.each((*session).finish)
	done := make(chan struct{})
	go func() { s.wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(drainTime):
		s.each((*session).close)
		<-done
	}
	s.loops.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, db := range s.databases {
		db.close()
	}
}

func (s *Server) each(f func(*session)) {
	s.mu.Lock()
	all := make([]*session, 0, len(s.sessions))
	for x := range s.sessions {
		all = append(all, x)
	}
	s.mu.Unlock()
	for _, x := range all {
		f(x)
	}
}

// starting notes a connection until done is called.
func (s *Server) starting(conn net.Conn) (done func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.early[conn] = struct{}{}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.early, conn)
	}
}

// add registers a session that is ready; it says false when the server is stopping, which ends the session all the same when drainTime is over.
func (s *Server) add(x *session) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions[x] = struct{}{}
	return s.ctx.Err() == nil
}

// remove forgets a session that has ended.
func (s *Server) remove(x *session) {
	defer s.wg.Done()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, x)
	x.db.past.add(x)
}
