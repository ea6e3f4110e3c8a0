package catalog

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// SetLease shortens the lease, so that a test need not wait for it.
func (s *Store) SetLease(d time.Duration) { s.lease = d }

// MostCommon is the iteration count of unknown roles.
var MostCommon = mostCommon

// Inherited runs the membership query alone, on a server of another version.
func Inherited(ctx context.Context, conn *pgx.Conn) (map[string]bool, error) {
	rows, err := conn.Query(ctx, inherited(conn))
	if err != nil {
		return nil, err
	}
	edges := map[string]bool{}
	var m membership
	_, err = pgx.ForEachRow(rows, []any{&m.Role, &m.Member}, func() error {
		edges[fmt.Sprintf("%s<-%s", m.Role, m.Member)] = true
		return nil
	})
	return edges, err
}
