package main

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"pgveil/catalog"
	"pgveil/replication"
)

// streams runs a worker for every stream of the catalog, and notices within a second that one was made or dropped.
type streams struct {
	control *control
	logger  *slog.Logger
	metrics *replication.Metrics

	running map[string]context.CancelFunc
	wg      sync.WaitGroup
}

const streamsInterval = time.Second

// run returns when ctx has ended and all workers have.
func (s *streams) run(ctx context.Context) error {
	s.running = map[string]context.CancelFunc{}
	defer s.wg.Wait()
	tick := time.NewTicker(streamsInterval)
	defer tick.Stop()
	for {
		s.adjust(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// adjust starts and stops workers as the catalog says. Where the catalog does not answer, all stay as they are:
// each worker waits for the databases on its own.
func (s *streams) adjust(ctx context.Context) {
	replicas, err := s.control.store.Replicas(ctx)
	if err != nil {
		return
	}
	wanted := map[string]bool{}
	for _, r := range replicas {
		wanted[r.Name] = true
		if s.running[r.Name] == nil {
			s.start(ctx, r)
		}
	}
	for name, cancel := range s.running {
		if !wanted[name] {
			cancel()
			delete(s.running, name)
		}
	}
}

func (s *streams) start(ctx context.Context, r catalog.Replica) {
	worker, err := replication.NewWorker(s.control.streamConfig(r, s.logger, s.metrics))
	if err != nil {
		s.logger.Error("replicate: stream cannot start", "stream", r.Name, "error", err)
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	s.running[r.Name] = cancel
	s.wg.Go(func() { // ends with ctx, or when the stream is dropped
		if err := worker.Run(ctx); err != nil && !errors.Is(err, replication.ErrUnknownStream) {
			s.logger.Error("replicate: worker ended", "stream", r.Name, "error", err)
		}
	})
}
