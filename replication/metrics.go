package replication

import "github.com/prometheus/client_golang/prometheus"

// Metrics is a prometheus.Collector for any number of streams. Make it with NewMetrics and give it to each Config.
type Metrics struct {
	leader     *prometheus.GaugeVec
	phase      *prometheus.GaugeVec
	lag        *prometheus.GaugeVec
	lastCommit *prometheus.GaugeVec
	copied     *prometheus.CounterVec
	applied    *prometheus.CounterVec
	commits    *prometheus.CounterVec
	retries    *prometheus.CounterVec
}

// NewMetrics returns metrics that have counted nothing yet.
func NewMetrics() *Metrics {
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "pgveil_replication_" + name, Help: help}, append([]string{"stream"}, labels...))
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "pgveil_replication_" + name, Help: help}, append([]string{"stream"}, labels...))
	}
	return &Metrics{
		leader:     gauge("leader", "1 while this process leads the stream."),
		phase:      gauge("phase", "1 for the phase the stream is in, as this process set it.", "phase"),
		lag:        gauge("lag_bytes", "WAL of the source that the target has not committed yet."),
		lastCommit: gauge("last_commit_timestamp_seconds", "Commit time, at the source, of the last transaction applied."),
		copied:     counter("copied_rows_total", "Rows read by snapshots."),
		applied:    counter("applied_changes_total", "Changes committed at the target.", "kind"),
		commits:    counter("commits_total", "Transactions committed at the target."),
		retries:    counter("retries_total", "Sessions that ended in an error and were begun again."),
	}
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range m.all() {
		c.Describe(ch)
	}
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range m.all() {
		c.Collect(ch)
	}
}

func (m *Metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.leader, m.phase, m.lag, m.lastCommit, m.copied, m.applied, m.commits, m.retries}
}

func (m *Metrics) setPhase(stream string, phase Phase) {
	for _, p := range []Phase{Pending, Copying, Streaming, Stopped, NeedsResync} {
		v := 0.0
		if p == phase {
			v = 1
		}
		m.phase.WithLabelValues(stream, string(p)).Set(v)
	}
}
