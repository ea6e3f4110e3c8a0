package pgwire

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"pgveil/sql"
)

// What one intent covers before another must be written.
const (
	intentRows = 10_000
	intentTime = 60 * time.Second
)

// intent is a durable audit record under which rows may be shown.
type intent struct {
	record AuditRecord
	until  time.Time
	left   int64
	shown  int64
}

// reads are the session's intents, by what they cover. Both directions use them; an intent's counts change under mu.
type reads struct {
	x    *session
	mu   sync.Mutex
	open map[string]*intent
}

func (r *reads) init(x *session) { r.x, r.open = x, map[string]*intent{} }

// plan makes sure that an intent covers what the plan may show, before the statement runs.
func (r *reads) plan(p *sql.Plan) (*intent, error) {
	if len(p.Reads) == 0 {
		return nil, nil
	}
	rec := AuditRecord{Fingerprint: p.Fingerprint, Action: "mask"}
	for _, read := range p.Reads {
		name := read.Column
		if read.Table != "" {
			name = read.Schema + "." + read.Table + "." + read.Column
		}
		rec.Columns = append(rec.Columns, name)
		rec.Policies = append(rec.Policies, read.Policy)
		if read.View == sql.Clear {
			rec.Action = "reveal"
		}
	}
	return r.begin(rec)
}

// result is the same for a result whose statement was not analyzed, such as FETCH.
func (r *reads) result(s *shown) (*intent, error) {
	rec := AuditRecord{Action: "mask"}
	for _, c := range s.columns {
		if c.transform == nil {
			continue
		}
		rec.Columns = append(rec.Columns, c.name)
		rec.Policies = append(rec.Policies, c.transform.Policy().Name)
		if c.view == sql.Clear {
			rec.Action = "reveal"
		}
	}
	return r.begin(rec)
}

func (r *reads) begin(rec AuditRecord) (*intent, error) {
	slices.Sort(rec.Columns)
	slices.Sort(rec.Policies)
	rec.Columns, rec.Policies = slices.Compact(rec.Columns), slices.Compact(rec.Policies)
	key := rec.Action + "\x00" + rec.Fingerprint + "\x00" + strings.Join(rec.Columns, "\x00")
	r.mu.Lock()
	in := r.open[key]
	if in == nil {
		x := r.x
		rec.Session, rec.Role, rec.Addr, rec.Database = x.pid, x.role, x.addr, x.dbName
		in = &intent{record: rec}
		r.open[key] = in
	}
	valid := in.left > 0 && time.Now().Before(in.until)
	r.mu.Unlock()
	if valid {
		return in, nil
	}
	return in, r.renew(in)
}

// renew writes the completion of what was shown, if any, and a new intent, and returns when both are durable.
func (r *reads) renew(in *intent) error {
	r.complete(in)
	rec := in.record
	rec.Kind, rec.Rows = "intent", intentRows
	if err := r.x.srv.cfg.Audit(r.x.ctx, rec); err != nil {
		r.x.srv.cfg.Logger.Error("audit failed", "session", r.x.pid, "error", err)
		return errAudit
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	in.left, in.until = intentRows, time.Now().Add(intentTime)
	return nil
}

// use draws one row on the intent. It may block for a new one.
func (r *reads) use(in *intent) error {
	r.mu.Lock()
	ok := in.left > 0
	if ok {
		in.left--
		in.shown++
	}
	r.mu.Unlock()
	if ok {
		return nil
	}
	if err := r.renew(in); err != nil {
		return err
	}
	return r.use(in)
}

// complete records how many rows were shown since the last intent. Its loss loses a count, not a reveal, so that it fails silently but for the log.
func (r *reads) complete(in *intent) {
	r.mu.Lock()
	rows := in.shown
	in.shown = 0
	r.mu.Unlock()
	if rows == 0 {
		return
	}
	rec := in.record
	rec.Kind, rec.Rows = "completion", rows
	ctx, stop := context.WithTimeout(context.Background(), 5*time.Second)
	defer stop()
	if err := r.x.srv.cfg.Audit(ctx, rec); err != nil {
		r.x.srv.cfg.Logger.Error("audit completion failed", "session", r.x.pid, "error", err)
	}
}

// finish completes every intent at the session's end.
func (r *reads) finish() {
	r.mu.Lock()
	all := make([]*intent, 0, len(r.open))
	for _, in := range r.open {
		all = append(all, in)
	}
	r.mu.Unlock()
	for _, in := range all {
		r.complete(in)
	}
}
