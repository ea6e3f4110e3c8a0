package replication

import (
	"sync"

	"github.com/jackc/pglogrepl"
)

// maxQueueBytes bounds what the receiver holds for a slow target.
const maxQueueBytes = 32 << 20

// item is what the receiver hands to the applier: a pgoutput message, or, where data is nil, the news that the source
// has sent everything before lsn.
type item struct {
	data   []byte
	lsn    pglogrepl.LSN
	urgent bool // the source waits for an answer
}

// queue carries items from one receiver to one applier. The applier takes everything at once, so that what has piled
// up while it was committing becomes its next group.
type queue struct {
	filled chan struct{} // has room for one: something was put
	eased  chan struct{} // has room for one: something was done with

	mu    sync.Mutex
	items []item
	bytes int // of items, and of what was taken but not done with
}

func newQueue() *queue {
	return &queue{filled: make(chan struct{}, 1), eased: make(chan struct{}, 1)}
}

// itemOverhead keeps a flood of empty messages bounded too.
const itemOverhead = 64

// put never blocks; it reports whether the receiver should wait for eased.
func (q *queue) put(i item) (full bool) {
	q.mu.Lock()
	// Positions that nobody has looked at yet are replaced by later ones.
	if n := len(q.items); i.data == nil && n > 0 && q.items[n-1].data == nil {
		i.urgent = i.urgent || q.items[n-1].urgent
		q.items[n-1] = i
	} else {
		q.items = append(q.items, i)
		q.bytes += len(i.data) + itemOverhead
	}
	full = q.bytes > maxQueueBytes
	q.mu.Unlock()
	signal(q.filled)
	return full
}

func (q *queue) full() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.bytes > maxQueueBytes
}

// take returns what has piled up; the caller says done for each item.
func (q *queue) take() []item {
	q.mu.Lock()
	defer q.mu.Unlock()
	items := q.items
	q.items = nil
	return items
}

func (q *queue) done(i item) {
	q.mu.Lock()
	q.bytes -= len(i.data) + itemOverhead
	q.mu.Unlock()
	signal(q.eased)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
