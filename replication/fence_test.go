package replication_test

import (
	"strings"
	"sync"
	"testing"
	"time"
)

func TestHigherEpochFencesTheWorker(t *testing.T) {
	t.Parallel()
	f := setupOne(t, people)
	f.create("public.people.ssn=ssn", "public.people.email=email")
	f.run()
	f.streaming()
	f.caughtUp()
	f.exec(f.dst, `UPDATE pgveil.replica_checkpoint SET epoch = epoch + 100`)
	f.exec(f.src, `UPDATE people SET ssn = 'fenced' WHERE id < 10`)
	f.caughtUp() // by the same worker, which has taken the lead anew
	f.same()
	if !strings.Contains(f.log.String(), "another worker has taken the stream over") {
		t.Error("the worker committed under an epoch that was not its own")
	}
}

// TestWorkerThatSleptThroughItsDismissalChangesNothing stops a worker in the middle of a transaction, takes its lock
// away, lets another one lead, and wakes it up.
func TestWorkerThatSleptThroughItsDismissalChangesNothing(t *testing.T) {
	t.Parallel()
	for _, point := range []string{"mid-apply", "before-commit", "after-commit"} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			f := setupOne(t, people)
			f.create("public.people.ssn=ssn", "public.people.email=email")
			asleep, wake := make(chan struct{}), make(chan struct{})
			var once sync.Once
			stop := f.runHooked(func(p string) {
				if p == point {
					once.Do(func() { close(asleep); <-wake })
				}
			})
			f.streaming()
			f.exec(f.src, `UPDATE people SET ssn = ssn || 'y'; INSERT INTO people (id, ssn) SELECT i, 'x' FROM generate_series(3001, 3500) i`)
			<-asleep
			f.exec(f.dst, `SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted
				AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`)
			f.run() // waits for the other's locks, and for the slot
			time.Sleep(time.Second)
			close(wake)
			f.caughtUp()
			stop()
			f.exec(f.src, `DELETE FROM people WHERE id > 3400`)
			f.caughtUp()
			f.same()
			if !f.phase("streaming")() {
				t.Errorf("status %+v", f.status())
			}
		})
	}
}
