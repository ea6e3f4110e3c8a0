package main

import (
	"cmp"
	"context"
	"errors"
	"strings"

	"github.com/urfave/cli/v2"

	"pgveil/catalog"
	"pgveil/internal/secret"
	"pgveil/pgwire"
)

var roleCommands = []command{
	{
		name: "role add", args: "NAME", min: 1, max: 1,
		summary: "let a role log in; it is made if there is none, and gets the password",
		example: `pgveil role add auditor
pgveil role add auditor --password-stdin < password.txt
pgveil role add reporting --cert
psql -XAtc "select rolpassword from pg_authid where rolname = 'dba'" | pgveil role add dba --verifier-stdin`,
		flags: []cli.Flag{
			&cli.BoolFlag{Name: "password-stdin", Usage: "read the password from standard input"},
			&cli.BoolFlag{Name: "verifier-stdin", Usage: "read from standard input what pg_authid.rolpassword holds, and leave the role as it is"},
			&cli.BoolFlag{Name: "cert", Usage: "let it log in by a client certificate with its name too; without --password-stdin by nothing else"},
		},
		run: withControl(roleAdd),
	},
	{
		name: "role enrol", args: "NAME", min: 1, max: 1,
		summary: "let a role log in that has a password on a service which takes no verifiers",
		example: `pgveil role enrol app
pgveil role enrol app --backing 'postgres://ep-cool-name.example.com/shop?sslmode=verify-full' --password-stdin < password.txt`,
		flags: []cli.Flag{
			&cli.BoolFlag{Name: "password-stdin", Usage: "read the password from standard input"},
			&cli.BoolFlag{Name: "cert", Usage: "let it log in by a client certificate with its name too"},
			&cli.StringFlag{Name: "backing", EnvVars: []string{"PGVEIL_BACKING"}, Usage: "`DSN` of the backing database (default: where PGVEIL_DATABASE_URL points)"},
			&cli.StringFlag{Name: "database", Usage: "`DATABASE` to log in to (default: the DSN's)"},
		},
		run: withControl(roleEnrol),
	},
	{
		name:    "role list",
		summary: "list roles that can log in, and grants",
		example: "pgveil role list",
		run:     withControl(roleList),
	},
	{
		name: "role grant", args: "ROLE ACTION POLICY", min: 3, max: 3,
		summary: "allow an action (tokenize, reveal, mask, token) under a policy",
		example: "pgveil role grant support mask ssn",
		run:     withControl(roleGrant),
	},
	{
		name: "role revoke", args: "ROLE ACTION POLICY", min: 3, max: 3,
		summary: "take a grant back",
		example: "pgveil role revoke support mask ssn",
		run:     withControl(roleRevoke),
	},
}

func roleAdd(ctx context.Context, c *call, p *control) error {
	name, cert, verifier := c.arg(0), c.Bool("cert"), c.Bool("verifier-stdin")
	switch {
	case c.Bool("password-stdin") && verifier:
		return usage("--password-stdin and --verifier-stdin exclude each other")
	case cert && verifier:
		return usage("--cert and --verifier-stdin exclude each other").hint("a verifier alone cannot log in: pgveil role enrol %s --cert takes the password", name)
	}
	var password secret.Bytes
	if !cert || c.Bool("password-stdin") {
		var err error
		if password, err = askPassword(c, name, verifier); err != nil {
			return err
		}
	}
	err := p.audited(ctx, "role add "+name, "", "", func() error {
		switch {
		case verifier:
			return p.store.ImportRole(ctx, name, string(password.Expose()))
		case cert:
			return p.store.AddCertificateRole(ctx, name, password)
		}
		return p.store.AddRole(ctx, name, password)
	})
	if err != nil {
		return err
	}
	return printLogin(c, name)
}

// askPassword reads a role's password, or what piped tells is on standard input in its stead.
func askPassword(c *call, name string, piped bool) (secret.Bytes, error) {
	if !piped && !c.Bool("password-stdin") && !c.ui.interactive() {
		return secret.Bytes{}, usage("%s needs a password", strings.TrimPrefix(c.Command.HelpName, "pgveil ")).hint("--password-stdin reads it from standard input")
	}
	return c.ui.password("Password for " + name)
}

func printLogin(c *call, name string) error {
	t := newTable("role", "login")
	t.add(name, true)
	return c.ui.print(t)
}

// roleEnrol logs in to the backing database with the role's password, once, and stores the verifier that fits.
func roleEnrol(ctx context.Context, c *call, p *control) error {
	name := c.arg(0)
	backing, err := backingConfig(c.String("backing"))
	if err != nil {
		return err
	}
	password, err := askPassword(c, name, false)
	if err != nil {
		return err
	}
	database := cmp.Or(c.String("database"), backing.Database)
	err = p.audited(ctx, "role enrol "+name, "", "", func() error {
		keys, err := pgwire.Enrol(ctx, backing, name, database, password)
		if errors.Is(err, pgwire.ErrUnreachable) {
			return &failure{code: exitUnreachable, err: err, help: "check that it runs, and that --backing names it"}
		}
		if err != nil {
			return failed("log in to the backing database as %q: %w", name, err).hint("the password is the one that the role has there")
		}
		return p.store.EnrolRole(ctx, name, keys, c.Bool("cert"))
	})
	if err != nil {
		return err
	}
	return printLogin(c, name)
}

func roleList(ctx context.Context, c *call, p *control) error {
	roles, err := p.store.Roles(ctx)
	if err != nil {
		return err
	}
	t := newTable("role", "login", "action", "policy", "certificate")
	for _, r := range roles {
		for _, g := range r.Grants {
			t.add(r.Name, r.Login, g.Action, g.Policy, r.Certificate)
		}
		if len(r.Grants) == 0 {
			t.add(r.Name, r.Login, nil, nil, r.Certificate)
		}
	}
	return c.ui.print(t)
}

func roleGrant(ctx context.Context, c *call, p *control) error {
	return changeGrant(ctx, c, p, "role grant", p.store.Grant)
}

func roleRevoke(ctx context.Context, c *call, p *control) error {
	return changeGrant(ctx, c, p, "role revoke", p.store.Revoke)
}

func changeGrant(ctx context.Context, c *call, p *control, what string, change func(context.Context, string, catalog.Action, string) error) error {
	role, action, policy := c.arg(0), catalog.Action(c.arg(1)), c.arg(2)
	err := p.audited(ctx, what+" "+role+" "+string(action), policy, "", func() error { return change(ctx, role, action, policy) })
	if err != nil {
		return err
	}
	t := newTable("role", "action", "policy", "granted")
	t.add(role, action, policy, what == "role grant")
	return c.ui.print(t)
}
