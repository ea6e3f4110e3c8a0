package catalog_test

import (
	"fmt"
	"strings"
	"testing"

	"pgveil/catalog"
	"pgveil/keyring"
)

// populate makes one of everything: policies ssn and email, columns t.ssn and t.email, a role with a verifier that may
// reveal both.
func (in *installation) populate() (role string) {
	in.t.Helper()
	in.policy("ssn", "ssn")
	in.policy("email", "email")
	in.exec(`CREATE TABLE t (ssn text, email text)`)
	in.protect("t", "ssn", "ssn")
	in.protect("t", "email", "email")
	role = in.role("LOGIN")
	must(in.t, in.AddRole(in.t.Context(), role, password("pw")))
	must(in.t, in.Grant(in.t.Context(), role, catalog.Reveal, "ssn"))
	must(in.t, in.Grant(in.t.Context(), role, catalog.Reveal, "email"))
	return role
}

// wantAlarm fails unless the snapshot and the log have an alarm about object.
func (in *installation) wantAlarm(s *catalog.Snapshot, object string) {
	in.t.Helper()
	for _, a := range s.Alarms() {
		if strings.HasPrefix(a.Object, object) {
			if !strings.Contains(in.log.String(), "catalog: alarm") || !strings.Contains(in.log.String(), object) {
				in.t.Errorf("the alarm about %s is not in the log", object)
			}
			return
		}
	}
	in.t.Errorf("no alarm about %s in %v", object, s.Alarms())
}

// TestTampering runs the tests of what was changed around pgveil.
func TestTampering(t *testing.T) {
	group(t,
		testGrantInsertedBySQLIsIgnoredAndLogged,
		testGrantChangedBySQLDoesNotHold,
		testRevokedGrantPutBackDoesNotHold,
		testSwappedKeyIsRefused,
		testRemovedOrAddedKeyVersions,
		testChangedPolicyDenies,
		testVerifierChangedBySQLIsIgnored,
		testClientKeyMovedBySQLIsIgnored,
		testColumnRemovedOrMovedBySQLStaysProtected,
		testForgedColumnIsUnanswerable,
		testChangedEpochOrAnotherRootKeyIsOneClearError,
		testCatalogThatWentBackIsRefused,
		testManifestTextIsNotTheSecret,
	)
}

func testGrantInsertedBySQLIsIgnoredAndLogged(t *testing.T) {
	in := install(t)
	in.populate()
	thief := in.role("")
	in.exec(`INSERT INTO pgveil.role_grant (role, action, policy_id, mac) SELECT $1, 'reveal', id, mac FROM pgveil.policy`, thief)
	s := in.snapshot()
	if s.May(thief, catalog.Reveal, "ssn") || s.May(thief, catalog.Reveal, "email") {
		t.Error("a grant inserted by SQL holds")
	}
	in.wantAlarm(s, "grant "+thief)
	must(t, in.Revoke(t.Context(), thief, catalog.Reveal, "ssn"))
	must(t, in.Revoke(t.Context(), thief, catalog.Reveal, "email"))
	if a := in.snapshot().Alarms(); len(a) != 0 {
		t.Errorf("alarms after removing the rows: %v", a)
	}
}

func testGrantChangedBySQLDoesNotHold(t *testing.T) {
	in := install(t)
	role := in.populate()
	other := in.role("")
	must(t, in.Grant(t.Context(), other, catalog.Mask, "ssn"))
	in.exec(`UPDATE pgveil.role_grant SET action = 'reveal' WHERE role = $1`, other)
	s := in.snapshot()
	if s.May(other, catalog.Reveal, "ssn") || s.May(other, catalog.Mask, "ssn") {
		t.Error("a changed grant holds")
	}
	if !s.May(role, catalog.Reveal, "ssn") {
		t.Error("another's grant is lost")
	}
	in.wantAlarm(s, "grant "+other)
}

func testRevokedGrantPutBackDoesNotHold(t *testing.T) {
	in := install(t)
	role := in.populate()
	in.exec(`CREATE TABLE kept AS SELECT * FROM pgveil.role_grant`)
	must(t, in.Revoke(t.Context(), role, catalog.Reveal, "ssn"))
	in.exec(`INSERT INTO pgveil.role_grant SELECT * FROM kept ON CONFLICT DO NOTHING`)
	s := in.snapshot()
	if s.May(role, catalog.Reveal, "ssn") {
		t.Error("a revoked grant holds again because its row was put back")
	}
	if !s.May(role, catalog.Reveal, "email") {
		t.Error("the other grant is lost")
	}
	in.wantAlarm(s, "grant "+role)
}

func testSwappedKeyIsRefused(t *testing.T) {
	in := install(t)
	in.populate()
	in.policy("spare", "text")
	in.exec(`UPDATE pgveil.key k SET wrapped = o.wrapped FROM pgveil.key o WHERE k.policy_id <> o.policy_id
		AND k.policy_id = (SELECT id FROM pgveil.policy WHERE name = 'ssn') AND o.policy_id = (SELECT id FROM pgveil.policy WHERE name = 'spare')`)
	s := in.snapshot()
	if s.Policy("ssn") != nil {
		t.Error("a policy with a swapped key is usable")
	}
	if s.Policy("email") == nil || s.Policy("spare") == nil {
		t.Error("the other policies are not usable")
	}
	in.wantAlarm(s, "key ssn 1")
	c := in.column("public", "t", "ssn")
	if c == nil || c.Policy == nil || c.Policy.Transform != nil {
		t.Errorf("the policy's column = %+v, want it protected and unanswerable", c)
	}
	// Nothing is signed on top of it.
	_, err := in.Rotate(t.Context(), "ssn")
	wantCode(t, err, catalog.CodeTampered, "changed around pgveil")
	wantCode(t, in.Protect(t.Context(), in.database, "public", "t", "ssn", "ssn"), catalog.CodeTampered, "cannot be used")
}

func testRemovedOrAddedKeyVersions(t *testing.T) {
	in := install(t)
	in.populate()
	_, err := in.Rotate(t.Context(), "ssn")
	must(t, err)
	in.exec(`INSERT INTO pgveil.key SELECT policy_id, 3, 'pre_active', wrapped, check_value, now(), mac FROM pgveil.key WHERE version = 2`)
	if s := in.snapshot(); s.Policy("ssn") == nil || s.Policy("ssn").Active != 2 {
		t.Error("a key version inserted by SQL does more than raise an alarm")
	}
	in.exec(`DELETE FROM pgveil.key WHERE version = 3`)
	in.exec(`DELETE FROM pgveil.key WHERE version = 2`)
	s := in.snapshot()
	if s.Policy("ssn") != nil {
		t.Error("a policy that lost a key version is usable")
	}
	in.wantAlarm(s, "key ")
}

func testChangedPolicyDenies(t *testing.T) {
	in := install(t)
	role := in.populate()
	for _, set := range []string{`name = 'renamed'`, `format = 'digits'`, `options = '{"keep_last":4}'`, `active = 7`, `column_version = 2`, `accept_small_domain = true`} {
		in.exec(`CREATE TABLE kept AS SELECT * FROM pgveil.policy WHERE name = 'ssn'`)
		in.exec(`UPDATE pgveil.policy SET ` + set + ` WHERE name = 'ssn'`)
		s := in.snapshot()
		if s.Policy("ssn") != nil || s.Policy("renamed") != nil || s.May(role, catalog.Reveal, "ssn") || s.May(role, catalog.Reveal, "renamed") {
			t.Errorf("after %s the policy is usable", set)
		}
		if !s.May(role, catalog.Reveal, "email") {
			t.Errorf("after %s another policy denies", set)
		}
		in.exec(`UPDATE pgveil.policy p SET name = k.name, format = k.format, options = k.options, active = k.active,
			column_version = k.column_version, accept_small_domain = k.accept_small_domain FROM kept k WHERE p.id = k.id`)
		in.exec(`DROP TABLE kept`)
	}
	if s := in.snapshot(); s.Policy("ssn") == nil || len(s.Alarms()) != 0 {
		t.Errorf("put right again, it still denies: %v", s.Alarms())
	}
}

func testVerifierChangedBySQLIsIgnored(t *testing.T) {
	in := install(t)
	role := in.populate()
	other := in.role("")
	must(t, in.AddRole(t.Context(), other, password("known")))
	in.exec(`UPDATE pgveil.role SET verifier = (SELECT verifier FROM pgveil.role WHERE name = $2), mac = (SELECT mac FROM pgveil.role WHERE name = $2) WHERE name = $1`, role, other)
	s := in.snapshot()
	if _, ok := s.Verifier(role); ok {
		t.Error("a verifier changed by SQL is in the snapshot")
	}
	in.wantAlarm(s, "role "+role)
	must(t, in.AddRole(t.Context(), role, password("pw")))
	if _, ok := in.snapshot().Verifier(role); !ok {
		t.Error("adding the role again does not mend it")
	}
}

func testClientKeyMovedBySQLIsIgnored(t *testing.T) {
	in := install(t)
	role, thief := in.populate(), "thief_"+in.database
	in.dropRole(thief)
	must(t, in.AddCertificateRole(t.Context(), thief, password("pw")))
	// A key of one's own beside somebody else's verifier, or with it.
	in.exec(`UPDATE pgveil.role SET client_key = (SELECT client_key FROM pgveil.role WHERE name = $1) WHERE name = $2`, thief, role)
	s := in.snapshot()
	_, login := s.Verifier(role)
	if _, ok, _ := s.ClientKey(role); ok || login {
		t.Error("a role whose row was changed can log in")
	}
	in.wantAlarm(s, "role "+role)
	in.exec(`UPDATE pgveil.role SET client_key = NULL WHERE name = $1`, thief)
	if _, ok := in.snapshot().Verifier(thief); ok {
		t.Error("a role whose key was taken away around pgveil can log in")
	}
}

func testColumnRemovedOrMovedBySQLStaysProtected(t *testing.T) {
	in := install(t)
	in.populate()
	for name, sql := range map[string]string{
		"removed":          `DELETE FROM pgveil.protected_column WHERE column_name = 'ssn'`,
		"moved":            `UPDATE pgveil.protected_column SET table_name = 'elsewhere', relid = 1, attnum = 1 WHERE column_name = 'ssn'`,
		"another policy":   `UPDATE pgveil.protected_column SET policy_id = (SELECT id FROM pgveil.policy WHERE name = 'email') WHERE column_name = 'ssn'`,
		"another database": `UPDATE pgveil.protected_column SET database_name = 'elsewhere' WHERE column_name = 'ssn'`,
	} {
		in.exec(sql)
		check := func(in *installation, node string) {
			c := in.column("public", "t", "ssn")
			if c == nil || c.RelID == 0 || c.Policy.Transform != nil {
				t.Errorf("%s, %s: column = %+v, want it protected and unanswerable", name, node, c)
			}
			if c := in.column("public", "t", "email"); c == nil || c.Policy.Transform == nil {
				t.Errorf("%s, %s: the other column = %+v", name, node, c)
			}
		}
		check(in, "a running node")
		in.wantAlarm(in.snapshot(), "column")
		fresh := *in
		fresh.Store = in.open(in.dsn)
		check(&fresh, "a new node")
		must(t, in.Release(t.Context(), in.database, "public", "t", "ssn", false))
		if in.column("public", "t", "ssn") != nil {
			t.Errorf("%s: released, it is still protected", name)
		}
		in.protect("t", "ssn", "ssn")
		if c := in.column("public", "t", "ssn"); c == nil || c.Policy.Transform == nil || len(in.snapshot().Alarms()) != 0 {
			t.Errorf("%s: protected again: column = %+v, alarms %v", name, c, in.snapshot().Alarms())
		}
	}
}

func testForgedColumnIsUnanswerable(t *testing.T) {
	in := install(t)
	in.populate()
	in.exec(`CREATE TABLE u (a text)`)
	in.exec(`INSERT INTO pgveil.protected_column (id, database_name, schema_name, table_name, column_name, relid, attnum, policy_id, mac)
		SELECT gen_random_uuid(), database_name, 'public', 'u', 'a', 'u'::regclass, 1, policy_id, mac FROM pgveil.protected_column LIMIT 1`)
	if c := in.column("public", "u", "a"); c == nil || c.Policy.Transform != nil {
		t.Errorf("column = %+v, want it protected and unanswerable", c)
	}
}

func testChangedEpochOrAnotherRootKeyIsOneClearError(t *testing.T) {
	in := install(t)
	in.populate()
	for _, set := range []string{`value = value + 1`, `manifest = '{}'`, `mac = ''`} {
		in.exec(`CREATE TABLE kept AS SELECT * FROM pgveil.epoch`)
		in.exec(`UPDATE pgveil.epoch SET ` + set)
		wantCode(t, in.Refresh(t.Context()), catalog.CodeTampered, "does not authenticate")
		wantCode(t, in.Grant(t.Context(), "x", catalog.Reveal, "ssn"), catalog.CodeTampered, "does not authenticate")
		in.exec(`UPDATE pgveil.epoch e SET value = k.value, manifest = k.manifest, mac = k.mac FROM kept k; DROP TABLE kept`)
	}
	must(t, in.Refresh(t.Context()))
	_, other, err := keyring.Init(t.Context(), newKEK(t))
	must(t, err)
	_, err = catalog.Open(t.Context(), catalog.Config{DSN: in.dsn, Sealer: other})
	wantCode(t, err, catalog.CodeTampered, "does not authenticate")
}

func testCatalogThatWentBackIsRefused(t *testing.T) {
	in := install(t)
	role := in.populate()
	in.exec(`CREATE TABLE kept AS SELECT * FROM pgveil.epoch; CREATE TABLE grants AS SELECT * FROM pgveil.role_grant`)
	must(t, in.Revoke(t.Context(), role, catalog.Reveal, "ssn"))
	in.exec(`DELETE FROM pgveil.epoch; INSERT INTO pgveil.epoch SELECT * FROM kept; DELETE FROM pgveil.role_grant; INSERT INTO pgveil.role_grant SELECT * FROM grants`)
	wantCode(t, in.Refresh(t.Context()), catalog.CodeTampered, "went back")
	if s, err := in.Current(); err != nil || s.May(role, catalog.Reveal, "ssn") {
		t.Errorf("the snapshot follows the catalog back (%v)", err)
	}
}

func testManifestTextIsNotTheSecret(t *testing.T) {
	in := install(t)
	in.populate()
	var manifest string
	must(t, in.super.QueryRow(t.Context(), `SELECT convert_from(manifest, 'UTF8') FROM pgveil.epoch`).Scan(&manifest))
	if strings.Contains(manifest, "SCRAM") || !strings.Contains(manifest, fmt.Sprintf("%q", in.database)) {
		t.Error("the manifest holds a verifier, or no column")
	}
}
