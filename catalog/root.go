package catalog

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
)

// RootKey returns the wrapped root key of the control-plane database at dsn.
// ErrNotMigrated and ErrNotInitialized say that there is none.
func RootKey(ctx context.Context, dsn string) ([]byte, error) {
	conn, err := dial(ctx, dsn)
	if err != nil {
		return nil, err
	}
	defer closeConn(conn)
	var blob []byte
	err = conn.QueryRow(ctx, `SELECT wrapped FROM pgveil.root_key`).Scan(&blob)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, ErrNotInitialized
	}
	return blob, explain("read the root key", err)
}

// Initialize stores a new installation's wrapped root key and seals the empty catalog with it. A control plane that has
// a root key already is left alone: that is an *Error with CodeExists.
func Initialize(ctx context.Context, dsn string, rootKey []byte, sealer Sealer) error {
	conn, err := dial(ctx, dsn)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	epoch, err := sealEpoch(sealer, 1, manifest{})
	if err != nil {
		return err
	}
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `INSERT INTO pgveil.root_key (wrapped) VALUES ($1) ON CONFLICT DO NOTHING`, rootKey)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return &Error{CodeExists, "the installation has a root key already", "nothing to do; its KEK is the one it was initialized with"}
		}
		_, err = tx.Exec(ctx, `INSERT INTO pgveil.epoch (value, manifest, mac) VALUES ($1, $2, $3)`, epoch.Value, epoch.Manifest, epoch.MAC)
		return err
	})
	return explain("initialize the installation", err)
}

func dial(ctx context.Context, dsn string) (*pgx.Conn, error) {
	config, err := parseDSN(dsn)
	if err != nil {
		return nil, err
	}
	return connect(ctx, config, "")
}
