package pgwire

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"pgveil/internal/netloop"
	"pgveil/internal/scram"
)

const (
	dialTimeout   = 10 * time.Second // where the connection string has no connect_timeout
	cancelTimeout = 10 * time.Second
	avoidTime     = 5 * time.Second // how long a host that did not serve is tried after the others
)

var (
	errNoTLS     = errors.New("the server does not support TLS, and sslmode requires it")
	errDirectTLS = errors.New("direct TLS was made without ALPN protocol negotiation")
)

// target is one address of the backing database.
type target struct {
	host string // for the log
	addr string // of the network: an IP address, or a directory
	port uint16
	// tls are the ways to connect, the preferred one first; nil is without TLS. sslmode makes them (the manual's "SSL Support"): one for
	// disable, require, verify-ca and verify-full; without, then with TLS for allow; with, then without for prefer.
	tls []*tls.Config
}

func (t target) name() string { return fmt.Sprintf("%s:%d", t.addr, t.port) }

// session attributes that a server can be asked to have (the manual's target_session_attrs).
const (
	attrsAny       = ""
	attrsReadWrite = "read-write"
	attrsReadOnly  = "read-only"
	attrsPrimary   = "primary"
	attrsStandby   = "standby"
	attrsPrefer    = "prefer-standby"
)

// attrs reads target_session_attrs out of a parsed connection string, where it is a function.
func attrs(cfg *pgconn.Config) (string, error) {
	if cfg.ValidateConnect == nil {
		return attrsAny, nil
	}
	at := reflect.ValueOf(cfg.ValidateConnect).Pointer()
	for name, f := range map[string]pgconn.ValidateConnectFunc{
		attrsReadWrite: pgconn.ValidateConnectTargetSessionAttrsReadWrite, attrsReadOnly: pgconn.ValidateConnectTargetSessionAttrsReadOnly,
		attrsPrimary: pgconn.ValidateConnectTargetSessionAttrsPrimary, attrsStandby: pgconn.ValidateConnectTargetSessionAttrsStandby,
		attrsPrefer: pgconn.ValidateConnectTargetSessionAttrsPreferStandby,
	} {
		if reflect.ValueOf(f).Pointer() == at {
			return name, nil
		}
	}
	return "", errors.New("pgwire: Backing.ValidateConnect is not one of target_session_attrs")
}

// checkBacking refuses what login could not follow.
func checkBacking(cfg *pgconn.Config) error {
	_, err := attrs(cfg)
	return err
}

// avoided remembers hosts that did not serve a moment ago, so that logins do not wait for them one by one.
type avoided struct {
	mu    sync.Mutex
	until map[string]time.Time
}

func (a *avoided) note(t target) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.until == nil {
		a.until = map[string]time.Time{}
	}
	a.until[t.name()] = time.Now().Add(avoidTime)
}

func (a *avoided) forget(t target) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.until, t.name())
}

// last puts the avoided ones behind the others.
func (a *avoided) last(ts []target) []target {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	rank := func(t target) int {
		if a.until[t.name()].After(now) {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(ts, func(x, y target) int { return rank(x) - rank(y) })
	return ts
}

// targets are the addresses of the backing database in the order to try them.
func (s *Server) targets(ctx context.Context, cfg *pgconn.Config) []target {
	hosts := []target{{host: cfg.Host, port: cfg.Port, tls: []*tls.Config{cfg.TLSConfig}}}
	for _, f := range cfg.Fallbacks {
		last := &hosts[len(hosts)-1]
		// A host's second entry says its other way, with or without TLS.
		if f.Host == last.host && f.Port == last.port && len(last.tls) == 1 && (f.TLSConfig == nil) != (last.tls[0] == nil) {
			last.tls = append(last.tls, f.TLSConfig)
			continue
		}
		hosts = append(hosts, target{host: f.Host, port: f.Port, tls: []*tls.Config{f.TLSConfig}})
	}
	if cfg.RuntimeParams["load_balance_hosts"] == "random" {
		rand.Shuffle(len(hosts), func(i, j int) { hosts[i], hosts[j] = hosts[j], hosts[i] })
	}
	var ts []target
	for _, h := range hosts {
		for _, addr := range addresses(ctx, cfg, h.host, h.port) {
			h.addr = addr
			ts = append(ts, h)
		}
	}
	return s.avoided.last(ts)
}

// addresses resolves a host's name. One that cannot be resolved is its own address: dialing it says why.
func addresses(ctx context.Context, cfg *pgconn.Config, host string, port uint16) []string {
	if network, _ := pgconn.NetworkAddress(host, port); network == "unix" || net.ParseIP(host) != nil || cfg.LookupFunc == nil {
		return []string{host}
	}
	addrs, err := cfg.LookupFunc(ctx, host)
	if err != nil || len(addrs) == 0 {
		return []string{host}
	}
	return addrs
}

// dial connects to a target in one of its ways.
func (s *Server) dial(ctx context.Context, cfg *pgconn.Config, t target, way int) (net.Conn, error) {
	ctx, stop := context.WithTimeout(ctx, dialLimit(cfg))
	defer stop()
	network, addr := pgconn.NetworkAddress(t.addr, t.port)
	dialed, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	s.keepAlive(dialed)
	conn := net.Conn(netloop.NewSocket(dialed))
	config := t.tls[way]
	if config == nil {
		return conn, nil
	}
	mayGoWithout := way == 0 && len(t.tls) > 1
	encrypted, err := startTLS(ctx, conn, config, cfg.SSLNegotiation == "direct", mayGoWithout)
	if err != nil {
		conn.Close()
		return nil, err
	}
	return encrypted, nil
}

func dialLimit(cfg *pgconn.Config) time.Duration {
	if cfg.ConnectTimeout > 0 {
		return cfg.ConnectTimeout
	}
	return dialTimeout
}

// startTLS makes conn a TLS connection. mayGoWithout is sslmode=prefer: the server may answer that it has no TLS. That answer alone lets the
// connection go on without; a handshake that fails does not.
func startTLS(ctx context.Context, conn net.Conn, config *tls.Config, direct, mayGoWithout bool) (net.Conn, error) {
	if deadline, ok := ctx.Deadline(); ok {
		conn.SetDeadline(deadline)
		defer conn.SetDeadline(time.Time{})
	}
	if !direct {
		if _, err := conn.Write(appendInt32(appendInt32(nil, 8), codeSSL)); err != nil {
			return nil, err
		}
		var answer [1]byte // and no byte more: what is read here was not encrypted
		if _, err := io.ReadFull(conn, answer[:]); err != nil {
			return nil, err
		}
		switch {
		case answer[0] == 'N' && mayGoWithout:
			return conn, nil
		case answer[0] != 'S':
			return nil, errNoTLS
		}
	}
	t := tls.Client(conn, config)
	if err := t.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	if direct && t.ConnectionState().NegotiatedProtocol != alpn {
		return nil, errDirectTLS
	}
	return t, nil
}

// endPoint is what to bind SCRAM to on a connection to the backing database; nil where it is not TLS or not wanted.
func endPoint(conn net.Conn, cfg *pgconn.Config) []byte {
	t, ok := conn.(*tls.Conn)
	if !ok || cfg.ChannelBinding == "disable" {
		return nil
	}
	certs := t.ConnectionState().PeerCertificates
	if len(certs) == 0 {
		return nil
	}
	return scram.EndPoint(certs[0])
}

// cancel forwards a CancelRequest: clients hold the server's own process ID and key, so any node can. Where the backing database has several
// hosts, all get it, for any may have the session; the others find that the key is none of theirs.
func (s *Server) cancel(packet []byte) {
	ctx, stop := context.WithTimeout(s.ctx, cancelTimeout)
	defer stop()
	cfg := s.backing.Load()
	var wg sync.WaitGroup
	for _, t := range s.targets(ctx, cfg) {
		wg.Go(func() {
			conn, err := s.dial(ctx, cfg, t, 0)
			if err != nil {
				s.cfg.Logger.Warn("cancel request could not be forwarded", "host", t.name(), "error", err)
				return
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(cancelTimeout))
			conn.Write(packet)
			io.Copy(io.Discard, conn) // the server closes when it has signalled
		})
	}
	wg.Wait()
}

// knowledge is the newest protocol version that the backing database was found to speak.
type knowledge struct {
	mu      sync.Mutex
	version uint32
	at      time.Time
}

// believedFor is how long what was found is taken for true: the backing database may be upgraded.
const believedFor = time.Minute

// newest gives the newest protocol version that the backing database and we speak. Where it is not known, the backing database is asked,
// by a start-up packet of a version that does not exist; the answer comes before it asks for a password.
func (s *Server) newest(st *startup) uint32 {
	k := &s.protocol
	k.mu.Lock() // also while asking: clients that come meanwhile wait for the one answer
	defer k.mu.Unlock()
	if k.version != 0 && time.Since(k.at) < believedFor {
		return k.version
	}
	version, err := s.askVersion(st)
	k.version, k.at = version, time.Now()
	if err != nil { // the login will say what is wrong; those that wait need not find it out one after the other
		k.at = k.at.Add(time.Second - believedFor)
	}
	return version
}

func (s *Server) askVersion(st *startup) (uint32, error) {
	const future = 3<<16 | 9999
	cfg := s.backing.Load()
	err := errors.New("no host")
	for _, t := range s.targets(s.ctx, cfg) {
		var conn net.Conn
		if conn, err = s.dial(s.ctx, cfg, t, 0); err != nil {
			continue
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(dialLimit(cfg)))
		w := newWire(conn)
		if _, err = w.w.Write(packet(future, []string{"user", st.user, "database", st.db})); err == nil {
			err = w.w.Flush()
		}
		if err != nil {
			continue
		}
		kind, n, err := w.header()
		if err != nil || kind != 'v' {
			return version30, err
		}
		body, err := w.take(kind, n, maxEarlyBody)
		if err != nil {
			return version30, err
		}
		return offered(body), nil
	}
	return version30, err
}

// offered reads the version in a NegotiateProtocolVersion: no newer one than we speak ourselves.
func offered(body []byte) uint32 {
	c := cursor{b: body}
	if version := uint32(c.int32()); !c.bad && version >= version32 && version>>16 == 3 {
		return version32
	}
	return version30
}

// packet is a StartupMessage.
func packet(version uint32, params []string) []byte {
	b := appendInt32([]byte{0, 0, 0, 0}, int(version))
	for _, p := range params {
		b = appendString(b, p)
	}
	b = append(b, 0)
	copy(b, appendInt32(nil, len(b)))
	return b
}
