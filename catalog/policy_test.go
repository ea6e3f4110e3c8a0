package catalog_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"pgveil/catalog"
	"pgveil/engine"
)

// TestPolicies runs the tests of policies and keys.
func TestPolicies(t *testing.T) {
	group(t,
		testPolicyIsUsableOnEveryNodeAsSoonAsItIsCreated,
		testBadPoliciesAreRefused,
		testRotateMakesANewVersionAndColumnsStayAtTheirs,
		testRotateIsRefusedWhereTheFormatHasNoRoom,
		testDropPolicyIsRefusedWhileAColumnUsesIt,
	)
}

func testPolicyIsUsableOnEveryNodeAsSoonAsItIsCreated(t *testing.T) {
	in := install(t)
	in.policy("ssn", "ssn")
	p := in.snapshot().Policy("ssn")
	if p == nil || p.Active != 1 || p.ColumnVersion != 1 {
		t.Fatalf("policy = %+v", p)
	}
	token, err := p.Transform.AppendToken(nil, []byte("123-45-6789"), 1)
	must(t, err)
	other := fresh(t, in.open(in.dsn)).Policy("ssn")
	if plain, err := other.Transform.AppendPlain(nil, token); err != nil || string(plain) != "123-45-6789" {
		t.Errorf("another node does not turn the token back: %v", err)
	}
}

func testBadPoliciesAreRefused(t *testing.T) {
	in := install(t)
	in.policy("ssn", "ssn")
	before := in.snapshot().CatalogEpoch()
	wantCode(t, in.CreatePolicy(t.Context(), engine.Policy{Name: "ssn", Format: "ssn"}), catalog.CodeExists, `"ssn"`)
	for _, name := range []string{"", "SSN", "1a", "a b", "a'b", strings.Repeat("a", 64)} {
		wantCode(t, in.CreatePolicy(t.Context(), engine.Policy{Name: name, Format: "ssn"}), catalog.CodeInvalid, "cannot be the name")
	}
	wantCode(t, in.CheckPolicy(t.Context(), engine.Policy{Name: "ssn", Format: "ssn"}), catalog.CodeExists, `"ssn"`)
	wantCode(t, in.CheckPolicy(t.Context(), engine.Policy{Name: "SSN", Format: "ssn"}), catalog.CodeInvalid, "cannot be the name")
	must(t, in.CheckPolicy(t.Context(), engine.Policy{Name: "x", Format: "ssn"}))
	for _, f := range []func(context.Context, engine.Policy) error{in.CreatePolicy, in.CheckPolicy} {
		var refused *engine.PolicyError
		if err := f(t.Context(), engine.Policy{Name: "x", Format: "nonsense"}); !errors.As(err, &refused) {
			t.Errorf("an unknown format gives %v, want the engine's *PolicyError", err)
		}
	}
	if after := in.snapshot().CatalogEpoch(); after != before {
		t.Errorf("refused changes moved the epoch from %d to %d", before, after)
	}
}

func testRotateMakesANewVersionAndColumnsStayAtTheirs(t *testing.T) {
	in := install(t)
	in.policy("ssn", "ssn")
	old, err := in.snapshot().Policy("ssn").Transform.AppendToken(nil, []byte("123-45-6789"), 1)
	must(t, err)
	version, err := in.Rotate(t.Context(), "ssn")
	must(t, err)
	p := in.snapshot().Policy("ssn")
	if version != 2 || p.Active != 2 || p.ColumnVersion != 1 {
		t.Fatalf("Rotate = %d, active %d, columns at %d; want 2, 2, 1", version, p.Active, p.ColumnVersion)
	}
	now, err := p.Transform.AppendToken(nil, []byte("123-45-6789"), 2)
	must(t, err)
	if string(now) == string(old) {
		t.Error("two versions give one token")
	}
	for _, token := range [][]byte{old, now} {
		if plain, err := p.Transform.AppendPlain(nil, token); err != nil || string(plain) != "123-45-6789" {
			t.Errorf("a token is not turned back after the rotation: %v", err)
		}
	}
	keys, err := in.Keys(t.Context())
	must(t, err)
	if len(keys) != 2 || keys[0].State != "decrypt_only" || !keys[0].InColumns || keys[1].State != "active" || keys[1].InColumns ||
		keys[0].CheckValue == keys[1].CheckValue || len(keys[0].CheckValue) != 8 {
		t.Errorf("keys = %+v", keys)
	}
	_, err = in.Rotate(t.Context(), "nowhere")
	wantCode(t, err, catalog.CodeUnknown, "nowhere")
}

func testRotateIsRefusedWhereTheFormatHasNoRoom(t *testing.T) {
	in := install(t)
	in.policy("card", "pan")
	room := in.snapshot().Policy("card").MaxVersions()
	for range room - 1 {
		_, err := in.Rotate(t.Context(), "card")
		must(t, err)
	}
	_, err := in.Rotate(t.Context(), "card")
	var refused *engine.PolicyError
	if !errors.As(err, &refused) {
		t.Errorf("version %d gives %v, want the engine's *PolicyError", room+1, err)
	}
	if keys, _ := in.Keys(t.Context()); len(keys) != room {
		t.Errorf("%d versions, want %d", len(keys), room)
	}
}

func testDropPolicyIsRefusedWhileAColumnUsesIt(t *testing.T) {
	in := install(t)
	in.policy("ssn", "ssn")
	in.exec(`CREATE TABLE t (ssn text)`)
	in.protect("t", "ssn", "ssn")
	wantCode(t, in.DropPolicy(t.Context(), "ssn"), catalog.CodeInUse, "protects 1 column")
	must(t, in.Release(t.Context(), in.database, "public", "t", "ssn", false))
	role := in.role("")
	must(t, in.Grant(t.Context(), role, catalog.Reveal, "ssn"))
	must(t, in.DropPolicy(t.Context(), "ssn"))
	wantCode(t, in.DropPolicy(t.Context(), "ssn"), catalog.CodeUnknown, `unknown policy "ssn"`)
	s := in.snapshot()
	if len(s.Alarms()) != 0 || s.Policy("ssn") != nil || s.May(role, catalog.Reveal, "ssn") {
		t.Errorf("after the drop: alarms %v", s.Alarms())
	}
	// The same name is another policy with other keys and no grants.
	in.policy("ssn", "ssn")
	if in.snapshot().May(role, catalog.Reveal, "ssn") {
		t.Error("a grant survives the policy it was made on")
	}
}
