package pgwire_test

import (
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"pgveil/internal/pgtest"
)

// metrics are the front-end's, as a scraper reads them.
func (f *front) metrics() string {
	f.t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(f.server.Collector())
	w := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		f.t.Errorf("metrics: %d %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func TestEveryMetricIsDocumentedAndEveryDocumentedOneExists(t *testing.T) {
	t.Parallel()
	f := newFront(t, pgtest.Database(t))
	docs, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	names := func(pattern, text string) []string {
		var out []string
		for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
			out = append(out, m[1])
		}
		slices.Sort(out)
		return slices.Compact(out)
	}
	got, want := names(`(?m)^# TYPE (\S+)`, f.metrics()), names("`(pgveil_pgwire_[a-z_]+)", string(docs))
	if !slices.Equal(got, want) {
		t.Errorf("\nexported   %q\ndocumented %q", got, want)
	}
}

func TestMetricsCount(t *testing.T) {
	t.Parallel()
	f := withJane(t)
	app := f.as("app")
	f.want(app, []string{anEmail}, "select email from customers where id = 1")
	f.refused(app, "0A000", "copy customers to stdout", simple()...)
	f.as("support")
	u := strings.Replace(f.url("app"), "horse", "cow", 1)
	if _, err := pgx.Connect(t.Context(), u); err == nil {
		t.Error("a wrong password is right")
	}
	f.must(app, "begin", "select 1")
	app.Close(t.Context())
	f.until("the session is over", func() bool {
		return strings.Contains(f.metrics(), `pgveil_pgwire_sessions{state="idle in transaction"} 0`)
	})
	got := f.metrics()
	for _, line := range []string{
		`pgveil_pgwire_values_total{view="clear"} 1`, `pgveil_pgwire_statements_total{verdict="refused"} 1`, `pgveil_pgwire_authentication_failures_total 1`,
		`pgveil_pgwire_connections_rejected_total 1`, `pgveil_pgwire_start_seconds_count 3`, `pgveil_pgwire_sessions{state="idle"} 2`, `pgveil_pgwire_paused 0`,
	} {
		if !strings.Contains(got, line+"\n") {
			t.Errorf("no %q in\n%s", line, got)
		}
	}
	if m := regexp.MustCompile(`received_bytes_total\{peer="(?:client|server)"\} (\d{3,})`).FindAllString(got, -1); len(m) != 2 {
		t.Errorf("received: %q", m)
	}
	if m := regexp.MustCompile(`loop_sockets\{loop="\d+"\} [1-9]`).FindAllString(got, -1); len(m) == 0 {
		t.Error("no loop serves anything")
	}
}
