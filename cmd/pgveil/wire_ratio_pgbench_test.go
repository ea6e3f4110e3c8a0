package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// figure is the name of one that pgbench gives, without its mode.
func figure(what string, clients int) string {
	if clients == 1 {
		return what + ", 1 client,"
	}
	return fmt.Sprintf("%s, %d clients,", what, clients)
}

// transactions runs pgbench -S in its three modes with so many clients: transactions a second, the proxies' CPU for each, and with one client
// the median time of one. With more, what a direct connection gets is in no goal and is not measured.
func (b *wireBench) transactions(round, clients int) {
	for _, mode := range pgbenchModes {
		for _, target := range turn(round) {
			if target == direct && clients > 1 {
				continue
			}
			args := []string{"-M", mode, "-c", strconv.Itoa(clients), "-j", strconv.Itoa(min(clients, 2))}
			log := filepath.Join(b.scratch, "transactions")
			if clients == 1 {
				args = append(args, "-l", "--log-prefix", log)
			}
			before := b.cpu(target)
			r := b.pgbench(target, args...)
			used := b.cpu(target) - before
			b.note(figure("tps", clients)+" "+mode, "/s", target, r.tps)
			if target != direct {
				b.note(figure("CPU", clients)+" "+mode, "µs", target, float64(used.Microseconds())/r.transactions)
			}
			if clients == 1 {
				b.note(figure("p50", clients)+" "+mode, "µs", target, b.medianTime(log))
			}
		}
	}
}

// connects measures how many connections a second can be made, used for one statement and closed.
func (b *wireBench) connects(round int) {
	for _, target := range turn(round) {
		b.note("connections", "/s", target, b.pgbench(target, "-C", "-c", "2", "-j", "2").tps)
	}
}

type pgbenchResult struct{ tps, transactions float64 }

var (
	pgbenchTPS    = regexp.MustCompile(`(?m)^tps = ([0-9.]+) `)
	pgbenchCount  = regexp.MustCompile(`(?m)^number of transactions actually processed: (\d+)$`)
	pgbenchFailed = regexp.MustCompile(`(?m)^number of failed transactions: 0 \(`)
)

// pgbench runs it for the length of a run. A failed transaction fails the test.
func (b *wireBench) pgbench(target int, args ...string) pgbenchResult {
	b.t.Helper()
	args = append([]string{"-n", "-S", "-T", fmt.Sprint(b.length.Seconds())}, args...)
	out := b.run(b.program("pgbench", append(args, b.dsn(target))...))
	tps, count := pgbenchTPS.FindStringSubmatch(out), pgbenchCount.FindStringSubmatch(out)
	if tps == nil || count == nil || !pgbenchFailed.MatchString(out) || strings.Contains(out, "error:") {
		b.t.Fatalf("pgbench %s through %s:\n%s", strings.Join(args, " "), wireTargets[target], out)
	}
	var r pgbenchResult
	r.tps, _ = strconv.ParseFloat(tps[1], 64)
	r.transactions, _ = strconv.ParseFloat(count[1], 64)
	if r.transactions == 0 {
		b.t.Fatalf("pgbench %s through %s made no transaction", strings.Join(args, " "), wireTargets[target])
	}
	return r
}

// medianTime reads and removes the logs of one run: the median time of a transaction in µs. The logs have whole microseconds; the median is
// placed within its microsecond by how many of the times there lie below it.
func (b *wireBench) medianTime(prefix string) float64 {
	b.t.Helper()
	paths, err := filepath.Glob(prefix + ".*")
	if err != nil {
		b.t.Fatal(err)
	}
	var times []int
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			b.t.Fatal(err)
		}
		for line := range bytes.Lines(text) { // client, transaction, time in µs, …
			fields := bytes.Fields(line)
			us, err := strconv.Atoi(string(fields[2]))
			if err != nil {
				b.t.Fatal(err)
			}
			times = append(times, us)
		}
		os.Remove(path)
	}
	if len(times) == 0 {
		b.t.Fatal("pgbench has logged nothing")
	}
	slices.Sort(times)
	middle := times[len(times)/2]
	first, _ := slices.BinarySearch(times, middle)
	next, _ := slices.BinarySearch(times, middle+1)
	return float64(middle) + (float64(len(times))/2-float64(first))/float64(next-first)
}
