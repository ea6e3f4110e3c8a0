package replication_test

import (
	"bytes"
	"testing"

	"pgveil/replication"
)

func TestPatternMatches(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pattern, schema, table string
		want                   bool
	}{
		{"public.people", "public", "people", true},
		{"people", "public", "people", true},
		{"people", "other", "people", false},
		{"public.*", "public", "anything", true},
		{"*.people", "other", "people", true},
		{"pub*.p?ople", "public", "people", true},
		{"public.p*x*e", "public", "people", false},
		{"public.p*l*e", "public", "people", true},
		{"public.People", "public", "people", false},
		{`public."p*"`, "public", "people", false},
		{`public."p*"`, "public", "p*", true},
		{`"a.b"."c""d"`, "a.b", `c"d`, true},
		{"public.Sél?ct", "public", "Sélèct", true},
		{"public.a[b]", "public", "a[b]", true},
		{`public.a\*`, "public", `a\x`, true},
	} {
		p, err := replication.ParsePattern(c.pattern)
		if err != nil {
			t.Errorf("ParsePattern(%q): %v", c.pattern, err)
			continue
		}
		if got := p.Match(c.schema, c.table); got != c.want {
			t.Errorf("%q matches %q.%q = %v, want %v", c.pattern, c.schema, c.table, got, c.want)
		}
	}
}

func TestMalformedPatternsAndMarksAreRefused(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", ".", "a.", ".a", "a.b.c", `"a`, `"a"b`, `a"b"`, `""`} {
		if _, err := replication.ParsePattern(s); err == nil {
			t.Errorf("ParsePattern(%q) took it", s)
		}
	}
	for _, s := range []string{"", "a.b.c", "a.b.c=", "a.b=p", "a.b.c.d=p", "a..c=p", `"a.b.c=p`, "=p"} {
		if _, err := replication.ParseMark(s); err == nil {
			t.Errorf("ParseMark(%q) took it", s)
		}
	}
}

func TestMarkIsReadAsItIsWritten(t *testing.T) {
	t.Parallel()
	for _, m := range []replication.Mark{
		{"public", "people", "ssn", "ssn"}, {"a.b", `c"d`, "e=f", "p=q"}, {"A", "b c", "*", "x"},
	} {
		if got, err := replication.ParseMark(m.String()); err != nil || got != m {
			t.Errorf("ParseMark(%q) = %+v, %v", m.String(), got, err)
		}
	}
}

func TestUnknownEscapeIsAnError(t *testing.T) {
	t.Parallel()
	for _, s := range []string{`\`, `a\`, `\x41`, `\0`, `\N`} {
		if _, err := replication.AppendUnescaped(nil, []byte(s)); err == nil {
			t.Errorf("the field %q was read", s)
		}
	}
}

func FuzzCopyTextRoundTrip(f *testing.F) {
	f.Add([]byte("a\tb\nc\\d\re\bf\vg\fh"))
	f.Add([]byte(`\N`))
	f.Add([]byte(""))
	f.Fuzz(func(t *testing.T, text []byte) {
		field := replication.AppendEscaped(nil, text)
		if bytes.ContainsAny(field, "\t\n\r") || string(field) == `\N` {
			t.Fatalf("%q is written as %q", text, field)
		}
		back, err := replication.AppendUnescaped(nil, field)
		if err != nil || !bytes.Equal(back, text) {
			t.Fatalf("%q came back as %q, %v", text, back, err)
		}
	})
}
