package engine_test

import (
	"errors"
	"strings"
	"testing"

	"pgveil/engine"
)

// TestBadInputOfEveryFormat gives values that are none, and where an error has to point.
func TestBadInputOfEveryFormat(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("1", 1<<20)
	type bad struct {
		value  string
		offset int // −1 the whole value, −2 any
	}
	for name, values := range map[string][]bad{
		"alphanumeric": {{"", -1}, {"abc12", -1}, {"abc-123", 3}, {"abc 123", 3}, {"abcdé1", 4}, {"abcde\u0301f", 5}, {"abc\x00123", 3}, {"abc\xff123", 3}, {"１２３４５６", 0}, {"+123456", 0}, {long, -1}, {strings.Repeat("a", 257), -2}},
		"upper":        {{"ab1234", 0}, {"AB12c4", 4}, {"ÀB1234", 0}, {"aB1234", 0}},
		"alphabet":     {{"", -1}, {"ACGTACGT", -1}, {"ACGTACGTAN", 9}, {"acgtacgtac", 0}, {"ACGTACGTA\u0301C", 9}, {"ACGT ACGTAC", 4}, {long, -1}},
		"greek":        {{"αβγδε", -1}, {"αβγδεζa", 12}, {"Αβγδεζη", 0}, {"ά", 0}, {"α\u0301βγδεζη", 2}},
		"custom":       {{"", -1}, {"AB12345C", -1}, {"AB-123456C", 2}, {"AB12345xC", 7}, {"A\n123456C", 1}, {"AB12\t3456C", 4}, {"\u0301B123456C", 0}, {long, -1}},
		"short":        {{"", -1}, {"-", -2}, {"12G", 2}, {"1234567890123", -2}, {"abcdef", 0}},
		"digits-kept":  {{"123 ", -2}, {" 1234567890", 0}, {"12345678901a", 11}, {"1234567890 ", 10}, {"123a4567890", 3}},
		"iban": {{"", -1}, {"DE88370400440532013000", 2}, {"de89370400440532013000", 0}, {"DE8937040044053201300", -1}, {"DE893704004405320130000", 22}, {"ZZ89370400440532013000", 0},
			{"DE8937040044053201300A", 21}, {"DE89-3704-0044", 4}, {"DE89 37040044053201300 0", -2}, {"GB29NWBK6016133192681é", 21}, {"D\x009370400440532013000", 1}, {"DE", -1}, {long, -2}},
		"uuid": {{"", -1}, {"f81d4fae-7dec-11d0-a765-00a0c91e6bf", -1}, {"f81d4fae-7dec-11d0-a765-00a0c91e6bf66", -1}, {"F81d4fae-7dec-11d0-a765-00a0c91e6bf6", 0}, {"f81d4fae07dec-11d0-a765-00a0c91e6bf6", 8},
			{"00000000-0000-0000-0000-000000000000", 19}, {"ffffffff-ffff-ffff-ffff-ffffffffffff", 19}, {"f81d4fae-7dec-01d0-a765-00a0c91e6bf6", 14}, {"{81d4fae-7dec-11d0-a765-00a0c91e6bf6", 0}, {long, -2}},
		"integer":      {{"", -1}, {"-1", 0}, {"+1", 0}, {"01", 0}, {"1.0", 1}, {"1e3", 1}, {" 1", 0}, {"1000000000000", -1}, {"１", 0}, {"1\x00", 1}, {long, -1}, {"--1", 0}},
		"integer-int4": {{"-1001", -1}, {"1000000", -1}, {"-0", 0}, {"-", -1}, {"-01", 1}, {"2147483648", -1}},
		"date":         {{"", -1}, {"1899-12-31", -1}, {"2100-01-01", -1}, {"2001-02-29", 8}, {"2000-13-01", 5}, {"2000-00-10", 5}, {"2000-01-00", 8}, {"0000-01-01", 0}, {"2000-1-1", -2}, {"20000101", -2}, {"2000-01-01 ", 10}, {"+2000-01-01", 0}, {"２000-01-01", 0}, {"infinity", 0}, {"2000-01-01 BC", 10}, {"1900-02-29", 8}, {"10000-01-01", 4}, {long, -2}},
		"timestamp": {{"", -1}, {"2000-01-01", -1}, {"1899-12-31 23:59:59.999999", -1}, {"2100-01-01 00:00:00", -1}, {"2000-01-01 24:00:00", 11}, {"2000-01-01 00:60:00", 14}, {"2000-01-01 00:00:60", 17},
			{"2000-01-01 00:00:00.", 19}, {"2000-01-01 00:00:00.10", 21}, {"2000-01-01 00:00:00.1234567", 26}, {"2000-01-01 00:00:00+", 19}, {"2000-01-01 00:00:00+1", 19}, {"2000-01-01 00:00:00+17", 19}, {"2000-01-01 00:00:00-16", 19}, {"2023-02-29 00:00:00", 8}, {"-infinity", 0}, {"0044-03-15 00:00:00 BC", 19},
			{"2000-01-01 00:00:00+01:", 19}, {"2000-01-01 00:00:00 UTC", 19}, {"2000-01-01t00:00:00", 10}, {"2000-01-01 00:00:00+01:60", 19}, {"2000-01-01 00:00:00z", 19}, {long, -2}},
		"second":   {{"2000-01-01 00:00:00.5", 20}, {"1969-12-31 23:59:59", -1}},
		"card-6-4": {{"", -1}, {"4111111111111112", -1}, {"1111111111111117", 0}, {"411111111111111a", 15}, {"41111111111", -1}, {"4111  1111 1111 1111", 5}, {"-4111111111111111", 0}, {"411111ABCDEF1111", 6}, {long, -1}},
		"bytes":    {{"", -1}, {`\x`, -1}, {`\x0`, 2}, {`\xAB`, 2}, {`\x0g`, 3}, {"abc", 0}, {`\x00 0`, -2}, {`\x70677665696c0001` + strings.Repeat("00", 17), -2}},
		"json": {{"", -1}, {"{", 1}, {`{"n":}`, -2}, {`{"n":1,"n":2}`, 7}, {`{"x":{"a":1,"a":2}}`, 12}, {`{"patient":{"ssn":"12"}}`, -2}, {`{"patient":{"ssn":123456789}}`, 18}, {`{"patient":{"ssn":["123456789"]}}`, 18}, {`{"patient":{"ssn":true}}`, 18},
			{`{"x":"\u0000"}`, 5}, {`{"\u0000":1}`, 1}, {`{"x":"\ud800"}`, 5}, {`{"\udc00":1}`, 1}, {`{"x":1e131072}`, 5}, {`{"x":[-1E-16384]}`, 6}, {`{"x":0e99999999999999999999}`, 5}, {`{"n":"5\u0000"}`, -2}, {`{"n":1.5}`, 6}, {`{"n":01}`, -2}, {`{"patient":{"name":"\ud800"}}`, 19}, {"{\"n\":1}\xff", 7}, {`{"cards":[{"pan":"4111111111111112"}]}`, -2}, {strings.Repeat("[", 300) + strings.Repeat("]", 300), -2}, {`{"patient":{"ssn":"123-45-678a"}}`, 29}},
	} {
		tr := compile(t, name)
		for _, b := range values {
			out, err := tr.AppendToken([]byte("kept"), []byte(b.value), 1)
			var fe *engine.FormatError
			if !errors.As(err, &fe) || string(out) != "kept" {
				t.Errorf("%s: %.60q: %.80q, %v, want a *FormatError", name, b.value, out, err)
				continue
			}
			if fe.Reason == "" || fe.Offset != b.offset && b.offset != -2 || fe.Offset > len(b.value) {
				t.Errorf("%s: %.60q: offset %d (%s), want %d", name, b.value, fe.Offset, fe.Reason, b.offset)
			}
			if len(b.value) > 5 && strings.Contains(err.Error(), b.value) {
				t.Errorf("%s: the error shows the value", name)
			}
			if tr.Check([]byte(b.value)) == nil {
				t.Errorf("%s: %.60q: Check says nothing", name, b.value)
			}
			if mask := tr.AppendMask(nil, []byte(b.value)); string(mask) != "********" && name != "bytes" {
				t.Errorf("%s: %.60q: mask %q", name, b.value, mask)
			}
		}
	}
}

func TestOptionsThatCannotBeAreRefused(t *testing.T) {
	t.Parallel()
	type o = engine.Options
	for name, c := range map[string]struct {
		format  string
		options o
		accept  bool
		reason  string // "" for accepted
	}{
		"one-way of 63 bits":             {"text", o{Method: engine.OneWay, Bits: 63}, false, "63 bits"},
		"one-way of 32 bits":             {"text", o{Method: engine.OneWay, Bits: 32}, false, "32 bits"},
		"bits without one-way":           {"text", o{Bits: 64}, false, "bits"},
		"unknown method":                 {"ssn", o{Method: "ff3"}, false, `no method "ff3"`},
		"ff1 of a text":                  {"text", o{Method: engine.FF1}, false, "no method"},
		"one-way exact":                  {"digits", o{Method: engine.OneWay, Exact: true}, false, "of method ff1"},
		"one-way that keeps":             {"ssn", o{Method: engine.OneWay, KeepLast: 4}, false, "keeps no characters"},
		"one-way of a small domain":      {"date", o{Method: engine.OneWay}, false, "only 73049 possibilities"},
		"the same, also accepted":        {"date", o{Method: engine.OneWay}, true, ""},
		"sealed integers of a thousand":  {"integer", o{Method: engine.AESSIV, Max: "999"}, false, "only 1000 possibilities"},
		"sealed integers of fifty":       {"integer", o{Method: engine.AESSIV, Max: "49"}, true, ""},
		"sealed ssn":                     {"ssn", o{Method: engine.AESSIV}, false, ""},
		"exact ssn":                      {"ssn", o{Exact: true}, false, "no option exact"},
		"ssn with an alphabet":           {"ssn", o{Alphabet: "abc"}, false, "no option alphabet"},
		"exact with marks":               {"alphanumeric", o{Exact: true, TokenAlphabet: "äöü"}, false, "no mark"},
		"exact and short sealed":         {"alphanumeric", o{Exact: true, Short: "aes-siv"}, false, "no mark"},
		"alphabet without one":           {"alphabet", o{}, false, "needs an alphabet"},
		"alphabet of one":                {"alphabet", o{Alphabet: "a"}, false, "has 1 symbols"},
		"alphabet of too many":           {"alphabet", o{Alphabet: manySymbols(1<<16 + 1)}, false, "has 65537 symbols"},
		"symbol twice":                   {"alphabet", o{Alphabet: "abca"}, false, "symbol 4 of alphabet is there twice"},
		"not NFC":                        {"alphabet", o{Alphabet: "abc\u212b"}, false, "normalization form C"},
		"combining":                      {"alphabet", o{Alphabet: "abc\u0301d"}, false, "symbol 4 of alphabet combines"},
		"Hangul vowel":                   {"alphabet", o{Alphabet: "\u1100\u1161"}, false, "combines"},
		"control character":              {"alphabet", o{Alphabet: "ab\x01"}, false, "symbol 3 of alphabet is a control"},
		"alphabet that is not UTF-8":     {"alphabet", o{Alphabet: "ab\xff"}, false, "not UTF-8"},
		"two symbols":                    {"alphabet", o{Alphabet: "01"}, false, ""},
		"short alphabet":                 {"alphabet", o{Alphabet: "01", MinLength: 10}, false, "only 1024 possibilities"},
		"the same, accepted":             {"alphabet", o{Alphabet: "01", MinLength: 10}, true, ""},
		"below what FF1 is for":          {"alphabet", o{Alphabet: "01", MinLength: 6}, true, "only 64 possibilities, and FF1 needs 100"},
		"token alphabet overlaps":        {"alphabet", o{Alphabet: "ABC0", TokenAlphabet: "CDE"}, false, "shares a character"},
		"token alphabet too small":       {"alphanumeric", o{TokenAlphabet: "~"}, false, "room for 0 key versions"},
		"no room":                        {"alphabet", o{Alphabet: manySymbols(1 << 16), TokenAlphabet: "\U00020000"}, false, "room for 0 key versions"},
		"case of both":                   {"alphanumeric", o{Case: "Upper"}, false, `no case "Upper"`},
		"separator in the alphabet":      {"custom", o{Alphabet: "0123456789-", Separators: "-"}, false, "also a symbol"},
		"keeps too much":                 {"custom", o{Alphabet: "0123456789", KeepFirst: 5, KeepLast: 5, MinLength: 11}, true, "leaves 1"},
		"keeps 40":                       {"custom", o{Alphabet: "0123456789", KeepFirst: 40}, false, "keeping 40"},
		"negative keep_first":            {"custom", o{Alphabet: "0123456789", KeepFirst: -1}, false, "cannot keep the first -1"},
		"short said wrong":               {"custom", o{Alphabet: "0123456789", Short: "pass"}, false, `"pass"`},
		"underscore and short":           {"custom", o{Alphabet: "0123456789_", Short: "aes-siv"}, false, "t1_"},
		"integer type":                   {"integer", o{Type: "int2"}, false, `no type "int2"`},
		"integer not a number":           {"integer", o{Min: "1e3"}, false, "min is not a whole number"},
		"integer with leading zero":      {"integer", o{Max: "0100000000"}, false, "max is not a whole number"},
		"all of int4":                    {"integer", o{Type: "int4", Min: "-2147483648", Max: "2147483647"}, false, "0 key versions"},
		"all of int4, exact":             {"integer", o{Type: "int4", Min: "-2147483648", Max: "2147483647", Exact: true}, false, ""},
		"beyond int4":                    {"integer", o{Type: "int4", Max: "2147483648"}, false, "not of type int4"},
		"min above max":                  {"integer", o{Min: "5", Max: "4"}, false, "min 5 is above max 4"},
		"integer of a thousand":          {"integer", o{Max: "999"}, false, "only 1000 possibilities"},
		"integer of fifty, accepted":     {"integer", o{Max: "49"}, true, "FF1 needs 100"},
		"date by default":                {"date", o{}, false, "only 73049 possibilities"},
		"date of a million days":         {"date", o{Min: "0001-01-01", Max: "2738-11-28"}, false, ""},
		"date of a million and one":      {"date", o{Min: "0001-01-01", Max: "2738-11-29"}, false, "1000001 days, above the window"},
		"date that is none":              {"date", o{Min: "2001-02-29"}, false, "not a day that exists"},
		"date into the tokens":           {"date", o{Max: "3000-01-01"}, true, "years of tokens"},
		"dates exchanged":                {"date", o{Min: "2001-02-02", Max: "2001-02-01"}, true, "after max"},
		"precision":                      {"timestamp", o{Precision: 7}, false, "7 digits"},
		"timestamp of a day in seconds":  {"timestamp", o{Precision: -1, Min: "2001-02-02", Max: "2001-02-02"}, false, "only 86400 possibilities"},
		"timestamp of all time":          {"timestamp", o{Min: "0001-01-01", Max: "2999-12-30"}, false, ""},
		"card 6+4":                       {"pan", o{KeepFirst: 6, MinLength: 16}, false, "only 100000 possibilities"},
		"card 6+4 accepted":              {"pan", o{KeepFirst: 6, MinLength: 16}, true, ""},
		"card that keeps nine first":     {"pan", o{KeepFirst: 9}, true, "shows more than the issuer"},
		"card that keeps all but one":    {"pan", o{KeepFirst: 8, KeepLast: 6}, true, "leaves 1"},
		"json without paths":             {"json", o{}, false, "0 paths"},
		"json of a negative index":       {"json", o{Paths: []engine.Path{{Path: "/a/-1", Format: "text"}}}, false, "not a JSON pointer"},
		"json of an index with a zero":   {"json", o{Paths: []engine.Path{{Path: "/a/01", Format: "text"}}}, false, "not a JSON pointer"},
		"json of an index with a sign":   {"json", o{Paths: []engine.Path{{Path: "/+1", Format: "text"}}}, false, "not a JSON pointer"},
		"json of an index":               {"json", o{Paths: []engine.Path{{Path: "/a/10", Format: "text"}, {Path: "/-", Format: "text"}, {Path: "/1a", Format: "text"}}}, false, ""},
		"json of a bad pointer":          {"json", o{Paths: []engine.Path{{Path: "a", Format: "text"}}}, false, "not a JSON pointer"},
		"json inside json":               {"json", o{Paths: []engine.Path{{Path: "/a", Format: "json"}}}, false, "inside a document"},
		"json path twice":                {"json", o{Paths: []engine.Path{{Path: "/a", Format: "text"}, {Path: "/a", Format: "ssn"}}}, false, "path 2 is there twice"},
		"json path inside another":       {"json", o{Paths: []engine.Path{{Path: "/a", Format: "text"}, {Path: "/a/b", Format: "ssn"}}}, false, "path 2"},
		"json star and name":             {"json", o{Paths: []engine.Path{{Path: "/a/*", Format: "text"}, {Path: "/a/b", Format: "ssn"}}}, false, "path 2"},
		"json with a small domain":       {"json", o{Paths: []engine.Path{{Path: "/a", Format: "date"}}}, false, "path 1: the shortest values have only"},
		"json with a method":             {"json", o{Method: engine.OneWay, Paths: []engine.Path{{Path: "/a", Format: "text"}}}, false, "no choice of method"},
		"digits that keep first and sep": {"digits", o{KeepFirst: 2, Separators: " -"}, false, ""},
		"null mask":                      {"ssn", o{Mask: "null"}, false, ""},
	} {
		p := engine.Policy{ID: policyID, Name: "p", Format: c.format, Options: c.options, AcceptSmallDomain: c.accept}
		err := p.Check()
		var pe *engine.PolicyError
		switch {
		case c.reason == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.reason == "":
			compilePolicy(t, p)
			if _, err := p.Describe(); err != nil {
				t.Errorf("%s: Describe: %v", name, err)
			}
		case !errors.As(err, &pe) || !strings.Contains(pe.Reason, c.reason) || pe.Policy != "p":
			t.Errorf("%s: %v, want a reason with %q", name, err, c.reason)
		}
	}
}

func TestDescribeCountsAndWarns(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]struct {
		values   string
		versions int
		calls    [2]float64
		warning  string
	}{
		"ssn":          {"1000000000", 17, [2]float64{1, 1}, "equal values"},
		"pan":          {"5000000", 9, [2]float64{1, 1.01}, "last 4"},
		"card-6-4":     {"100", 17, [2]float64{1, 1.03}, "PCI DSS"},
		"date":         {"73049", 2, [2]float64{1, 1}, "room for 2 key versions"},
		"timestamp":    {"6311433600000000", 34, [2]float64{1, 1.001}, "equal values"},
		"integer":      {"1000000000000", 999, [2]float64{1, 1.001}, "equal values"},
		"uuid":         {"42535295865117307932921825928971026432", 6, [2]float64{1, 1.001}, "equal values"},
		"iban":         {"100000000000", 26, [2]float64{1, 1.1}, "country stays"},
		"alphanumeric": {"56800235584", 16, [2]float64{1, 1}, "equal values"},
		"email":        {"", 999, [2]float64{0, 0}, "equal values"},
		"short":        {"1048576", 29, [2]float64{1, 1}, "longer than they are"},
		"json":         {"", 9, [2]float64{1, 1.1}, "paths with *"},
	} {
		d, err := named(name).Describe()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if d.Values != want.values || d.Versions != want.versions || d.Calls < want.calls[0] || d.Calls > want.calls[1] ||
			!strings.Contains(strings.Join(d.Warnings, "\n"), want.warning) || d.Guard == "" {
			t.Errorf("%s: %+v, want %+v", name, d, want)
		}
	}
	p := engine.Policy{ID: policyID, Name: "p", Format: "text", Options: engine.Options{Method: engine.OneWay, Bits: 64}}
	if w := strings.Join(p.Warnings(), "\n"); !strings.Contains(w, "of 6.1e+06 different values two have the same token with a chance of one in a million") {
		t.Errorf("the collision bound of 64 bits: %s", w)
	}
}

func TestMasksOfEveryFormat(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, mask, value, want string }{
		{"alphanumeric", "", "aB3dE6gH", "****E6gH"},
		{"alphanumeric", "", "aB3dE6", "***dE6"},
		{"alphanumeric", "first-letter", "aB3dE6", "a*****"},
		{"custom", "last4", "AB12-34-56C", "****-*4-56C"},
		{"custom", "last4", "AB1----------234567C", "***----------***567C"},
		{"short", "last4", "1", "*"},
		{"short", "last4", "12-3", "**-3"},
		{"short", "first-letter", "1", "*"},
		{"short", "first-letter", "12", "1*"},
		{"custom", "", "AB12-34-56C", "********"},
		{"greek", "last4", "αβγδεζηθ", "****εζηθ"},
		{"iban", "", "DE89 3704 0044 0532 0130 00", "DE** **** **** **** **30 00"},
		{"iban", "country", "DE89370400440532013000", "DE********************"},
		{"uuid", "last4", "f81d4fae-7dec-11d0-a765-00a0c91e6bf6", "********-****-****-****-********6bf6"},
		{"integer", "last4", "123456", "***456"},
		{"integer", "last4", "12345678", "****5678"},
		{"integer", "last4", "123", "**3"},
		{"integer", "last4", "7", "*"},
		{"integer-int4", "last4", "-12", "-*2"},
		{"digits-short", "last4", "1234", "**34"},
		{"integer", "zero", "123456", "0"},
		{"date", "year", "1984-07-23", "1984-01-01"},
		{"date", "month", "1984-07-23", "1984-07-01"},
		{"timestamp", "day", "1984-07-23 12:34:56.5+02", "1984-07-23 00:00:00+02"},
		{"timestamp", "year", "1984-07-23T12:34:56Z", "1984-01-01T00:00:00Z"},
		{"card-6-4", "", "4111-1111-1111-1111", "****-****-****-1111"},
		{"bytes", "empty", `\xff00`, `\x`},
		{"bytes", "", `\xff00`, "********"},
		{"json", "paths", `{"patient":{"ssn":"123-45-6789"},"n":5,"x":1}`, `{"patient":{"ssn":"***-**-6789"},"n":"********","x":1}`},
		{"json", "", `{"n":5}`, "********"},
		{"json-null", "paths", `{"n":5, "s":"x","m":[null,"y"]}`, `{"n":null, "s":null,"m":[null,"********"]}`},
		{"ssn", "null", "123-45-6789", ""},
	} {
		p := named(c.name)
		if c.name == "json-null" {
			null := engine.Options{Mask: "null"}
			p.Format = "json"
			p.Options.Paths = []engine.Path{{Path: "/n", Format: "integer", Options: null}, {Path: "/s", Format: "text", Options: null}, {Path: "/m/1", Format: "text"}}
		}
		if c.name == "digits-short" {
			p.Format, p.Options.MinLength, p.AcceptSmallDomain = "digits", 4, true
		}
		p.Options.Mask = c.mask
		tr := compilePolicy(t, p)
		if got := tr.AppendMask([]byte("x"), []byte(c.value)); string(got) != "x"+c.want || tr.MaskIsNull() != (c.mask == "null") {
			t.Errorf("%s: mask %q of %q = %q, want %q", c.name, c.mask, c.value, got, c.want)
		}
	}
}
