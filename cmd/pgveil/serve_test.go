package main

import (
	"bufio"
	"crypto/tls"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"pgveil/internal/pgtest"
)

// lines collects what a process says.
type lines struct {
	mu   sync.Mutex
	text string
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text += string(b)
	return len(b), nil
}

// await waits until the process has said text n times.
func (l *lines) await(t *testing.T, text string, n int) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		l.mu.Lock()
		said := l.text
		l.mu.Unlock()
		if strings.Count(said, text) >= n {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%q was not said %d times:\n%s", text, n, said)
		}
	}
}

// served is a pgveil serve with a role app, whose password is "app's", on a database of its own.
func served(t *testing.T, env []string, args ...string) (addr, database string, process *os.Process, said *lines) {
	t.Helper()
	dir, dsn := t.TempDir(), pgtest.Database(t)
	env = append(env, "PGVEIL_DATABASE_URL="+dsn, "PGVEIL_KEK=file:"+filepath.Join(dir, "kek"))
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	database = u.Path[1:]
	for _, c := range [][]string{{"migrate"}, {"key", "init"}} {
		if out, code := pgveil(t, env, c...); code != 0 {
			t.Fatalf("%v: %s", c, out)
		}
	}
	add := exec.Command(os.Args[0], "role", "add", "app_"+database, "--password-stdin")
	add.Env, add.Stdin = append(append(os.Environ(), asCommand+"=1"), env...), strings.NewReader("app's")
	if out, err := add.CombinedOutput(); err != nil {
		t.Fatalf("role add: %s", out)
	}
	cmd := exec.Command(os.Args[0], append([]string{"serve", "--only", "wire", "--listen", "127.0.0.1:0", "--node", "node-" + database}, args...)...)
	cmd.Env = append(append(os.Environ(), asCommand+"=1"), env...)
	said = &lines{}
	cmd.Stderr = said
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Signal(syscall.SIGTERM); cmd.Wait() })
	for out := bufio.NewScanner(stdout); out.Scan(); {
		if ready, ok := strings.CutPrefix(out.Text(), "ready: "); ok {
			return ready, database, cmd.Process, said
		}
	}
	t.Fatalf("serve ended:\n%s", said.text)
	return "", "", nil, nil
}

func TestServeReadsCertificatesAgainOnHangup(t *testing.T) {
	t.Parallel()
	needPostgres(t)
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "server.crt"), filepath.Join(dir, "server.key")
	if _, err := devTLS(cert, key); err != nil {
		t.Fatal(err)
	}
	addr, database, process, said := served(t, nil, "--tls-cert", cert, "--tls-key", key, "--tls-client-ca", cert,
		"--statement-timeout", "40s", "--max-connections", "10")
	dsn := "postgres://app_" + database + ":app's@" + addr + "/" + database + "?sslmode=require"
	serial := func(conn *pgx.Conn) string {
		return conn.PgConn().Conn().(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	before := connect(t, dsn)
	if got := query(t, dsn, "show statement_timeout"); got != "40s" {
		t.Errorf("statement_timeout is %s", got)
	}
	if err := os.Remove(cert); err != nil {
		t.Fatal(err)
	}
	process.Signal(syscall.SIGHUP)
	said.await(t, "reload failed", 1)
	if serial(connect(t, dsn)) != serial(before) {
		t.Error("another certificate is shown although none could be read")
	}
	if _, err := devTLS(cert, key); err != nil {
		t.Fatal(err)
	}
	process.Signal(syscall.SIGHUP)
	said.await(t, "msg=reloaded", 1)
	if serial(connect(t, dsn)) == serial(before) {
		t.Error("the old certificate is shown")
	}
	var one int
	if err := before.QueryRow(t.Context(), "select 1").Scan(&one); err != nil {
		t.Errorf("the session before: %v", err)
	}
}

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(t.Context()) })
	return conn
}

func TestServeRefusesFlagsThatCannotBeMeant(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"--proxy-protocol"}, {"--proxy-protocol-from", "10.0.0.0/8"}, {"--proxy-protocol", "--proxy-protocol-from", "10.0.0.1"},
		{"--max-connections", "-1"}, {"--max-startups", "0"}, {"--authentication-timeout", "0"}, {"--statement-timeout", "-1s"}, {"--tls-client-ca", "x"}, {"--tls-cert", "x"},
	} {
		if out, code := pgveil(t, nil, append([]string{"serve"}, args...)...); code != exitUsage {
			t.Errorf("%v: exit %d: %s", args, code, out)
		}
	}
	if out, code := pgveil(t, []string{"PGVEIL_MAX_CONNECTIONS=-1"}, "serve"); code != exitUsage {
		t.Errorf("PGVEIL_MAX_CONNECTIONS=-1: exit %d: %s", code, out)
	}
}
