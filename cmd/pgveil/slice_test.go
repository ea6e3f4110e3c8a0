package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"pgveil/internal/cluster"
	"pgveil/internal/pgtest"
)

// The whole product at once, on the oldest PostgreSQL, the newest and one between.
func TestSliceWorksOnEveryMajorVersion(t *testing.T) {
	t.Parallel()
	for _, major := range []int{13, 17, 18} {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			t.Parallel()
			b, err := cluster.Find(t.Context(), cluster.Options{Major: major})
			if errors.Is(err, cluster.ErrNotFound) {
				b, err = cluster.Fetch(t.Context(), major)
			}
			if errors.Is(err, cluster.ErrNoFetch) {
				t.Skip("no PostgreSQL here:", err)
			}
			if err != nil {
				t.Fatal(err)
			}
			r := startDev(t, "--ephemeral", "--pg-bin", b.Dir)
			if got := query(t, r.env["PGVEIL_APP_URL"], `SELECT current_setting('server_version_num')`); got[:2] != fmt.Sprint(major) {
				t.Fatalf("the server is %s, want %d", got, major)
			}
			smoke(t, r)
		})
	}
}

var ssnToken = regexp.MustCompile(`^[A-Z]{3}-\d{2}-\d{4}$`)

func smoke(t *testing.T, r *running) {
	const value, mask = "123-45-6789", "***-**-6789"
	app := r.env["PGVEIL_APP_URL"]
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeCacheStatement} {
		conn := connectMode(t, app, mode)
		var got string
		if err := conn.QueryRow(t.Context(), `UPDATE customers SET ssn = $1 WHERE id = 7 RETURNING ssn`, value).Scan(&got); err != nil || got != value {
			t.Errorf("mode %v: write gives %q, %v", mode, got, err)
		}
		var id int64
		if err := conn.QueryRow(t.Context(), `SELECT id FROM customers WHERE ssn = $1`, value).Scan(&id); err != nil || id != 7 {
			t.Errorf("mode %v: search finds %d, %v", mode, id, err)
		}
		_, err := conn.Exec(t.Context(), `UPDATE customers SET ssn = $1 WHERE id = 7`, "123-45-678X")
		if err == nil || strings.Contains(err.Error(), "678X") {
			t.Errorf("mode %v: a bad value gives %v", mode, err)
		}
		_, err = conn.Exec(t.Context(), `SELECT max(ssn) FROM customers`)
		if state(err) != "0A000" {
			t.Errorf("mode %v: what is not covered gives %v, want SQLSTATE 0A000", mode, err)
		}
	}
	for role, want := range map[string]*regexp.Regexp{
		"APP": regexp.MustCompile("^" + value + "$"), "SUPPORT": regexp.MustCompile("^" + regexp.QuoteMeta(mask) + "$"), "ANALYST": ssnToken,
	} {
		if got := query(t, r.env["PGVEIL_"+role+"_URL"], `SELECT ssn FROM customers WHERE id = 7`); !want.MatchString(got) {
			t.Errorf("%s sees %q", role, got)
		}
	}
	if got := query(t, r.env["PGVEIL_SUPER_DIRECT_URL"], `SELECT ssn FROM customers WHERE id = 7`); !ssnToken.MatchString(got) {
		t.Errorf("the table holds %q", got)
	}
	crm := connectMode(t, r.env["PGVEIL_CRM_DIRECT_URL"], pgx.QueryExecModeExec)
	if _, err := crm.Exec(t.Context(), `UPDATE contacts SET ssn = '321-54-9876' WHERE id = 3`); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(5 * time.Second)
	for query(t, app, `SELECT ssn FROM crm.contacts WHERE id = 3`) != "321-54-9876" {
		if time.Now().After(deadline) {
			t.Fatal("the replica does not follow within 5 s")
		}
		time.Sleep(50 * time.Millisecond)
	}
	// A new key version: columns stay at theirs, tokens say which one made them.
	if out, code := pgveil(t, r.environ(), "key", "rotate", "ssn", "--yes"); code != 0 {
		t.Errorf("key rotate: exit %d\n%s", code, out)
	}
	if got := query(t, app, `SELECT ssn FROM customers WHERE ssn = '`+value+`'`); got != value {
		t.Errorf("after a rotation the search gives %q", got)
	}
	if got := query(t, app, `SELECT detokenize('ssn', tokenize('ssn', '`+value+`'))`); got != value {
		t.Errorf("after a rotation a token of the new version gives %q", got)
	}
	if out, code := pgveil(t, r.environ(), "doctor"); code != 0 {
		t.Errorf("doctor: exit %d\n%s", code, out)
	}
	if out, code := pgveil(t, r.environ(), "audit", "verify"); code != 0 {
		t.Errorf("audit verify: exit %d\n%s", code, out)
	}
}

func connectMode(t *testing.T, dsn string, mode pgx.QueryExecMode) *pgx.Conn {
	t.Helper()
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	config.DefaultQueryExecMode = mode
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func state(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}

// A client gets an error when the backing database goes away in the middle of its query, and the next connection
// works when it is back.
func TestFrontEndOutlivesTheBackingDatabase(t *testing.T) {
	t.Parallel()
	r := startDev(t, "--ephemeral")
	conn := connectMode(t, r.env["PGVEIL_APP_URL"], pgx.QueryExecModeExec)
	failed := make(chan error, 1)
	go func() { // ends with the query
		_, err := conn.Exec(context.Background(), `SELECT pg_sleep(30)`)
		failed <- err
	}()
	time.Sleep(300 * time.Millisecond)
	crash(t, r)
	select {
	case err := <-failed:
		if err == nil {
			t.Error("the query ended without an error")
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the query hangs")
	}
	deadline := time.Now().Add(30 * time.Second)
	for {
		var ssn string
		conn, err := pgx.Connect(t.Context(), r.env["PGVEIL_APP_URL"])
		if err == nil {
			err = conn.QueryRow(t.Context(), `SELECT ssn FROM customers WHERE id = 1`).Scan(&ssn)
			conn.Close(t.Context())
		}
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no new connection works:", err)
		}
		time.Sleep(200 * time.Millisecond)
	}
	if got := query(t, r.env["PGVEIL_APP_URL"], `SELECT count(*)::text FROM crm.contacts`); got != "5000" {
		t.Errorf("the replica has %s rows", got)
	}
}

func TestDevOnAServerOfSomebodyElse(t *testing.T) {
	t.Parallel()
	db := pgtest.Server(t)
	admin := connectMode(t, db.DSN("postgres"), pgx.QueryExecModeExec)
	exec := func(sql string) {
		t.Helper()
		if _, err := admin.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	exec(`CREATE DATABASE shop`)
	out, code := pgveil(t, nil, "dev", "--ephemeral", "--backing", db.DSN("postgres"), "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0")
	if code != exitFailure || !strings.Contains(out, `has a database "shop" that this demonstration did not make`) {
		t.Errorf("beside somebody's database shop: exit %d, %q", code, out)
	}
	exec(`DROP DATABASE shop`)

	r := startDev(t, "--ephemeral", "--backing", db.DSN("postgres"))
	smoke(t, r)
	r.kill(syscall.SIGTERM)
	if code := r.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit %d:\n%s", code, r.output())
	}
	left := query(t, db.DSN("postgres"), `SELECT concat_ws(' ', (SELECT count(*) FROM pg_database WHERE datname IN ('shop', 'crm')),
		(SELECT count(*) FROM pg_roles WHERE rolname IN ('app', 'support', 'analyst', 'owner', 'pgveil')),
		(SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'pgveil_crm'))`)
	if left != "0 0 0" {
		t.Errorf("databases, roles and slots left: %s", left)
	}
}

func TestDevBackingIsCheckedFirst(t *testing.T) {
	t.Parallel()
	for dsn, want := range map[string]int{
		"postgres://u:hidden@127.0.0.1:1/postgres": exitUnreachable,
		"postgres://u:hidden@h:port/postgres":      exitConfig,
	} {
		out, code := pgveil(t, nil, "dev", "--ephemeral", "--backing", dsn, "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0")
		if code != want || strings.Contains(out, "hidden") {
			t.Errorf("exit %d, want %d: %q", code, want, out)
		}
	}
}

// serve is what dev does without the demonstration: here a second node beside it, with a certificate.
func TestServeIsAnotherNode(t *testing.T) {
	t.Parallel()
	r := startDev(t, "--ephemeral")
	cmd := exec.Command(os.Args[0], "serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0",
		"--tls-cert", filepath.Join(r.home, "server.crt"), "--tls-key", filepath.Join(r.home, "server.key"), "--admin-roles", "app", "--trace")
	cmd.Env = append(append(os.Environ(), asCommand+"=1"), r.environ()...)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	line, err := bufio.NewReader(stdout).ReadString('\n')
	address, ok := strings.CutPrefix(strings.TrimSpace(line), "ready: ")
	if err != nil || !ok {
		t.Fatalf("serve says %q, %v", line, err)
	}
	u, err := url.Parse(r.env["PGVEIL_APP_URL"])
	if err != nil {
		t.Fatal(err)
	}
	u.Host = address
	u.RawQuery = url.Values{"sslmode": {"verify-full"}, "sslrootcert": {filepath.Join(r.home, "server.crt")}}.Encode()
	if got := query(t, u.String(), `SELECT id::text FROM customers WHERE id = 1`); got != "1" {
		t.Errorf("got %q", got)
	}
	u.Path = "/pgveil"
	if got := query(t, u.String(), `SHOW VERSION`); got != "pgveil "+version {
		t.Errorf("the console says %q", got)
	}
	cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		t.Error("after SIGTERM:", err)
	}
}

func TestServeRefusesAnUnknownRole(t *testing.T) {
	t.Parallel()
	out, code := pgveil(t, nil, "serve", "--only", "wire,nonsense")
	if code != exitUsage || !strings.Contains(out, `no role "nonsense"`) {
		t.Errorf("exit %d, %q", code, out)
	}
}
