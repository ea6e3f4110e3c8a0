package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"pgveil/internal/cluster"
	"pgveil/internal/secret"
)

// A wireBench is the campaign of TestWireRatios: servers, and what was measured.
type wireBench struct {
	t       *testing.T
	scratch string
	bin     string // directory of the server's programs
	rounds  int
	length  time.Duration // of a run of pgbench
	parts   []string
	began   time.Time

	super    string // superuser's DSN
	environ  []string
	verifier string // of the role
	ports    [3]int // by target
	pids     [3]int // of the process between client and server; 0: none

	held    int               // idle connections
	loaded  string            // content of the streamed table
	digests map[string]uint32 // of what came through every target, and of files
	series  map[string]*series
	order   []string // of series, as they were first noted
}

const (
	benchDatabase = "bench"
	benchRole     = "bench_client"
	benchPassword = "correct horse"
)

// newWireBench starts everything; it ends with the test.
func newWireBench(t *testing.T) *wireBench {
	b := &wireBench{t: t, rounds: 3, length: 2 * time.Second, parts: wireParts, began: time.Now(), digests: map[string]uint32{}, series: map[string]*series{}}
	if os.Getenv("PGVEIL_LONG") != "" {
		b.rounds, b.length = 5, 5*time.Second
	}
	if only := os.Getenv("PGVEIL_BENCH_ONLY"); only != "" {
		b.parts = strings.Split(only, ",")
		for _, part := range b.parts {
			if !slices.Contains(wireParts, part) {
				t.Fatalf("PGVEIL_BENCH_ONLY: no part %q, one or more of %s", part, strings.Join(wireParts, ","))
			}
		}
	}
	b.step("starting PostgreSQL and loading tables")
	b.startPostgres()
	b.load()
	b.makeControlPlane()
	b.startBouncer()
	p := b.startFront("frontend.log", b.dsn(direct))
	b.ports[front], b.pids[front] = p.port, p.cmd.Process.Pid
	b.step("PgBouncer is process %d, pgveil %d", b.pids[bouncer], b.pids[front])
	return b
}

func (b *wireBench) startPostgres() {
	ctx := b.t.Context()
	binaries, err := cluster.Find(ctx, cluster.Options{Major: 15})
	if err != nil {
		b.t.Fatal(err)
	}
	b.bin = binaries.Dir
	scratch, err := cluster.NewScratch(ctx, "pgveil-bench-")
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { scratch.Remove(context.Background()) })
	b.scratch = scratch.Dir
	password := secret.New([]byte(rand.Text()))
	if err := cluster.Init(ctx, binaries, scratch.Data(), password); err != nil {
		b.t.Fatal(err)
	}
	c, err := cluster.Start(ctx, cluster.Config{
		Binaries: binaries, Data: scratch.Data(), Log: filepath.Join(b.scratch, "postgres.log"),
		Settings: map[string]string{"fsync": "off", "full_page_writes": "off", "shared_buffers": "256MB", "max_wal_size": "4GB",
			"max_connections": "200", "autovacuum": "off"},
	})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { c.Stop(context.Background()) })
	b.ports[direct] = c.Port()
	b.super = c.DSN(cluster.Superuser, password, benchDatabase)
	b.sql(c.DSN(cluster.Superuser, password, "postgres"),
		`CREATE ROLE pgveil LOGIN CREATEROLE PASSWORD 'service'`, `CREATE DATABASE `+benchDatabase+` OWNER pgveil`)
}

// rowsStreamed is how many rows the streamed table has: 117 MB in COPY's text form.
const rowsStreamed = 1_000_000

// load makes pgbench's tables, the table that is streamed, one that it is copied into, and one to protect.
func (b *wireBench) load() {
	b.run(b.program("pgbench", "-i", "-q", "-s", "10", b.super))
	rows := rowsStreamed
	if !b.has("stream") {
		rows = 0
	}
	b.sql(b.super, fmt.Sprintf(`CREATE UNLOGGED TABLE streamed AS SELECT i::bigint AS id, md5(i::text) AS name, 'customer.' || i || '@example.com' AS email,
			(i * 7919::bigint %% 100000000) / 100.0 AS amount, timestamptz '2026-01-01' + i * interval '1 minute' AS placed, md5((-i)::text)::uuid AS code
		FROM generate_series(1, %d) i`, rows),
		`CREATE UNLOGGED TABLE copied (LIKE streamed)`,
		`CREATE TABLE people (id bigint PRIMARY KEY, email text)`, `ALTER TABLE people OWNER TO pgveil`,
		`VACUUM (ANALYZE)`)
}

// makeControlPlane protects a column of the database and lets the role log in.
func (b *wireBench) makeControlPlane() {
	b.environ = []string{
		"PGVEIL_DATABASE_URL=" + b.url(direct, "pgveil", "service"), "PGVEIL_KEK=file:" + filepath.Join(b.scratch, "kek"),
		"PGVEIL_AUDIT_CHECKPOINTS=" + filepath.Join(b.scratch, "audit"),
	}
	b.pgveil("", "migrate")
	b.pgveil("", "key", "init")
	b.pgveil("", "policy", "create", "email", "--format", "email")
	b.pgveil("", "column", "protect", "people", "email", "email")
	b.pgveil(benchPassword, "role", "add", benchRole, "--password-stdin")
	b.pgveil("", "role", "grant", benchRole, "reveal", "email")
	b.sql(b.super, `GRANT ALL ON ALL TABLES IN SCHEMA public TO `+benchRole)
	b.verifier = query(b.t, b.super, `SELECT rolpassword FROM pg_catalog.pg_authid WHERE rolname = $1`, benchRole)
}

// program is one of PostgreSQL's: beside the server, where packages put it, or in PATH.
func (b *wireBench) program(name string, args ...string) *exec.Cmd {
	for _, dir := range []string{b.bin, "/usr/lib/postgresql/15/bin"} {
		if path := filepath.Join(dir, name); isFile(path) {
			return exec.Command(path, args...)
		}
	}
	return exec.Command(name, args...)
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

func (b *wireBench) pgveil(stdin string, args ...string) {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(append(os.Environ(), asCommand+"=1"), b.environ...)
	cmd.Stdin = strings.NewReader(stdin)
	b.run(cmd)
}

// run runs a program to its end and gives what it wrote.
func (b *wireBench) run(cmd *exec.Cmd) string {
	b.t.Helper()
	out, err := cmd.CombinedOutput()
	if err != nil {
		b.t.Fatalf("%s: %v\n%s", filepath.Base(cmd.Path), err, out)
	}
	return string(out)
}

func (b *wireBench) sql(dsn string, statements ...string) {
	b.t.Helper()
	conn, err := pgx.Connect(b.t.Context(), dsn)
	if err != nil {
		b.t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for _, s := range statements {
		if _, err := conn.Exec(b.t.Context(), s); err != nil {
			b.t.Fatalf("%s: %v", s, err)
		}
	}
}

func (b *wireBench) url(target int, role, password string) string {
	u := url.URL{Scheme: "postgres", User: url.UserPassword(role, password), Host: fmt.Sprintf("127.0.0.1:%d", b.ports[target]),
		Path: "/" + benchDatabase, RawQuery: "sslmode=disable"}
	return u.String()
}

// dsn is the role's connection URL.
func (b *wireBench) dsn(target int) string { return b.url(target, benchRole, benchPassword) }

// startBouncer starts PgBouncer in session mode. It knows the role by its verifier, as the front-end does, so that neither derives keys from
// a password.
func (b *wireBench) startBouncer() {
	program, err := exec.LookPath("pgbouncer")
	if err != nil {
		program = "/usr/sbin/pgbouncer" // not in everybody's PATH
	}
	owner, err := cluster.FindOwner()
	if err != nil {
		b.t.Fatal(err)
	}
	port := freePort(b.t)
	users, config := filepath.Join(b.scratch, "users.txt"), filepath.Join(b.scratch, "pgbouncer.ini")
	for path, text := range map[string]string{
		users: fmt.Sprintf("%q %q\n", benchRole, b.verifier),
		config: fmt.Sprintf(`[databases]
* = host=127.0.0.1 port=%d
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = scram-sha-256
auth_file = %s
pool_mode = session
default_pool_size = 100
max_client_conn = 200
ignore_startup_parameters = extra_float_digits
log_connections = 0
log_disconnections = 0
`, b.ports[direct], port, users),
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			b.t.Fatal(err)
		}
		if err := owner.Own(path); err != nil {
			b.t.Fatal(err)
		}
	}
	args := []string{"-q", config}
	if owner != nil { // root, as which it does not run
		args = append([]string{"-u", owner.Name}, args...)
	}
	p := b.start(exec.Command(program, args...), "pgbouncer.log")
	b.ports[bouncer], b.pids[bouncer] = port, p.cmd.Process.Pid
	b.await(port)
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// await returns when something listens on the port.
func (b *wireBench) await(port int) {
	deadline := time.Now().Add(10 * time.Second)
	for {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			conn.Close()
			return
		}
		if time.Now().After(deadline) {
			b.t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// A process is one that the benchmark started.
type process struct {
	cmd  *exec.Cmd
	out  *bufio.Reader // its standard output
	port int
}

// start starts a program, with its standard error in a file. It is killed when the test ends, or by stop.
func (b *wireBench) start(cmd *exec.Cmd, log string) *process {
	b.t.Helper()
	file, err := os.Create(filepath.Join(b.scratch, log))
	if err != nil {
		b.t.Fatal(err)
	}
	defer file.Close()
	cmd.Stderr = file
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		b.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	p := &process{cmd: cmd, out: bufio.NewReader(stdout)}
	b.t.Cleanup(p.stop)
	return p
}

func (p *process) stop() {
	if p.cmd.ProcessState == nil {
		p.cmd.Process.Signal(syscall.SIGTERM)
		io.Copy(io.Discard, p.out)
		p.cmd.Wait()
	}
}

// startFront starts a front-end of the backing database.
func (b *wireBench) startFront(log, backing string, flags ...string) *process {
	b.t.Helper()
	cmd := exec.Command(os.Args[0], append([]string{"serve", "--only", "wire", "--listen", "127.0.0.1:0", "--backing", backing}, flags...)...)
	cmd.Env = append(append(os.Environ(), asCommand+"=1"), b.environ...)
	p := b.start(cmd, log)
	line, err := p.out.ReadString('\n')
	if _, scanErr := fmt.Sscanf(line, "ready: 127.0.0.1:%d", &p.port); err != nil || scanErr != nil {
		said, _ := os.ReadFile(filepath.Join(b.scratch, log))
		b.t.Fatalf("serve says %q, %v\n%s", line, err, said)
	}
	return p
}

// cpu is the time that the target's process has had on processors: 0 for a direct connection. It is the kernel's count for each thread,
// which is finer than the ticks of /proc/PID/stat.
func (b *wireBench) cpu(target int) time.Duration {
	b.t.Helper()
	if b.pids[target] == 0 {
		return 0
	}
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", b.pids[target]))
	if err != nil || len(threads) == 0 {
		b.t.Fatalf("no threads of %s: %v", wireTargets[target], err)
	}
	var sum time.Duration
	for _, path := range threads {
		var ns int64
		text, err := os.ReadFile(path)
		if err == nil {
			_, err = fmt.Sscan(string(text), &ns)
		}
		if err != nil {
			b.t.Fatal(err)
		}
		sum += time.Duration(ns)
	}
	return sum
}
