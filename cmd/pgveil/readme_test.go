package main

import (
	"bufio"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write what the README's commands print into the README")

// A step is one command of the README and what it says the command prints.
type step struct{ command, output string }

// The quick start is typed into a shell, in a copy of the repository, exactly as it stands; what is printed must
// be what stands there. Only ports and data directory are set apart, through the environment.
func TestREADMEQuickStartIsTrue(t *testing.T) {
	t.Parallel()
	needPostgres(t)
	if _, err := exec.LookPath("psql"); err != nil {
		t.Skip("no PostgreSQL here: psql is not installed")
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := transcripts(string(readme))
	if len(blocks) != 2 || len(blocks[0]) != 1 || len(blocks[1]) < 5 {
		t.Fatalf("the quick start has %d transcripts of another shape than this test knows", len(blocks))
	}
	dir := copyRepository(t)
	env := append(os.Environ(), "PGVEIL_LISTEN=127.0.0.1:0", "PGVEIL_HTTP=127.0.0.1:0", "PGVEIL_DATA="+dataDir(t))
	background(t, dir, env, blocks[0][0].command)
	got := typeIn(t, dir, env, blocks[1])
	text := string(readme)
	for i, s := range blocks[1] {
		if got[i] != s.output {
			t.Errorf("$ %s\ngot:\n%s\nthe README says:\n%s", s.command, got[i], s.output)
		}
		text = strings.Replace(text, "$ "+s.command+"\n"+s.output, "$ "+s.command+"\n"+got[i], 1)
	}
	if *update {
		if err := os.WriteFile("../../README.md", []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// transcripts returns the console blocks of a Markdown text.
func transcripts(text string) [][]step {
	var blocks [][]step
	for _, m := range regexp.MustCompile("(?s)```console\n(.*?)```").FindAllStringSubmatch(text, -1) {
		var steps []step
		for line := range strings.Lines(m[1]) {
			if command, ok := strings.CutPrefix(line, "$ "); ok {
				steps = append(steps, step{command: strings.TrimSuffix(command, "\n")})
			} else {
				steps[len(steps)-1].output += line
			}
		}
		blocks = append(blocks, steps)
	}
	return blocks
}

// copyRepository copies what git would bring: the sources, without the history.
func copyRepository(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel("../..", path)
		if err != nil {
			return err
		}
		switch {
		case d.IsDir() && (d.Name() == ".git" || d.Name() == "bin"):
			return fs.SkipDir
		case d.IsDir():
			return os.MkdirAll(filepath.Join(dir, rel), 0o755)
		case !d.Type().IsRegular() || d.Name() == ".git" || strings.HasSuffix(d.Name(), ".env"):
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, rel), b, 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// background starts a command of the README that stays, and returns when it prints a line that begins with ready.
func background(t *testing.T, dir string, env []string, command string) {
	t.Helper()
	cmd := exec.Command("bash", "-c", command)
	cmd.Dir, cmd.Env = dir, env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // so that Ctrl-C is for it and what it started
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGINT)
		cmd.Wait()
	})
	ready := make(chan bool, 1)
	go func() { // ends with the command
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if strings.HasPrefix(lines.Text(), "ready") {
				ready <- true
			}
		}
		ready <- false
	}()
	select {
	case ok := <-ready:
		if !ok {
			cmd.Wait()
			t.Fatalf("%s ended:\n%s", command, log.String())
		}
	case <-time.After(4 * time.Minute): // the build comes first
		t.Fatalf("%s is not ready", command)
	}
}

// typeIn runs the commands in one shell and returns what each printed.
func typeIn(t *testing.T, dir string, env []string, steps []step) []string {
	t.Helper()
	const mark = "----- end of a command -----"
	var script strings.Builder
	for _, s := range steps {
		fmt.Fprintf(&script, "%s\necho '%s'\n", s.command, mark)
	}
	cmd := exec.Command("bash", "-c", script.String())
	cmd.Dir, cmd.Env = dir, env
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	got := strings.Split(string(out), mark+"\n")
	return got[:len(steps)]
}
