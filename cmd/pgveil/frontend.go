package main

import (
	"context"
	"net"

	"github.com/prometheus/client_golang/prometheus"

	"pgveil/audit"
)

// A frontEnd serves clients on a listener until its context ends and its sessions are drained.
type frontEnd interface {
	Serve(ctx context.Context, l net.Listener) error
	Collector() prometheus.Collector
}

type noFrontEnd struct{}

func (noFrontEnd) Serve(ctx context.Context, l net.Listener) error { <-ctx.Done(); return l.Close() }
func (noFrontEnd) Collector() prometheus.Collector {
	return prometheus.NewGauge(prometheus.GaugeOpts{Name: "pgveil_wire_absent"})
}

func (n *node) newFrontEnd(*audit.Log) (frontEnd, error) { return noFrontEnd{}, nil }
