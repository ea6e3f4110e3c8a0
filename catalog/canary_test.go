package catalog_test

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"pgveil/catalog"
	"pgveil/engine"
	"pgveil/internal/pgtest"
)

// TestNoErrorOrLogShowsASecret makes everything fail that holds a secret, and searches what was said: in our errors, our
// log and the server's.
func TestNoErrorOrLogShowsASecret(t *testing.T) {
	t.Parallel()
	in := install(t)
	in.exec(`ALTER DATABASE ` + in.database + ` SET log_statement = 'ddl'`)
	service := in.role("LOGIN CREATEROLE PASSWORD 'canary-service-pw'")
	in.exec(`GRANT USAGE ON SCHEMA pgveil TO ` + service)
	in.exec(`GRANT ALL ON ALL TABLES IN SCHEMA pgveil TO ` + service)
	super := in.role("SUPERUSER")
	s := in.open(as(t, in.dsn, service, "canary-service-pw"))
	ctx := t.Context()

	var said strings.Builder
	say := func(err error) {
		if err == nil {
			t.Error("an action that should fail did not")
		}
		fmt.Fprintf(&said, "%v\n%+v\n%#v\n", err, err, err)
	}
	role := "canary_" + super
	in.dropRole(role)
	must(t, s.AddRole(ctx, role, password("canary-password")))
	verifier, _ := fresh(t, s).Verifier(role)
	say(s.AddRole(ctx, super, password("canary-password")))
	say(s.ImportRole(ctx, "nobody-"+super, verifier))
	say(s.ImportRole(ctx, role, verifier+"canary-password"))
	say(s.CreateReplica(ctx, catalog.Replica{Name: "NOT A NAME", SourceDSN: password("postgres://u:canary-dsn-pw@h/d")}))
	replica := catalog.Replica{Name: "canary", SourceDSN: password("postgres://u:canary-dsn-pw@h/d"), Database: "d", Schema: "s", Tables: []string{"t"}}
	must(t, s.CreateReplica(ctx, replica))
	say(s.CreateReplica(ctx, replica))
	must(t, s.CreatePolicy(ctx, engine.Policy{Name: "ssn", Format: "ssn"}))
	in.exec(`CREATE TABLE t (a text); INSERT INTO t VALUES ('987-65-4321')`)
	say(s.Protect(ctx, in.database, "public", "t", "a", "ssn"))
	say(in.Protect(ctx, in.database, "public", "t", "a", "ssn"))
	for _, dsn := range []string{
		as(t, in.dsn, service, "canary-wrong-pw"),
		"postgres://u:canary-wrong-pw@127.0.0.1:1/x",
		"postgres://u:canary-wrong-pw@127.0.0.1:notaport/x",
		"host=h password='canary-wrong-pw",
	} {
		_, err := catalog.Open(ctx, catalog.Config{DSN: dsn, Sealer: in.ring})
		say(err)
		_, err = catalog.RootKey(ctx, dsn)
		say(err)
	}
	in.exec(`UPDATE pgveil.role SET verifier = 'SCRAM-SHA-256$canary-verifier'`)
	in.exec(`UPDATE pgveil.key SET wrapped = 'canary-wrapped'`)
	fmt.Fprintf(&said, "%+v %#v", fresh(t, s).Alarms(), replica)
	said.WriteString(in.log.String())

	if log := pgtest.Server(t).Log(); log != "" {
		text, err := os.ReadFile(log)
		must(t, err)
		if !strings.Contains(string(text), "DO $pgveil$") {
			t.Error("the server's log does not show the statement that failed: the search below is in vain")
		}
		if regexp.MustCompile(`SCRAM-SHA-256\$\d`).Match(text) || strings.Contains(string(text), "canary-password") {
			t.Error("the server's log shows a verifier or a password")
		}
	}
	key := verifier[strings.LastIndex(verifier, ":")+1:]
	raw, err := base64.StdEncoding.DecodeString(key)
	must(t, err)
	for what, canary := range map[string]string{
		"a verifier": verifier, "a part of a verifier": key, "a part of a verifier in hex": hex.EncodeToString(raw),
		"a password": "canary-password", "a DSN's password": "canary-dsn-pw", "the service role's password": "canary-service-pw",
		"a wrong password": "canary-wrong-pw", "a stored verifier": "canary-verifier", "a wrapped key": "canary-wrapped", "a clear value": "987-65-4321",
	} {
		if strings.Contains(said.String(), canary) {
			t.Errorf("an error or the log shows %s", what)
		}
	}
}
