package catalog

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"pgveil/engine"
	"pgveil/internal/scram"
)

// builder makes a Snapshot of contents: it believes what authenticates and raises an alarm for the rest.
type builder struct {
	*contents
	sealer   Sealer
	manifest manifest
	snapshot *Snapshot
	present  map[string]bool    // manifest keys of rows that were read
	policies map[string]*Policy // by id, also those that cannot be used
}

// build judges c. Its only error is a manifest that does not authenticate. The caller holds mu.
func (s *Store) build(c *contents) (*Snapshot, error) {
	m, err := c.Epoch.open(s.sealer)
	if err != nil {
		return nil, err
	}
	b := &builder{
		contents: c, sealer: s.sealer, manifest: m, present: map[string]bool{}, policies: map[string]*Policy{},
		snapshot: &Snapshot{
			epoch: s.generation, catalog: c.Epoch.Value,
			byName: map[string]*Policy{}, columns: map[string][]*Column{}, verifiers: map[string]string{},
			clientKeys: map[string][]byte{}, sealer: s.sealer,
			allowed: map[right]struct{}{}, mockSecret: s.sealer.MAC("scram mock secret", nil),
		},
	}
	b.buildPolicies(s.compiled)
	b.buildColumns()
	b.buildRoles()
	for _, r := range c.Replicas {
		if b.judge(r, "replica "+r.Name) == intact {
			b.snapshot.replicas = append(b.snapshot.replicas, r)
		}
	}
	b.missing()
	sortAlarms(b.snapshot.alarms)
	return b.snapshot, nil
}

func (b *builder) alarm(object, reason string) {
	b.snapshot.alarms = append(b.snapshot.alarms, Alarm{object, reason})
}

// judge says whether to believe r, and raises the alarm if not. object names it for people.
func (b *builder) judge(r record, object string) verdict {
	b.present[manifestKey(r)] = true
	v := b.manifest.judge(b.sealer, r)
	switch v {
	case foreign:
		b.alarm(object, "the row was not written by pgveil; it is ignored")
	case altered:
		b.alarm(object, "the row was changed around pgveil; it denies")
	}
	return v
}

// missing raises an alarm for each row that the manifest has and the tables have not.
func (b *builder) missing() {
	for key := range b.manifest {
		if !b.present[key] {
			b.alarm(strings.ReplaceAll(key, "\x00", " "), "the row was removed around pgveil")
		}
	}
}

// buildPolicies fills b.policies and the snapshot's usable ones. done keeps transforms from one snapshot to the next:
// compiling one costs milliseconds, and sessions may keep what hangs on it.
func (b *builder) buildPolicies(done map[string]compiled) {
	keys := map[string][]keyRow{}
	sound := map[string]bool{} // no key of the policy was altered or removed
	for _, r := range b.Policies {
		sound[r.ID] = b.judge(r, "policy "+r.Name) == intact
	}
	names := map[string]string{}
	for _, r := range b.Policies {
		names[r.ID] = r.Name
	}
	for _, r := range b.Keys {
		switch b.judge(r, fmt.Sprintf("key %s %d", names[r.PolicyID], r.Version)) {
		case intact:
			keys[r.PolicyID] = append(keys[r.PolicyID], r)
		case altered:
			sound[r.PolicyID] = false
		}
	}
	for key := range b.manifest {
		if rest, ok := strings.CutPrefix(key, "key\x00"); ok && !b.present[key] {
			id, _, _ := strings.Cut(rest, "\x00")
			sound[id] = false
		}
	}
	for _, r := range b.Policies {
		p := &Policy{Policy: engine.Policy{ID: r.ID, Name: r.Name, Format: r.Format}, Active: r.Active, ColumnVersion: r.ColumnVersion}
		b.policies[r.ID] = p
		if sound[r.ID] {
			p.Policy, p.Transform = b.compile(done, r, keys[r.ID])
		}
		if p.Transform != nil {
			b.snapshot.byName[r.Name] = p
			b.snapshot.policies = append(b.snapshot.policies, p)
		}
		b.snapshot.policyInfos = append(b.snapshot.policyInfos, PolicyInfo{
			Name: r.Name, Format: r.Format, Method: p.Method(), Options: p.Options, AcceptSmallDomain: r.AcceptSmallDomain,
			Active: r.Active, ColumnVersion: r.ColumnVersion, Usable: p.Transform != nil, Created: b.Created[manifestKey(r)],
		})
		for _, k := range keys[r.ID] {
			b.snapshot.keyInfos = append(b.snapshot.keyInfos, KeyInfo{
				Policy: r.Name, Version: k.Version, State: k.State, CheckValue: k.CheckValue,
				InColumns: k.Version == r.ColumnVersion, Created: b.Created[manifestKey(k)],
			})
		}
	}
	slices.SortFunc(b.snapshot.policies, func(x, y *Policy) int { return cmp.Compare(x.Name, y.Name) })
	slices.SortFunc(b.snapshot.policyInfos, func(x, y PolicyInfo) int { return cmp.Compare(x.Name, y.Name) })
	slices.SortStableFunc(b.snapshot.keyInfos, func(x, y KeyInfo) int { return cmp.Compare(x.Policy, y.Policy) })
	for id := range done {
		if b.policies[id] == nil {
			delete(done, id)
		}
	}
}

// compile opens the keys of an intact policy. A policy that does not compile is an alarm and has a nil Transform.
func (b *builder) compile(done map[string]compiled, r policyRow, keys []keyRow) (engine.Policy, *engine.Transform) {
	from := string(r.MAC)
	for _, k := range keys {
		from += string(k.MAC)
	}
	c := done[r.ID]
	if c.from != from {
		c = compiled{from: from}
		c.transform, c.err = compile(b.sealer, r, keys)
		done[r.ID] = c
	}
	if c.err != nil {
		b.alarm("policy "+r.Name, c.err.Error())
		return engine.Policy{ID: r.ID, Name: r.Name, Format: r.Format}, nil
	}
	return c.transform.Policy(), c.transform
}

func compile(s Sealer, r policyRow, rows []keyRow) (*engine.Transform, error) {
	p, err := r.policy()
	if err != nil {
		return nil, err
	}
	var keys []engine.Key
	have := map[int]bool{}
	for _, k := range rows {
		// The other states give no secret: suspended and compromised wait for an operator, destroyed has none.
		if k.State != "active" && k.State != "decrypt_only" && k.State != "pre_active" {
			continue
		}
		dek, err := s.OpenDEK(k.PolicyID, k.Version, k.Wrapped)
		if err != nil {
			return nil, err
		}
		have[k.Version] = true
		keys = append(keys, engine.Key{Version: k.Version, Secret: dek})
	}
	for _, v := range []int{r.Active, r.ColumnVersion} {
		if !have[v] {
			return nil, fmt.Errorf("key version %d is not usable", v)
		}
	}
	return engine.Compile(p, keys)
}

// policy reads the engine's policy out of a row. Options this binary does not know are an error: it would tokenize
// differently.
func (r policyRow) policy() (engine.Policy, error) {
	p := engine.Policy{ID: r.ID, Name: r.Name, Format: r.Format, AcceptSmallDomain: r.AcceptSmallDomain}
	d := json.NewDecoder(bytes.NewReader([]byte(r.Options)))
	d.DisallowUnknownFields()
	if err := d.Decode(&p.Options); err != nil {
		return p, fmt.Errorf("options of policy %q are of a newer pgveil", r.Name)
	}
	return p, nil
}

// candidate is a place that a row, or the manifest in its stead, protects.
type candidate struct {
	found
	id     string
	exact  bool // found by OID, or nowhere: a match by name alone comes after these
	policy *Policy
}

// buildColumns lists every column that may be protected, with a usable policy only where its row is intact.
func (b *builder) buildColumns() {
	var all []candidate
	for _, r := range b.Columns {
		v := b.judge(r, "column "+r.Database+" "+r.Schema+"."+r.Table+"."+r.Column)
		all = append(all, b.candidates(r.ID, r.place, b.policyOf(r.PolicyID, v == intact))...)
	}
	for key, e := range b.manifest {
		if e.Column == nil {
			continue
		}
		if r, ok := strings.CutPrefix(key, "column\x00"); ok {
			all = append(all, b.candidates(r, *e.Column, b.policyOf("", false))...)
		}
	}
	// Where two claim a column, the first is believed: rows before the manifest, which repeats the intact ones.
	slices.SortStableFunc(all, func(x, y candidate) int { return cmp.Compare(rank(x), rank(y)) })
	taken := map[place]bool{}
	for _, c := range all {
		if !taken[c.place] {
			taken[c.place] = true
			b.addColumn(c)
		}
	}
	for _, cs := range b.snapshot.columns {
		slices.SortFunc(cs, func(x, y *Column) int {
			return cmp.Or(cmp.Compare(x.Schema, y.Schema), cmp.Compare(x.Table, y.Table), cmp.Compare(x.Attnum, y.Attnum), cmp.Compare(x.Name, y.Name))
		})
	}
	slices.SortFunc(b.snapshot.columnInfos, func(x, y ColumnInfo) int {
		return cmp.Or(cmp.Compare(x.Database, y.Database), cmp.Compare(x.Schema, y.Schema), cmp.Compare(x.Table, y.Table), cmp.Compare(x.Column, y.Column))
	})
}

func rank(c candidate) int {
	if c.exact {
		return 0
	}
	return 1
}

// candidates returns the columns found for a row, or the row's own words when there is none.
func (b *builder) candidates(id string, recorded place, p *Policy) []candidate {
	var cs []candidate
	for _, f := range b.Found[id] {
		cs = append(cs, candidate{f, id, f.RelID == recorded.RelID && f.Attnum == recorded.Attnum, p})
	}
	if cs == nil {
		recorded.RelID, recorded.Attnum = 0, 0
		cs = append(cs, candidate{found{place: recorded}, id, true, p})
	}
	return cs
}

// policyOf returns the policy of that id, or one that answers nothing.
func (b *builder) policyOf(id string, believed bool) *Policy {
	p := b.policies[id]
	switch {
	case p == nil:
		return &Policy{Policy: engine.Policy{ID: id}}
	case !believed:
		return &Policy{Policy: engine.Policy{ID: id, Name: p.Name}}
	}
	return p
}

func (b *builder) addColumn(c candidate) {
	b.snapshot.columns[c.Database] = append(b.snapshot.columns[c.Database], &Column{
		Database: c.Database, Schema: c.Schema, Table: c.Table, Name: c.Column, RelID: c.RelID, Attnum: c.Attnum, Policy: c.policy,
	})
	b.snapshot.columnInfos = append(b.snapshot.columnInfos, ColumnInfo{
		id: c.id, Database: c.Database, Schema: c.Schema, Table: c.Table, Column: c.Column,
		Policy: c.policy.Name, Version: c.policy.ColumnVersion, Exists: c.RelID != 0, Guarded: c.Guarded,
		Usable: c.policy.Transform != nil, Created: b.Created[join("column", c.id)],
	})
}

// buildRoles takes verifiers and grants, and spreads the grants over memberships.
func (b *builder) buildRoles() {
	iterations := map[int]int{} // roles, by their verifier's
	infos := map[string]*RoleInfo{}
	info := func(role string) *RoleInfo {
		if infos[role] == nil {
			infos[role] = &RoleInfo{Name: role, Grants: []Grant{}}
		}
		return infos[role]
	}
	for _, r := range b.Roles {
		if b.judge(r, "role "+r.Name) != intact {
			continue
		}
		v, err := scram.ParseVerifier(r.Verifier)
		if err != nil {
			b.alarm("role "+r.Name, "the verifier is not one")
			continue
		}
		iterations[v.Iterations]++
		b.snapshot.verifiers[r.Name] = r.Verifier
		info(r.Name).Login = true
		if r.ClientKey != nil {
			b.snapshot.clientKeys[r.Name] = r.ClientKey
			info(r.Name).Certificate = true
		}
	}
	b.snapshot.mockIterations = mostCommon(iterations)
	var direct []right
	for _, r := range b.Grants {
		p := b.policies[r.PolicyID]
		if p == nil {
			p = &Policy{}
		}
		if b.judge(r, "grant "+r.Role+" "+r.Action+" "+p.Name) != intact {
			continue
		}
		info(r.Role).Grants = append(info(r.Role).Grants, Grant{Action(r.Action), p.Name})
		if p.Transform != nil {
			direct = append(direct, right{r.Role, Action(r.Action), p.Name})
		}
	}
	spread(direct, b.Memberships, b.Superusers, b.snapshot.allowed)
	for _, i := range infos {
		slices.SortFunc(i.Grants, func(x, y Grant) int {
			return cmp.Or(cmp.Compare(x.Policy, y.Policy), cmp.Compare(x.Action, y.Action))
		})
		b.snapshot.roleInfos = append(b.snapshot.roleInfos, *i)
	}
	slices.SortFunc(b.snapshot.roleInfos, func(x, y RoleInfo) int { return cmp.Compare(x.Name, y.Name) })
}

// mostCommon returns the iteration count of most roles, of several the greatest.
func mostCommon(iterations map[int]int) int {
	best := scram.DefaultIterations
	for n, roles := range iterations {
		if roles > iterations[best] || roles == iterations[best] && n > best {
			best = n
		}
	}
	return best
}
