package pgwire_test

import (
	"bytes"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"pgveil/internal/pgtest"
)

// program runs one of PostgreSQL's programs with that DSN and gives what it printed.
func program(t *testing.T, dsn string, name string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	word, _ := u.User.Password()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = append(os.Environ(), "PGHOST="+u.Hostname(), "PGPORT="+u.Port(), "PGUSER="+u.User.Username(), "PGPASSWORD="+word, "PGDATABASE="+u.Path[1:], "PGSSLMODE=disable", "LC_ALL=C")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

// mustProgram is program where failure ends the test.
func mustProgram(t *testing.T, dsn, name string, args ...string) string {
	t.Helper()
	stdout, stderr, err := program(t, dsn, name, args...)
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, stderr)
	}
	return stdout
}

// directURL is how the role reaches the backing database itself.
func (f *front) directURL(role string) string {
	u, err := url.Parse(f.url(role))
	if err != nil {
		f.t.Fatal(err)
	}
	backing, err := url.Parse(f.dsn)
	if err != nil {
		f.t.Fatal(err)
	}
	u.Host = backing.Host
	return u.String()
}

// changing is what differs between two runs of psql in any case.
var changing = regexp.MustCompile(`(?m)on host ".*$|^Time: .*$|^[A-Z][a-z]{2} [A-Z][a-z]{2} .*\(every .*\)$|server process with PID \d+|pg_temp_\d+`)

// TestPsqlSaysTheSame runs psql's commands as a role that may reveal, directly and through the front-end.
func TestPsqlSaysTheSame(t *testing.T) {
	t.Parallel()
	c := newConversations(t, 0)
	c.front.must(c.direct, "create function twice(i int) returns int language sql as 'select i * 2'", "create view few as select id, name from plain where id < 3",
		"create sequence steps", "grant all on sequence steps to public", "comment on table plain is 'nothing is protected here'", "create statistics plain_stats on id, name from plain",
		"create type mood as enum ('fine', 'not')", "create domain short as varchar(3) check (value <> '')", "create materialized view kept as select 1 as one", "create index on scratch (name)")
	var told []string
	for _, dsn := range []string{c.front.directURL("app"), c.front.url("app")} {
		c.front.must(c.direct, "truncate scratch", "alter sequence steps restart")
		stdout, stderr, err := program(t, dsn, "psql", "-X", "-a", "-f", "testdata/psql.sql")
		if err != nil {
			t.Fatalf("psql: %v\n%s", err, stderr)
		}
		told = append(told, changing.ReplaceAllString(stdout+"\n-- stderr\n"+stderr, "…"))
	}
	if d := firstDifference(strings.Split(told[0], "\n"), strings.Split(told[1], "\n")); d != "" {
		t.Error(d)
	}
	for _, want := range []string{"Table \"public.customers\"", "at or near \"selec\"", "division by zero", "twice(i integer)", "ten", "payload"} {
		if !strings.Contains(told[0], want) {
			t.Errorf("%q is not in what psql said directly: the script does not do what it should", want)
		}
	}
}

// TestPgbenchRunsInEveryMode runs a banking load beside protected tables, as a role that may reveal.
func TestPgbenchRunsInEveryMode(t *testing.T) {
	t.Parallel()
	f := newFront(t, pgtest.Database(t))
	mustProgram(t, f.url("app"), "pgbench", "-i", "-q", "-s", "1")
	for _, mode := range []string{"simple", "extended", "prepared"} {
		stdout, stderr, err := program(t, f.url("app"), "pgbench", "-n", "-c", "4", "-T", "2", "-M", mode)
		if err != nil || !strings.Contains(stdout, "number of failed transactions: 0 ") || strings.Contains(stderr, "error") || strings.Contains(stderr, "ERROR") {
			t.Errorf("%s: %v\n%s%s", mode, err, stdout, stderr)
		}
	}
	mustProgram(t, f.url("app"), "pgbench", "-n", "-c", "4", "-T", "2", "-C", "-S")
	f.want(f.direct(), []string{"0"}, "select (select sum(abalance) from pgbench_accounts) - (select sum(delta) from pgbench_history)")
}

// restricted are the lines of pg_dump that hold a random key.
var restricted = regexp.MustCompile(`(?m)^\\(un)?restrict .*$`)

// TestDumpsThroughTheFrontEndAreTheSame dumps protected tables as a role that sees tokens, restores them, and dumps them again. A role that may reveal
// gets an error, not tokens.
func TestDumpsThroughTheFrontEndAreTheSame(t *testing.T) {
	t.Parallel()
	f := withJane(t)
	f.must(f.direct(), "insert into notes select i, 'n' || i, repeat(E'a tab\\t', 10) from generate_series(1, 5000) i", "create view titles as select id, note from notes")
	f.must(f.direct(), "grant all on all tables in schema public to public")
	dump := func(dsn string, args ...string) string {
		t.Helper()
		return restricted.ReplaceAllString(mustProgram(t, dsn, "pg_dump", append([]string{"--schema=public", "--no-owner", "--no-privileges", "--no-comments"}, args...)...), "")
	}
	want := dump(f.directURL("analyst"))
	if !strings.Contains(want, "a tab\\t") || !strings.Contains(want, "t1_") {
		t.Fatal("the dump holds no rows, or no tokens")
	}
	for _, args := range [][]string{nil, {"--inserts"}, {"--column-inserts", "--rows-per-insert=100"}, {"--schema-only"}} {
		if dump(f.url("analyst"), args...) != dump(f.directURL("analyst"), args...) {
			t.Errorf("pg_dump %s gives something else through the front-end", strings.Join(args, " "))
		}
	}
	dir := filepath.Join(t.TempDir(), "dump")
	mustProgram(t, f.url("analyst"), "pg_dump", "--schema=public", "--no-owner", "--no-privileges", "--no-comments", "-Fd", "-j", "2", "-f", dir)
	other := pgtest.Database(t)
	u, err := url.Parse(other)
	if err != nil {
		t.Fatal(err)
	}
	conn := f.connect(other)
	f.must(conn, "drop schema public")
	f.must(conn, "grant create on database "+u.Path[1:]+" to "+f.role("analyst"))
	through, err := url.Parse(f.url("analyst"))
	if err != nil {
		t.Fatal(err)
	}
	through.Path = u.Path
	mustProgram(t, through.String(), "pg_restore", "--no-owner", "-j", "2", "-d", u.Path[1:], dir)
	direct, err := url.Parse(f.directURL("analyst"))
	if err != nil {
		t.Fatal(err)
	}
	direct.Path = u.Path
	if got := dump(direct.String()); got != want {
		t.Error("what was restored through the front-end is something else")
	}
	if stdout, _, err := program(t, f.url("app"), "pg_dump", "--schema=public"); err == nil || strings.Contains(stdout, "t1_") {
		t.Error("a role that may reveal got a dump with tokens")
	}
}
