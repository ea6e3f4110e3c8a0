package main

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"
)

// TestWireRatios measures the front-end against a direct connection and against PgBouncer in session mode, all before one PostgreSQL 15 and in
// turn within each round, and prints a table and one `name ratio` line for each goal. With PGVEIL_BENCH only: script/bench-wire runs it.
// PGVEIL_LONG has it take 5 rounds of 5 s instead of 3 of 2 s, PGVEIL_BENCH_ONLY some parts only. A wrong answer fails it.
func TestWireRatios(t *testing.T) {
	if os.Getenv("PGVEIL_BENCH") == "" {
		return
	}
	b := newWireBench(t)
	for round := range b.rounds {
		b.step("round %d of %d", round+1, b.rounds)
		for _, clients := range []int{1, 8, 32} {
			if b.has(pgbenchParts[clients]) {
				b.transactions(round, clients)
			}
		}
		if b.has("stream") {
			b.streams(round)
		}
		if b.has("connect") {
			b.connects(round)
		}
	}
	if b.has("idle") {
		b.idle()
	}
	b.print()
}

// wireParts are what PGVEIL_BENCH_ONLY names, with commas between.
var wireParts = []string{"latency", "cpu", "many", "stream", "connect", "idle"}

// pgbenchParts says which part a number of clients is.
var pgbenchParts = map[int]string{1: "latency", 8: "cpu", 32: "many"}

// Where a connection goes.
const (
	direct = iota
	bouncer
	front
)

var wireTargets = []string{"direct", "PgBouncer", "pgveil"}

// series are the samples of one figure, a round each, by target.
type series struct {
	unit    string
	samples [3][]float64
}

func (b *wireBench) note(name, unit string, target int, value float64) {
	s := b.series[name]
	if s == nil {
		s = &series{unit: unit}
		b.series[name] = s
		b.order = append(b.order, name)
	}
	s.samples[target] = append(s.samples[target], value)
}

// step says what goes on, on standard error.
func (b *wireBench) step(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "bench-wire: "+format+"\n", args...)
}

func (b *wireBench) has(part string) bool { return slices.Contains(b.parts, part) }

// turn is the order of the targets in a round: each goes first in its turn.
func turn(round int) []int {
	order := []int{direct, bouncer, front}
	n := round % len(order)
	return append(order[n:], order[:n]...)
}

// median is that of the values, which stay in their order; 0 of none.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

// compare is the median over the rounds of what f makes of two targets' samples of one round.
func (s *series) compare(of, to int, f func(of, to float64) float64) float64 {
	var out []float64
	for i := range min(len(s.samples[of]), len(s.samples[to])) {
		out = append(out, f(s.samples[of][i], s.samples[to][i]))
	}
	return median(out)
}

func quotient(of, to float64) float64   { return of / to }
func difference(of, to float64) float64 { return of - to }
func inverse(of, to float64) float64    { return to / of }

// A goal is one of the lines printed last: what it is for the front-end, beside what it is for PgBouncer (0: not measured).
type goal struct {
	name, want     string
	ours, bouncers float64
}

var pgbenchModes = []string{"simple", "extended", "prepared"}

// goals are those of the parts that ran.
func (b *wireBench) goals() []goal {
	var out []goal
	add := func(name, want, of string, ours, bouncers func(*series) float64) {
		if s := b.series[of]; s != nil {
			out = append(out, goal{name: name, want: want, ours: ours(s), bouncers: bouncers(s)})
		}
	}
	// over compares two targets in every mode and takes what pick says is the worst.
	over := func(name, want, of string, pick func(...float64) float64, f func(of, to float64) float64, base int) {
		var ours, bouncers []float64
		for _, mode := range pgbenchModes {
			if s := b.series[of+" "+mode]; s != nil {
				ours, bouncers = append(ours, s.compare(front, base, f)), append(bouncers, s.compare(bouncer, base, f))
			}
		}
		if len(ours) > 0 {
			out = append(out, goal{name: name, want: want, ours: pick(ours...), bouncers: pick(bouncers...)})
		}
	}
	against := func(of, to int, f func(of, to float64) float64) func(*series) float64 {
		return func(s *series) float64 { return s.compare(of, to, f) }
	}
	of := func(target int) func(*series) float64 {
		return func(s *series) float64 { return median(s.samples[target]) }
	}
	for _, mode := range pgbenchModes {
		add("cpu_"+mode, "<= 1.5", figure("CPU", 8)+" "+mode, against(front, bouncer, quotient), against(bouncer, bouncer, quotient))
	}
	over("p50_added_us", "<= 10", figure("p50", 1), maximum, difference, direct)
	for _, clients := range []int{1, 8, 32} {
		over(fmt.Sprintf("tps_%d", clients), ">= 0.9", figure("tps", clients), minimum, quotient, bouncer)
	}
	for _, name := range streamNames {
		add(name, ">= 0.95", name, against(front, direct, inverse), against(bouncer, direct, inverse))
	}
	add("frame_ns_row", "<= 100", "CPU, select_text", of(front), of(bouncer))
	add("idle_kib", "<= 40", "idle connection", of(front), of(bouncer))
	add("idle_tls_kib", "<= 70", "idle connection, TLS", of(front), of(bouncer))
	add("connect", ">= 0.8", "connections", against(front, direct, quotient), against(bouncer, direct, quotient))
	return out
}

func maximum(values ...float64) float64 { return slices.Max(values) }
func minimum(values ...float64) float64 { return slices.Min(values) }

// print writes what was measured, then the goals, then the goals' lines.
func (b *wireBench) print() {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "medians of %d rounds of %v\t%s\tunit\n", b.rounds, b.length, strings.Join(wireTargets, "\t"))
	for _, name := range b.order {
		s := b.series[name]
		fmt.Fprintf(w, "%s\t", name)
		for target := range wireTargets {
			if len(s.samples[target]) == 0 {
				fmt.Fprint(w, "-\t")
				continue
			}
			fmt.Fprintf(w, "%s\t", short(median(s.samples[target])))
		}
		fmt.Fprintln(w, s.unit)
	}
	fmt.Fprint(w, "\ngoal\twant\tPgBouncer\tpgveil\n")
	for _, g := range b.goals() {
		theirs := "-"
		if g.bouncers != 0 {
			theirs = fmt.Sprintf("%.2f", g.bouncers)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%.2f\n", g.name, g.want, theirs, g.ours)
	}
	w.Flush()
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		b.t.Fatal(err)
	}
	fmt.Printf("\nmeasured in %v on %d processors with a load of %s; %d idle connections\n", time.Since(b.began).Round(time.Second),
		runtime.NumCPU(), strings.Join(strings.Fields(string(load))[:3], " "), b.held)
	for _, g := range b.goals() {
		fmt.Printf("%s %.2f\n", g.name, g.ours)
	}
}

// short is a number with three digits or more.
func short(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
