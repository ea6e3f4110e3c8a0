package main

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/urfave/cli/v2"

	"pgveil/migrations"
)

var migrateCommand = command{
	name:    "migrate",
	summary: "create or update schema pgveil in the control-plane database",
	example: `pgveil migrate
pgveil migrate --dry-run`,
	flags: []cli.Flag{&cli.BoolFlag{Name: "dry-run", Usage: "only list what would be applied"}},
	run: func(ctx context.Context, c *call) error {
		s, err := loadSettings()
		if err != nil {
			return err
		}
		conn, err := pgx.Connect(ctx, s.databaseURL)
		if err != nil {
			return err
		}
		defer conn.Close(ctx)
		run, state := migrations.Apply, "applied"
		if c.Bool("dry-run") {
			run, state = migrations.Pending, "pending"
		}
		names, err := run(ctx, conn)
		if err != nil {
			return err
		}
		t := newTable("migration", "state")
		for _, n := range names {
			t.add(n, state)
		}
		if len(names) == 0 && !c.ui.json {
			c.ui.say("nothing to apply: the schema is current")
			return nil
		}
		return c.ui.print(t)
	},
}
