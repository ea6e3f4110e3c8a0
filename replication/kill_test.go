package replication_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"pgveil/internal/secret"
	"pgveil/replication"
)

// The test binary is its own worker process: these variables make it one.
const (
	childStream = "PGVEIL_TEST_REPLICATION_STREAM"
	childSource = "PGVEIL_TEST_REPLICATION_SOURCE"
	childTarget = "PGVEIL_TEST_REPLICATION_TARGET"
	childPoint  = "PGVEIL_TEST_REPLICATION_POINT" // POINT:N kills the process when it gets there for the Nth time
)

func runChild() {
	w, err := replication.NewWorker(replication.Config{
		Name: os.Getenv(childStream), Source: secret.New([]byte(os.Getenv(childSource))), Target: secret.New([]byte(os.Getenv(childTarget))),
		Tokenizer: tokenizer, Protect: guard(os.Getenv(childTarget)),
		RetryStopped: 300 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	point, count, _ := strings.Cut(os.Getenv(childPoint), ":")
	left, _ := strconv.Atoi(count)
	var hits atomic.Int64
	replication.SetHook(w, func(p string) {
		if p == point && hits.Add(1) == int64(left) {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	})
	w.Run(context.Background())
}

// child runs a worker in a process of its own. It is killed after d, unless point kills it before; it reports which.
func (f *fixture) child(point string, d time.Duration) (atPoint bool) {
	f.t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childStream+"="+f.cfg.Name, childSource+"="+string(f.cfg.Source.Expose()),
		childTarget+"="+string(f.cfg.Target.Expose()), childPoint+"="+point)
	cmd.Stderr = f.log
	if err := cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			f.t.Fatalf("the worker ended by itself: %v\n%s", err, f.log)
		}
		return true
	case <-time.After(d):
		cmd.Process.Kill()
		<-done
		return false
	}
}

func TestKilledWorkerLosesAndRepeatsNothing(t *testing.T) {
	t.Parallel()
	f := setup(t, people+`ALTER TABLE people ALTER doc SET STORAGE EXTERNAL;
		INSERT INTO people SELECT i, 'name ' || i, 'ssn-' || i, 'e' || i, '2000-01-01', i, repeat('d', 3000) FROM generate_series(10001, 14000) i`)
	f.create("public.people.ssn=ssn", "public.people.email=email")
	stop := f.workload()
	kills, began := 0, time.Now()
	for _, point := range []string{"mid-copy:3", "before-publish:1", "after-publish:1", "before-commit:2", "after-commit:3", "mid-apply:1", "mid-apply:2", "after-commit:1"} {
		if !f.child(point, 40*time.Second) {
			t.Fatalf("the worker never got to %s\n%s", point, f.log)
		}
		kills++
	}
	for range 6 {
		f.child("", time.Duration(200+rand.IntN(900))*time.Millisecond)
		kills++
	}
	stop()
	t.Logf("%d kills in %v", kills, time.Since(began).Round(time.Millisecond))
	f.run()
	f.exec(f.src, `INSERT INTO barrier VALUES ('last')`)
	f.within(time.Minute, "everything is applied", func() bool {
		return f.text(f.dst, `SELECT count(*)::text FROM veil.barrier WHERE id = 'last'`) == "1"
	})
	f.same()
	if s := f.text(f.dst, `SELECT count(*)::text FROM pg_tables WHERE schemaname = 'pgveil' AND tablename LIKE 'stage%'`); s != "0" {
		t.Errorf("%s staging tables are left", s)
	}
}

// workload changes people from three sessions until stopped: small transactions with rolled-back savepoints, changes
// of keys beside unchanged TOASTed values, and transactions larger than a batch.
func (f *fixture) workload() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var committed atomic.Int64
	for n, tx := range []func(context.Context, pgx.Tx, int) error{smallTx, keyTx, bigTx} {
		conn := dial(f.t, string(f.cfg.Source.Expose()))
		wg.Go(func() {
			for i := 1; ctx.Err() == nil; i++ {
				err := pgx.BeginFunc(context.Background(), conn, func(t pgx.Tx) error { return tx(ctx, t, i) })
				var pg *pgconn.PgError
				switch {
				case err == nil:
					committed.Add(1)
				case errors.As(err, &pg) && pg.Code == "40P01", errors.Is(err, context.Canceled):
				default:
					f.t.Errorf("workload %d: %v", n, err)
					return
				}
				time.Sleep([]time.Duration{10, 30, 600}[n] * time.Millisecond)
			}
		})
	}
	return func() {
		cancel()
		wg.Wait()
		f.t.Logf("%d source transactions", committed.Load())
	}
}

func smallTx(_ context.Context, tx pgx.Tx, i int) error {
	return run(tx,
		fmt.Sprintf(`INSERT INTO people SELECT 1000000 + %d * 10 + g, 'new', 'ssn-' || g, 'e%d', now()::date, random(), 'doc' FROM generate_series(1, 3) g`, i, i),
		`SAVEPOINT s`,
		`UPDATE people SET ssn = 'rolled back' WHERE id % 50 = 1`,
		`ROLLBACK TO s`,
		fmt.Sprintf(`UPDATE people SET ssn = 'ssn-u%d', score = random() WHERE id = %d`, i, 1+i%1000),
		fmt.Sprintf(`DELETE FROM people WHERE id = %d`, 1000000+(i/2)*10+1))
}

func keyTx(_ context.Context, tx pgx.Tx, i int) error {
	return run(tx,
		fmt.Sprintf(`UPDATE people SET id = id + 100000 WHERE id = %d`, 12000+i%500),
		fmt.Sprintf(`UPDATE people SET id = id - 100000 WHERE id = %d`, 112000+(i+250)%500),
		fmt.Sprintf(`UPDATE people SET doc = repeat('%d', 2500) WHERE id = %d`, i%10, 11000+i%500))
}

func bigTx(_ context.Context, tx pgx.Tx, i int) error {
	return run(tx, fmt.Sprintf(`UPDATE people SET ssn = 'big-%d-' || id WHERE id BETWEEN 10001 AND 11500`, i))
}

func run(tx pgx.Tx, statements ...string) error {
	for _, s := range statements {
		if _, err := tx.Exec(context.Background(), s); err != nil {
			return err
		}
	}
	return nil
}
