package main

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"
)

// TestFilterRatio times `pgveil tokenize` of card numbers against tr over the same pipe, in turn, and logs the ratio
// of the medians. It reads what cat writes into a pipe and writes to the null device, as tr does. What a command does
// before it reads (start, connect, open the catalog) is not in it. 20,000 lines unless PGVEIL_BENCH is set: 200,000
// then, and ten million with PGVEIL_LONG.
func TestFilterRatio(t *testing.T) {
	lines, turns := 20_000, 1
	if os.Getenv("PGVEIL_BENCH") != "" {
		lines, turns = 200_000, 15
	}
	if os.Getenv("PGVEIL_LONG") != "" {
		lines, turns = 10_000_000, 3
	}
	tr, err := exec.LookPath("tr")
	if err != nil {
		t.Log("no tr here: nothing to compare with")
		return
	}
	path := filepath.Join(t.TempDir(), "cards")
	writeCards(t, path, lines)
	checkCards(t, path)

	f := testFilter(t, "pan")
	var ours, theirs []float64
	for range turns {
		theirs = append(theirs, timeOf(t, func() {
			null := openNull(t)
			defer null.Close()
			piped(t, path, func(r *os.File) {
				c := exec.Command(tr, "0-9", "1-90")
				c.Stdin, c.Stdout = r, null
				if err := c.Run(); err != nil {
					t.Fatal(err)
				}
			})
		}))
		ours = append(ours, timeOf(t, func() {
			null := openNull(t)
			defer null.Close()
			piped(t, path, func(r *os.File) {
				p := &pipe{filter: f, in: r, out: null, report: func(int64, string) {}}
				if err := p.run(t.Context()); err != nil || p.rows != int64(lines) {
					t.Fatal(p.rows, err)
				}
			})
		}))
	}
	slices.Sort(ours)
	slices.Sort(theirs)
	t.Logf("%d lines: %.3f s, tr %.3f s", lines, ours[turns/2], theirs[turns/2])
	if os.Getenv("PGVEIL_BENCH") != "" {
		fmt.Printf("filter_10m %.2f\n", ours[turns/2]/theirs[turns/2])
	}
}

func timeOf(t *testing.T, f func()) float64 {
	t.Helper()
	start := time.Now()
	f()
	return time.Since(start).Seconds()
}

func openNull(t *testing.T) *os.File {
	t.Helper()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return null
}

// piped gives f the reading end of a pipe into which cat writes the file.
func piped(t *testing.T, path string, f func(*os.File)) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cat := exec.Command("cat", path)
	cat.Stdout = w
	if err := cat.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	f(r)
	r.Close()
	if err := cat.Wait(); err != nil {
		t.Fatal(err)
	}
}

// writeCards writes made-up card numbers of 16 digits.
func writeCards(t *testing.T, path string, lines int) {
	t.Helper()
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w, r := bufio.NewWriterSize(file, 1<<20), rand.New(rand.NewPCG(16, 10))
	var line []byte
	for range lines {
		line = strconv.AppendUint(line[:0], 400_000_000_000_000+r.Uint64N(100_000_000_000_000), 10)
		sum := 0
		for i, c := range line {
			d := int(c - '0')
			if i%2 == 0 {
				d = d*2 - d/5*9
			}
			sum += d
		}
		w.Write(append(line, '0'+byte((10-sum%10)%10), '\n'))
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
}

// checkCards holds the filter's answers against those for one value at a time, for some of the lines.
func checkCards(t *testing.T, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data = data[:min(len(data), 17*100_000)]
	f := testFilter(t, "pan")
	got, _, _, err := f.through(t, bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	var want []byte
	for line := range bytes.Lines(data) {
		if want, err = f.transform.AppendToken(want, bytes.TrimSuffix(line, newline), 1); err != nil {
			t.Fatal(err)
		}
		want = append(want, '\n')
	}
	if got != string(want) {
		t.Fatal("wrong tokens")
	}
}
