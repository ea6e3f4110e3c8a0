package catalog

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"pgveil/internal/secret"
)

// Replica is what the replication worker is to keep: a protected copy of a source's tables.
type Replica struct {
	Name      string
	SourceDSN secret.Bytes // with its password; sealed in the catalog
	Database  string       // where the copy is kept, in the backing cluster
	Schema    string       // of the copy
	Tables    []string     // patterns of the source's tables
}

func sourcePurpose(name string) string { return "replica source " + name }

// CreateReplica stores a replica's row and nothing else. A name that is taken is an *Error with CodeExists.
func (s *Store) CreateReplica(ctx context.Context, r Replica) error {
	if err := checkPolicyName(r.Name); err != nil {
		return invalid("use a to z, 0 to 9, _ and -, a letter first, at most 63 of them", "%q cannot be the name of a stream", r.Name)
	}
	source, err := s.sealer.Seal(sourcePurpose(r.Name), r.SourceDSN.Expose())
	if err != nil {
		return fmt.Errorf("seal the source of stream %q: %w", r.Name, err)
	}
	row := replicaRow{Name: r.Name, Source: source, Database: r.Database, Schema: r.Schema, Tables: append([]string{}, r.Tables...)}
	return s.change(ctx, fmt.Sprintf("create stream %q", r.Name), func(ctx context.Context, c *change) error {
		tag, err := c.Exec(ctx, `INSERT INTO pgveil.replica (name, source, database_name, schema_name, tables, mac)
			VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING`, row.Name, row.Source, row.Database, row.Schema, row.Tables, c.sign(row))
		if err == nil && tag.RowsAffected() == 0 {
			return &Error{CodeExists, fmt.Sprintf("stream %q exists", r.Name), "choose another name, or drop it first"}
		}
		return err
	})
}

// Replicas returns the replicas by name. One whose row was changed around pgveil is left out and an Alarm.
func (s *Store) Replicas(ctx context.Context) ([]Replica, error) {
	rows, err := listed(ctx, s, func(n *Snapshot) []replicaRow { return n.replicas })
	if err != nil {
		return nil, err
	}
	rs := make([]Replica, 0, len(rows))
	for _, r := range rows {
		source, err := s.sealer.Open(sourcePurpose(r.Name), r.Source)
		if err != nil {
			return nil, err
		}
		rs = append(rs, Replica{Name: r.Name, SourceDSN: source, Database: r.Database, Schema: r.Schema, Tables: slices.Clone(r.Tables)})
	}
	return rs, nil
}

// DropReplica removes a replica's row. Its tables, slot and publication are the caller's to drop.
func (s *Store) DropReplica(ctx context.Context, name string) error {
	return s.change(ctx, fmt.Sprintf("drop stream %q", name), func(ctx context.Context, c *change) error {
		err := c.QueryRow(ctx, `DELETE FROM pgveil.replica WHERE name = $1 RETURNING name`, name).Scan(&name)
		if known := c.forget("replica", name); errors.Is(err, pgx.ErrNoRows) {
			if !known {
				return &Error{CodeUnknown, fmt.Sprintf("unknown stream %q", name), "`pgveil replicate list` shows them"}
			}
			err = nil
		}
		c.dirty = true
		return err
	})
}
