package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// A status is the HTTP side of a process: /healthz says that it runs, /readyz whether it can serve now, and
// /metrics what it did.
type status struct {
	registry *prometheus.Registry
	mux      *http.ServeMux
	server   *http.Server
	ready    atomic.Pointer[func(context.Context) error]
}

func newStatus() *status {
	s := &status{registry: prometheus.NewRegistry(), mux: http.NewServeMux()}
	s.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	s.mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "ok") })
	s.mux.HandleFunc("GET /readyz", s.readyz)
	s.mux.Handle("GET /metrics", promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{}))
	s.server = &http.Server{Handler: s.mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	return s
}

// serve answers on l until ctx ends.
func (s *status) serve(ctx context.Context, l net.Listener) error {
	stop := context.AfterFunc(ctx, func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		s.server.Shutdown(ctx)
	})
	defer stop()
	if err := s.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// readyWhen sets the check behind /readyz. Until it is set the process is starting.
func (s *status) readyWhen(check func(context.Context) error) { s.ready.Store(&check) }

func (s *status) readyz(w http.ResponseWriter, r *http.Request) {
	check := s.ready.Load()
	if check == nil {
		answer(w, http.StatusServiceUnavailable, "starting")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	if err := (*check)(ctx); err != nil {
		answer(w, http.StatusServiceUnavailable, oneLine(err.Error()))
		return
	}
	answer(w, http.StatusOK, "ready")
}

func answer(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	w.Write([]byte(text + "\n"))
}
