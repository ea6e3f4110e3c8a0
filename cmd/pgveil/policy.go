package main

import (
	"context"
	"encoding/json"

	"github.com/urfave/cli/v2"

	"pgveil/engine"
)

var policyCommands = []command{
	{
		name: "policy create", args: "NAME", min: 1, max: 1,
		summary: "make a policy and its first key",
		example: `pgveil policy create ssn --format ssn
pgveil policy create account --format digits --min-length 8 --keep-last 2
pgveil policy list`,
		flags: []cli.Flag{
			&cli.StringFlag{Name: "format", Usage: "`FORMAT` of the values: " + formatNames()},
			&cli.StringFlag{Name: "mask", Usage: "`MASK` shown to roles that may mask (default: the format's)"},
			&cli.IntFlag{Name: "keep-last", Usage: "leave the last `N` characters as they are (0: the format's default, -1: none)"},
			&cli.IntFlag{Name: "min-length", Usage: "shortest value that is accepted is `N` long (0: the format's default)"},
			&cli.IntFlag{Name: "max-length", Usage: "longest value that is accepted is `N` long (0: the format's default)"},
			&cli.BoolFlag{Name: "accept-small-domain", Usage: "allow fewer than 1,000,000 possible values: who may tokenize can list them all"},
		},
		run: withControl(policyCreate),
	},
	{
		name:    "policy list",
		summary: "list the policies",
		example: "pgveil policy list",
		run:     withControl(policyList),
	},
	{
		name: "policy show", args: "NAME", min: 1, max: 1,
		summary: "show a policy, its options and its keys",
		example: "pgveil policy show ssn -o json",
		run:     withControl(policyShow),
	},
	{
		name: "policy drop", args: "NAME", min: 1, max: 1,
		summary: "remove a policy that no column uses, with its keys",
		example: "pgveil policy drop account --yes",
		flags:   []cli.Flag{yesFlag},
		run:     withControl(policyDrop),
	},
}

func formatNames() string {
	names := ""
	for i, f := range engine.Formats() {
		if i > 0 {
			names += ", "
		}
		names += f.Name
	}
	return names
}

func policyCreate(ctx context.Context, c *call, p *control) error {
	format, err := c.required("format")
	if err != nil {
		return err
	}
	policy := engine.Policy{
		Name: c.arg(0), Format: format, AcceptSmallDomain: c.Bool("accept-small-domain"),
		Options: engine.Options{
			Mask: c.String("mask"), KeepLast: c.Int("keep-last"), MinLength: c.Int("min-length"), MaxLength: c.Int("max-length"),
		},
	}
	err = p.audited(ctx, "policy create", policy.Name, "", func() error { return p.store.CreatePolicy(ctx, policy) })
	if err != nil {
		return err
	}
	return printPolicies(ctx, c, p, policy.Name)
}

func policyList(ctx context.Context, c *call, p *control) error { return printPolicies(ctx, c, p, "") }

// printPolicies lists the policies, or the one of the name.
func printPolicies(ctx context.Context, c *call, p *control, name string) error {
	policies, err := p.store.Policies(ctx)
	if err != nil {
		return err
	}
	t := newTable("name", "format", "method", "active_version", "column_version", "usable", "created")
	for _, i := range policies {
		if name == "" || i.Name == name {
			t.add(i.Name, i.Format, i.Method, i.Active, i.ColumnVersion, i.Usable, i.Created)
		}
	}
	return c.ui.print(t)
}

func policyShow(ctx context.Context, c *call, p *control) error {
	policies, err := p.store.Policies(ctx)
	if err != nil {
		return err
	}
	for _, i := range policies {
		if i.Name != c.arg(0) {
			continue
		}
		options, err := json.Marshal(i.Options)
		if err != nil {
			return err
		}
		t := newTable("name", "format", "method", "options", "accept_small_domain", "active_version", "column_version", "usable", "created")
		t.add(i.Name, i.Format, i.Method, string(options), i.AcceptSmallDomain, i.Active, i.ColumnVersion, i.Usable, i.Created)
		return c.ui.print(t)
	}
	return failed("unknown policy %q", c.arg(0)).hint("pgveil policy list")
}

func policyDrop(ctx context.Context, c *call, p *control) error {
	if err := c.sure("Drop policy " + c.arg(0) + " and destroy its keys? Tokens of it can never be turned back."); err != nil {
		return err
	}
	err := p.audited(ctx, "policy drop", c.arg(0), "", func() error { return p.store.DropPolicy(ctx, c.arg(0)) })
	if err != nil {
		return err
	}
	c.ui.say("policy %s dropped", c.arg(0))
	return nil
}
