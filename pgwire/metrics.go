package pgwire

import (
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of the front-end; none has a label that a client chooses. What sessions count themselves is summed when it is asked for.
type metrics struct {
	srv                                                      *Server
	accepted, rejected, unauthenticated, panics, unreachable prometheus.Counter
	start                                                    prometheus.Histogram

	sessions, statements, values, received, sent, sockets, paused *prometheus.Desc
}

func newMetrics(s *Server) *metrics {
	const prefix = "pgveil_pgwire_"
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: prefix + name, Help: help})
	}
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prefix+name, help, labels, nil)
	}
	return &metrics{
		srv:             s,
		accepted:        counter("connections_total", "Client connections accepted."),
		rejected:        counter("connections_rejected_total", "Client connections that ended before they were ready."),
		unauthenticated: counter("authentication_failures_total", "Client connections rejected because the client did not prove who it is."),
		panics:          counter("panics_total", "Sessions ended by a defect of the front-end."),
		unreachable:     counter("backing_unreachable_total", "Connections to the backing database that failed."),
		start: prometheus.NewHistogram(prometheus.HistogramOpts{Name: prefix + "start_seconds", Help: "Time from a connection's first byte to its session being ready.",
			Buckets: []float64{.002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 30}}),
		sessions:   desc("sessions", "Sessions now, by state.", "state"),
		statements: desc("statements_total", "Statements by verdict.", "verdict"),
		values:     desc("values_total", "Values of protected columns shown, by view.", "view"),
		received:   desc("received_bytes_total", "Bytes received from clients and from the backing database, without TLS's own.", "peer"),
		sent:       desc("sent_bytes_total", "Bytes sent to clients and to the backing database, without TLS's own.", "peer"),
		sockets:    desc("loop_sockets", "Connections that each event loop serves.", "loop"),
		paused:     desc("paused", "Whether PAUSE holds statements back: 1, else 0."),
	}
}

// Collector gives the front-end's metrics.
func (s *Server) Collector() prometheus.Collector { return s.metrics }

// reject counts a connection that did not become a session, or a console.
func (m *metrics) reject(err error) {
	m.rejected.Inc()
	if strings.HasPrefix(failureOf(err).code, "28") {
		m.unauthenticated.Inc()
	}
}

func (m *metrics) counted() []prometheus.Collector {
	return []prometheus.Collector{m.accepted, m.rejected, m.unauthenticated, m.panics, m.unreachable, m.start}
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range m.counted() {
		c.Describe(ch)
	}
	for _, d := range []*prometheus.Desc{m.sessions, m.statements, m.values, m.received, m.sent, m.sockets, m.paused} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range m.counted() {
		c.Collect(ch)
	}
	put := func(d *prometheus.Desc, kind prometheus.ValueType, n int64, label ...string) {
		ch <- prometheus.MustNewConstMetric(d, kind, float64(n), label...)
	}
	var t totals
	for _, db := range m.srv.totals() {
		for i, n := range db {
			t[i] += n
		}
	}
	for i, name := range states {
		put(m.sessions, prometheus.GaugeValue, t.in(state(i)), name)
	}
	for i, name := range verdicts {
		put(m.statements, prometheus.CounterValue, t[i], name)
	}
	put(m.values, prometheus.CounterValue, t[shownClear], "clear")
	put(m.values, prometheus.CounterValue, t[shownMasked], "mask")
	put(m.received, prometheus.CounterValue, t[fromClient], "client")
	put(m.received, prometheus.CounterValue, t[fromServer], "server")
	put(m.sent, prometheus.CounterValue, t[toClient], "client")
	put(m.sent, prometheus.CounterValue, t[toServer], "server")
	for i, n := range m.srv.loops.Sockets() {
		put(m.sockets, prometheus.GaugeValue, n, strconv.Itoa(i))
	}
	var paused int64
	if m.srv.gate.closed.Load() {
		paused = 1
	}
	put(m.paused, prometheus.GaugeValue, paused)
}

// stack is the goroutine's stack: function names and lines, no values of variables that a client could have chosen.
func stack() string { return string(debug.Stack()) }
