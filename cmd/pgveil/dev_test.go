package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"pgveil/internal/cluster"
)

const asCommand = "PGVEIL_TEST_AS_COMMAND"

// A running is a pgveil dev that a test started.
type running struct {
	cmd  *exec.Cmd
	env  map[string]string // what the env file says
	home string

	envPath string

	mu  sync.Mutex
	log bytes.Buffer // stdout and stderr
}

// pgveil runs one command to its end.
func pgveil(t *testing.T, env []string, args ...string) (out string, code int) {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(append(os.Environ(), asCommand+"=1"), env...)
	b, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(b), cmd.ProcessState.ExitCode()
}

// startDev starts pgveil dev on free ports and returns when it is ready. It is stopped when the test ends.
func startDev(t *testing.T, args ...string) *running {
	t.Helper()
	needPostgres(t)
	r := &running{envPath: filepath.Join(t.TempDir(), "env")}
	args = append([]string{"dev", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--env-file", r.envPath}, args...)
	r.cmd = exec.Command(os.Args[0], args...)
	r.cmd.Env = append(os.Environ(), asCommand+"=1")
	stdout, err := r.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	r.cmd.Stderr = r
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.kill(syscall.SIGTERM) })
	ready := make(chan bool, 2)
	go func() { // ends with the process
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			fmt.Fprintln(r, lines.Text())
			if _, home, ok := strings.Cut(lines.Text(), "files in "); ok {
				r.home, _, _ = strings.Cut(home, ",")
			}
			if strings.HasPrefix(lines.Text(), "ready") {
				ready <- true
			}
		}
		ready <- false
	}()
	select {
	case ok := <-ready:
		if !ok {
			t.Fatalf("ended before it was ready:\n%s", r.output())
		}
	case <-time.After(90 * time.Second):
		t.Fatalf("not ready:\n%s", r.output())
	}
	r.env = sourceEnv(t, r.envPath)
	return r
}

func (r *running) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.Write(b)
}

func (r *running) output() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.String()
}

// kill sends the signal and waits for the end.
func (r *running) kill(s syscall.Signal) {
	if r.cmd.ProcessState == nil {
		r.cmd.Process.Signal(s)
		r.cmd.Wait()
	}
}

// sourceEnv reads the env file as a shell does.
func sourceEnv(t *testing.T, path string) map[string]string {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("env file has mode %o, want 600", info.Mode().Perm())
	}
	out, err := exec.Command("sh", "-c", `set -a; . "$1"; env`, "sh", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	env := map[string]string{}
	for line := range strings.Lines(string(out)) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), "="); ok && strings.HasPrefix(k, "PGVEIL_") {
			env[k] = v
		}
	}
	return env
}

// environ are the variables the CLI reads.
func (r *running) environ() []string {
	var out []string
	for k, v := range r.env {
		out = append(out, k+"="+v)
	}
	return out
}

func needPostgres(t *testing.T) {
	t.Helper()
	_, err := cluster.Find(t.Context(), cluster.Options{})
	if errors.Is(err, cluster.ErrNotFound) {
		_, err = cluster.Fetch(t.Context(), 15)
	}
	if errors.Is(err, cluster.ErrNoFetch) {
		t.Skip("no PostgreSQL here:", err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// dataDir is a --data that the account running PostgreSQL can enter, which t.TempDir is not for root.
func dataDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pgveil-data-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func query(t *testing.T, dsn, sql string, args ...any) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var text string
	if err := conn.QueryRow(t.Context(), sql, args...).Scan(&text); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return text
}

func TestDevIsReadyAgainAfterKillAndSecondStartSaysSo(t *testing.T) {
	t.Parallel()
	data := dataDir(t)
	r := startDev(t, "--data", data)
	tokens := query(t, r.env["PGVEIL_SHOP_DIRECT_URL"], `SELECT md5(string_agg(ssn || card || email || phone, ',' ORDER BY id)) FROM customers`)
	wantCounts(t, r)
	postmaster := postmasterOf(t, data)

	out, code := pgveil(t, nil, "dev", "--data", data, "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0")
	if code != exitFailure || !strings.Contains(out, "another pgveil dev is running on "+data) {
		t.Errorf("second start: exit %d, %q", code, out)
	}

	r.kill(syscall.SIGKILL)
	began := time.Now()
	again := startDev(t, "--data", data)
	if d := time.Since(began); d > 10*time.Second {
		t.Errorf("warm start took %s, want under 10 s", d)
	}
	if got := query(t, again.env["PGVEIL_SHOP_DIRECT_URL"], `SELECT md5(string_agg(ssn || card || email || phone, ',' ORDER BY id)) FROM customers`); got != tokens {
		t.Error("the tokens changed")
	}
	wantCounts(t, again)
	if again.env["PGVEIL_SHOP_DIRECT_URL"] != r.env["PGVEIL_SHOP_DIRECT_URL"] {
		t.Error("the direct URL changed between starts")
	}
	again.kill(syscall.SIGTERM)
	if code := again.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit %d after SIGTERM:\n%s", code, again.output())
	}
	if cluster.Running(filepath.Join(data, "pg")) {
		t.Error("PostgreSQL still runs after SIGTERM")
	}
	if !ended(postmaster) {
		t.Error("the first run's postmaster is still there")
	}
}

func wantCounts(t *testing.T, r *running) {
	t.Helper()
	got := query(t, r.env["PGVEIL_SHOP_DIRECT_URL"], `SELECT concat_ws(' ', (SELECT count(*) FROM customers), (SELECT count(*) FROM orders),
		(SELECT count(*) FROM orders o JOIN customers c ON c.id = o.customer_id AND c.card = o.card))`)
	if got != "10000 50000 50000" {
		t.Errorf("customers, orders, orders with their customer's card: %s", got)
	}
	if got := query(t, r.env["PGVEIL_SUPER_DIRECT_URL"], `SELECT count(*)::text FROM crm.contacts`); got != "5000" {
		t.Errorf("the replica has %s contacts, want 5000", got)
	}
}

func postmasterOf(t *testing.T, data string) int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(data, "pg", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(b), "\n")
	pid, err := strconv.Atoi(first)
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func TestDevEphemeralLeavesNothing(t *testing.T) {
	t.Parallel()
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			r := startDev(t, "--ephemeral")
			pid := postmasterOf(t, r.home)
			r.kill(s)
			if code := r.cmd.ProcessState.ExitCode(); code != 0 {
				t.Errorf("exit %d:\n%s", code, r.output())
			}
			for _, path := range []string{r.home, r.envPath} {
				if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("%s is still there: %v", path, err)
				}
			}
			if !ended(pid) {
				t.Error("PostgreSQL still runs")
			}
		})
	}
}

// The next start cleans up after an ephemeral run that was killed.
func TestDevSweepsWhatAKilledRunLeft(t *testing.T) {
	t.Parallel()
	killed := startDev(t, "--ephemeral")
	pid := postmasterOf(t, killed.home)
	killed.kill(syscall.SIGKILL)
	startDev(t, "--ephemeral")
	if _, err := os.Stat(killed.home); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there: %v", killed.home, err)
	}
	if !ended(pid) {
		t.Error("its PostgreSQL still runs")
	}
}

// A start that is killed at any point, initdb and the load included, is taken up by the next.
func TestDevRecoversFromAKilledStart(t *testing.T) {
	t.Parallel()
	needPostgres(t)
	data := dataDir(t)
	for _, after := range []time.Duration{100, 300, 600, 1000, 1400, 1800, 2300} {
		cmd := exec.Command(os.Args[0], "dev", "--data", data, "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0")
		cmd.Env = append(os.Environ(), asCommand+"=1")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(after * time.Millisecond)
		cmd.Process.Kill()
		cmd.Wait()
	}
	r := startDev(t, "--data", data)
	wantCounts(t, r)
	if out, code := pgveil(t, r.environ(), "doctor"); code != 0 {
		t.Errorf("doctor: exit %d\n%s", code, out)
	}
	if out, code := pgveil(t, r.environ(), "audit", "verify"); code != 0 {
		t.Errorf("audit verify: exit %d\n%s", code, out)
	}
}

func TestDevServesHTTP(t *testing.T) {
	t.Parallel()
	r := startDev(t, "--ephemeral")
	for path, want := range map[string]string{"/healthz": "ok", "/readyz": "ready", "/metrics": "pgveil_replication_leader{stream=\"crm\"} 1"} {
		response, err := http.Get(r.env["PGVEIL_HTTP_URL"] + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || response.StatusCode != http.StatusOK || !strings.Contains(string(body), want) {
			t.Errorf("%s: %d, %v; want 200 with %q", path, response.StatusCode, err, want)
		}
	}
}

func TestDevSaysThatAPortIsInUse(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, flag := range []string{"--listen", "--http"} {
		other := map[string]string{"--listen": "--http", "--http": "--listen"}[flag]
		out, code := pgveil(t, nil, "dev", "--ephemeral", flag, l.Addr().String(), other, "127.0.0.1:0")
		if code != exitFailure || !strings.Contains(out, "pgveil: error: listen on "+l.Addr().String()+": port in use") {
			t.Errorf("%s: exit %d, %q", flag, code, out)
		}
	}
}

func TestDevRefusesDataOfAnotherVersion(t *testing.T) {
	t.Parallel()
	needPostgres(t)
	data := dataDir(t)
	if err := os.MkdirAll(filepath.Join(data, "pg"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(data, "pg", "PG_VERSION"), []byte("12\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, code := pgveil(t, nil, "dev", "--data", data, "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0")
	if code != exitFailure || !strings.Contains(out, "was made by PostgreSQL 12, the binaries are PostgreSQL") || !strings.Contains(out, "pgveil: hint: ") {
		t.Errorf("exit %d, %q", code, out)
	}
}

func TestDevWithABadPgBinIsAConfigurationError(t *testing.T) {
	t.Parallel()
	out, code := pgveil(t, nil, "dev", "--ephemeral", "--pg-bin", t.TempDir(), "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0")
	if code != exitConfig || !strings.Contains(out, "pgveil: error: --pg-bin: ") {
		t.Errorf("exit %d, %q", code, out)
	}
}

func TestDevBringsPostgreSQLBack(t *testing.T) {
	t.Parallel()
	r := startDev(t, "--ephemeral")
	crash(t, r)
	deadline := time.Now().Add(20 * time.Second)
	for {
		conn, err := pgx.Connect(t.Context(), r.env["PGVEIL_SHOP_DIRECT_URL"])
		if err == nil {
			conn.Close(t.Context())
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("PostgreSQL is not back:", err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// ended says whether the process is gone within a few seconds. One that nobody has waited for yet counts as gone.
func ended(pid int) bool {
	for range 100 {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if syscall.Kill(pid, 0) != nil || err == nil && bytes.Contains(stat, []byte(") Z ")) {
			return true
		}
		time.Sleep(50 * time.Millisecond)
	}
	return false
}

// crash ends the backing database without a word to its clients.
func crash(t *testing.T, r *running) {
	t.Helper()
	if err := syscall.Kill(postmasterOf(t, r.home), syscall.SIGQUIT); err != nil {
		t.Fatal(err)
	}
}
