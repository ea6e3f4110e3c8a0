package engine_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"pgveil/engine"
	"pgveil/internal/pgtest"
)

// TestGuardCost times COPY of tokens into a table (id bigint PRIMARY KEY, c text), with and without the guard as a
// constraint, in turn: what the server process takes of a processor, which neighbors disturb less than the time that passes.
// PGVEIL_BENCH makes it a million rows, five times over, and prints the median of the ratios as make bench-guard shows
// them; without, it judges no times.
func TestGuardCost(t *testing.T) {
	rows, turns := 2_000, 1
	if os.Getenv("PGVEIL_BENCH") != "" {
		rows, turns = 1_000_000, 5
	}
	conn, err := pgx.Connect(t.Context(), pgtest.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	exec := func(sql string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	load := func(table string, data []byte) float64 {
		t.Helper()
		exec("TRUNCATE " + table)
		exec("CHECKPOINT")
		start := busy(t, conn)
		tag, err := conn.PgConn().CopyFrom(t.Context(), bytes.NewReader(data), "COPY "+table+" FROM STDIN")
		if err != nil || tag.RowsAffected() != int64(rows) {
			t.Fatal(tag, err)
		}
		return (busy(t, conn) - start).Seconds()
	}
	for _, format := range []string{"pan", "ssn", "email", "phone"} {
		data := tokenRows(t, format, rows)
		exec("DROP TABLE IF EXISTS plain, guarded")
		exec("CREATE TABLE plain (id bigint PRIMARY KEY, c text)")
		exec("CREATE TABLE guarded (id bigint PRIMARY KEY, c text CHECK (" + engine.Guard(named(format), "c") + "))")
		load("plain", data)
		var ratios []float64
		for turn := range turns {
			times := map[string]float64{}
			tables := []string{"plain", "guarded"}
			if turn%2 == 1 {
				slices.Reverse(tables)
			}
			for _, table := range tables {
				times[table] = load(table, data)
			}
			ratios = append(ratios, times["guarded"]/times["plain"])
		}
		slices.Sort(ratios)
		if os.Getenv("PGVEIL_BENCH") != "" {
			fmt.Printf("guard_%s %.3f\n", format, ratios[turns/2])
		}
	}
}

// busy returns how long the connection's server process has run, as Linux counts it, or where that cannot be read, the time.
func busy(t *testing.T, conn *pgx.Conn) time.Duration {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", conn.PgConn().PID()))
	if err != nil {
		return time.Duration(time.Now().UnixNano())
	}
	ns, err := strconv.ParseInt(strings.Fields(string(data))[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return time.Duration(ns)
}

// tokenRows returns random tokens of a format as COPY reads them.
func tokenRows(t *testing.T, format string, rows int) []byte {
	t.Helper()
	tr, r := compile(t, format), rand.New(rand.NewPCG(15, 15))
	var data []byte
	for i := range rows {
		data = append(strconv.AppendInt(data, int64(i), 10), '\t')
		var err error
		if data, err = tr.AppendToken(data, random(r, format), 1); err != nil {
			t.Fatal(err)
		}
		data = append(data, '\n')
	}
	return data
}
