package audit_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"pgveil/audit"
	"pgveil/internal/pgtest"
	"pgveil/migrations"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

var key = bytes.Repeat([]byte{7}, 32)

// setup returns a config on a fresh, migrated database, and a superuser's connection to it.
func setup(t *testing.T) (audit.Config, *pgx.Conn) {
	t.Helper()
	parent, _, _ := strings.Cut(t.Name(), "/")
	known, _ := shared.Load(parent)
	dsn, ok := known.(string)
	if !ok {
		dsn = pgtest.Database(t)
	}
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	if _, err := migrations.Apply(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), `TRUNCATE pgveil.audit`); err != nil {
		t.Fatal(err)
	}
	return audit.Config{DSN: dsn, Node: "node/1", CheckpointDir: filepath.Join(t.TempDir(), "checkpoints"), Key: key}, conn
}

func open(t *testing.T, c audit.Config) *audit.Log {
	t.Helper()
	l, err := audit.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close(context.Background()) })
	return l
}

func record(i int) audit.Record {
	return audit.Record{
		Kind: audit.Intent, Session: int64(i), Role: "app", Addr: "10.0.0.1:5", Database: "shop", Action: "reveal", Outcome: "allowed",
		Fingerprint: "f1", Policies: []string{"ssn", "card"}, Columns: []string{"public.customers.ssn"}, Rows: 10,
	}
}

// fill appends n records and closes the log, which writes the checkpoint.
func fill(t *testing.T, c audit.Config, n int) {
	t.Helper()
	l := open(t, c)
	for i := range n {
		must(t, l.Append(t.Context(), record(i)))
	}
	must(t, l.Close(t.Context()))
}

func verify(t *testing.T, c audit.Config) audit.Report {
	t.Helper()
	r, err := audit.Verify(t.Context(), c)
	must(t, err)
	return r
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestLog runs tests one after another on one database, which each finds empty: making a database costs ten times as
// much as emptying a table.
func TestLog(t *testing.T) {
	t.Parallel()
	shared.Store(t.Name(), pgtest.Database(t))
	for _, test := range []func(*testing.T){
		testAppendedRecordsVerifyAcrossRestarts,
		testAppendIsDurableWhenItReturns,
		testConcurrentAppendsMakeOneChain,
		testTwoProcessesMayShareAChain,
		testOddTextDoesNotFailTheBatch,
		testOpenRefusesATamperedEnd,
		testCheckpointIsSignedAndPrivate,
		testRunningNodeWritesCheckpoints,
		testErrorsAndLogsShowNoSecret,
	} {
		name := runtime.FuncForPC(reflect.ValueOf(test).Pointer()).Name()
		t.Run(name[strings.LastIndex(name, ".test")+len(".test"):], test)
	}
}

var shared sync.Map // databases of tests that run others, by name

func testAppendedRecordsVerifyAcrossRestarts(t *testing.T) {
	c, conn := setup(t)
	fill(t, c, 5)
	fill(t, c, 5)
	other := c
	other.Node = "node/2"
	fill(t, other, 3)
	r := verify(t, c)
	if !r.OK() || len(r.Nodes) != 2 || r.Nodes[0] != (audit.NodeReport{Node: "node/1", Records: 10, Checkpoint: 10}) ||
		r.Nodes[1] != (audit.NodeReport{Node: "node/2", Records: 3, Checkpoint: 3}) {
		t.Errorf("report = %+v", r)
	}
	var n int
	must(t, conn.QueryRow(t.Context(), `SELECT count(*) FROM pgveil.audits WHERE role = 'app' AND policies = '{ssn,card}' AND rows = 10`).Scan(&n))
	if n != 13 {
		t.Errorf("%d records are stored as they were appended, want 13", n)
	}
}

func testAppendIsDurableWhenItReturns(t *testing.T) {
	c, conn := setup(t)
	l := open(t, c)
	for i := range 20 {
		must(t, l.Append(t.Context(), record(i)))
		var n int
		must(t, conn.QueryRow(t.Context(), `SELECT count(*) FROM pgveil.audit`).Scan(&n))
		if n != i+1 {
			t.Fatalf("after %d appends %d records are committed", i+1, n)
		}
	}
	var mode string
	must(t, conn.QueryRow(t.Context(), `SELECT count(*)::text FROM pg_stat_activity WHERE application_name = 'pgveil audit' AND datname = current_database()`).Scan(&mode))
	if mode != "1" {
		t.Errorf("%s connections, want 1", mode)
	}
}

func testConcurrentAppendsMakeOneChain(t *testing.T) {
	c, conn := setup(t)
	l := open(t, c)
	before := commits(t, conn)
	var wg sync.WaitGroup
	for g := range 64 {
		wg.Go(func() {
			for i := range 20 {
				if err := l.Append(t.Context(), record(g*1000+i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	must(t, l.Close(t.Context()))
	if r := verify(t, c); !r.OK() || r.Nodes[0].Records != 64*20 {
		t.Errorf("report = %+v", r)
	}
	// All of one transaction have one xmin: the group commit is one.
	if n := commits(t, conn) - before; n > 64*20/4 {
		t.Errorf("%d transactions for %d records of 64 callers", n, 64*20)
	}
}

func commits(t *testing.T, conn *pgx.Conn) (n int) {
	t.Helper()
	must(t, conn.QueryRow(t.Context(), `SELECT count(DISTINCT xmin::text) FROM pgveil.audit`).Scan(&n))
	return n
}

func testTwoProcessesMayShareAChain(t *testing.T) {
	c, _ := setup(t)
	a, b := open(t, c), open(t, c)
	var wg sync.WaitGroup
	for _, l := range []*audit.Log{a, b} {
		for g := range 4 {
			wg.Go(func() {
				for i := range 10 {
					if err := l.Append(t.Context(), record(g*100+i)); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	wg.Wait()
	must(t, a.Close(t.Context()))
	must(t, b.Close(t.Context()))
	if r := verify(t, c); !r.OK() || r.Nodes[0].Records != 80 {
		t.Errorf("report = %+v", r)
	}
}

func testOddTextDoesNotFailTheBatch(t *testing.T) {
	c, _ := setup(t)
	l := open(t, c)
	must(t, l.Append(t.Context(), audit.Record{Kind: audit.Admin, Role: "a\x00b\xff", Columns: []string{"x\x00"}}))
	must(t, l.Append(t.Context(), audit.Record{}))
	must(t, l.Close(t.Context()))
	if r := verify(t, c); !r.OK() {
		t.Errorf("report = %+v", r)
	}
	if err := l.Append(t.Context(), record(1)); !errors.Is(err, audit.ErrClosed) {
		t.Errorf("Append after Close = %v", err)
	}
	must(t, l.Close(t.Context()))
}

func TestTamperingIsDetectedAndTheFirstBadRecordNamed(t *testing.T) {
	t.Parallel()
	c, conn := setup(t)
	for name, tc := range map[string]struct {
		sql string
		seq int64
	}{
		"edited text":   {`UPDATE pgveil.audit SET role = 'nobody' WHERE node = 'NODE' AND seq = 4`, 4},
		"edited count":  {`UPDATE pgveil.audit SET rows = 0 WHERE node = 'NODE' AND seq = 6`, 6},
		"edited list":   {`UPDATE pgveil.audit SET columns = '{}' WHERE node = 'NODE' AND seq = 2`, 2},
		"text moved":    {`UPDATE pgveil.audit SET role = role || addr, addr = '' WHERE node = 'NODE' AND seq = 5`, 5},
		"edited time":   {`UPDATE pgveil.audit SET at = at + interval '1 microsecond' WHERE node = 'NODE' AND seq = 3`, 3},
		"edited hash":   {`UPDATE pgveil.audit SET hash = '\x00' WHERE node = 'NODE' AND seq = 7`, 7},
		"edited prev":   {`UPDATE pgveil.audit SET prev = '\x00' WHERE node = 'NODE' AND seq = 7`, 7},
		"deleted":       {`DELETE FROM pgveil.audit WHERE node = 'NODE' AND seq = 5`, 5},
		"first deleted": {`DELETE FROM pgveil.audit WHERE node = 'NODE' AND seq = 1`, 1},
		"deleted and closed up": {`DELETE FROM pgveil.audit WHERE node = 'NODE' AND seq = 5; UPDATE pgveil.audit SET seq = 5 WHERE node = 'NODE' AND seq = 6;
			UPDATE pgveil.audit SET seq = 6 WHERE node = 'NODE' AND seq = 7; UPDATE pgveil.audit SET seq = 7 WHERE node = 'NODE' AND seq = 8`, 5},
		"reordered":             {`UPDATE pgveil.audit SET seq = 100 WHERE node = 'NODE' AND seq = 3; UPDATE pgveil.audit SET seq = 3 WHERE node = 'NODE' AND seq = 4; UPDATE pgveil.audit SET seq = 4 WHERE node = 'NODE' AND seq = 100`, 3},
		"truncated":             {`DELETE FROM pgveil.audit WHERE node = 'NODE' AND seq > 5`, 6},
		"all deleted":           {`DELETE FROM pgveil.audit WHERE node = 'NODE'`, 1},
		"forged at the end":     {`INSERT INTO pgveil.audit SELECT node, 9, at, kind, session, role, addr, database, action, outcome, fingerprint, reason, policies, columns, rows, hash, hash FROM pgveil.audit WHERE node = 'NODE' AND seq = 8`, 9},
		"given to another node": {`UPDATE pgveil.audit SET node = 'thief' WHERE node = 'NODE'`, 1},
	} {
		t.Run(name, func(t *testing.T) {
			// One database for all: a chain and a checkpoint directory of its own for each case.
			c := c
			c.Node, c.CheckpointDir = name, t.TempDir()
			fill(t, c, 8)
			if p := problem(verify(t, c), name); p != nil {
				t.Fatalf("before: %+v", p)
			}
			if _, err := conn.Exec(t.Context(), strings.ReplaceAll(tc.sql, "NODE", name)); err != nil {
				t.Fatal(err)
			}
			if p := problem(verify(t, c), name); p == nil || p.Seq != tc.seq || p.Reason == "" {
				t.Errorf("problem = %+v, want record %d named", p, tc.seq)
			}
		})
	}
}

// problem returns what a report has against a node, nil if nothing.
func problem(r audit.Report, node string) *audit.Problem {
	for _, p := range r.Problems {
		if p.Node == node {
			return &p
		}
	}
	return nil
}

func testOpenRefusesATamperedEnd(t *testing.T) {
	for name, sql := range map[string]string{
		"truncated":   `DELETE FROM pgveil.audit WHERE seq > 2`,
		"all deleted": `TRUNCATE pgveil.audit`,
		"last edited": `UPDATE pgveil.audit SET rows = 0 WHERE seq = 4`,
	} {
		t.Run(name, func(t *testing.T) {
			c, conn := setup(t)
			fill(t, c, 4)
			if _, err := conn.Exec(t.Context(), sql); err != nil {
				t.Fatal(err)
			}
			_, err := audit.Open(t.Context(), c)
			var e *audit.Error
			if !errors.As(err, &e) || e.Hint == "" || !strings.Contains(e.Message, "node/1") {
				t.Errorf("Open = %v, want an *audit.Error with a hint", err)
			}
			c.Node = "node/1b"
			fill(t, c, 1)
		})
	}
}

func testCheckpointIsSignedAndPrivate(t *testing.T) {
	c, _ := setup(t)
	fill(t, c, 3)
	files, err := os.ReadDir(c.CheckpointDir)
	must(t, err)
	if len(files) != 1 {
		t.Fatalf("%d files in the checkpoint directory, want 1", len(files))
	}
	path := filepath.Join(c.CheckpointDir, files[0].Name())
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
		t.Errorf("mode is %o", info.Mode().Perm())
	}
	text, err := os.ReadFile(path)
	must(t, err)
	must(t, os.WriteFile(path, bytes.Replace(text, []byte(`"seq":3`), []byte(`"seq":2`), 1), 0o600))
	if r := verify(t, c); r.OK() || r.Problems[0].Seq != 0 {
		t.Errorf("a changed checkpoint gives %+v", r)
	}
	if _, err := audit.Open(t.Context(), c); err == nil {
		t.Error("Open accepts a changed checkpoint")
	}
	must(t, os.WriteFile(path, []byte("nonsense"), 0o600))
	if r := verify(t, c); r.OK() {
		t.Error("a checkpoint of nonsense verifies")
	}
	must(t, os.WriteFile(path, text, 0o600))
	if r := verify(t, c); !r.OK() {
		t.Errorf("put back, it gives %+v", r)
	}
	c.Key = bytes.Repeat([]byte{8}, 32)
	if r := verify(t, c); r.OK() {
		t.Error("another key verifies")
	}
}

func testRunningNodeWritesCheckpoints(t *testing.T) {
	c, conn := setup(t)
	l := open(t, c.Every(20*time.Millisecond))
	for i := range 3 {
		must(t, l.Append(t.Context(), record(i)))
	}
	for begun := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		if r := verify(t, c); len(r.Nodes) == 1 && r.Nodes[0].Checkpoint == 3 && r.OK() {
			break
		}
		if time.Since(begun) > 5*time.Second {
			t.Fatal("no checkpoint of the last record within 5 s")
		}
	}
	if _, err := conn.Exec(t.Context(), `DELETE FROM pgveil.audit WHERE seq = 3`); err != nil {
		t.Fatal(err)
	}
	if p := problem(verify(t, c), c.Node); p == nil || p.Seq != 3 {
		t.Errorf("a cut-off end gives %+v", p)
	}
}

func TestAppendFailsInAnOutageAndWorksAfterIt(t *testing.T) {
	t.Parallel()
	c, conn := setup(t)
	var log logBuffer
	c.Logger = slog.New(slog.NewTextHandler(&log, nil))
	way := newWay(t, c.DSN)
	c.DSN = way.dsn
	l := open(t, c)
	must(t, l.Append(t.Context(), record(1)))

	way.set(refusing)
	begun := time.Now()
	if err := l.Append(t.Context(), record(2)); err == nil {
		t.Error("Append without a database succeeds")
	}
	if d := time.Since(begun); d > 5500*time.Millisecond {
		t.Errorf("it took %v to fail", d)
	}
	way.set(passing)
	must(t, l.Append(t.Context(), record(3)))

	// The server was restarted while nothing was appended: the next append finds a dead connection and succeeds.
	if _, err := conn.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pgveil audit' AND datname = current_database()`); err != nil {
		t.Fatal(err)
	}
	must(t, l.Append(t.Context(), record(4)))
	way.cut()
	must(t, l.Append(t.Context(), record(5)))

	must(t, l.Close(t.Context()))
	if r := verify(t, audit.Config{DSN: c.DSN, Key: c.Key, CheckpointDir: c.CheckpointDir}); !r.OK() || r.Nodes[0].Records != 4 {
		t.Errorf("report = %+v", r)
	}
	if !strings.Contains(log.String(), "records are refused") || !strings.Contains(log.String(), "written again") {
		t.Error("the outage is not in the log")
	}
}

func TestAppendAnswersWithinItsBoundWhenTheDatabaseHangs(t *testing.T) {
	t.Parallel()
	c, _ := setup(t)
	way := newWay(t, c.DSN)
	direct := c
	c.DSN = way.dsn
	l := open(t, c)
	must(t, l.Append(t.Context(), record(1)))
	way.set(hanging)
	var wg sync.WaitGroup
	begun := time.Now()
	for i := range 10 {
		wg.Go(func() {
			time.Sleep(time.Duration(i) * 100 * time.Millisecond)
			begun := time.Now()
			if err := l.Append(t.Context(), record(i)); err == nil {
				t.Error("Append to a hanging database succeeds")
			}
			if d := time.Since(begun); d > 5500*time.Millisecond {
				t.Errorf("it took %v to fail", d)
			}
		})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := l.Append(ctx, record(0)); !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) > time.Second {
		t.Errorf("Append with a context of 50 ms = %v after %v", err, time.Since(begun))
	}
	wg.Wait()
	way.set(passing)
	must(t, l.Append(t.Context(), record(2)))
	must(t, l.Close(t.Context()))
	if r := verify(t, direct); !r.OK() || r.Nodes[0].Records < 2 {
		t.Errorf("report = %+v", r)
	}
}

func TestTailShowsTheLastRecordsAndFollows(t *testing.T) {
	t.Parallel()
	c, _ := setup(t)
	fill(t, c, 5)
	c2 := c
	c2.Node = "node/2"
	fill(t, c2, 2)
	var seen []string
	must(t, audit.Tail(t.Context(), c.DSN, 3, false, func(e audit.Entry) error {
		seen = append(seen, fmt.Sprintf("%s:%d", e.Node, e.Seq))
		return nil
	}))
	if got := strings.Join(seen, " "); got != "node/1:5 node/2:1 node/2:2" {
		t.Errorf("tail of 3 = %s", got)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	l := open(t, c)
	got := make(chan audit.Entry, 10)
	done := make(chan error, 1)
	go func() {
		done <- audit.Tail(ctx, c.DSN, 1, true, func(e audit.Entry) error { got <- e; return nil })
	}()
	if e := <-got; e.Node != "node/2" || e.Seq != 2 {
		t.Errorf("first = %s %d", e.Node, e.Seq)
	}
	must(t, l.Append(t.Context(), record(77)))
	if e := <-got; e.Node != "node/1" || e.Seq != 6 || e.Session != 77 || e.Role != "app" || e.At.IsZero() {
		t.Errorf("followed = %+v", e)
	}
	cancel()
	must(t, <-done)
	if len(got) != 0 {
		t.Errorf("%d more records were shown", len(got))
	}
}

func testErrorsAndLogsShowNoSecret(t *testing.T) {
	c, _ := setup(t)
	var said strings.Builder
	c.Key = []byte("canary-key-canary-key-canary-key")
	fill(t, c, 1)
	u, err := url.Parse(c.DSN)
	must(t, err)
	u.User = url.UserPassword("postgres", "canary-pw")
	for _, dsn := range []string{u.String(), "postgres://u:canary-pw@127.0.0.1:1/x", "host=h password='canary-pw", strings.Replace(c.DSN, "/t_", "/template1?x=", 1)} {
		bad := c
		bad.DSN = dsn
		_, err := audit.Open(t.Context(), bad)
		_, err2 := audit.Verify(t.Context(), bad)
		err3 := audit.Tail(t.Context(), dsn, 1, false, func(audit.Entry) error { return nil })
		if err == nil || err2 == nil || err3 == nil {
			t.Error("a bad DSN works")
		}
		fmt.Fprintf(&said, "%v %v %v %+v", err, err2, err3, err)
	}
	_, err = audit.Open(t.Context(), audit.Config{DSN: c.DSN, Node: "n", Key: []byte("canary-key")})
	fmt.Fprint(&said, err)
	if strings.Contains(said.String(), "canary") {
		t.Error("an error shows a password or a key")
	}
}

// The ways a road to the server can be.
const (
	passing = iota
	refusing
	hanging
)

// way is a road to the server that can be cut, or on which nothing arrives.
type way struct {
	dsn, target string
	ln          net.Listener

	mu    sync.Mutex
	state int
	conns []net.Conn
}

func newWay(t *testing.T, dsn string) *way {
	t.Helper()
	u, err := url.Parse(dsn)
	must(t, err)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	w := &way{target: u.Host, ln: ln}
	u.Host = ln.Addr().String()
	w.dsn = u.String()
	go w.serve()
	t.Cleanup(func() { ln.Close(); w.cut() })
	return w
}

func (w *way) serve() {
	for {
		client, err := w.ln.Accept()
		if err != nil {
			return
		}
		w.mu.Lock()
		w.conns = append(w.conns, client)
		switch w.state {
		case refusing:
			client.Close()
		case passing:
			if server, err := net.Dial("tcp", w.target); err != nil {
				client.Close()
			} else {
				w.conns = append(w.conns, server)
				go w.copy(server, client)
				go w.copy(client, server)
			}
		}
		w.mu.Unlock()
	}
}

// copy forwards until an end closes; while the way hangs, it swallows.
func (w *way) copy(to, from net.Conn) {
	defer to.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		w.mu.Lock()
		hangs := w.state == hanging
		w.mu.Unlock()
		if hangs {
			continue
		}
		if _, err := io.Copy(to, bytes.NewReader(buf[:n])); err != nil {
			return
		}
	}
}

func (w *way) set(state int) {
	w.mu.Lock()
	w.state = state
	w.mu.Unlock()
	if state == refusing {
		w.cut()
	}
}

func (w *way) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.conns {
		c.Close()
	}
	w.conns = nil
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

func TestAMissingCheckpointDirectoryIsNotTakenForAnEmptyOne(t *testing.T) {
	t.Parallel()
	c, _ := setup(t)
	l, err := audit.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Append(t.Context(), audit.Record{Kind: audit.Admin, Action: "test"}); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := audit.Verify(t.Context(), c); err != nil {
		t.Errorf("with its directory: %v", err)
	}
	c.CheckpointDir = filepath.Join(t.TempDir(), "nowhere")
	if _, err := audit.Verify(t.Context(), c); err == nil {
		t.Error("a directory that does not exist is taken for an empty one")
	}
}
