package pgwire

import (
	"runtime/debug"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of the front-end; none has a label that a client chooses.
type metrics struct {
	accepted, rejected, panics, unreachable prometheus.Counter
	sessions                                prometheus.Gauge
	statements                              *prometheus.CounterVec
	rows                                    *prometheus.CounterVec
	clear, masked                           prometheus.Counter // of rows
}

func newMetrics() *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "pgveil_pgwire_" + name, Help: help})
	}
	m := &metrics{
		accepted:    counter("connections_total", "Client connections accepted."),
		rejected:    counter("connections_rejected_total", "Client connections that ended before they were ready."),
		panics:      counter("panics_total", "Sessions ended by a defect of the front-end."),
		unreachable: counter("backing_unreachable_total", "Connections to the backing database that failed."),
		sessions:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "pgveil_pgwire_sessions", Help: "Sessions now."}),
		statements:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "pgveil_pgwire_statements_total", Help: "Statements by verdict."}, []string{"verdict"}),
		rows:        prometheus.NewCounterVec(prometheus.CounterOpts{Name: "pgveil_pgwire_values_total", Help: "Values of protected columns shown, by view."}, []string{"view"}),
	}
	m.clear, m.masked = m.rows.WithLabelValues("clear"), m.rows.WithLabelValues("mask")
	return m
}

// Collector gives the front-end's metrics.
func (s *Server) Collector() prometheus.Collector { return s.metrics }

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.accepted, m.rejected, m.panics, m.unreachable, m.sessions, m.statements, m.rows}
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range m.all() {
		c.Describe(ch)
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range m.all() {
		c.Collect(ch)
	}
}

// stack is the goroutine's stack: function names and lines, no values of variables that a client could have chosen.
func stack() string { return string(debug.Stack()) }
