package catalog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"pgveil/engine"
)

const (
	lease          = 10 * time.Second // how long a snapshot may be decided by
	pollInterval   = time.Second
	refreshTimeout = 5 * time.Second
	channel        = "pgveil" // LISTEN and NOTIFY; the payload is the epoch
)

// Config is what a Store needs.
type Config struct {
	// DSN is the service role's connection to the control-plane database, as a URL or in keyword form. The other
	// databases of the cluster are reached by the same DSN with another database name.
	DSN string

	// Sealer opens the installation's keys.
	Sealer Sealer

	// Logger hears of alarms and lost connections; nil is silent.
	Logger *slog.Logger
}

// Store reads and changes the catalog. It is safe for concurrent use.
type Store struct {
	config *pgx.ConnConfig
	sealer Sealer
	log    *slog.Logger

	current atomic.Pointer[held]
	lease   time.Duration

	// changing is held for the length of a change and guards what follows.
	changing sync.Mutex
	changer  *pgx.Conn // nil until the first change

	// mu is held for the length of a refresh and guards what follows.
	mu         sync.Mutex
	links      map[string]*pgx.Conn // by database; "" is the control-plane database
	last       *contents            // what the current snapshot was made of
	generation int64
	compiled   map[string]compiled // by policy id
}

// held is a snapshot and the moment before which it was certainly true.
type held struct {
	snapshot *Snapshot
	at       time.Time
}

// compiled is a policy's transform with what it was made of.
type compiled struct {
	from      string
	transform *engine.Transform
	err       error
}

// Open connects and reads the catalog once. It fails with ErrNotMigrated or ErrNotInitialized where something is to be
// done first. Run must run for the snapshot to stay usable; a command that is done within seconds needs no Run.
func Open(ctx context.Context, c Config) (*Store, error) {
	config, err := parseDSN(c.DSN)
	if err != nil {
		return nil, err
	}
	log := c.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Store{
		config: config, sealer: c.Sealer, log: log, lease: lease,
		links: map[string]*pgx.Conn{}, compiled: map[string]compiled{},
	}
	if err := s.Refresh(ctx); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// Close closes the connections. It waits for a change or refresh under way.
func (s *Store) Close() {
	s.changing.Lock()
	defer s.changing.Unlock()
	if s.changer != nil {
		closeConn(s.changer)
		s.changer = nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.links {
		s.unlink(name)
	}
}

// Current returns the newest snapshot, or ErrStale when its lease ran out. It does no I/O.
func (s *Store) Current() (*Snapshot, error) {
	h := s.current.Load()
	if h == nil || time.Since(h.at) > s.lease { // monotonic, both
		return nil, ErrStale
	}
	return h.snapshot, nil
}

// Refresh reads the catalog now. When it returns nil, Current includes every change committed before the call.
func (s *Store) Refresh(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := time.Now() // before reading: the lease must not outlive what was read
	c, err := s.read(ctx)
	var own *Error
	if err != nil && !errors.As(err, &own) && ctx.Err() == nil {
		c, err = s.read(ctx) // a kept connection was lost since, and is made again
	}
	if err != nil {
		return err
	}
	h := s.current.Load()
	if h != nil && c.Epoch.Value < h.snapshot.catalog {
		return errRolledBack
	}
	if h == nil || !reflect.DeepEqual(c, s.last) {
		s.generation++
		snapshot, err := s.build(c)
		if err != nil {
			return err
		}
		s.announce(h, snapshot)
		h, s.last = &held{snapshot: snapshot}, c
	}
	s.current.Store(&held{h.snapshot, at})
	return nil
}

// announce logs the alarms that are new.
func (s *Store) announce(before *held, now *Snapshot) {
	old := map[Alarm]bool{}
	if before != nil {
		for _, a := range before.snapshot.alarms {
			old[a] = true
		}
	}
	for _, a := range now.alarms {
		if !old[a] {
			s.log.Error("catalog: alarm", "object", a.Object, "reason", a.Reason)
		}
	}
}

// Run refreshes the snapshot on every notification and once a second, until ctx ends; it then returns nil.
// Lost connections are logged and made again.
func (s *Store) Run(ctx context.Context) error {
	wake := make(chan struct{}, 1)
	var wg sync.WaitGroup
	wg.Go(func() { s.listen(ctx, wake) }) // ends with ctx
	defer wg.Wait()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-wake:
		}
		failing = s.refreshLogged(ctx, failing)
	}
}

// refreshLogged refreshes, and logs the first failure of a row of them and the recovery.
func (s *Store) refreshLogged(ctx context.Context, failing bool) (fails bool) {
	bounded, cancel := context.WithTimeout(ctx, refreshTimeout)
	defer cancel()
	err := s.Refresh(bounded)
	switch {
	case ctx.Err() != nil:
	case err != nil && !failing:
		s.log.Error("catalog: refresh fails", "error", err)
	case err == nil && failing:
		s.log.Info("catalog: refreshes again")
	}
	return err != nil
}

// listen wakes Run at each notification, and after each connect for what was missed before it.
func (s *Store) listen(ctx context.Context, wake chan<- struct{}) {
	for ctx.Err() == nil {
		s.listenOnce(ctx, wake)
		select {
		case <-ctx.Done():
		case <-time.After(pollInterval):
		}
	}
}

func (s *Store) listenOnce(ctx context.Context, wake chan<- struct{}) {
	conn, err := s.connect(ctx, "")
	if err != nil {
		return // the poll fails too, and says so
	}
	defer closeConn(conn)
	if _, err := conn.Exec(ctx, "LISTEN "+channel); err != nil {
		return
	}
	for err == nil {
		select {
		case wake <- struct{}{}:
		default: // one is waiting already, and will read what this one tells of
		}
		_, err = conn.WaitForNotification(ctx)
	}
}

// parseDSN reads a connection string. Its error does not repeat the text, which may hold a password pgx cannot find.
func parseDSN(dsn string) (*pgx.ConnConfig, error) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, invalid("PGVEIL_DATABASE_URL is like postgres://user@host:5432/database", "the control-plane database's URL cannot be read")
	}
	return config, nil
}

// connect opens a connection to a database of the backing cluster, "" for the control plane's.
func (s *Store) connect(ctx context.Context, database string) (*pgx.Conn, error) {
	return connect(ctx, s.config, database)
}

func connect(ctx context.Context, config *pgx.ConnConfig, database string) (*pgx.Conn, error) {
	config = config.Copy()
	if database != "" {
		config.Database = database
	}
	if config.ConnectTimeout == 0 || config.ConnectTimeout > refreshTimeout {
		config.ConnectTimeout = refreshTimeout
	}
	config.RuntimeParams["application_name"] = "pgveil"
	config.RuntimeParams["search_path"] = "pg_catalog"
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect to database %q: %w", config.Database, err)
	}
	return conn, nil
}

// link returns the connection kept for reading a database. The caller holds mu.
func (s *Store) link(ctx context.Context, database string) (*pgx.Conn, error) {
	if conn := s.links[database]; conn != nil && !conn.IsClosed() {
		return conn, nil
	}
	conn, err := s.connect(ctx, database)
	if err != nil {
		return nil, err
	}
	// A batch of reads is then one transaction, and one moment.
	if _, err := conn.Exec(ctx, `SET default_transaction_isolation = 'repeatable read'`); err != nil {
		closeConn(conn)
		return nil, err
	}
	s.links[database] = conn
	return conn, nil
}

// unlink closes a kept connection. The caller holds mu.
func (s *Store) unlink(database string) {
	if conn := s.links[database]; conn != nil {
		closeConn(conn)
		delete(s.links, database)
	}
}

// closeConn says goodbye within a second, whatever became of the caller's context.
func closeConn(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	conn.Close(ctx)
}
