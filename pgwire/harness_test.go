package pgwire_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"pgveil/catalog"
	"pgveil/engine"
	"pgveil/internal/pgtest"
	"pgveil/internal/secret"
	"pgveil/keyring"
	"pgveil/migrations"
	"pgveil/pgwire"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// buffer is a log that goroutines share.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// front is a front-end before a database of its own, with a protected table customers and the roles app (tokenize, reveal), support (mask)
// and analyst (token), whose names have a suffix because roles are the cluster's.
type front struct {
	t        *testing.T
	dsn      string // superuser's, to the backing database
	addr     string
	suffix   string
	store    *catalog.Store
	log      *buffer
	server   *pgwire.Server
	tls      *tls.Config
	change   func(*pgwire.Config) // what a test configures otherwise; nil: nothing
	stop     func()
	mu       sync.Mutex
	audit    []pgwire.AuditRecord
	auditErr error
}

const password = "correct horse"

func newFront(t *testing.T, dsn string) *front { return newFrontTLS(t, dsn, nil) }

func newFrontTLS(t *testing.T, dsn string, tlsConfig *tls.Config) *front {
	t.Helper()
	f := &front{t: t, dsn: dsn, log: &buffer{}, tls: tlsConfig}
	super := f.direct()
	f.suffix = strings.ReplaceAll(super.Config().Database, "-", "_")
	if _, err := migrations.Apply(t.Context(), super); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "kek")
	if err := keyring.CreateFile(path); err != nil {
		t.Fatal(err)
	}
	kek, err := keyring.OpenKEK("file:" + path)
	if err != nil {
		t.Fatal(err)
	}
	blob, ring, err := keyring.Init(t.Context(), kek)
	if err != nil {
		t.Fatal(err)
	}
	if err := catalog.Initialize(t.Context(), dsn, blob, ring); err != nil {
		t.Fatal(err)
	}
	f.store, err = catalog.Open(t.Context(), catalog.Config{DSN: dsn, Sealer: ring})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.store.Close)
	f.must(super, `create table customers (id bigint primary key, name text, email text, ssn text, phone text, card varchar(30), country text)`,
		`create table orders (id bigint primary key, customer_id bigint, card text)`, `create table notes (id bigint primary key, email text, note text)`)
	for name, format := range map[string]string{"email": "email", "ssn": "ssn", "phone": "phone", "card": "pan"} {
		if err := f.store.CreatePolicy(t.Context(), engine.Policy{Name: name, Format: format}); err != nil {
			t.Fatal(err)
		}
		if err := f.store.Protect(t.Context(), super.Config().Database, "public", "customers", name, name); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.store.Protect(t.Context(), super.Config().Database, "public", "orders", "card", "card"); err != nil {
		t.Fatal(err)
	}
	for name, actions := range map[string][]catalog.Action{"app": {catalog.Tokenize, catalog.Reveal}, "support": {catalog.Mask}, "analyst": {catalog.Token}} {
		role := f.role(name)
		if err := f.store.AddRole(t.Context(), role, secret.New([]byte(password))); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.dropRole(role) })
		f.must(super, fmt.Sprintf("grant all on all tables in schema public to %s; grant create on schema public to %[1]s", role))
		for _, a := range actions {
			for _, p := range []string{"email", "ssn", "phone", "card"} {
				if err := f.store.Grant(t.Context(), role, a, p); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	f.refresh()
	f.serve()
	return f
}

func (f *front) dropRole(role string) {
	ctx := context.Background()
	u, _ := url.Parse(f.dsn)
	u.Path = "/postgres"
	conn, err := pgx.Connect(ctx, u.String())
	if err != nil {
		return
	}
	defer conn.Close(ctx)
	conn.Exec(ctx, "drop role if exists "+role) // fails while the database still holds its grants; names are unique anyway
}

func (f *front) refresh() {
	f.t.Helper()
	if err := f.store.Refresh(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
}

func (f *front) serve() {
	f.t.Helper()
	backing, err := pgconn.ParseConfig(f.dsn)
	if err != nil {
		f.t.Fatal(err)
	}
	config := pgwire.Config{
		Backing: backing, Catalog: f.store, TLS: f.tls, Logger: slog.New(slog.NewTextHandler(f.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Service: func(ctx context.Context, database string) (*pgx.Conn, error) {
			cfg, err := pgx.ParseConfig(f.dsn)
			if err != nil {
				return nil, err
			}
			cfg.Database = database
			return pgx.ConnectConfig(ctx, cfg)
		},
		Audit: func(_ context.Context, r pgwire.AuditRecord) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			if f.auditErr == nil {
				f.audit = append(f.audit, r)
			}
			return f.auditErr
		},
	}
	if f.change != nil {
		f.change(&config)
	}
	if f.server, err = pgwire.New(config); err != nil {
		f.t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.t.Fatal(err)
	}
	f.addr = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	run := make(chan error, 1)
	go func() { run <- f.store.Run(ctx) }()
	go func() { done <- f.server.Serve(ctx, l) }()
	var once sync.Once
	f.stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				f.t.Errorf("Serve: %v", err)
			}
			<-run
		})
	}
	f.t.Cleanup(f.stop)
}

// again serves anew, with another configuration, at another address.
func (f *front) again(change func(*pgwire.Config)) {
	f.t.Helper()
	f.stop()
	f.change = change
	f.serve()
}

func (f *front) failAudit(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.auditErr = err
}

func (f *front) records() []pgwire.AuditRecord {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]pgwire.AuditRecord(nil), f.audit...)
}

func (f *front) role(name string) string { return name + "_" + f.suffix }

func (f *front) url(role string) string {
	u, err := url.Parse(f.dsn)
	if err != nil {
		f.t.Fatal(err)
	}
	u.User, u.Host = url.UserPassword(f.role(role), password), f.addr
	u.RawQuery = "sslmode=disable"
	return u.String()
}

// as connects through the front-end.
func (f *front) as(role string) *pgx.Conn { return f.connect(f.url(role)) }

// direct connects to the backing database as the superuser.
func (f *front) direct() *pgx.Conn { return f.connect(f.dsn) }

func (f *front) connect(dsn string) *pgx.Conn {
	f.t.Helper()
	conn, err := pgx.Connect(f.t.Context(), dsn)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() {
		ctx, stop := context.WithTimeout(context.Background(), 2*time.Second)
		defer stop()
		conn.Close(ctx)
	})
	return conn
}

func (f *front) must(conn *pgx.Conn, statements ...string) {
	f.t.Helper()
	for _, s := range statements {
		if _, err := conn.Exec(f.t.Context(), s); err != nil {
			f.t.Fatalf("%s: %v", s, err)
		}
	}
}

// modes are the ways a driver can send a statement.
var modes = map[string]pgx.QueryExecMode{
	"simple": pgx.QueryExecModeSimpleProtocol, "exec": pgx.QueryExecModeExec, "describe": pgx.QueryExecModeDescribeExec,
	"prepared": pgx.QueryExecModeCacheStatement, "cached description": pgx.QueryExecModeCacheDescribe,
}

// rows runs a query and gives its rows as text, NULL as "∅".
func (f *front) rows(conn *pgx.Conn, query string, args ...any) ([]string, error) {
	f.t.Helper()
	rows, err := conn.Query(f.t.Context(), query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []string
	for rows.Next() {
		values, err := rows.Values()
		if err != nil {
			return nil, err
		}
		cells := make([]string, len(values))
		for i, v := range values {
			cells[i] = fmt.Sprint(v)
			if v == nil {
				cells[i] = "∅"
			}
		}
		out = append(out, strings.Join(cells, "|"))
	}
	return out, rows.Err()
}

// want fails unless the query gives exactly these rows.
func (f *front) want(conn *pgx.Conn, want []string, query string, args ...any) {
	f.t.Helper()
	got, err := f.rows(conn, query, args...)
	if err != nil {
		f.t.Errorf("%s: %v", query, err)
		return
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		f.t.Errorf("%s\n got %q\nwant %q", query, got, want)
	}
}

// refused fails unless the query is refused with that SQLSTATE, and gives the error.
func (f *front) refused(conn *pgx.Conn, code, query string, args ...any) *pgconn.PgError {
	f.t.Helper()
	_, err := f.rows(conn, query, args...)
	var pe *pgconn.PgError
	if !errors.As(err, &pe) || pe.Code != code {
		f.t.Errorf("%s: %v, want SQLSTATE %s", query, err, code)
		return &pgconn.PgError{}
	}
	return pe
}

func simple(args ...any) []any { return append([]any{pgx.QueryExecModeSimpleProtocol}, args...) }
