package engine_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"pgveil/engine"
	"pgveil/internal/secret"
)

func TestPolicyThatCannotBeIsRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		policy engine.Policy
		reason string // "" for accepted
	}{
		"defaults of ssn":                  {engine.Policy{Format: "ssn"}, ""},
		"defaults of pan":                  {engine.Policy{Format: "pan"}, ""},
		"defaults of digits":               {engine.Policy{Format: "digits"}, ""},
		"defaults of phone":                {engine.Policy{Format: "phone"}, ""},
		"defaults of email":                {engine.Policy{Format: "email"}, ""},
		"defaults of text":                 {engine.Policy{Format: "text"}, ""},
		"no format":                        {engine.Policy{}, "unknown format"},
		"unknown format":                   {engine.Policy{Format: "passport"}, "unknown format"},
		"upper case format":                {engine.Policy{Format: "SSN"}, "unknown format"},
		"ID that is no UUID":               {engine.Policy{Format: "ssn", ID: "1"}, "UUID"},
		"ID in upper case":                 {engine.Policy{Format: "ssn", ID: strings.ToUpper(policyID)}, "UUID"},
		"mask of another format":           {engine.Policy{Format: "ssn", Options: engine.Options{Mask: "domain"}}, "mask"},
		"ssn that keeps four":              {engine.Policy{Format: "ssn", Options: engine.Options{KeepLast: 4}}, "only 100000 possibilities"},
		"the same, accepted":               {engine.Policy{Format: "ssn", Options: engine.Options{KeepLast: 4}, AcceptSmallDomain: true}, ""},
		"ssn that keeps seven":             {engine.Policy{Format: "ssn", Options: engine.Options{KeepLast: 7}, AcceptSmallDomain: true}, "leaves 2"},
		"ssn that keeps three":             {engine.Policy{Format: "ssn", Options: engine.Options{KeepLast: 3}}, ""},
		"ssn of another length":            {engine.Policy{Format: "ssn", Options: engine.Options{MinLength: 8}}, "no choice of length"},
		"pan that keeps none":              {engine.Policy{Format: "pan", Options: engine.Options{KeepLast: -1}}, ""},
		"pan that keeps five":              {engine.Policy{Format: "pan", Options: engine.Options{KeepLast: 5}}, "only 500000 possibilities"},
		"pan of 13 that keeps five":        {engine.Policy{Format: "pan", Options: engine.Options{KeepLast: 5, MinLength: 13}}, ""},
		"pan that keeps nine":              {engine.Policy{Format: "pan", Options: engine.Options{KeepLast: 9}, AcceptSmallDomain: true}, "leaves 3"},
		"pan of 20":                        {engine.Policy{Format: "pan", Options: engine.Options{MaxLength: 20}}, "not possible"},
		"digits of four":                   {engine.Policy{Format: "digits", Options: engine.Options{MinLength: 4}}, "only 10000 possibilities"},
		"digits of four, accepted":         {engine.Policy{Format: "digits", Options: engine.Options{MinLength: 4}, AcceptSmallDomain: true}, ""},
		"digits of two, accepted":          {engine.Policy{Format: "digits", Options: engine.Options{MinLength: 2}, AcceptSmallDomain: true}, "not possible"},
		"digits of 39":                     {engine.Policy{Format: "digits", Options: engine.Options{MaxLength: 39}}, "not possible"},
		"digits shortest above longest":    {engine.Policy{Format: "digits", Options: engine.Options{MinLength: 9, MaxLength: 8}}, "not possible"},
		"digits that keep 4, six in front": {engine.Policy{Format: "digits", Options: engine.Options{KeepLast: 4}}, ""},
		"digits of 8 that keep 4":          {engine.Policy{Format: "digits", Options: engine.Options{KeepLast: 4, MinLength: 8}}, "only 10000 possibilities"},
		"negative keep":                    {engine.Policy{Format: "digits", Options: engine.Options{KeepLast: -2}}, "cannot keep"},
		"negative length":                  {engine.Policy{Format: "digits", Options: engine.Options{MinLength: -1}}, "not possible"},
		"email that keeps":                 {engine.Policy{Format: "email", Options: engine.Options{KeepLast: 1}}, "cannot keep"},
		"text of at most 100":              {engine.Policy{Format: "text", Options: engine.Options{MaxLength: 100}}, ""},
	} {
		c.policy.Name = "p"
		err := c.policy.Check()
		var pe *engine.PolicyError
		switch {
		case c.reason == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.reason != "" && (!errors.As(err, &pe) || !strings.Contains(pe.Reason, c.reason) || pe.Hint == "" || pe.Policy != "p"):
			t.Errorf("%s: %v, want a reason with %q and a hint", name, err, c.reason)
		}
		if c.reason != "" {
			if _, err := engine.Compile(c.policy, []engine.Key{dek(1)}); err == nil {
				t.Errorf("%s: compiles", name)
			}
			continue
		}
		c.policy.ID = policyID
		if _, err := engine.Compile(c.policy, []engine.Key{dek(1)}); err != nil {
			t.Errorf("%s: Compile: %v", name, err)
		}
	}
}

func TestKeysThatCannotBeAreRefused(t *testing.T) {
	t.Parallel()
	ssn := engine.Policy{ID: policyID, Name: "p", Format: "ssn"}
	pan, text := ssn, ssn
	pan.Format, text.Format = "pan", "text"
	noID := ssn
	noID.ID = ""
	for name, c := range map[string]struct {
		policy engine.Policy
		keys   []engine.Key
		reason string
	}{
		"none":                    {ssn, nil, "no key"},
		"no ID":                   {noID, []engine.Key{dek(1)}, "no ID"},
		"version 0":               {ssn, []engine.Key{dek(0)}, "outside 1"},
		"version 1000":            {text, []engine.Key{dek(1000)}, "outside 1"},
		"short DEK":               {ssn, []engine.Key{{Version: 1, Secret: secret.New(make([]byte, 16))}}, "not 32 bytes"},
		"empty DEK":               {ssn, []engine.Key{{Version: 1}}, "not 32 bytes"},
		"twice one version":       {text, []engine.Key{dek(1), dek(1)}, "same mark"},
		"ssn 1 and 18":            {ssn, []engine.Key{dek(1), dek(18)}, "same mark"},
		"pan 2 and 11":            {pan, []engine.Key{dek(2), dek(11)}, "same mark"},
		"ssn 1 and 10, 17 and 18": {ssn, []engine.Key{dek(1), dek(10), dek(17), dek(19)}, ""},
		"pan nine of them":        {pan, []engine.Key{dek(9), dek(8), dek(7), dek(6), dek(5), dek(4), dek(3), dek(2), dek(1)}, ""},
		"text 1 and 999":          {text, []engine.Key{dek(1), dek(999)}, ""},
	} {
		_, err := engine.Compile(c.policy, c.keys)
		var pe *engine.PolicyError
		if c.reason == "" && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if c.reason != "" && (!errors.As(err, &pe) || !strings.Contains(pe.Reason, c.reason)) {
			t.Errorf("%s: %v, want a reason with %q", name, err, c.reason)
		}
	}
}

func TestMaxVersions(t *testing.T) {
	t.Parallel()
	for format, want := range map[string]int{"ssn": 17, "digits": 17, "phone": 17, "pan": 9, "email": 999, "text": 999, "none": 0} {
		p := engine.Policy{ID: policyID, Format: format}
		if got := p.MaxVersions(); got != want {
			t.Errorf("%s: MaxVersions = %d, want %d", format, got, want)
			continue
		}
		if want == 0 {
			continue
		}
		keys := make([]engine.Key, want)
		for i := range keys {
			keys[i] = dek(i + 1)
		}
		if _, err := engine.Compile(p, keys); err != nil {
			t.Errorf("%s: as many versions as there are: %v", format, err)
		}
		if _, err := engine.Compile(p, append(keys, dek(want+1))); err == nil {
			t.Errorf("%s: one version more compiles", format)
		}
	}
}

func TestDigestIsOfTheLayoutAlone(t *testing.T) {
	t.Parallel()
	base := engine.Policy{ID: policyID, Name: "a", Format: "pan"}
	same := []engine.Policy{
		{Name: "b", Format: "pan"},
		{Format: "pan", Options: engine.Options{KeepLast: 4, MinLength: 12, MaxLength: 19}}, // the defaults, spelled out
		{Format: "pan", Options: engine.Options{Mask: "fixed"}},
		{Format: "pan", AcceptSmallDomain: true},
	}
	for i, p := range same {
		if p.Digest() != base.Digest() {
			t.Errorf("policy %d of the same layout has another digest", i)
		}
	}
	other := []engine.Policy{
		{Format: "ssn"}, {Format: "digits"}, {Format: "nothing"},
		{Format: "pan", Options: engine.Options{KeepLast: -1}},
		{Format: "pan", Options: engine.Options{MinLength: 13}},
		{Format: "pan", Options: engine.Options{MaxLength: 16}},
	}
	seen := map[[32]byte]int{base.Digest(): -1}
	for i, p := range other {
		if j, ok := seen[p.Digest()]; ok {
			t.Errorf("policies %d and %d of different layouts have one digest", i, j)
		}
		seen[p.Digest()] = i
	}
}

// TestKeysAreNotShared tokenizes one value under everything that must lead to another key.
func TestKeysAreNotShared(t *testing.T) {
	t.Parallel()
	value, seen := []byte("123456789012"), map[string]string{}
	for name, p := range map[string]engine.Policy{
		"base":          {ID: policyID, Format: "digits"},
		"another ID":    {ID: "00000000-0000-4000-8000-000000000000", Format: "digits"},
		"another floor": {ID: policyID, Format: "digits", Options: engine.Options{MinLength: 7}},
	} {
		for _, v := range []int{1, 18} { // one mark
			token, err := compilePolicy(t, p, v).AppendToken(nil, value, v)
			if err != nil {
				t.Fatal(err)
			}
			if other, ok := seen[string(token)]; ok {
				t.Errorf("%s and %s give one token", name, other)
			}
			seen[string(token)] = name
		}
	}
	renamed := engine.Policy{ID: policyID, Name: "another name", Format: "digits", Options: engine.Options{Mask: "fixed"}}
	token, err := compilePolicy(t, renamed).AppendToken(nil, value, 1)
	if err != nil || seen[string(token)] != "base" {
		t.Errorf("a new name or mask changes the token (%v)", err)
	}
}

func TestUnknownVersionIsRefused(t *testing.T) {
	t.Parallel()
	tr := compile(t, "ssn", 3)
	for _, v := range []int{0, -1, 1, 2, 4, 20} {
		var pe *engine.PolicyError
		if out, err := tr.AppendToken([]byte("x"), []byte("123456789"), v); !errors.As(err, &pe) || !bytes.Equal(out, []byte("x")) {
			t.Errorf("version %d: %v", v, err)
		}
	}
}

func TestFormatsAreComplete(t *testing.T) {
	t.Parallel()
	infos := engine.Formats()
	if len(infos) != 16 {
		t.Errorf("%d formats, want 16", len(infos))
	}
	for _, f := range infos {
		p := named(f.Name)
		p.Options.Mask = f.Mask
		if f.Name == "" || f.Description == "" || f.Shape == "" || f.Method != p.Method() || strings.Contains(f.Description, "\n") || !slices.Contains(f.Masks, f.Mask) {
			t.Errorf("%+v is not complete", f)
		}
		if err := p.Check(); err != nil {
			t.Errorf("%s: %v", f.Name, err)
		}
		if g := engine.Guard(p, `"a b"`); !strings.HasPrefix(g, "(") || !strings.Contains(g, `"a b"`) {
			t.Errorf("%s: guard %s", f.Name, g)
		}
	}
	if g := engine.Guard(engine.Policy{Format: "none"}, "c"); g != "false" {
		t.Errorf("guard of an unknown format is %s", g)
	}
}
