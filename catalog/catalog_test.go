package catalog_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/url"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"pgveil/catalog"
	"pgveil/engine"
	"pgveil/internal/pgtest"
	"pgveil/internal/secret"
	"pgveil/keyring"
	"pgveil/migrations"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// installation is a migrated, initialized control plane with a Store on it, and a superuser's connection beside it.
type installation struct {
	*catalog.Store
	t        *testing.T
	dsn      string
	database string
	ring     *keyring.Ring
	super    *pgx.Conn
	log      *logBuffer
}

func install(t *testing.T) *installation {
	t.Helper()
	dsn, shared := grouped(t)
	if !shared {
		dsn = pgtest.Database(t)
	}
	in := &installation{t: t, dsn: dsn, super: dial(t, dsn), log: &logBuffer{}}
	in.database = in.super.Config().Database
	if shared {
		in.exec(`DROP SCHEMA IF EXISTS pgveil, public, s CASCADE; CREATE SCHEMA public; GRANT USAGE ON SCHEMA public TO PUBLIC`)
	}
	if _, err := migrations.Apply(t.Context(), in.super); err != nil {
		t.Fatal(err)
	}
	blob, ring, err := keyring.Init(t.Context(), newKEK(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := catalog.Initialize(t.Context(), dsn, blob, ring); err != nil {
		t.Fatal(err)
	}
	in.ring = ring
	in.Store = in.open(dsn)
	return in
}

// group runs tests one after another on one database, which each finds empty: making a database costs ten times as much
// as emptying one.
func group(t *testing.T, tests ...func(*testing.T)) {
	t.Parallel()
	databases.Store(t.Name(), pgtest.Database(t))
	for _, test := range tests {
		name := runtime.FuncForPC(reflect.ValueOf(test).Pointer()).Name()
		t.Run(name[strings.LastIndex(name, ".test")+len(".test"):], test)
	}
}

var databases sync.Map // of groups, by the group's name

// grouped returns the database of the group a test is in.
func grouped(t *testing.T) (dsn string, ok bool) {
	name, _, _ := strings.Cut(t.Name(), "/")
	v, ok := databases.Load(name)
	dsn, _ = v.(string)
	return dsn, ok
}

func newKEK(t *testing.T) keyring.KEK {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kek")
	if err := keyring.CreateFile(path); err != nil {
		t.Fatal(err)
	}
	kek, err := keyring.OpenKEK("file:" + path)
	if err != nil {
		t.Fatal(err)
	}
	return kek
}

// open opens another Store, another node's as it were.
func (in *installation) open(dsn string) *catalog.Store {
	in.t.Helper()
	s, err := catalog.Open(in.t.Context(), catalog.Config{DSN: dsn, Sealer: in.ring, Logger: slog.New(slog.NewTextHandler(in.log, nil))})
	if err != nil {
		in.t.Fatal(err)
	}
	in.t.Cleanup(s.Close)
	return s
}

func dial(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func (in *installation) exec(sql string, args ...any) {
	in.t.Helper()
	exec(in.t, in.super, sql, args...)
}

func exec(t *testing.T, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// snapshot refreshes and takes the snapshot.
func (in *installation) snapshot() *catalog.Snapshot {
	in.t.Helper()
	return fresh(in.t, in.Store)
}

func fresh(t *testing.T, s *catalog.Store) *catalog.Snapshot {
	t.Helper()
	must(t, s.Refresh(t.Context()))
	snapshot, err := s.Current()
	must(t, err)
	return snapshot
}

func (in *installation) policy(name, format string) {
	in.t.Helper()
	must(in.t, in.CreatePolicy(in.t.Context(), engine.Policy{Name: name, Format: format}))
}

// role makes a role with a name of its own in the cluster, which the test's databases share.
func (in *installation) role(options string) string {
	in.t.Helper()
	name := "r_" + strings.ToLower(rand.Text()[:10])
	in.exec(`CREATE ROLE ` + name + ` ` + options)
	in.dropRole(name)
	return name
}

func (in *installation) dropRole(name string) {
	in.t.Cleanup(func() {
		quoted := pgx.Identifier{name}.Sanitize()
		in.super.Exec(context.Background(), `DROP OWNED BY `+quoted)
		in.super.Exec(context.Background(), `DROP ROLE IF EXISTS `+quoted)
	})
}

func (in *installation) protect(table, column, policy string) {
	in.t.Helper()
	must(in.t, in.Protect(in.t.Context(), in.database, "public", table, column, policy))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantCode fails unless err is an *Error of that code with a message that holds words.
func wantCode(t *testing.T, err error, code catalog.Code, words string) {
	t.Helper()
	var e *catalog.Error
	if !errors.As(err, &e) || e.Code != code || !strings.Contains(e.Message, words) {
		t.Errorf("got %v, want an error with code %s that says %q", err, code, words)
	}
}

// within waits until ok holds, and fails after d.
func within(t *testing.T, d time.Duration, what string, ok func() bool) {
	t.Helper()
	for begun := time.Now(); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Since(begun) > d {
			t.Fatalf("not within %v: %s", d, what)
		}
	}
}

// as returns a DSN for another role.
func as(t *testing.T, dsn, role, password string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	must(t, err)
	u.User = url.UserPassword(role, password)
	return u.String()
}

// logBuffer is a log that may be read while it is written.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func password(text string) secret.Bytes { return secret.New([]byte(text)) }
