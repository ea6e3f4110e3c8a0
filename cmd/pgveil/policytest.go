package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"slices"
	"strings"

	"pgveil/engine"
	"pgveil/internal/secret"
)

// What policy test reads at most: it is for looking at a few values. tokenize takes any number.
const (
	maxTestBytes  = 4 << 20
	maxTestValues = 1000
)

// policyTest shows what becomes of values on standard input under a policy: of the catalog, or with --format under one
// that is made up here, for which neither a database nor a KEK is needed.
//
// The value that comes back is the one that was given, so nothing is revealed and nothing is recorded.
func policyTest(ctx context.Context, c *call) error {
	if c.NArg() > 1 {
		return usage("values are not arguments, which others on the machine can see").hint("give them on standard input, one a line")
	}
	if c.String("format") != "" {
		p, err := c.layout(c.arg(0))
		if err != nil {
			return err
		}
		t, err := throwaway(p)
		if err != nil {
			return refused(err)
		}
		c.ui.warnOf(p)
		c.ui.warn("these tokens are made with a throwaway key and belong to no policy: nothing will ever turn them back")
		return c.test(t, 1)
	}
	if name := c.givenLayout(); name != "" {
		return usage("--%s goes with --format", name).hint("pgveil policy test NAME --format FORMAT --%s …", name)
	}
	return withControl(func(_ context.Context, c *call, p *control) error {
		snapshot, err := p.store.Current()
		if err != nil {
			return err
		}
		policy := snapshot.Policy(c.arg(0))
		if policy == nil {
			return unusablePolicy("pgveil policy list shows the policies; --format tries one out that does not exist")
		}
		return c.test(policy.Transform, policy.Active)
	})(ctx, c)
}

// throwaway compiles a policy under an ID and a key that are forgotten afterwards.
func throwaway(p engine.Policy) (*engine.Transform, error) {
	random := make([]byte, 16+32)
	rand.Read(random) // never fails: it ends the process instead
	id := hex.EncodeToString(random[:16])
	p.ID = strings.Join([]string{id[:8], id[8:12], id[12:16], id[16:20], id[20:]}, "-")
	return engine.Compile(p, []engine.Key{{Version: 1, Secret: secret.New(random[16:])}})
}

// test reads values, a line each, and prints what becomes of them.
func (c *call) test(t *engine.Transform, version int) error {
	p := t.Policy()
	d, err := p.Describe()
	if err != nil {
		return err
	}
	values, err := c.ui.values("Values of policy "+p.Name+", one a line; Ctrl-D ends them.", maxTestBytes, maxTestValues)
	if err != nil {
		return err
	}
	table := newTable("line", "value", "token", "back", "version", "mask", "possible_values", "ff1_calls")
	for i, value := range values {
		r, err := try(t, value, version)
		if err != nil {
			c.ui.warn("line %d: %s", i+1, reason(err))
			continue
		}
		switch {
		case r.back == nil || *r.back == textCell(value):
		case p.Format == "json":
			c.ui.warn("line %d: the document comes back in another spelling of its strings", i+1)
		default:
			return failed("line %d: what comes back is not the value", i+1).hint("do not use this policy, and report it")
		}
		table.add(i+1, textCell(value), r.token, orNil(r.back), orNil(r.version), r.mask, possible(d), calls(d))
	}
	if len(table.rows) > 0 || c.ui.json {
		if err := c.ui.print(table); err != nil {
			return err
		}
	}
	if bad := len(values) - len(table.rows); bad > 0 {
		return failed("%d of %d lines are no values of policy %q", bad, len(values), p.Name)
	}
	return nil
}

// trial is what became of a value.
type trial struct {
	token   textCell
	back    *textCell // nil where the token is one-way
	version *int      // nil where a token does not say it
	mask    any
}

func try(t *engine.Transform, value []byte, version int) (r trial, err error) {
	token, err := t.AppendToken(nil, value, version)
	if err != nil {
		return r, err
	}
	r.token = textCell(token)
	if !oneWay(t.Policy()) {
		plain, err := t.AppendPlainAt(nil, token, version)
		if err != nil {
			return r, err
		}
		back := textCell(plain)
		r.back = &back
	}
	if v, ok := t.Version(token); ok {
		r.version = &v
	}
	r.mask = textCell(t.AppendMask(nil, value))
	if t.MaskIsNull() {
		r.mask = nullCell{}
	}
	return r, nil
}

// oneWay says that tokens of the policy, or some in its documents, cannot be turned back.
func oneWay(p engine.Policy) bool {
	return p.Method() == engine.OneWay ||
		slices.ContainsFunc(p.Options.Paths, func(path engine.Path) bool { return path.Options.Method == engine.OneWay })
}

func orNil[T any](v *T) any {
	if v == nil {
		return nil
	}
	return *v
}
