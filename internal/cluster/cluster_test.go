package cluster_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"pgveil/internal/cluster"
	"pgveil/internal/secret"
)

func TestClusterStartsServesAndStops(t *testing.T) {
	t.Parallel()
	b, s := binaries(t), initialised(t)
	c := started(t, cluster.Config{Binaries: b, Data: s.Data(), Log: filepath.Join(s.Dir, "log"), Settings: map[string]string{"work_mem": "7MB"}})

	conn, err := pgx.Connect(t.Context(), c.DSN(cluster.Superuser, password, "postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var got string
	if err := conn.QueryRow(t.Context(), `SHOW work_mem`).Scan(&got); err != nil || got != "7MB" {
		t.Errorf("work_mem is %q, %v; want the setting given", got, err)
	}

	if err := c.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case <-c.Done():
	default:
		t.Error("Done is open after Stop")
	}
	if alive(c.PID()) {
		t.Error("the postmaster outlives Stop")
	}
}

func TestStartRefusesDataOfAnotherMajorVersion(t *testing.T) {
	t.Parallel()
	b, s := binaries(t), initialised(t)
	b.Major++
	_, err := cluster.Start(t.Context(), cluster.Config{Binaries: b, Data: s.Data(), Log: filepath.Join(s.Dir, "log")})
	var version *cluster.VersionError
	if !errors.As(err, &version) || version.Wanted != b.Major || version.Found != b.Major-1 {
		t.Errorf("got %v, want a *VersionError of %d and %d", err, b.Major-1, b.Major)
	}
}

func TestStartSaysThatThePortIsInUse(t *testing.T) {
	t.Parallel()
	b, s := binaries(t), initialised(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	_, err = cluster.Start(t.Context(), cluster.Config{Binaries: b, Data: s.Data(), Log: filepath.Join(s.Dir, "log"), Port: port})
	if !errors.Is(err, cluster.ErrPortInUse) {
		t.Errorf("got %v, want ErrPortInUse", err)
	}
}

func TestStartFailureIsTheServersOwnReason(t *testing.T) {
	t.Parallel()
	b, s := binaries(t), initialised(t)
	_, err := cluster.Start(t.Context(), cluster.Config{
		Binaries: b, Data: s.Data(), Log: filepath.Join(s.Dir, "log"), Settings: map[string]string{"no_such_setting": "1"},
	})
	if err == nil || !strings.Contains(err.Error(), "no_such_setting") {
		t.Errorf("got %v, want what the server said", err)
	}
}

// A second Start on the directory of a server that nobody owns any more stops that one and takes over.
func TestStartTakesOverFromAStrayServer(t *testing.T) {
	t.Parallel()
	b, s := binaries(t), initialised(t)
	config := cluster.Config{Binaries: b, Data: s.Data(), Log: filepath.Join(s.Dir, "log")}
	stray := started(t, config)
	c := started(t, config)
	if alive(stray.PID()) {
		t.Error("the stray server still runs")
	}
	conn, err := pgx.Connect(t.Context(), c.LocalDSN("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	conn.Close(t.Context())
}

func TestInitRefusesADirectoryInUse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "somebodys"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := cluster.Init(t.Context(), binaries(t), dir, password); err == nil {
		t.Error("initialised over somebody's files")
	}
	if _, err := os.Stat(filepath.Join(dir, "somebodys")); err != nil {
		t.Error("the file is gone:", err)
	}
}

func TestScratchOfADeadProcessIsSwept(t *testing.T) {
	t.Parallel()
	prefix := "pgveil-sweep-" + filepath.Base(t.TempDir()) + "-"
	dead, err := os.MkdirTemp("", prefix)
	if err != nil {
		t.Fatal(err)
	}
	lock, err := cluster.Acquire(dead)
	if err != nil {
		t.Fatal(err)
	}
	held, err := cluster.NewScratch(t.Context(), prefix)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Remove(context.Background())
	if _, err := os.Stat(dead); err != nil {
		t.Fatal("a directory whose lock is held was swept:", err)
	}

	lock.Release() // as the kernel does when a process dies
	next, err := cluster.NewScratch(t.Context(), prefix)
	if err != nil {
		t.Fatal(err)
	}
	defer next.Remove(context.Background())
	if _, err := os.Stat(dead); !errors.Is(err, os.ErrNotExist) {
		t.Error("the directory of a dead process is still there:", err)
	}
	if _, err := os.Stat(held.Dir); err != nil {
		t.Error("the directory of a live one is gone:", err)
	}
}

func TestLockIsHeldByOneAtATime(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, err := cluster.Acquire(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cluster.Acquire(dir); !errors.Is(err, cluster.ErrLocked) {
		t.Errorf("second Acquire: %v, want ErrLocked", err)
	}
	first.Release()
	again, err := cluster.Acquire(dir)
	if err != nil {
		t.Fatal(err)
	}
	again.Release()
}

func TestFindLooksOnlyWhereTold(t *testing.T) {
	t.Parallel()
	if _, err := cluster.Find(t.Context(), cluster.Options{Dir: t.TempDir()}); !errors.Is(err, cluster.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
	b := binaries(t)
	again, err := cluster.Find(t.Context(), cluster.Options{Dir: b.Dir})
	if err != nil || again.Version != b.Version {
		t.Errorf("Find(%s) is %+v, %v", b.Dir, again, err)
	}
	if _, err := cluster.Find(t.Context(), cluster.Options{Dir: b.Dir, Major: b.Major + 1}); !errors.Is(err, cluster.ErrNotFound) {
		t.Errorf("another major version: %v, want ErrNotFound", err)
	}
}

func TestFetchRefusesAVersionThatIsNotPinned(t *testing.T) {
	t.Parallel()
	if _, err := cluster.Fetch(t.Context(), 9); !errors.Is(err, cluster.ErrNoFetch) {
		t.Errorf("got %v, want ErrNoFetch", err)
	}
}

var password = secret.New([]byte("only a test"))

func binaries(t *testing.T) cluster.Binaries {
	t.Helper()
	b, err := cluster.Find(t.Context(), cluster.Options{})
	if errors.Is(err, cluster.ErrNotFound) {
		b, err = cluster.Fetch(t.Context(), 15)
	}
	if errors.Is(err, cluster.ErrNoFetch) {
		t.Skip("no PostgreSQL here:", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func initialised(t *testing.T) *cluster.Scratch {
	t.Helper()
	s, err := cluster.NewScratch(t.Context(), "pgveil-cluster-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Remove(context.Background()); err != nil {
			t.Error(err)
		}
	})
	if err := cluster.Init(t.Context(), binaries(t), s.Data(), password); err != nil {
		t.Fatal(err)
	}
	return s
}

func started(t *testing.T, config cluster.Config) *cluster.Cluster {
	t.Helper()
	c, err := cluster.Start(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return c
}

func alive(pid int) bool {
	for range 50 {
		if syscall.Kill(pid, 0) != nil {
			return false
		}
		time.Sleep(10 * time.Millisecond)
	}
	return true
}
