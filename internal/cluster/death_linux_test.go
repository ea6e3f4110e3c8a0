package cluster_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"pgveil/internal/cluster"
)

// childData, when set, makes the test binary start a server on that directory and wait to be killed.
const childData = "PGVEIL_CLUSTER_TEST_DATA"

func TestMain(m *testing.M) {
	if data := os.Getenv(childData); data != "" {
		serveForever(data)
	}
	os.Exit(m.Run())
}

func serveForever(data string) {
	b, err := cluster.Find(context.Background(), cluster.Options{})
	if err == nil {
		var c *cluster.Cluster
		if c, err = cluster.Start(context.Background(), cluster.Config{Binaries: b, Data: data, Log: filepath.Join(filepath.Dir(data), "log")}); err == nil {
			fmt.Println(c.PID())
			select {}
		}
	}
	fmt.Println(err)
	os.Exit(1)
}

func TestServerStopsWhenItsStarterIsKilled(t *testing.T) {
	t.Parallel()
	binaries(t)
	s := initialised(t)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childData+"="+s.Data())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatalf("the child said %q", line)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	for range 20 {
		if !alive(pid) {
			return
		}
	}
	t.Error("the server outlives a starter killed by SIGKILL")
}
