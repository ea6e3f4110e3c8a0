package main

import (
	"os"

	"github.com/jackc/pgx/v5/pgconn"
)

// settings are what every command reads from the environment; the names are promises.
type settings struct {
	databaseURL string // PGVEIL_DATABASE_URL: the service role's DSN of the control-plane database
	kek         string // PGVEIL_KEK: file:PATH
	checkpoints string // PGVEIL_AUDIT_CHECKPOINTS: a directory; empty keeps none
}

// loadSettings reads the environment. A DSN is required, and its form is checked here, so that a mistake in it
// is reported as one of the configuration.
func loadSettings() (settings, error) {
	s := settings{
		databaseURL: os.Getenv("PGVEIL_DATABASE_URL"),
		kek:         os.Getenv("PGVEIL_KEK"),
		checkpoints: os.Getenv("PGVEIL_AUDIT_CHECKPOINTS"),
	}
	if s.databaseURL == "" {
		return s, misconfigured("PGVEIL_DATABASE_URL is not set").
			hint("it is the control-plane database's DSN, postgres://pgveil@host:5432/database; pgveil dev writes one into its env file")
	}
	if _, err := pgconn.ParseConfig(s.databaseURL); err != nil {
		return s, badDSN("PGVEIL_DATABASE_URL", err)
	}
	return s, nil
}

func (s settings) needKEK() error {
	if s.kek == "" {
		return misconfigured("PGVEIL_KEK is not set").hint("PGVEIL_KEK=file:PATH; pgveil key init makes the file")
	}
	return nil
}

// database is the control-plane database's name.
func (s settings) database() string {
	c, err := pgconn.ParseConfig(s.databaseURL)
	if err != nil {
		return ""
	}
	return c.Database
}
