package catalog_test

import (
	"bytes"
	"testing"

	"github.com/jackc/pgx/v5"

	"pgveil/catalog"
	"pgveil/engine"
	"pgveil/internal/pgtest"
	"pgveil/internal/scram"
	"pgveil/internal/secret"
	"pgveil/keyring"
	"pgveil/migrations"
)

// TestRoles runs the tests of roles and grants.
func TestRoles(t *testing.T) {
	group(t,
		testAddRoleMakesALoginThatWorks,
		testAddRoleKeepsAnExistingRoleAsItIs,
		testBadRolesAndGrantsAreRefused,
		testImportRoleTakesTheClustersOwnVerifier,
		testClientKeysAreSealedAndGoWithThePassword,
		testGrantsAreExactAndRevoked,
		testGrantsAreInheritedAsPostgreSQLInherits,
	)
}

func testAddRoleMakesALoginThatWorks(t *testing.T) {
	in := install(t)
	name := `Role "x" '` + in.database // a name that must be quoted everywhere
	in.dropRole(name)
	must(t, in.AddRole(t.Context(), name, password("first-pw")))
	dial(t, as(t, in.dsn, name, "first-pw"))
	first, ok := in.snapshot().Verifier(name)
	if !ok {
		t.Fatal("the role has no verifier")
	}
	var stored string
	must(t, in.super.QueryRow(t.Context(), `SELECT rolpassword FROM pg_authid WHERE rolname = $1`, name).Scan(&stored))
	if stored != first {
		t.Error("the catalog's verifier is not the one PostgreSQL has")
	}
	must(t, in.AddRole(t.Context(), name, password("second-pw")))
	dial(t, as(t, in.dsn, name, "second-pw"))
	if conn, err := pgx.Connect(t.Context(), as(t, in.dsn, name, "first-pw")); err == nil {
		conn.Close(t.Context())
		t.Error("the first password still works")
	}
	if second, _ := in.snapshot().Verifier(name); second == first {
		t.Error("the verifier did not change with the password")
	}
}

func testAddRoleKeepsAnExistingRoleAsItIs(t *testing.T) {
	in := install(t)
	name := in.role("NOLOGIN CREATEDB CONNECTION LIMIT 3")
	must(t, in.AddRole(t.Context(), name, password("pw")))
	var kept bool
	must(t, in.super.QueryRow(t.Context(), `SELECT NOT rolcanlogin AND rolcreatedb AND rolconnlimit = 3 FROM pg_roles WHERE rolname = $1`, name).Scan(&kept))
	if !kept {
		t.Error("AddRole changed more than the password")
	}
}

func testBadRolesAndGrantsAreRefused(t *testing.T) {
	in := install(t)
	in.policy("ssn", "ssn")
	role := in.role("")
	ctx := t.Context()
	wantCode(t, in.AddRole(ctx, "", password("x")), catalog.CodeInvalid, "name of a role")
	wantCode(t, in.AddRole(ctx, "pg_read_all_data", password("x")), catalog.CodeInvalid, "name of a role")
	wantCode(t, in.AddRole(ctx, in.super.Config().User, password("x")), catalog.CodeInvalid, "itself logs in as")
	wantCode(t, in.AddRole(ctx, role, password("")), catalog.CodeInvalid, "needs a password")
	wantCode(t, in.ImportRole(ctx, role, "not-a-verifier"), catalog.CodeInvalid, "not a SCRAM-SHA-256 verifier")
	wantCode(t, in.Grant(ctx, "nobody-"+role, catalog.Reveal, "ssn"), catalog.CodeUnknown, "unknown role")
	wantCode(t, in.Grant(ctx, role, catalog.Reveal, "nowhere"), catalog.CodeUnknown, "unknown policy")
	wantCode(t, in.Grant(ctx, role, "read", "ssn"), catalog.CodeInvalid, `"read" is not an action`)
	wantCode(t, in.Revoke(ctx, role, catalog.Mask, "ssn"), catalog.CodeUnknown, "holds no mask")
}

func testImportRoleTakesTheClustersOwnVerifier(t *testing.T) {
	in := install(t)
	name := in.role("LOGIN PASSWORD 'pw'")
	var stored string
	must(t, in.super.QueryRow(t.Context(), `SELECT rolpassword FROM pg_authid WHERE rolname = $1`, name).Scan(&stored))
	must(t, in.ImportRole(t.Context(), name, stored))
	if got, ok := in.snapshot().Verifier(name); !ok || got != stored {
		t.Error("the imported verifier is not in the snapshot")
	}
	wantCode(t, in.ImportRole(t.Context(), "nobody-"+name, stored), catalog.CodeUnknown, "unknown role")
}

func testClientKeysAreSealedAndGoWithThePassword(t *testing.T) {
	in := install(t)
	name, other := "cert_"+in.database, "enrolled_"+in.database
	in.dropRole(name)
	must(t, in.AddCertificateRole(t.Context(), name, secret.Bytes{}))
	s := in.snapshot()
	key, ok, err := s.ClientKey(name)
	if err != nil || !ok {
		t.Fatalf("no key: %v", err)
	}
	text, _ := s.Verifier(name)
	v, err := scram.ParseVerifier(text)
	if err != nil || !(scram.Keys{ClientKey: key, Verifier: v}).Match() {
		t.Errorf("the key is not the verifier's: %v", err)
	}
	var sealed []byte
	must(t, in.super.QueryRow(t.Context(), `SELECT client_key FROM pgveil.role WHERE name = $1`, name).Scan(&sealed))
	if bytes.Contains(sealed, key.Expose()) {
		t.Error("the key is stored in the clear")
	}
	must(t, in.AddRole(t.Context(), name, password("pw")))
	if _, ok, _ := in.snapshot().ClientKey(name); ok {
		t.Error("the key outlived the password that it belonged to")
	}
	keys, err := scram.NewKeys([]byte("pw"), 5000)
	must(t, err)
	must(t, in.EnrolRole(t.Context(), other, keys, true))
	if got, _ := in.snapshot().Verifier(other); got != keys.Verifier.Exposed() {
		t.Error("the enrolled verifier is not in the snapshot")
	}
	keys.ClientKey = key
	if err := in.EnrolRole(t.Context(), other, keys, true); err == nil {
		t.Error("keys that do not belong together are stored")
	}
	wantCode(t, in.EnrolRole(t.Context(), "pg_monitor", keys, false), catalog.CodeInvalid, "name of a role")
	roles, err := in.Roles(t.Context())
	must(t, err)
	certificates := map[string]bool{}
	for _, r := range roles {
		certificates[r.Name] = r.Certificate
	}
	if certificates[name] || !certificates[other] {
		t.Errorf("listed: %v", certificates)
	}
}

// TestUnknownRolesHaveTheIterationsOfMost, so that the count does not tell them apart.
func TestUnknownRolesHaveTheIterationsOfMost(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		have map[int]int
		want int
	}{{nil, 4096}, {map[int]int{4096: 3, 10000: 2}, 4096}, {map[int]int{4096: 1, 10000: 2}, 10000}, {map[int]int{600: 1}, 600}, {map[int]int{600: 1, 10000: 1, 700: 1}, 10000}} {
		if got := catalog.MostCommon(tc.have); got != tc.want {
			t.Errorf("%v: %d, want %d", tc.have, got, tc.want)
		}
	}
}

func testGrantsAreExactAndRevoked(t *testing.T) {
	in := install(t)
	in.policy("ssn", "ssn")
	in.policy("email", "email")
	role, other := in.role(""), in.role("")
	must(t, in.Grant(t.Context(), role, catalog.Mask, "ssn"))
	epoch := in.snapshot().CatalogEpoch()
	must(t, in.Grant(t.Context(), role, catalog.Mask, "ssn"))
	s := in.snapshot()
	if s.CatalogEpoch() != epoch {
		t.Error("granting again is a change")
	}
	for _, r := range []string{role, other, "nobody", ""} {
		for _, a := range append(catalog.Actions(), "") {
			for _, p := range []string{"ssn", "email", ""} {
				if got, want := s.May(r, a, p), r == role && a == catalog.Mask && p == "ssn"; got != want {
					t.Errorf("May(%q, %q, %q) = %v", r, a, p, got)
				}
			}
		}
	}
	must(t, in.Revoke(t.Context(), role, catalog.Mask, "ssn"))
	if in.snapshot().May(role, catalog.Mask, "ssn") {
		t.Error("a revoked grant still holds")
	}
}

func testGrantsAreInheritedAsPostgreSQLInherits(t *testing.T) {
	in := install(t)
	in.policy("ssn", "ssn")
	group, middle, leaf := in.role(""), in.role(""), in.role("")
	noinherit, below, super := in.role("NOINHERIT"), in.role(""), in.role("SUPERUSER")
	for _, edge := range [][2]string{{group, middle}, {middle, leaf}, {group, noinherit}, {noinherit, below}, {group, super}} {
		in.exec(`GRANT ` + edge[0] + ` TO ` + edge[1])
	}
	must(t, in.Grant(t.Context(), group, catalog.Reveal, "ssn"))
	s := in.snapshot()
	for role, want := range map[string]bool{group: true, middle: true, leaf: true, noinherit: false, below: false, super: false} {
		if got := s.May(role, catalog.Reveal, "ssn"); got != want {
			t.Errorf("role %s (group %s, middle %s, leaf %s, noinherit %s, below %s, super %s): May = %v, want %v",
				role, group, middle, leaf, noinherit, below, super, got, want)
		}
		var has bool
		must(t, in.super.QueryRow(t.Context(), `SELECT pg_has_role($1, $2, 'USAGE')`, role, group).Scan(&has))
		if role != super && has != want {
			t.Errorf("PostgreSQL says %v for %s, the test %v", has, role, want)
		}
	}
	before := s.Epoch()
	in.exec(`REVOKE ` + middle + ` FROM ` + leaf)
	if s = in.snapshot(); s.May(leaf, catalog.Reveal, "ssn") || s.Epoch() <= before {
		t.Error("a membership taken away directly is not seen, or did not move the epoch")
	}
	must(t, in.Grant(t.Context(), super, catalog.Reveal, "ssn"))
	if !in.snapshot().May(super, catalog.Reveal, "ssn") {
		t.Error("a grant to a superuser by name does not hold")
	}
}

func TestInheritanceIsPerMembershipFrom16On(t *testing.T) {
	t.Parallel()
	admin := dial(t, pgtest.ServerMajor(t, 17))
	exec(t, admin, `CREATE ROLE g; CREATE ROLE yes NOINHERIT; CREATE ROLE no; GRANT g TO yes WITH INHERIT TRUE; GRANT g TO no WITH INHERIT FALSE`)
	edges, err := catalog.Inherited(t.Context(), admin)
	must(t, err)
	if !edges["g<-yes"] || edges["g<-no"] {
		t.Errorf("edges = %v", edges)
	}
}

// TestServiceRoleNeedsNoSuperuser does everything as a role with the privileges that docs/operations.md lists.
func TestServiceRoleNeedsNoSuperuser(t *testing.T) {
	t.Parallel()
	in := &installation{t: t, dsn: pgtest.Database(t), log: &logBuffer{}}
	in.super = dial(t, in.dsn)
	in.database = in.super.Config().Database
	owner, service := in.role(""), in.role("LOGIN CREATEROLE PASSWORD 'svc'")
	in.exec(`GRANT ` + owner + ` TO ` + service)
	in.exec(`GRANT CREATE ON DATABASE ` + in.database + ` TO ` + service)
	in.exec(`CREATE TABLE t (ssn text); CREATE TABLE foreigner (ssn text)`)
	in.exec(`ALTER TABLE t OWNER TO ` + owner)

	ctx := t.Context()
	dsn := as(t, in.dsn, service, "svc")
	_, err := migrations.Apply(ctx, dial(t, dsn))
	must(t, err)
	in.exec(`REVOKE CREATE ON DATABASE ` + in.database + ` FROM ` + service)
	if again, err := migrations.Apply(ctx, dial(t, dsn)); err != nil || len(again) != 0 {
		t.Errorf("migrating again without CREATE = %v, %v", again, err)
	}
	blob, ring, err := keyring.Init(ctx, newKEK(t))
	must(t, err)
	must(t, catalog.Initialize(ctx, dsn, blob, ring))
	in.ring = ring
	s := in.open(dsn)
	must(t, s.CreatePolicy(ctx, engine.Policy{Name: "ssn", Format: "ssn"}))
	_, err = s.Rotate(ctx, "ssn")
	must(t, err)
	role := "svc_" + owner
	in.dropRole(role)
	must(t, s.AddRole(ctx, role, password("pw")))
	must(t, s.AddRole(ctx, role, password("pw2")))
	must(t, s.Grant(ctx, role, catalog.Reveal, "ssn"))
	must(t, s.Protect(ctx, in.database, "public", "t", "ssn", "ssn"))
	must(t, s.Release(ctx, in.database, "public", "t", "ssn", false))
	wantCode(t, s.Protect(ctx, in.database, "public", "foreigner", "ssn", "ssn"), catalog.CodePrivilege, "foreigner")
	super := in.role("SUPERUSER")
	wantCode(t, s.AddRole(ctx, super, password("pw")), catalog.CodePrivilege, super)
	if _, ok := fresh(t, s).Verifier(super); ok {
		t.Error("a verifier was stored for a password that was not set")
	}
}
