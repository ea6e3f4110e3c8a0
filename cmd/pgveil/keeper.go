package main

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"pgveil/internal/cluster"
)

// A keeper starts the private cluster again, on the same port, when its server ends without being told to. A
// server that somebody else started on the data directory meanwhile is left to run.
type keeper struct {
	config cluster.Config
	log    *slog.Logger

	cluster *cluster.Cluster // the goroutine's, until stop has waited for it
	cancel  context.CancelFunc
	wg      sync.WaitGroup
}

const (
	keeperPause = 2 * time.Second // for pg_ctl restart to start its own
	keeperRetry = 500 * time.Millisecond
)

func (k *keeper) start() {
	ctx, cancel := context.WithCancel(context.Background())
	k.cancel = cancel
	k.wg.Go(func() { k.run(ctx) }) // ends when stop cancels it
}

func (k *keeper) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.cluster.Done():
		}
		k.log.Error("dev: PostgreSQL ended, starting it again")
		if !pause(ctx, keeperPause) {
			return
		}
		for ctx.Err() == nil {
			if cluster.Running(k.config.Data) {
				pause(ctx, keeperRetry)
				continue
			}
			c, err := cluster.Start(ctx, k.config)
			if err == nil {
				k.cluster = c
				break
			}
			k.log.Error("dev: PostgreSQL does not start", "error", err)
			pause(ctx, keeperRetry)
		}
	}
}

// stop stops the server, whoever started it last.
func (k *keeper) stop(ctx context.Context) error {
	k.cancel()
	k.wg.Wait()
	return errors.Join(k.cluster.Stop(ctx), cluster.StopStray(ctx, k.config.Data))
}

// pause waits, and says false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
