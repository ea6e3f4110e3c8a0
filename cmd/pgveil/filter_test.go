package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"pgveil/engine"
	"pgveil/internal/secret"
)

// testFilter tokenizes under a fixed key.
func testFilter(t testing.TB, format string) *filter {
	t.Helper()
	p := engine.Policy{ID: "0b0e1c9c-6f5a-4e0c-9a53-3f1de0a40001", Name: "test", Format: format}
	tr, err := engine.Compile(p, []engine.Key{{Version: 1, Secret: secret.New(bytes.Repeat([]byte{7}, 32))}})
	if err != nil {
		t.Fatal(err)
	}
	return &filter{transform: tr, version: 1, onError: onErrorStop}
}

// through runs the filter over in and returns what it wrote and reported.
func (f *filter) through(t testing.TB, in io.Reader) (out, reports string, rows int64, err error) {
	t.Helper()
	var w, r strings.Builder
	p := &pipe{filter: f, in: in, out: &w, report: func(line int64, reason string) { fmt.Fprintf(&r, "%d: %s\n", line, reason) }}
	err = p.run(t.Context())
	return w.String(), r.String(), p.rows, err
}

func (f *filter) inverted() *filter {
	g := *f
	g.inverse = true
	return &g
}

func TestLineEndsStayAsTheyAre(t *testing.T) {
	t.Parallel()
	f := testFilter(t, "ssn")
	for _, in := range []string{
		"", "123-45-6789", "123-45-6789\n", "123-45-6789\r\n", "123-45-6789\r\n123456789\n123-45-6789",
		strings.Repeat("123-45-6789\n", 1000), strings.Repeat("123-45-6789\r\n", 1000) + "123456789",
	} {
		tokens, _, rows, err := f.through(t, iotest.OneByteReader(strings.NewReader(in)))
		if err != nil {
			t.Fatal(err)
		}
		if want := int64(strings.Count(in, "6789")); rows != want {
			t.Errorf("%d rows, want %d", rows, want)
		}
		if strings.Count(tokens, "\n") != strings.Count(in, "\n") || strings.Contains(tokens, "6789\n") && tokens == in {
			t.Errorf("%d bytes in: the lines are not the same", len(in))
		}
		if back, _, _, err := f.inverted().through(t, strings.NewReader(tokens)); err != nil || back != in {
			t.Errorf("%d bytes in: no round trip (%v)", len(in), err)
		}
	}
}

func TestLongLinesPass(t *testing.T) {
	t.Parallel()
	f := testFilter(t, "text")
	in := strings.Repeat("a", 1<<20) + "\n" + strings.Repeat("b", 3<<20) + "\nc\n" + strings.Repeat("d", 1<<20)
	tokens, _, rows, err := f.through(t, strings.NewReader(in))
	if err != nil || rows != 4 {
		t.Fatal(rows, err)
	}
	if back, _, _, err := f.inverted().through(t, strings.NewReader(tokens)); err != nil || back != in {
		t.Errorf("no round trip (%v)", err)
	}
}

// TestOrderIsKept is over many blocks, whatever their sizes, and against one value at a time.
func TestOrderIsKept(t *testing.T) {
	t.Parallel()
	f := testFilter(t, "digits")
	r := rand.New(rand.NewPCG(1, 2))
	var in, want strings.Builder
	for i := range 200_000 {
		value := fmt.Sprintf("%0*d", 6+r.IntN(20), i)
		token, err := f.transform.AppendToken(nil, []byte(value), 1)
		if err != nil {
			t.Fatal(err)
		}
		in.WriteString(value + "\n")
		want.Write(append(token, '\n'))
	}
	got, _, rows, err := f.through(t, shortReader{strings.NewReader(in.String()), r})
	if err != nil || got != want.String() || rows != 200_000 {
		t.Errorf("%d rows, same %v, %v", rows, got == want.String(), err)
	}
}

// shortReader returns blocks of all sizes.
type shortReader struct {
	io.Reader
	r *rand.Rand
}

func (s shortReader) Read(b []byte) (int, error) {
	return s.Reader.Read(b[:min(len(b), 1+s.r.IntN(100_000))])
}

func TestBadLinesAreNamedByNumberAndReason(t *testing.T) {
	t.Parallel()
	const good, secret = "123-45-6789\n", "very secret\n"
	in := strings.Repeat(good, 100_000) + secret + strings.Repeat(good, 100_000) + "\n" + good
	for _, c := range []struct {
		onError        string
		lines, reports int
	}{{onErrorStop, 100_000, 0}, {onErrorSkip, 200_001, 2}, {onErrorNull, 200_003, 2}} {
		f := testFilter(t, "ssn")
		f.onError = c.onError
		out, reports, _, err := f.through(t, strings.NewReader(in))
		if got := strings.Count(out, "\n"); got != c.lines {
			t.Errorf("%s: %d lines, want %d", c.onError, got, c.lines)
		}
		if c.onError == onErrorStop {
			if err == nil || !strings.HasPrefix(err.Error(), "line 100001: ") {
				t.Errorf("stop: %v", err)
			}
			reports += fmt.Sprint(err)
		} else if err != nil || !strings.HasPrefix(reports, "100001: ") || !strings.Contains(reports, "\n200002: it is empty\n") {
			t.Errorf("%s: %v, %q", c.onError, err, reports)
		}
		if got := strings.Count(reports, "\n"); got != c.reports {
			t.Errorf("%s: %d reports, want %d", c.onError, got, c.reports)
		}
		if strings.Contains(out+reports, "secret") {
			t.Errorf("%s shows a value", c.onError)
		}
	}
}

func TestReadErrorsAreErrors(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	out, _, _, err := testFilter(t, "ssn").through(t, io.MultiReader(strings.NewReader("123-45-6789\n123-4"), iotest.ErrReader(broken)))
	if !errors.Is(err, broken) || strings.Count(out, "\n") != 1 || !strings.HasSuffix(out, "\n") {
		t.Errorf("%q, %v", out, err)
	}
}

// TestAValueWithALineEndIsNoLine: detokenized, it would become two.
func TestAValueWithALineEndIsNoLine(t *testing.T) {
	t.Parallel()
	f := testFilter(t, "text")
	for _, value := range []string{"two\nlines", "ends in CR\r"} {
		token, err := f.transform.AppendToken(nil, []byte(value), 1)
		if err != nil {
			t.Fatal(err)
		}
		if out, _, _, err := f.inverted().through(t, bytes.NewReader(append(token, '\n'))); err == nil || out != "" {
			t.Errorf("%q, %v", out, err)
		}
	}
}

func TestCSVKeepsEveryOtherByte(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"a,b\n1,x\n":                     "a,b\n1,<x>\n",
		"a,b\r\n1,x\r\n\r\n2,y":          "a,b\r\n1,<x>\r\n\r\n2,<y>",
		"\xef\xbb\xbfb,a\nx,1\n":         "\xef\xbb\xbfb,a\n<x>,1\n",
		"\"b\"\n\"x\"\nx\n":              "\"b\"\n\"<x>\"\n<x>\n",
		"a,b,c\n\"q\"\"\n,\",x,\"\n\"\n": "a,b,c\n\"q\"\"\n,\",<x>,\"\n\"\n",
		"b\n\"x\"\"\n\"\"\"\n":           "b\n\"<x\"\n\">\"\n",
		"a,b\n1,\n2,x\n":                 "a,b\n1,\n2,<x>\n",
		"b\n\"a,b\"\n":                   "b\n\"<a,b>\"\n",
		"a,b":                            "a,b",
		"":                               "",
	} {
		f := testFilter(t, "text")
		f.csv = &csvColumn{name: "b", header: true}
		got, _, _, err := f.through(t, iotest.OneByteReader(strings.NewReader(in)))
		if err != nil {
			t.Errorf("%q: %v", in, err)
			continue
		}
		g := f.inverted()
		g.csv = &csvColumn{name: "b", header: true}
		if back, _, _, err := g.through(t, strings.NewReader(got)); err != nil || back != in {
			t.Errorf("%q came back as %q (%v)", in, back, err)
		}
		// The shape around the tokens is what stands around <…>.
		if shape := tokenShape(got); shape != tokenShape(want) {
			t.Errorf("%q became %q, want %q", in, shape, tokenShape(want))
		}
	}
}

// tokenShape replaces tokens, and what stands between < and >, by one sign.
func tokenShape(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		switch {
		case strings.HasPrefix(s, "t1_"):
			s = strings.TrimLeft(s[3:], "abcdefghijklmnopqrstuvwxyz234567")
			b.WriteByte('#')
		case s[0] == '<':
			s = s[strings.IndexByte(s, '>')+1:]
			b.WriteByte('#')
		default:
			b.WriteByte(s[0])
			s = s[1:]
		}
	}
	return b.String()
}

func TestWhatIsNoCSVStops(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"a,b\n1\n":               "line 2: the row has 1 fields",
		"a,b\n1":                 "line 2: the row has 1 fields",
		"a,b\n1,x\r":             "line 2: a carriage return",
		"a,b\n1,2,3\n":           "line 2: the row has 3 fields",
		"a,b\n1,x\"y\n\"\n":      "line 2: a quote inside a field",
		"a,b\n1,\"x\"y\n":        "line 2: text behind the closing quote",
		"a,b\n\"1\n2\",x\n1,\"x": "line 4: a quoted field does not end",
		"b,b\n1,2\n":             "the first row has 2 columns",
		"a,c\n":                  "the first row has no column",
	} {
		f := testFilter(t, "text")
		f.csv, f.onError = &csvColumn{name: "b", header: true}, onErrorSkip
		if _, _, _, err := f.through(t, strings.NewReader(in)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v, want %q", in, err, want)
		}
	}
}

func FuzzCSVRoundTrip(f *testing.F) {
	f.Add("a,b\n1,x\n\"q\"\"\",\"y\r\n\"\r\n", uint8(1))
	f.Fuzz(func(t *testing.T, in string, column uint8) {
		tr := testFilter(t, "text")
		tr.csv = &csvColumn{index: int(column % 4)}
		tokens, _, _, err := tr.through(t, strings.NewReader(in))
		if err != nil {
			return
		}
		back := tr.inverted()
		back.csv = &csvColumn{index: int(column % 4)}
		if got, _, _, err := back.through(t, iotest.OneByteReader(strings.NewReader(tokens))); err != nil || got != in {
			t.Fatalf("%q came back as %q (%v)", in, got, err)
		}
	})
}

// TestLongRowInSmallPieces: what was read before is not looked through again with every piece, which would take minutes here.
func TestLongRowInSmallPieces(t *testing.T) {
	t.Parallel()
	f := testFilter(t, "text")
	f.csv = &csvColumn{index: 1}
	in := "1,\"" + strings.Repeat("a \"\"quoted\"\" line\n", 1<<19) + "\"\n2,b\n"
	start := time.Now()
	tokens, _, rows, err := f.through(t, pieces{strings.NewReader(in)})
	if err != nil || rows != 2 {
		t.Fatal(rows, err)
	}
	g := f.inverted()
	g.csv = &csvColumn{index: 1}
	if back, _, _, err := g.through(t, strings.NewReader(tokens)); err != nil || back != in {
		t.Errorf("%d bytes come back of %d: %v", len(back), len(in), err)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
}

// pieces reads 512 bytes at a time.
type pieces struct{ io.Reader }

func (r pieces) Read(p []byte) (int, error) { return r.Reader.Read(p[:min(len(p), 512)]) }
