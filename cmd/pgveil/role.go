package main

import (
	"context"

	"github.com/urfave/cli/v2"

	"pgveil/catalog"
)

var roleCommands = []command{
	{
		name: "role add", args: "NAME", min: 1, max: 1,
		summary: "let a role log in; it is made if there is none, and gets the password",
		example: `pgveil role add auditor
pgveil role add auditor --password-stdin < password.txt
psql -XAtc "select rolpassword from pg_authid where rolname = 'dba'" | pgveil role add dba --verifier-stdin`,
		flags: []cli.Flag{
			&cli.BoolFlag{Name: "password-stdin", Usage: "read the password from standard input"},
			&cli.BoolFlag{Name: "verifier-stdin", Usage: "read from standard input what pg_authid.rolpassword holds, and leave the role as it is"},
		},
		run: withControl(roleAdd),
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
	name := c.arg(0)
	if c.Bool("password-stdin") && c.Bool("verifier-stdin") {
		return usage("--password-stdin and --verifier-stdin exclude each other")
	}
	if !c.Bool("password-stdin") && !c.Bool("verifier-stdin") && !c.ui.interactive() {
		return usage("role add needs a password").hint("--password-stdin reads it from standard input")
	}
	password, err := c.ui.password("Password for " + name)
	if err != nil {
		return err
	}
	err = p.audited(ctx, "role add "+name, "", "", func() error {
		if c.Bool("verifier-stdin") {
			return p.store.ImportRole(ctx, name, string(password.Expose()))
		}
		return p.store.AddRole(ctx, name, password)
	})
	if err != nil {
		return err
	}
	t := newTable("role", "login")
	t.add(name, true)
	return c.ui.print(t)
}

func roleList(ctx context.Context, c *call, p *control) error {
	roles, err := p.store.Roles(ctx)
	if err != nil {
		return err
	}
	t := newTable("role", "login", "action", "policy")
	for _, r := range roles {
		for _, g := range r.Grants {
			t.add(r.Name, r.Login, g.Action, g.Policy)
		}
		if len(r.Grants) == 0 {
			t.add(r.Name, r.Login, nil, nil)
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
