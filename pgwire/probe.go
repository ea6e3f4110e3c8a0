package pgwire

import (
	"context"
	"errors"
	"sync"
	"time"
)

var (
	errGone = errors.New("the session ended")
	// errSkipped: the server ignores everything until the client's next Sync, because an earlier message failed.
	errSkipped = errors.New("the server skips until Sync")
)

// probe is a query of the front-end's own on the session's connection, whose replies the client does not see. The upstream direction sends it
// and waits; the downstream one fills it.
type probe struct {
	rows   [][][]byte
	err    error
	closed int // CloseCompletes, of which there are probeCloses
	done   chan struct{}
	once   sync.Once
	// pipelined: it runs between the client's own messages and their Sync, so that its failure is one of the client's pipeline.
	pipelined bool
}

func (p *probe) row(body []byte) {
	c := cursor{b: body}
	row := make([][]byte, c.count())
	for i := range row {
		if v, null := c.value(); !null {
			row[i] = append([]byte{}, v...)
		}
	}
	if !c.done() {
		p.fail(errMalformed)
		return
	}
	p.rows = append(p.rows, row)
}

func (p *probe) fail(err error) {
	p.once.Do(func() {
		p.err = err
		close(p.done)
	})
}

func (p *probe) finish() { p.fail(nil) }

// probeName is the statement and portal of probes; clients do not know it.
const (
	probeName    = "pgveil probe"
	probeCloses  = 4           // of portal and statement, before and after
	probeTimeout = time.Minute // a client that holds a lock on the system catalogs can make it wait
)

// query runs a query of ours on the session's own connection, between the client's messages, in its transaction. It is a querier for the upstream
// goroutine. Where the client's messages since its last Sync are not all answered yet, Flush is used, because a Sync would end the
// client's implicit transaction.
func (x *session) query(ctx context.Context, query string, params ...string) ([][][]byte, error) {
	if x.up.inline {
		return nil, errAway
	}
	p := &probe{done: make(chan struct{}), pipelined: x.unsynced.Load()}
	push := func(kind byte, body []byte) error {
		if kind != 'H' && !x.fifo.push(&expected{kind: kind, probe: p}) {
			p.fail(errSkipped)
		}
		return x.server.send(kind, body)
	}
	bind := appendString(appendString(nil, probeName), probeName)
	bind = appendInt16(appendInt16(bind, 0), len(params))
	for _, v := range params {
		bind = append(appendInt32(bind, len(v)), v...)
	}
	bind = appendInt16(bind, 0)
	last := byte('S')
	if x.unsynced.Load() {
		last = 'H'
	}
	for _, m := range []struct {
		kind byte
		body []byte
	}{
		// One that failed half-way has left its statement behind; to close what does not exist is no error.
		{'C', appendString([]byte{'P'}, probeName)},
		{'C', appendString([]byte{'S'}, probeName)},
		{'P', appendInt16(appendString(appendString(nil, probeName), query), 0)},
		{'B', bind},
		{'E', appendInt32(appendString(nil, probeName), 0)},
		{'C', appendString([]byte{'P'}, probeName)},
		{'C', appendString([]byte{'S'}, probeName)},
		{last, nil},
	} {
		if err := push(m.kind, m.body); err != nil {
			return nil, err
		}
	}
	if err := x.server.w.Flush(); err != nil {
		return nil, err
	}
	timeout := time.NewTimer(probeTimeout)
	defer timeout.Stop()
	select {
	case <-p.done:
		return p.rows, p.err
	case <-ctx.Done():
		return nil, errGone
	case <-timeout.C:
		return nil, &failure{code: "57014", message: "the names in the statement could not be resolved in time"}
	}
}
