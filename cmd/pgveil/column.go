package main

import (
	"context"
	"strings"

	"github.com/urfave/cli/v2"
)

var databaseFlag = &cli.StringFlag{Name: "database", Usage: "`DATABASE` of the table (default: the control plane's)"}

var columnCommands = []command{
	{
		name: "column protect", args: "TABLE COLUMN POLICY", min: 3, max: 3,
		summary: "protect an empty column: from now on it holds tokens only",
		example: `pgveil column protect customers ssn ssn
pgveil column protect sales.invoices card card --database erp`,
		flags: []cli.Flag{databaseFlag},
		run:   withControl(columnProtect),
	},
	{
		name: "column release", args: "TABLE COLUMN", min: 2, max: 2,
		summary: "stop protecting a column that holds no tokens any more",
		example: "pgveil column release customers ssn --yes",
		flags: []cli.Flag{
			databaseFlag, yesFlag,
			&cli.BoolFlag{Name: "force", Usage: "release it with its tokens in it: every role will see them as they are"},
		},
		run: withControl(columnRelease),
	},
	{
		name:    "column list",
		summary: "list the protected columns of all databases",
		example: "pgveil column list",
		run:     withControl(columnList),
	},
}

func columnProtect(ctx context.Context, c *call, p *control) error {
	schema, table, err := tableName(c.arg(0))
	if err != nil {
		return err
	}
	database, column, policy := c.database(p), c.arg(1), c.arg(2)
	err = p.audited(ctx, "column protect", policy, schema+"."+table+"."+column, func() error {
		return p.store.Protect(ctx, database, schema, table, column, policy)
	})
	if err != nil {
		return err
	}
	t := newTable("database", "schema", "table", "column", "policy")
	t.add(database, schema, table, column, policy)
	return c.ui.print(t)
}

func columnRelease(ctx context.Context, c *call, p *control) error {
	schema, table, err := tableName(c.arg(0))
	if err != nil {
		return err
	}
	if err := c.sure("Stop protecting " + schema + "." + table + "." + c.arg(1) + "?"); err != nil {
		return err
	}
	err = p.audited(ctx, "column release", "", schema+"."+table+"."+c.arg(1), func() error {
		return p.store.Release(ctx, c.database(p), schema, table, c.arg(1), c.Bool("force"))
	})
	if err != nil {
		return err
	}
	return c.ui.did("%s is not protected any more", "released", schema+"."+table+"."+c.arg(1))
}

func columnList(ctx context.Context, c *call, p *control) error {
	columns, err := p.store.Columns(ctx)
	if err != nil {
		return err
	}
	t := newTable("database", "schema", "table", "column", "policy", "version", "exists", "guarded", "usable", "created")
	for _, i := range columns {
		t.add(i.Database, i.Schema, i.Table, i.Column, i.Policy, i.Version, i.Exists, i.Guarded, i.Usable, i.Created)
	}
	return c.ui.print(t)
}

func (c *call) database(p *control) string {
	if d := c.String("database"); d != "" {
		return d
	}
	return p.settings.database()
}

// tableName reads TABLE or SCHEMA.TABLE; a name that is not plain lower case is written in double quotes, as in
// SQL, but nothing is folded. Without a schema it is public.
func tableName(s string) (schema, table string, err error) {
	parts, ok := splitName(s)
	switch {
	case ok && len(parts) == 1:
		return "public", parts[0], nil
	case ok && len(parts) == 2:
		return parts[0], parts[1], nil
	}
	return "", "", usage("%q is not TABLE or SCHEMA.TABLE", s)
}

// splitName cuts a dotted name with optional double quotes into its parts.
func splitName(s string) (parts []string, ok bool) {
	for {
		var part string
		if rest, quoted := strings.CutPrefix(s, `"`); quoted {
			var b strings.Builder
			for {
				before, after, found := strings.Cut(rest, `"`)
				if !found {
					return nil, false
				}
				b.WriteString(before)
				if rest, quoted = strings.CutPrefix(after, `"`); !quoted {
					s = after
					break
				}
				b.WriteByte('"')
			}
			part = b.String()
		} else {
			i := strings.IndexByte(s, '.')
			if i < 0 {
				i = len(s)
			}
			part, s = s[:i], s[i:]
		}
		if part == "" {
			return nil, false
		}
		parts = append(parts, part)
		if s == "" {
			return parts, true
		}
		if s[0] != '.' {
			return nil, false
		}
		s = s[1:]
	}
}
