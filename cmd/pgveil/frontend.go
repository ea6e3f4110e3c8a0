package main

import (
	"context"
	"os"
	"runtime"

	"pgveil/audit"
	"pgveil/pgwire"
)

// newFrontEnd wires the front-end to catalog, audit log and backing database.
func (n *node) newFrontEnd(log *audit.Log) (*pgwire.Server, error) {
	loops := max(1, runtime.NumCPU()/2)
	if os.Getenv("GOMAXPROCS") == "" {
		// A loop that waits in the kernel keeps its processor of the runtime's. Without some to spare the runtime takes it away, and gives it back, at each wait.
		runtime.GOMAXPROCS(runtime.NumCPU() + 2*loops)
	}
	return pgwire.New(pgwire.Config{
		Loops:   loops,
		Backing: n.backing,
		Catalog: n.control.store,
		Service: n.service,
		Audit:   func(ctx context.Context, r pgwire.AuditRecord) error { return log.Append(ctx, auditRecord(r)) },
		TLS:     n.tls,
		Logger:  n.logger,
		Admins:  n.admins, Trace: n.trace, Settings: n.settings, Version: version,
	})
}

func auditRecord(r pgwire.AuditRecord) audit.Record {
	return audit.Record{
		Kind: r.Kind, Session: int64(r.Session), Role: r.Role, Addr: r.Addr, Database: r.Database, Action: r.Action,
		Outcome:     map[string]string{audit.Intent: "begun", audit.Completion: "ok"}[r.Kind],
		Fingerprint: r.Fingerprint, Policies: r.Policies, Columns: r.Columns, Rows: r.Rows,
	}
}
