package main

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"pgveil/catalog"
	"pgveil/engine"
	"pgveil/migrations"
	"pgveil/replication"
)

// demoPolicies are the demonstration's policies, named as the columns they protect.
var demoPolicies = []engine.Policy{
	{Name: "email", Format: "email"},
	{Name: "ssn", Format: "ssn"},
	{Name: "phone", Format: "phone"},
	{Name: "card", Format: "pan"},
}

// demoGrants are what each role may do under every policy.
var demoGrants = map[string][]catalog.Action{
	"app":     {catalog.Tokenize, catalog.Reveal},
	"support": {catalog.Mask},
	"analyst": {catalog.Token},
}

const shopTables = `
CREATE TABLE IF NOT EXISTS public.customers (
	id bigint PRIMARY KEY, name text, email text, ssn text, phone text, card text,
	birth_date date, country text, created_at timestamptz);
CREATE TABLE IF NOT EXISTS public.orders (
	id bigint PRIMARY KEY, customer_id bigint, card text, amount numeric(12,2), placed_at timestamptz);
GRANT SELECT, INSERT, UPDATE, DELETE ON public.customers, public.orders TO app;
GRANT SELECT ON public.customers, public.orders TO support, analyst`

const crmTables = `
CREATE TABLE IF NOT EXISTS public.contacts (
	id bigint PRIMARY KEY, name text, email text, ssn text, phone text, note text)`

var demoColumns = []struct{ table, column, policy string }{
	{"customers", "email", "email"}, {"customers", "ssn", "ssn"}, {"customers", "phone", "phone"}, {"customers", "card", "card"},
	{"orders", "card", "card"},
}

const demoStream = "crm"

var demoMarks = []replication.Mark{
	{Schema: "public", Table: "contacts", Column: "email", Policy: "email"},
	{Schema: "public", Table: "contacts", Column: "ssn", Policy: "ssn"},
	{Schema: "public", Table: "contacts", Column: "phone", Policy: "phone"},
}

// prepareDemo makes the demonstration's contents. Each step may be repeated, so that a start goes on where a
// killed one ended.
func (d *dev) prepareDemo(ctx context.Context) (*control, error) {
	s, err := d.settings()
	if err != nil {
		return nil, err
	}
	if err := d.migrate(ctx, s); err != nil {
		return nil, err
	}
	if _, err := s.initKeys(ctx); err != nil {
		return nil, err
	}
	d.ui.warn("DEVELOPMENT KEK in %s, beside the data it protects: for made-up data only", strings.TrimPrefix(s.kek, "file:"))
	p, err := s.open(ctx, d.log)
	if err != nil {
		return nil, err
	}
	d.onClose(func(context.Context) error { p.close(); return nil })
	for _, step := range []func(context.Context, *control) error{d.makePolicies, d.makeRoles, d.makeShop, d.makeCRM, d.makeStream} {
		if err := step(ctx, p); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// settings are those that the demonstration's own processes, and the CLI through the env file, work with.
func (d *dev) settings() (settings, error) {
	password, err := d.password(serviceRole)
	if err != nil {
		return settings{}, err
	}
	return settings{
		databaseURL: d.backing.url(serviceRole, password, shopDatabase),
		kek:         "file:" + filepath.Join(d.home, "kek"),
		checkpoints: filepath.Join(d.home, "audit"),
	}, nil
}

func (d *dev) migrate(ctx context.Context, s settings) error {
	conn, err := pgx.Connect(ctx, s.databaseURL)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	applied, err := migrations.Apply(ctx, conn)
	if err == nil && len(applied) > 0 {
		d.ui.step("migrated: %s", strings.Join(applied, ", "))
	}
	return err
}

func (d *dev) makePolicies(ctx context.Context, p *control) error {
	for _, policy := range demoPolicies {
		if err := p.store.CreatePolicy(ctx, policy); err != nil && !exists(err) {
			return err
		}
	}
	return nil
}

// makeRoles makes the clients' roles with their grants, and lets the superuser log in, who is granted nothing.
func (d *dev) makeRoles(ctx context.Context, p *control) error {
	admin, err := d.backing.connect(ctx, shopDatabase)
	if err != nil {
		return err
	}
	defer admin.Close(ctx)
	roles, err := p.store.Roles(ctx)
	if err != nil {
		return err
	}
	for _, role := range clientRoles {
		_, known := d.state.Passwords[role]
		password, err := d.password(role)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(roles, func(r catalog.RoleInfo) bool { return r.Name == role })
		if !known || i < 0 || !roles[i].Login {
			if err := p.store.AddRole(ctx, role, password); err != nil {
				return err
			}
			if err := d.claim(ctx, admin, "role", role); err != nil {
				return err
			}
		}
		for _, action := range demoGrants[role] {
			for _, policy := range demoPolicies {
				if i >= 0 && slices.Contains(roles[i].Grants, catalog.Grant{Action: action, Policy: policy.Name}) {
					continue
				}
				if err := p.store.Grant(ctx, role, action, policy.Name); err != nil && !exists(err) {
					return err
				}
			}
		}
	}
	return d.importSuperuser(ctx, admin, p, roles)
}

func (d *dev) importSuperuser(ctx context.Context, admin *pgx.Conn, p *control, roles []catalog.RoleInfo) error {
	if slices.ContainsFunc(roles, func(r catalog.RoleInfo) bool { return r.Name == d.backing.super && r.Login }) {
		return nil
	}
	var verifier string
	err := admin.QueryRow(ctx, `SELECT coalesce(rolpassword, '') FROM pg_catalog.pg_authid WHERE rolname = $1`, d.backing.super).Scan(&verifier)
	if err != nil {
		return err
	}
	if !strings.HasPrefix(verifier, "SCRAM-SHA-256$") {
		d.ui.warn("%s has no SCRAM-SHA-256 password on the backing server, and so cannot log in to the front-end", d.backing.super)
		return nil
	}
	return p.store.ImportRole(ctx, d.backing.super, verifier)
}

// asOwner connects as the owner of the demonstration's tables.
func (d *dev) asOwner(ctx context.Context, database string) (*pgx.Conn, error) {
	password, err := d.password(ownerRole)
	if err != nil {
		return nil, err
	}
	return pgx.Connect(ctx, d.backing.url(ownerRole, password, database))
}

func (d *dev) makeShop(ctx context.Context, p *control) error {
	conn, err := d.asOwner(ctx, shopDatabase)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, shopTables); err != nil {
		return err
	}
	columns, err := p.store.Columns(ctx)
	if err != nil {
		return err
	}
	for _, c := range demoColumns {
		protected := slices.ContainsFunc(columns, func(i catalog.ColumnInfo) bool {
			return i.Database == shopDatabase && i.Schema == "public" && i.Table == c.table && i.Column == c.column
		})
		if protected {
			continue
		}
		if err := p.store.Protect(ctx, shopDatabase, "public", c.table, c.column, c.policy); err != nil {
			return err
		}
	}
	if loaded, err := notEmpty(ctx, conn, "customers"); err != nil || loaded {
		return err
	}
	d.ui.step("tokenizing and loading %d customers and %d orders", demoCustomers, demoOrders)
	return d.loadShop(ctx, conn, p)
}

func notEmpty(ctx context.Context, conn *pgx.Conn, table string) (found bool, err error) {
	err = conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM public.`+quoteIdent(table)+`)`).Scan(&found)
	return found, err
}

// loadShop makes the tokens here, so that no clear value ever reaches the backing database.
func (d *dev) loadShop(ctx context.Context, conn *pgx.Conn, p *control) error {
	if err := p.store.Refresh(ctx); err != nil {
		return err
	}
	snapshot, err := p.store.Current()
	if err != nil {
		return err
	}
	t := &demoTokenizer{snapshot: snapshot}
	data := newDemoData()
	customers := make([][]any, len(data.customers))
	cards := make([]string, len(data.customers))
	for i, c := range data.customers {
		card := t.token("card", c.card)
		cards[i] = card
		customers[i] = []any{
			c.id, c.name, t.token("email", c.email), t.token("ssn", c.ssn), t.token("phone", c.phone), card,
			pgtype.Date{Time: c.birthDate, Valid: true}, c.country, c.createdAt,
		}
	}
	orders := make([][]any, len(data.orders))
	for i, o := range data.orders {
		orders[i] = []any{o.id, o.customerID, cards[o.customerID-1], fmt.Sprintf("%d.%02d", o.cents/100, o.cents%100), o.placedAt}
	}
	if t.err != nil {
		return t.err
	}
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if err := load(ctx, tx, "customers", []string{"id", "name", "email", "ssn", "phone", "card", "birth_date", "country", "created_at"}, customers); err != nil {
			return err
		}
		return load(ctx, tx, "orders", []string{"id", "customer_id", "card", "amount", "placed_at"}, orders)
	})
}

// load copies rows into an empty table and has them counted for the planner.
func load(ctx context.Context, tx pgx.Tx, table string, columns []string, rows [][]any) error {
	if _, err := tx.CopyFrom(ctx, pgx.Identifier{"public", table}, columns, pgx.CopyFromRows(rows)); err != nil {
		return fmt.Errorf("load %s: %w", table, err)
	}
	_, err := tx.Exec(ctx, `ANALYZE public.`+quoteIdent(table))
	return err
}

// demoTokenizer makes tokens under a policy's name. The first failure sticks in err.
type demoTokenizer struct {
	snapshot *catalog.Snapshot
	err      error
}

func (t *demoTokenizer) token(policy, value string) string {
	found := t.snapshot.Policy(policy)
	if found == nil {
		t.err = cmp.Or(t.err, fmt.Errorf("unknown policy %q", policy))
		return ""
	}
	token, err := found.Transform.AppendToken(nil, []byte(value), found.ColumnVersion)
	t.err = cmp.Or(t.err, err)
	return string(token)
}

func (d *dev) makeCRM(ctx context.Context, _ *control) error {
	conn, err := d.asOwner(ctx, crmDatabase)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, crmTables); err != nil {
		return err
	}
	if loaded, err := notEmpty(ctx, conn, "contacts"); err != nil || loaded {
		return err
	}
	d.ui.step("loading %d contacts into %s, in the clear: it is the replica's source", demoContacts, crmDatabase)
	var rows [][]any
	for _, c := range newDemoData().contacts {
		rows = append(rows, []any{c.id, c.name, c.email, c.ssn, c.phone, c.note})
	}
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		return load(ctx, tx, "contacts", []string{"id", "name", "email", "ssn", "phone", "note"}, rows)
	})
}

func (d *dev) makeStream(ctx context.Context, p *control) error {
	replicas, err := p.store.Replicas(ctx)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(replicas, func(r catalog.Replica) bool { return r.Name == demoStream }) {
		return nil
	}
	password, err := d.password(serviceRole)
	if err != nil {
		return err
	}
	source, err := complete("source", d.backing.url(serviceRole, password, crmDatabase))
	if err != nil {
		return err
	}
	d.ui.step("making the replica of %s.public.contacts in schema crm of %s", crmDatabase, shopDatabase)
	return p.createStream(ctx, catalog.Replica{
		Name: demoStream, SourceDSN: source, Database: shopDatabase, Schema: "crm", Tables: []string{"public.contacts"},
	}, demoMarks, clientRoles)
}
