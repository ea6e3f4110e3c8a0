package main

import (
	"context"
	"errors"
	"log/slog"

	"pgveil/catalog"
	"pgveil/keyring"
)

// control is an opened control plane.
type control struct {
	settings
	ring  *keyring.Ring
	store *catalog.Store
}

// openControl reads the environment, opens the KEK, the root key and the catalog.
func openControl(ctx context.Context, logger *slog.Logger) (*control, error) {
	s, err := loadSettings()
	if err != nil {
		return nil, err
	}
	return s.open(ctx, logger)
}

func (s settings) open(ctx context.Context, logger *slog.Logger) (*control, error) {
	ring, err := s.openRing(ctx)
	if err != nil {
		return nil, err
	}
	store, err := catalog.Open(ctx, catalog.Config{DSN: s.databaseURL, Sealer: ring, Logger: logger})
	if err != nil {
		return nil, err
	}
	return &control{settings: s, ring: ring, store: store}, nil
}

// openRing unwraps the installation's root key.
func (s settings) openRing(ctx context.Context) (*keyring.Ring, error) {
	if err := s.needKEK(); err != nil {
		return nil, err
	}
	kek, err := keyring.OpenKEK(s.kek)
	if err != nil {
		return nil, err
	}
	blob, err := catalog.RootKey(ctx, s.databaseURL)
	if err != nil {
		return nil, err
	}
	return keyring.Load(ctx, kek, blob)
}

func (c *control) close() { c.store.Close() }

// withControl makes a command's run of a function that needs the control plane.
func withControl(f func(context.Context, *call, *control) error) func(context.Context, *call) error {
	return func(ctx context.Context, c *call) error {
		control, err := openControl(ctx, nil)
		if err != nil {
			return err
		}
		defer control.close()
		return f(ctx, c, control)
	}
}

// exists says whether err is the catalog's answer that the thing is there already.
func exists(err error) bool {
	var e *catalog.Error
	return errors.As(err, &e) && e.Code == catalog.CodeExists
}
