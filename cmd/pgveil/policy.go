package main

import (
	"context"

	"github.com/urfave/cli/v2"

	"pgveil/engine"
)

var policyCommands = []command{
	{
		name: "policy create", args: "NAME", min: 1, max: 1,
		summary: "make a policy and its first key",
		example: `pgveil policy create ssn --format ssn
pgveil policy create account --format digits --min-length 9 --keep-last 2
pgveil policy create visit --format json --path /patient/ssn=ssn --path /visits/*/day=timestamp
pgveil policy create order --format custom --alphabet 0123456789 --keep-first 3 --separators - --dry-run`,
		flags: append([]cli.Flag{
			&cli.BoolFlag{Name: "dry-run", Usage: "only say what the policy would be"},
		}, layoutFlags...),
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
		summary: "show a policy, its options and what they come to",
		example: "pgveil policy show ssn -o json",
		run:     withControl(policyShow),
	},
	{
		name: "policy test", args: "NAME", min: 1, max: 2, // the second is refused with the reason
		summary: "show what becomes of values on standard input: token, value again, mask",
		example: `pgveil policy test ssn < values.txt
pgveil policy test ssn -o json < values.txt
pgveil policy test trial --format alphanumeric --case upper --keep-last 2 < values.txt`,
		flags: layoutFlags,
		run:   policyTest,
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
	policy, err := c.layout(c.arg(0))
	if err != nil {
		return err
	}
	if c.Bool("dry-run") {
		return policyDryRun(ctx, c, p, policy)
	}
	err = p.audited(ctx, "policy create", policy.Name, "", func() error { return p.store.CreatePolicy(ctx, policy) })
	if err != nil {
		return refused(err)
	}
	c.ui.warnOf(policy)
	return printPolicies(ctx, c, p, policy.Name)
}

// policyDryRun refuses what policy create would, and otherwise shows what it would make.
func policyDryRun(ctx context.Context, c *call, p *control, policy engine.Policy) error {
	if err := p.store.CheckPolicy(ctx, policy); err != nil {
		return refused(err)
	}
	t, err := policyTable(policy, nil)
	if err != nil {
		return err
	}
	return c.ui.printOne(t)
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
		policy := engine.Policy{Name: i.Name, Format: i.Format, Options: i.Options, AcceptSmallDomain: i.AcceptSmallDomain}
		t, err := policyTable(policy, &i)
		if err != nil {
			return err
		}
		return c.ui.printOne(t)
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
	return c.ui.did("policy %s dropped", "dropped", c.arg(0))
}
