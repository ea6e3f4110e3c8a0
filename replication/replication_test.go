package replication_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"pgveil/internal/pgtest"
	"pgveil/internal/secret"
	"pgveil/replication"
)

func TestMain(m *testing.M) {
	if os.Getenv(childStream) != "" {
		runChild()
		return
	}
	// Most tests wait for a worker, so more of them than there are processors may run at once.
	flag.Parse()
	if n := flag.Lookup("test.parallel"); n.Value.String() == n.DefValue {
		n.Value.Set("6")
	}
	pgtest.Main(m)
}

// keyed is a deterministic tokenizer whose tokens look like t1_ and 32 hexadecimal digits. It refuses values that
// begin with "invalid", quoting them, as a careless one might.
type keyed string

func (k keyed) Append(dst, plain []byte) ([]byte, error) {
	if bytes.HasPrefix(plain, []byte("invalid")) {
		return nil, fmt.Errorf("cannot tokenize %s", plain)
	}
	mac := hmac.New(sha256.New, []byte(k))
	mac.Write(plain)
	return append(dst, "t1_"+hex.EncodeToString(mac.Sum(nil)[:16])...), nil
}

func (k keyed) MaxTokenLen(int) int { return 35 }

func token(policy, plain string) string {
	t, err := keyed(policy).Append(nil, []byte(plain))
	if err != nil {
		panic("token of an invalid value")
	}
	return string(t)
}

func tokenizer(policy string) (replication.Tokenizer, error) {
	if policy == "unknown" {
		return nil, errors.New("unknown policy")
	}
	return keyed(policy), nil
}

// fixture is a source and a target database with one stream between them.
type fixture struct {
	t        *testing.T
	src, dst *pgx.Conn
	cfg      replication.Config
	log      *logBuffer
}

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

func setup(t *testing.T, schema string) *fixture {
	t.Helper()
	return setupIn(t, pgtest.Database(t), pgtest.Database(t), schema)
}

// setupOne has both sides in one database, which is cheaper.
func setupOne(t *testing.T, schema string) *fixture {
	t.Helper()
	dsn := pgtest.Database(t)
	return setupIn(t, dsn, dsn, schema)
}

func setupIn(t *testing.T, source, target, schema string) *fixture {
	t.Helper()
	f := &fixture{t: t, src: dial(t, source), dst: dial(t, target), log: &logBuffer{}}
	f.cfg = replication.Config{
		Name: "s" + strings.ToLower(rand.Text()[:10]), Source: secret.New([]byte(source)), Target: secret.New([]byte(target)),
		Schema: "veil", Tables: []string{"public.*"}, Tokenizer: tokenizer, Protect: guard(target),
		RetryStopped: 300 * time.Millisecond,
		Logger:       slog.New(slog.NewTextHandler(f.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	f.exec(f.src, schema)
	return f
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

// guard stands for the catalog: it puts a CHECK on the column that only tokens pass.
func guard(dsn string) func(ctx context.Context, schema, table, column, policy string) error {
	return func(ctx context.Context, schema, table, column, policy string) error {
		conn, err := pgx.Connect(ctx, dsn)
		if err != nil {
			return err
		}
		defer conn.Close(ctx)
		name := pgx.Identifier{"pgveil_guard_" + column}.Sanitize()
		_, err = conn.Exec(ctx, fmt.Sprintf(`ALTER TABLE %s DROP CONSTRAINT IF EXISTS %s, ADD CONSTRAINT %s CHECK (%s COLLATE "C" LIKE 't1\_%%')`,
			pgx.Identifier{schema, table}.Sanitize(), name, name, pgx.Identifier{column}.Sanitize()))
		return err
	}
}

func (f *fixture) exec(c *pgx.Conn, sql string, args ...any) {
	f.t.Helper()
	if _, err := c.Exec(f.t.Context(), sql, args...); err != nil {
		f.t.Fatalf("%s: %v", sql, err)
	}
}

func (f *fixture) text(c *pgx.Conn, sql string, args ...any) string {
	f.t.Helper()
	var s *string
	if err := c.QueryRow(f.t.Context(), sql, args...).Scan(&s); err != nil {
		f.t.Fatalf("%s: %v", sql, err)
	}
	if s == nil {
		return "NULL"
	}
	return *s
}

func (f *fixture) create(marks ...string) {
	f.t.Helper()
	for _, m := range marks {
		mark, err := replication.ParseMark(m)
		if err != nil {
			f.t.Fatal(err)
		}
		f.cfg.Marks = append(f.cfg.Marks, mark)
	}
	if err := replication.Create(f.t.Context(), f.cfg); err != nil {
		f.t.Fatal(err)
	}
}

// run starts a worker; the returned func stops it and waits.
func (f *fixture) run() (stop func()) {
	f.t.Helper()
	return f.runHooked(func(string) {})
}

func (f *fixture) runHooked(hook func(string)) (stop func()) {
	f.t.Helper()
	w, err := replication.NewWorker(f.cfg)
	if err != nil {
		f.t.Fatal(err)
	}
	replication.SetHook(w, hook)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			select {
			case err := <-done:
				if err != nil && !errors.Is(err, replication.ErrUnknownStream) {
					f.t.Errorf("Run: %v", err)
				}
			case <-time.After(10 * time.Second):
				f.t.Error("Run has not returned 10 s after its context ended")
			}
		})
	}
	f.t.Cleanup(stop)
	return stop
}

// eventually polls a fact for 15 s, and shows the status and log if it stays false.
func (f *fixture) eventually(what string, fact func() bool) {
	f.t.Helper()
	f.within(15*time.Second, what, fact)
}

func (f *fixture) within(d time.Duration, what string, fact func() bool) {
	f.t.Helper()
	for until := time.Now().Add(d); !fact(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(until) {
			f.t.Fatalf("not within %v: %s\nstatus: %+v\n%s", d, what, f.status(), f.log)
		}
	}
}

func (f *fixture) status() []replication.TableStatus {
	f.t.Helper()
	st, err := replication.Status(f.t.Context(), f.cfg.Target, f.cfg.Name)
	if err != nil {
		f.t.Fatal(err)
	}
	return st
}

// phase asks the state table itself: Status connects anew each time.
func (f *fixture) phase(want replication.Phase) func() bool {
	return func() bool {
		return f.text(f.dst, `SELECT count(*)::text FROM pgveil.replica_checkpoint WHERE stream = $1 AND phase = $2`, f.cfg.Name, string(want)) == "1"
	}
}

func (f *fixture) streaming() {
	f.t.Helper()
	f.eventually("streaming", f.phase(replication.Streaming))
}

// caughtUp waits until what is committed at the source now is visible at the target: a barrier row tells. It needs
// the table of barrier().
func (f *fixture) caughtUp() {
	f.t.Helper()
	mark := rand.Text()
	f.exec(f.src, `INSERT INTO public.barrier VALUES ($1)`, mark)
	f.eventually("caught up", func() bool {
		return f.text(f.dst, `SELECT count(*)::text FROM veil.barrier WHERE id = $1`, mark) == "1"
	})
}

const barrier = `CREATE TABLE public.barrier (id text PRIMARY KEY);`

const people = barrier + `
CREATE TABLE public.people (id bigint PRIMARY KEY, name text, ssn text, email varchar(20), born date, score float8, doc text);
INSERT INTO people SELECT i, 'name ' || i, 'ssn-' || i, 'e' || i || '@example.com', date '1970-01-01' + i, i / 3.0, NULL FROM generate_series(1, 1000) i;
INSERT INTO people VALUES (2001, E'tab\t new\nline \\ back', E'odd\t\n\\\r', '', 'infinity', 'NaN', ''), (2002, NULL, NULL, NULL, '0044-03-15 BC', '-Infinity', NULL);
`

// same compares the people of both sides row by row, tokenizing the source's.
func (f *fixture) same() {
	f.t.Helper()
	want, got := f.people(f.src, "public", token), f.people(f.dst, "veil", func(_, v string) string { return v })
	if len(got) != len(want) {
		f.t.Errorf("the replica has %d rows, the source %d", len(got), len(want))
	}
	bad := 0
	for id, w := range want {
		if got[id] != w {
			if bad++; bad <= 3 {
				f.t.Errorf("row %d:\n got %.200q\nwant %.200q", id, got[id], w)
			}
		}
	}
}

func (f *fixture) people(c *pgx.Conn, schema string, protected func(policy, value string) string) map[int64]string {
	f.t.Helper()
	rows, err := c.Query(f.t.Context(), `SELECT id, ssn, email::text, concat_ws('|', coalesce(name, '-'), coalesce(born::text, '-'), coalesce(score::text, '-'), coalesce(doc, '-'))
		FROM `+pgx.Identifier{schema, "people"}.Sanitize())
	if err != nil {
		f.t.Fatal(err)
	}
	all := map[int64]string{}
	var id int64
	var ssn, email *string
	var others string
	_, err = pgx.ForEachRow(rows, []any{&id, &ssn, &email, &others}, func() error {
		for policy, v := range map[string]*string{"ssn": ssn, "email": email} {
			if v != nil {
				*v = protected(policy, *v)
			}
		}
		all[id] = show(ssn) + "|" + show(email) + "|" + others
		return nil
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return all
}

func show(s *string) string {
	if s == nil {
		return "NULL"
	}
	return "'" + *s + "'"
}

func TestReplicaFollowsTheSourceInTokens(t *testing.T) {
	t.Parallel()
	f := setup(t, people)
	f.create("public.people.ssn=ssn", "public.people.email=email")
	f.run()
	f.streaming()
	f.same()
	f.exec(f.src, `INSERT INTO people VALUES (3000, 'new', 'ssn-new', 'n@example.com', '2000-02-29', 1e-300, 'd')`)
	f.exec(f.src, `UPDATE people SET ssn = 'ssn-changed', doc = 'x' WHERE id <= 100`)
	f.exec(f.src, `DELETE FROM people WHERE id BETWEEN 200 AND 300`)
	f.exec(f.src, `UPDATE people SET id = id + 100000 WHERE id BETWEEN 400 AND 420`)
	f.exec(f.src, `UPDATE people SET ssn = NULL, email = '' WHERE id = 5`)
	f.caughtUp()
	f.same()
	for _, s := range f.status() {
		if s.Table == "people" && (s.RowsCopied != 1002 || s.LastCommit == nil || s.LSN == "" || s.Reason != "" || strings.Join(s.Protected, ",") != "ssn,email") {
			t.Errorf("status %+v", s)
		}
	}
}

// dialBackground opens a connection to the source for a cleanup.
func dialBackground(f *fixture) *pgx.Conn {
	f.t.Helper()
	conn, err := pgx.Connect(context.Background(), string(f.cfg.Source.Expose()))
	if err != nil {
		f.t.Fatal(err)
	}
	return conn
}

func withUser(t *testing.T, dsn, user, password string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(user, password)
	return u.String()
}
