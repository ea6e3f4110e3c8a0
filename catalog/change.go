package catalog

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"
)

// A change is a transaction that changes the catalog. It holds the epoch's lock, so changes come one after another.
type change struct {
	pgx.Tx
	sealer   Sealer
	manifest manifest
	dirty    bool
}

// change runs f in a transaction, seals the epoch after it and tells every node. what begins the errors' path. When it
// returns nil, this Store's snapshot has the change; the other nodes have it as soon as they are told, at most a second
// later while they can reach the database.
func (s *Store) change(ctx context.Context, what string, f func(context.Context, *change) error) error {
	if err := s.transact(ctx, f); err != nil {
		return explain(what, err)
	}
	return s.Refresh(ctx)
}

// transact does change's transaction on the connection kept for changes, which is made at the first.
func (s *Store) transact(ctx context.Context, f func(context.Context, *change) error) error {
	s.changing.Lock() // the epoch's lock would make others wait all the same
	defer s.changing.Unlock()
	tx, err := s.begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) // nothing after Commit
	var epoch epochRow
	err = tx.QueryRow(ctx, `SELECT value, manifest, mac FROM pgveil.epoch FOR UPDATE`).Scan(&epoch.Value, &epoch.Manifest, &epoch.MAC)
	if errors.Is(err, pgx.ErrNoRows) {
		return ErrNotInitialized
	}
	if err != nil {
		return err
	}
	m, err := epoch.open(s.sealer)
	if err != nil {
		return err
	}
	c := &change{Tx: tx, sealer: s.sealer, manifest: m}
	if err := f(ctx, c); err != nil || !c.dirty {
		return err
	}
	if err := c.seal(ctx, epoch.Value+1); err != nil {
		return err
	}
	return tx.Commit(ctx)
}

// begin begins a transaction, on a new connection if the kept one was lost. The caller holds changing.
func (s *Store) begin(ctx context.Context) (pgx.Tx, error) {
	if s.changer != nil {
		if tx, err := s.changer.Begin(ctx); err == nil {
			return tx, nil
		}
		closeConn(s.changer)
		s.changer = nil
	}
	conn, err := s.connect(ctx, "")
	if err != nil {
		return nil, err
	}
	s.changer = conn
	return conn.Begin(ctx)
}

// seal writes the next epoch and notifies, in the same transaction: a node that is told finds the change.
func (c *change) seal(ctx context.Context, epoch int64) error {
	row, err := sealEpoch(c.sealer, epoch, c.manifest)
	if err != nil {
		return err
	}
	if _, err := c.Exec(ctx, `UPDATE pgveil.epoch SET value = $1, manifest = $2, mac = $3`, row.Value, row.Manifest, row.MAC); err != nil {
		return err
	}
	_, err = c.Exec(ctx, `SELECT pg_notify($1, $2)`, channel, strconv.FormatInt(epoch, 10))
	return err
}

// sign returns the mac to store beside r, which f then inserts or updates.
func (c *change) sign(r record) []byte {
	sum := mac(c.sealer, r)
	c.manifest.add(r, sum)
	c.dirty = true
	return sum
}

// forget takes r out of the manifest; f deletes the row, if there is one.
func (c *change) forget(kind string, key ...string) (known bool) {
	k := join(append([]string{kind}, key...)...)
	_, known = c.manifest[k]
	delete(c.manifest, k)
	c.dirty = c.dirty || known
	return known
}

// believe refuses to build on a row that does not authenticate: signing it again would launder it.
func (c *change) believe(r record, object string) error {
	if c.manifest.judge(c.sealer, r) != intact {
		return &Error{CodeTampered, object + " was changed around pgveil", "find out by whom; then restore it from a backup, or drop it"}
	}
	return nil
}

// policy reads a policy by name.
func (c *change) policy(ctx context.Context, name string) (policyRow, error) {
	var r policyRow
	err := c.QueryRow(ctx, `SELECT id::text, name, format, options::text, accept_small_domain, active, column_version, mac
		FROM pgveil.policy WHERE name = $1`, name).
		Scan(&r.ID, &r.Name, &r.Format, &r.Options, &r.AcceptSmallDomain, &r.Active, &r.ColumnVersion, &r.MAC)
	if errors.Is(err, pgx.ErrNoRows) {
		return r, unknown("policy", name)
	}
	return r, err
}

// soundPolicy is policy, and the row authenticates.
func (c *change) soundPolicy(ctx context.Context, name string) (policyRow, error) {
	r, err := c.policy(ctx, name)
	if err != nil {
		return r, err
	}
	return r, c.believe(r, fmt.Sprintf("policy %q", name))
}

// newID returns a random UUID (RFC 9562 section 5.4).
func newID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
