package pgwire_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"pgveil/pgwire"
)

// withConsole is a front-end with one customer, where app may administer.
func withConsole(t *testing.T) *front {
	t.Helper()
	f := withJane(t)
	f.again(func(c *pgwire.Config) {
		c.Admins, c.Version = []string{f.role("app")}, "1.2.3"
		c.Settings = []pgwire.Setting{{Name: "listen", Value: "127.0.0.1:7432", Default: "127.0.0.1:7432"}, {Name: "trace", Value: "true", Default: "false"}}
	})
	return f
}

// console connects a role to the console.
func (f *front) console(role string) *pgx.Conn { return f.connect(f.consoleURL(role)) }

func (f *front) consoleURL(role string) string {
	u, err := url.Parse(f.url(role))
	if err != nil {
		f.t.Fatal(err)
	}
	u.Path = "/pgveil"
	return u.String()
}

// until waits for a condition that must come true.
func (f *front) until(what string, holds func() bool) {
	f.t.Helper()
	for end := time.Now().Add(10 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			f.t.Fatalf("%s: not within 10 s", what)
		}
	}
}

func TestTheConsoleIsForAdministratorsAlone(t *testing.T) {
	t.Parallel()
	f := withConsole(t)
	for dsn, code := range map[string]string{
		f.consoleURL("support"):                                    "42501",
		strings.Replace(f.consoleURL("app"), "horse", "cow", 1):    "28P01",
		strings.Replace(f.consoleURL("app"), "app_", "nobody_", 1): "28P01",
	} {
		_, err := pgx.Connect(t.Context(), dsn)
		f.fatal("connecting", err, code)
	}
	f.want(f.console("app"), []string{"pgveil 1.2.3"}, "show version")
}

func TestTheConsoleShowsSessionsInEveryMode(t *testing.T) {
	t.Parallel()
	f := withConsole(t)
	busy := f.connect(f.url("app") + "&application_name=till")
	f.must(busy, "begin", "select 1", "select email from customers")
	other := f.as("analyst")
	if _, err := f.rows(other, "select nothing_there"); err == nil {
		t.Error("an unknown column is selected")
	}
	pid, database := int64(busy.PgConn().PID()), busy.Config().Database
	for name, mode := range modes {
		k := f.console("app")
		var got struct {
			pid, statements, received, sent                      int64
			role, database, address, application, tls, state     string
			since                                                time.Time
			sessions, relay, covered, rewritten, refused, values int64
			masked, in, out                                      int64
		}
		err := k.QueryRow(t.Context(), "show clients", mode).Scan(&got.pid, &got.role, &got.database, &got.address, &got.application, &got.tls, &got.state, &got.since,
			&got.statements, &got.received, &got.sent)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got.pid != pid || got.role != f.role("app") || got.database != database || got.application != "till" || got.tls != "" || got.state != "idle in transaction" ||
			got.statements != 3 || got.received < 100 || got.sent < 100 || !strings.HasPrefix(got.address, "127.0.0.1:") || time.Since(got.since).Abs() > time.Minute {
			t.Errorf("%s: clients: %+v", name, got)
		}
		err = k.QueryRow(t.Context(), "SHOW SERVERS;", mode).Scan(&got.pid, &got.role, &got.database, &got.address, &got.tls, &got.state, &got.received, &got.sent)
		if err != nil || got.pid != pid || got.state != "idle in transaction" || !strings.Contains(f.dsn, got.address) || got.received < 100 || got.sent < 100 {
			t.Errorf("%s: servers: %+v, %v", name, got, err)
		}
		err = k.QueryRow(t.Context(), "Show Stats", mode).Scan(&got.database, &got.sessions, &got.relay, &got.covered, &got.rewritten, &got.refused, &got.values, &got.masked, &got.in, &got.out)
		if err != nil || got.database != database || got.sessions != 2 || got.relay < 3 || got.rewritten != 1 || got.values != 2 || got.masked != 0 || got.in < 100 || got.out < 100 {
			t.Errorf("%s: stats: %+v, %v", name, got, err)
		}
		f.want(k, []string{"listen|127.0.0.1:7432|127.0.0.1:7432", "trace|true|false"}, "show config", mode)
		f.want(k, []string{"card|pan|ff1|1|1", "email|email|aes-siv|1|1", "phone|phone|ff1|1|1", "ssn|ssn|ff1|1|1"}, "show policies", mode)
		if keys, err := f.rows(k, "show keys", mode); err != nil || len(keys) != 4 || !strings.HasPrefix(keys[0], "card|1|active|true|20") {
			t.Errorf("%s: keys: %q, %v", name, keys, err)
		}
		f.want(k, []string{"pgveil 1.2.3"}, "show version", mode)
		k.Close(t.Context())
	}
}

func TestTheConsoleAnswersWhatDriversAskOnTheirOwn(t *testing.T) {
	t.Parallel()
	f := withConsole(t)
	k := f.console("app")
	if err := k.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	f.must(k, "SET extra_float_digits = 3", "set application_name to 'a;b'", "begin", "commit", "DISCARD ALL", "", ";;", "/* a /* nested */ comment */ -- and one more")
	for query, want := range map[string]string{
		"select 1": "1", "SHOW TRANSACTION ISOLATION LEVEL": "read committed", "select version();": "pgveil 1.2.3", "select pg_catalog.version()": "pgveil 1.2.3",
		"select current_database()": "pgveil", "show standard_conforming_strings": "on",
	} {
		for _, mode := range modes {
			f.want(k, []string{want}, query, mode)
		}
	}
	for _, query := range []string{"select 2", "show", "show nothing", "kill", "kill me", "kill 1 2", "pause now", "show help; drop table customers", "select 'open", "/* open"} {
		if pe := f.refused(k, "42601", query, simple()...); !strings.Contains(pe.Hint, "SHOW HELP") && !strings.Contains(query, "open") {
			t.Errorf("%s: hint %q", query, pe.Hint)
		}
	}
	f.refused(k, "42601", "show help; show version", pgx.QueryExecModeDescribeExec)
	f.refused(k, "08P01", "show version", pgx.QueryExecModeExec, "a parameter")
	f.refused(k, "42704", "kill 1")
	results, err := k.PgConn().Exec(t.Context(), "show version; -- first\nselect 1; show help").ReadAll()
	if err != nil || len(results) != 3 || results[2].CommandTag.String() != "SHOW" {
		t.Errorf("%d results, %v", len(results), err)
	}
	for parameter, want := range map[string]string{"client_encoding": "UTF8", "server_version": "13.0 (pgveil 1.2.3)", "session_authorization": f.role("app"), "TimeZone": "UTC"} {
		if got := k.PgConn().ParameterStatus(parameter); got != want {
			t.Errorf("%s is %q", parameter, got)
		}
	}
}

func TestTheConsoleKeepsToTheExtendedProtocol(t *testing.T) {
	t.Parallel()
	f := withConsole(t)
	hijacked, err := f.console("app").PgConn().Hijack()
	if err != nil {
		t.Fatal(err)
	}
	defer hijacked.Conn.Close()
	hijacked.Conn.SetDeadline(time.Now().Add(10 * time.Second))
	c := hijacked.Frontend
	for _, m := range []pgproto3.FrontendMessage{
		&pgproto3.Parse{Name: "h", Query: "show help"}, &pgproto3.Describe{ObjectType: 'S', Name: "h"}, &pgproto3.Bind{PreparedStatement: "h", DestinationPortal: "p"},
		&pgproto3.Describe{ObjectType: 'P', Name: "p"}, &pgproto3.Execute{Portal: "p", MaxRows: 2}, &pgproto3.Execute{Portal: "p"}, &pgproto3.Execute{Portal: "p"},
		&pgproto3.Close{ObjectType: 'P', Name: "p"}, &pgproto3.Execute{Portal: "p"}, &pgproto3.Parse{Query: "this is skipped"}, &pgproto3.Sync{},
		&pgproto3.Parse{Query: ""}, &pgproto3.Bind{}, &pgproto3.Execute{}, &pgproto3.Bind{PreparedStatement: "unknown"}, &pgproto3.Sync{},
		&pgproto3.FunctionCall{Function: 1}, &pgproto3.Query{String: "set a = 1"},
	} {
		c.Send(m)
	}
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	var got []string
	for ready := 0; ready < 4; {
		m, err := c.Receive()
		if err != nil {
			t.Fatalf("after %q: %v", got, err)
		}
		name := strings.TrimPrefix(fmt.Sprintf("%T", m), "*pgproto3.")
		switch m := m.(type) {
		case *pgproto3.ErrorResponse:
			name = m.Code
		case *pgproto3.ReadyForQuery:
			ready++
		case *pgproto3.DataRow:
			if got[len(got)-1] == name+"s" || got[len(got)-1] == name {
				got[len(got)-1] = name + "s"
				continue
			}
		}
		got = append(got, name)
	}
	want := []string{"ParseComplete", "ParameterDescription", "RowDescription", "BindComplete", "RowDescription", "DataRows", "PortalSuspended", "DataRows", "CommandComplete", "CommandComplete",
		"CloseComplete", "34000", "ReadyForQuery", "ParseComplete", "BindComplete", "EmptyQueryResponse", "26000", "ReadyForQuery", "0A000", "ReadyForQuery", "CommandComplete", "ReadyForQuery"}
	if !slices.Equal(got, want) {
		t.Errorf("\n got %q\nwant %q", got, want)
	}
	c.Send(&pgproto3.Query{String: strings.Repeat(" ", 70_000)})
	c.Flush()
	if m, err := c.Receive(); err != nil || fmt.Sprintf("%T", m) != "*pgproto3.ErrorResponse" {
		t.Errorf("a statement of 70 kB: %T, %v", m, err)
	}
}

// psql runs psql's program with a script and gives what it printed on both outputs.
func (f *front) psql(script string) string {
	f.t.Helper()
	u, _ := url.Parse(f.consoleURL("app"))
	cmd := exec.CommandContext(f.t.Context(), "psql", "-XAt", "-h", u.Hostname(), "-p", u.Port(), "-U", f.role("app"), "-d", "pgveil", "-f", "-")
	cmd.Stdin = strings.NewReader(script)
	cmd.Env = append(os.Environ(), "PGPASSWORD="+password, "PGCONNECT_TIMEOUT=10")
	out, err := cmd.CombinedOutput()
	if err != nil {
		f.t.Fatalf("psql: %v: %s", err, out)
	}
	return string(out)
}

func TestPsqlUsesTheConsole(t *testing.T) {
	t.Parallel()
	f := withConsole(t)
	got := f.psql("\\conninfo\nshow version; show\n  config; -- both\nreload;\nshow tables;\nshow clients \\gdesc\npause;\nresume;\n\\echo :SERVER_VERSION_NUM\n")
	for _, want := range []string{
		`You are connected to database "pgveil" as user "` + f.role("app") + `"`, "pgveil 1.2.3\n", "trace|true|false\n", "\nRELOAD\n",
		"ERROR:  the console does not know this statement\nHINT:  SHOW HELP lists what the console understands.\n", "\nPAUSE\nRESUME\n130000\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if strings.Contains(got, "WARNING") {
		t.Errorf("psql warns: %s", got)
	}
}

func TestReloadSaysHowItWent(t *testing.T) {
	t.Parallel()
	f := withConsole(t)
	var failing error
	calls := 0
	f.again(func(c *pgwire.Config) {
		c.Admins = []string{f.role("app")}
		files := pgwire.Files{TLS: c.TLS, Backing: c.Backing}
		c.Reload = func() (pgwire.Files, error) { calls++; return files, failing }
	})
	k := f.console("app")
	f.must(k, "reload")
	failing = errors.New("a secret path")
	if pe := f.refused(k, "F0000", "reload"); strings.Contains(pe.Message+pe.Hint, "secret") {
		t.Errorf("%s", pe.Message)
	}
	if calls != 2 {
		t.Errorf("%d calls", calls)
	}
}

// fatal waits for the end of a connection and fails unless it was told this.
func (f *front) fatal(what string, err error, code string) {
	f.t.Helper()
	var pe *pgconn.PgError
	if !errors.As(err, &pe) || pe.Code != code || pe.Severity != "FATAL" {
		f.t.Errorf("%s: %v, want FATAL %s", what, err, code)
	}
}

func TestKillEndsASessionAndWhatItRuns(t *testing.T) {
	t.Parallel()
	f := withConsole(t)
	k, super := f.console("app"), f.direct()
	busy, idle, other := f.as("analyst"), f.as("analyst"), f.as("app")
	ended := make(chan error, 1)
	go func() {
		_, err := busy.Exec(context.Background(), "select pg_sleep(600)")
		ended <- err
	}()
	running := func(conn *pgx.Conn) (n int) {
		if err := super.QueryRow(t.Context(), "select count(*) from pg_stat_activity where pid = $1", int64(conn.PgConn().PID())).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	f.until("the statement runs", func() bool {
		rows, err := f.rows(k, "show clients")
		return err == nil && strings.Contains(strings.Join(rows, "\n"), "|active|")
	})
	f.must(k, fmt.Sprintf("kill %d", busy.PgConn().PID()), fmt.Sprintf("KILL %d;", idle.PgConn().PID()))
	f.fatal("a statement", <-ended, "57P01")
	_, err := idle.Exec(t.Context(), "select 1")
	f.fatal("an idle session", err, "57P01")
	f.until("the server's processes are gone", func() bool { return running(busy)+running(idle) == 0 })
	f.want(other, []string{"1"}, "select 1")
	f.refused(k, "42704", fmt.Sprintf("kill %d", busy.PgConn().PID()))
	f.until("the log says why", func() bool { return strings.Count(f.log.String(), "reason=killed") == 2 })
}

func TestTheConsoleEndsWithTheServer(t *testing.T) {
	t.Parallel()
	f := withConsole(t)
	k := f.console("app")
	hijacked, err := k.PgConn().Hijack()
	if err != nil {
		t.Fatal(err)
	}
	defer hijacked.Conn.Close()
	began := time.Now()
	f.stop()
	hijacked.Conn.SetDeadline(time.Now().Add(10 * time.Second))
	m, err := hijacked.Frontend.Receive()
	if e, ok := m.(*pgproto3.ErrorResponse); !ok || e.Code != "57P01" || e.Severity != "FATAL" {
		t.Errorf("%v, %v", m, err)
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("stopping took %v", took)
	}
}

// later runs a statement in the background.
func later(conn *pgx.Conn, statement string) chan error {
	done := make(chan error, 1)
	go func() {
		_, err := conn.Exec(context.Background(), statement)
		done <- err
	}()
	return done
}

func (f *front) finished(what string, done chan error) {
	f.t.Helper()
	select {
	case err := <-done:
		if err != nil {
			f.t.Errorf("%s: %v", what, err)
		}
	case <-time.After(10 * time.Second):
		f.t.Fatalf("%s: not within 10 s", what)
	}
}

func TestPauseWaitsForTransactionsAndHoldsStatementsBack(t *testing.T) {
	t.Parallel()
	f := withConsole(t)
	k, k2 := f.console("app"), f.console("app")
	open, idle, prepared := f.as("app"), f.as("app"), f.as("analyst")
	f.must(open, "begin", "select 1")
	f.must(prepared, "select count(*) from customers")
	state := func(conn *pgx.Conn) string {
		rows, err := f.rows(k2, "show clients")
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rows {
			if cells := strings.Split(r, "|"); cells[0] == fmt.Sprint(conn.PgConn().PID()) {
				return cells[6]
			}
		}
		return "none"
	}
	paused := later(k, "pause")
	f.until("new statements wait", func() bool { return strings.Contains(f.metrics(), "pgveil_pgwire_paused 1") })
	held := later(idle, "insert into customers (id, name) values (3, 'held')")
	again := make(chan error, 1)
	go func() {
		var n int
		again <- prepared.QueryRow(context.Background(), "select count(*) from customers", pgx.QueryExecModeDescribeExec).Scan(&n)
	}()
	f.until("both are held", func() bool { return state(idle) == "paused" && state(prepared) == "paused" })
	connecting := make(chan error, 1)
	go func() {
		conn, err := pgx.Connect(context.Background(), f.url("support"))
		if err == nil {
			err = conn.Close(context.Background())
		}
		connecting <- err
	}()
	f.want(open, []string{"2"}, "select count(*) from customers") // a transaction goes on
	select {
	case err := <-paused:
		t.Fatalf("PAUSE did not wait for a transaction: %v", err)
	default:
	}
	f.must(open, "commit")
	f.finished("PAUSE", paused)
	afterwards := later(open, "select 1") // now it is outside
	f.until("the one that had a transaction is held", func() bool { return state(open) == "paused" })
	f.want(f.direct(), []string{"2"}, "select count(*) from customers")
	f.must(k2, "resume")
	for what, done := range map[string]chan error{"a held statement": held, "a prepared one": again, "a new session": connecting, "one after its transaction": afterwards} {
		f.finished(what, done)
	}
	f.want(f.direct(), []string{"3"}, "select count(*) from customers")
	f.until("no one is held", func() bool { return strings.Contains(f.metrics(), "pgveil_pgwire_paused 0") && state(open) == "idle" })
}

func TestAPauseThatIsNotFinishedCanBeCanceled(t *testing.T) {
	t.Parallel()
	f := withConsole(t)
	open := f.as("app")
	f.must(open, "begin", "select 1")
	shut := func() bool { return strings.Contains(f.metrics(), "pgveil_pgwire_paused 1") }
	k := f.console("app")
	paused := later(k, "pause")
	f.until("the gate is shut", shut)
	if err := k.PgConn().CancelRequest(t.Context()); err != nil {
		t.Fatal(err)
	}
	var pe *pgconn.PgError
	if err := <-paused; !errors.As(err, &pe) || pe.Code != "57014" {
		t.Errorf("%v", err)
	}
	f.want(f.as("app"), []string{"1"}, "select 1")
	// The client goes without a word.
	paused = later(k, "pause")
	f.until("the gate is shut again", shut)
	k.PgConn().Conn().Close()
	<-paused
	f.until("the gate is open", func() bool { return !shut() })
	// Another one resumes.
	k = f.console("app")
	paused = later(k, "pause")
	f.until("the gate is shut once more", shut)
	f.must(f.console("app"), "resume")
	if err := <-paused; !errors.As(err, &pe) || pe.Code != "55000" {
		t.Errorf("%v", err)
	}
	f.want(k, []string{"1"}, "select 1")
}

func TestAPausedFrontEndStillCancelsCopiesAndStops(t *testing.T) {
	t.Parallel()
	f := withConsole(t)
	k, sleeping, gone, copying := f.console("app"), f.as("app"), f.as("app"), f.as("app")
	slept := later(sleeping, "select pg_sleep(600)")
	reader := &stepReader{step: make(chan []byte)}
	copied := make(chan error, 1)
	go func() {
		_, err := copying.PgConn().CopyFrom(context.Background(), reader, "copy notes from stdin")
		copied <- err
	}()
	reader.step <- []byte("1\ta\tb\n")
	active := func(n int) func() bool {
		return func() bool {
			return strings.Contains(f.metrics(), fmt.Sprintf(`pgveil_pgwire_sessions{state="active"} %d`, n))
		}
	}
	f.until("two statements run", active(2))
	paused := later(k, "pause")
	f.until("the gate is shut", func() bool { return strings.Contains(f.metrics(), "pgveil_pgwire_paused 1") })
	reader.step <- []byte("2\ta\tb\n")
	close(reader.step)
	f.finished("COPY", copied)
	if err := sleeping.PgConn().CancelRequest(t.Context()); err != nil {
		t.Fatal(err)
	}
	var pe *pgconn.PgError
	if err := <-slept; !errors.As(err, &pe) || pe.Code != "57014" {
		t.Errorf("%v", err)
	}
	f.finished("PAUSE", paused)
	// A held client that goes is noticed, one that stays is told of the shutdown.
	left, stays := later(gone, "select 1"), later(sleeping, "select 1")
	f.until("two are held", func() bool { return strings.Contains(f.metrics(), `pgveil_pgwire_sessions{state="paused"} 2`) })
	gone.PgConn().Conn().Close()
	<-left
	f.until("one is held", func() bool { return strings.Contains(f.metrics(), `pgveil_pgwire_sessions{state="paused"} 1`) })
	began := time.Now()
	f.stop()
	f.fatal("a held statement", <-stays, "57P01")
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("stopping took %v", took)
	}
}

// stepReader gives what is put into step, piece by piece.
type stepReader struct {
	step chan []byte
	rest bytes.Reader
}

func (r *stepReader) Read(p []byte) (int, error) {
	if r.rest.Len() == 0 {
		if b, ok := <-r.step; ok {
			r.rest.Reset(b)
		}
	}
	return r.rest.Read(p)
}

func TestPauseUnderLoadLosesNothing(t *testing.T) {
	t.Parallel()
	for name, loops := range map[string]int{"loops": 1, "goroutines": -1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := withJane(t)
			f.again(func(c *pgwire.Config) { c.Admins, c.Loops = []string{f.role("app")}, loops })
			testPauseUnderLoad(t, f)
		})
	}
}

func testPauseUnderLoad(t *testing.T, f *front) {
	k := f.console("app")
	const clients, rounds = 8, 150
	done := make(chan error, clients)
	for i := range clients {
		conn := f.as("app")
		go func() {
			for j := range rounds {
				mode := []pgx.QueryExecMode{pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeCacheStatement, pgx.QueryExecModeDescribeExec}[j%3]
				if _, err := conn.Exec(context.Background(), "insert into notes values ($1, $2, $3)", mode, i*rounds+j, "e", "n"); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range 20 {
		f.must(k, "pause")
		before, err := f.rows(f.direct(), "select count(*) from notes")
		if err != nil {
			t.Fatal(err)
		}
		f.want(f.direct(), before, "select count(*) from notes") // nothing was written meanwhile
		f.must(k, "resume")
	}
	for range clients {
		f.finished("a client", done)
	}
	f.want(f.direct(), []string{fmt.Sprint(clients * rounds)}, "select count(*) from notes")
}

// A client that goes on sending while it is held back is read no further than its buffer allows, and loses nothing.
func TestPauseHoldsBackAPipeline(t *testing.T) {
	t.Parallel()
	f := withConsole(t)
	k, conn := f.console("app"), f.connect(f.url("app")+"&default_query_exec_mode=exec")
	f.must(k, "pause")
	const n = 3000
	batch := &pgx.Batch{}
	for i := range n {
		batch.Queue("insert into notes values ($1, $2, '')", i, strings.Repeat("x", 1000))
	}
	done := make(chan error, 1)
	go func() { done <- conn.SendBatch(context.Background(), batch).Close() }()
	f.until("the pipeline is held", func() bool { return strings.Contains(f.metrics(), `pgveil_pgwire_sessions{state="paused"} 1`) })
	f.must(f.console("app"), "pause") // what is held is quiet
	f.want(f.direct(), []string{"0"}, "select count(*) from notes")
	f.must(k, "resume")
	f.finished("the pipeline", done)
	f.want(f.direct(), []string{fmt.Sprint(n)}, "select count(*) from notes")
}

func TestATracedFrontEndLogsTypesAndLengthsAlone(t *testing.T) {
	t.Parallel()
	f := withJane(t)
	f.again(func(c *pgwire.Config) { c.Trace = true })
	conn := f.as("app")
	const canary = "xylophone"
	f.must(conn, "create table plain_"+f.suffix+" (note text)")
	for _, mode := range modes {
		if _, err := conn.Exec(t.Context(), "insert into plain_"+f.suffix+" values ($1)", mode, canary); err != nil {
			t.Fatal(err)
		}
		f.want(conn, []string{anEmail + "|" + anSSN}, "select email, ssn from customers where id = $1", mode, 1)
	}
	f.want(conn, slices.Repeat([]string{canary}, len(modes)), "select note from plain_"+f.suffix+" where note = '"+canary+"'")
	f.refused(conn, "22P02", "select '"+canary+"'::int")
	if _, err := conn.PgConn().CopyFrom(t.Context(), strings.NewReader(canary+"\n"), "copy plain_"+f.suffix+" from stdin"); err != nil {
		t.Fatal(err)
	}
	conn.PgConn().Conn().Write([]byte("%" + canary)) // no message at all
	f.until("the session is over", func() bool { return strings.Contains(f.log.String(), "session ended") })
	log := f.log.String()
	for _, line := range []string{
		"session=" + fmt.Sprint(conn.PgConn().PID()), "from=client type=Q bytes=", "to=server type=Q bytes=", "from=server type=D bytes=", "to=client type=D bytes=", "from=server type=Z bytes=1",
		"from=client type=d bytes=10", "to=server type=d bytes=10", "from=client type=P bytes=", "to=client type=E bytes=",
	} {
		if !strings.Contains(log, line) {
			t.Errorf("no %q in the log", line)
		}
	}
	for _, secret := range []string{canary, anEmail, anSSN, "select", "xylo", "%"} {
		if strings.Contains(log, secret) {
			t.Errorf("the log holds %q", secret)
		}
	}
	if in, out := strings.Count(log, "from=client type=B"), strings.Count(log, "from=server type=2"); in == 0 || in > out {
		t.Errorf("%d Binds are traced and %d answers", in, out)
	}
}
