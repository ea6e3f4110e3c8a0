package audit

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	tailInterval = 500 * time.Millisecond

	// A record is committed within writeTimeout of the time it bears; nodes' clocks may differ by the rest.
	tailOverlap = 30 * time.Second
)

// Tail calls emit for the last n records of all nodes, oldest first, and, if follow is set, for new ones until ctx ends
// or emit fails. It returns emit's error, and nil when ctx ended a follow. It does not verify, see Verify.
func Tail(ctx context.Context, dsn string, n int, follow bool, emit func(Entry) error) error {
	conn, err := dial(ctx, dsn)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	t := &tail{conn: conn, emit: emit, shown: map[string]int64{}}
	heads, err := t.heads(ctx) // before the records, so that none falls in between
	if err != nil {
		return explain(err)
	}
	err = t.show(ctx, `SELECT * FROM (SELECT `+entryColumns+` FROM pgveil.audit ORDER BY at DESC, node DESC, seq DESC LIMIT $1) AS last
		ORDER BY at, node, seq`, n)
	for node, seq := range heads {
		t.shown[node] = max(t.shown[node], seq) // older ones are not asked for
	}
	for err == nil && follow {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(tailInterval):
		}
		err = t.show(ctx, `SELECT `+entryColumns+` FROM pgveil.audit WHERE at > $1 ORDER BY at, node, seq`, t.last.Add(-tailOverlap))
	}
	if follow && ctx.Err() != nil {
		return nil
	}
	return explain(err)
}

type tail struct {
	conn  *pgx.Conn
	emit  func(Entry) error
	shown map[string]int64 // the last number, by node
	last  time.Time
}

// heads returns the last number of each node, and sets the time to follow from.
func (t *tail) heads(ctx context.Context) (map[string]int64, error) {
	rows, err := t.conn.Query(ctx, `SELECT node, max(seq), max(at) FROM pgveil.audit GROUP BY node`)
	if err != nil {
		return nil, err
	}
	heads := map[string]int64{}
	var node string
	var seq int64
	var at time.Time
	_, err = pgx.ForEachRow(rows, []any{&node, &seq, &at}, func() error {
		heads[node] = seq
		if at.After(t.last) {
			t.last = at
		}
		return nil
	})
	return heads, err
}

// show emits the entries of a query that were not shown yet.
func (t *tail) show(ctx context.Context, query string, arg any) error {
	rows, err := t.conn.Query(ctx, query, arg)
	if err != nil {
		return err
	}
	entries, err := pgx.CollectRows(rows, scanEntry)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Seq <= t.shown[e.Node] {
			continue
		}
		t.shown[e.Node] = e.Seq
		if e.At.After(t.last) {
			t.last = e.At
		}
		if err := t.emit(e); err != nil {
			return err
		}
	}
	return nil
}
