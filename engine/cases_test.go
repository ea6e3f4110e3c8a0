package engine_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"unicode"

	"golang.org/x/text/unicode/norm"

	"pgveil/engine"
)

// policies are those of the cases whose name is not a format, or whose format needs options.
var policies = map[string]engine.Policy{
	"upper":        {Format: "alphanumeric", Options: engine.Options{Case: "upper"}},
	"lower":        {Format: "alphanumeric", Options: engine.Options{Case: "lower", KeepLast: 2}},
	"alphabet":     {Format: "alphabet", Options: engine.Options{Alphabet: "ACGT"}},
	"greek":        {Format: "alphabet", Options: engine.Options{Alphabet: "αβγδεζηθικλμνξοπρστυφχψω", KeepFirst: 1}},
	"signs":        {Format: "alphabet", Options: engine.Options{Alphabet: `'"\%_-×`, TokenAlphabet: "ABÄÖ÷", MinLength: 8}},
	"many":         {Format: "alphabet", Options: engine.Options{Alphabet: many}},
	"custom":       {Format: "custom", Options: engine.Options{Alphabet: "0123456789", KeepFirst: 2, KeepLast: 1, Separators: "- /"}},
	"short":        {Format: "custom", Options: engine.Options{Alphabet: "0123456789ABCDEF", Short: "aes-siv", Separators: "-", MaxLength: 12}},
	"digits-kept":  {Format: "digits", Options: engine.Options{KeepFirst: 3, KeepLast: 1, Separators: " "}},
	"integer-int4": {Format: "integer", Options: engine.Options{Type: "int4", Min: "-1000", Max: "999999"}},
	"integer-wide": {Format: "integer", Options: engine.Options{Type: "numeric", Min: "-9223372036854775808", Max: "9223372036854775807"}},
	"integer-neg":  {Format: "integer", Options: engine.Options{Min: "-2000000", Max: "-5"}},
	"date":         {Format: "date", AcceptSmallDomain: true},
	"date-wide":    {Format: "date", Options: engine.Options{Min: "0001-01-01", Max: "2738-11-28"}},
	"second":       {Format: "timestamp", Options: engine.Options{Min: "1970-01-01", Max: "2069-12-31", Precision: -1}},
	"card-6-4":     {Format: "pan", Options: engine.Options{KeepFirst: 6, MinLength: 13}, AcceptSmallDomain: true},
	"json": {Format: "json", Options: engine.Options{Paths: []engine.Path{
		{Path: "/patient/ssn", Format: "ssn"}, {Path: "/patient/name", Format: "text"}, {Path: "/n", Format: "integer"},
		{Path: "/cards/*/pan", Format: "pan"}, {Path: "/a~1b", Format: "digits", Options: engine.Options{KeepLast: 2}},
	}}},
	"one-way":     {Format: "digits", Options: engine.Options{Method: engine.OneWay}},
	"one-way-128": {Format: "digits", Options: engine.Options{Method: engine.OneWay, Bits: 128}},
	"exact":       {Format: "digits", Options: engine.Options{Exact: true}},
	"sealed-ssn":  {Format: "ssn", Options: engine.Options{Method: engine.AESSIV}},
}

// manySymbols returns an alphabet of n symbols, from all over Unicode but one block of Han characters.
func manySymbols(n int) string {
	var b strings.Builder
	for c := rune('!'); n > 0; c++ {
		if c == 0x20000 {
			c = 0x2A6E0
		}
		s := string(c)
		if c != unicode.ReplacementChar && unicode.IsGraphic(c) && norm.NFC.IsNormalString(s) && norm.NFC.PropertiesString(s).BoundaryBefore() {
			b.WriteString(s)
			n--
		}
	}
	return b.String()
}

var many = manySymbols(30_000)

// named returns the policy of a case.
func named(name string) engine.Policy {
	p, ok := policies[name]
	if !ok {
		p.Format = name
	}
	p.ID, p.Name = policyID, name
	return p
}

// cases are the names of roundTrips in order.
func cases() []string { return slices.Sorted(maps.Keys(roundTrips)) }

// distinct returns those of versions that can be kept together.
func distinct(p engine.Policy, versions ...int) (kept []int) {
	seen := map[int]bool{}
	for _, v := range versions {
		if n := p.MaxVersions(); !seen[v%n] {
			seen[v%n] = true
			kept = append(kept, v)
		}
	}
	return kept
}

func init() {
	maps.Copy(roundTrips, map[string]struct {
		shape  string
		values []string
	}{
		"alphanumeric": {`^[À-ÿ][0-9A-Za-zÀ-ÿ]{4}[0-9A-Za-z]+$`, []string{"AbC123", "000000", "zzzzzz", "aB3dE6gH9jK2mN5pQ8sT1vW4", strings.Repeat("z", 256)}},
		"upper":        {`^[a-z][0-9A-Za-z]{5}[0-9A-Z]*$`, []string{"AB1234", "000000", "ZZZZZZ", "1M8GDM9AXKP042788"}},
		"lower":        {`^[A-Z][0-9A-Za-z]{3,5}[0-9a-z]*$`, []string{"ab1234cd", "00000000", "abcdefghijkl"}},
		"alphabet":     {`^[A-Z]{1,2}[ACGTBDEFHIJ-Z]*[ACGT]+$|^[a-z].*$`, []string{"ACGTACGTAC", "AAAAAAAAAA", strings.Repeat("T", 200)}},
		"greek":        {`^[α-ω][A-Z][A-Zα-ω]+$`, []string{"αβγδεζη", "ωωωωωωω", "ααααααααααα"}},
		"signs":        {`^[ABÄÖ÷].*$`, []string{`'"\%_-×'`, `''''''''`, `××××××××××`, `\\\\\\\\`}},
		"many":         {`^.{2,}$`, []string{"\u4e00\u4e01", "az\u3400", "!!!!!", "Éé"}},
		"custom":       {`^..[A-Z][-A-Z0-9 /]*.$`, []string{"AB123456C", "AB12-34-56C", "é-1/2/3/4/5/6/7X", "--0000000", "999999999"}},
		"short":        {`^[a-z][0-9A-Fa-z-]*$`, []string{"123456", "AB-CD-EF-01", "FFFFFFFFFFFF", "00000"}},
		"digits-kept":  {`^[0-9]{3}[A-Z][0-9A-Z ]*[0-9]$`, []string{"1234567890", "123456 7890", "0000000000"}},
		"iban": {`^[A-Z]{2}[A-Z][XY][ 0-9A-Z]+$`, []string{"DE89370400440532013000", "DE89 3704 0044 0532 0130 00", "GB29NWBK60161331926819", "NO9386011117947",
			"MT84MALT011000012345MTLCAST001S", "FR1420041010050500013M02606", "SC18SSCB11010000000000001497USD", "NL91ABNA0417164300", "KW81CBKU0000000000001234560101"}},
		"uuid":         {`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-7c-f][0-9a-f]{3}-[0-9a-f]{12}$`, []string{"f81d4fae-7dec-11d0-a765-00a0c91e6bf6", "00000000-0000-4000-8000-000000000000", "ffffffff-ffff-8fff-bfff-ffffffffffff", "017f22e2-79b0-7cc3-98c4-dc0c0c07398f", "00000000-0000-1000-9000-000000000001"}},
		"integer":      {`^[1-9][0-9]{12,18}$`, []string{"0", "1", "999999999999", "42", "100000000000"}},
		"integer-int4": {`^[1-9][0-9]{6,9}$`, []string{"-1000", "-1", "0", "7", "999999"}},
		"integer-wide": {`^[1-9][0-9]{18,37}$`, []string{"-9223372036854775808", "9223372036854775807", "0", "-1"}},
		"integer-neg":  {`^[1-9][0-9]*$`, []string{"-2000000", "-5", "-1000000"}},
		"date":         {`^[3-9][0-9]{3}-[0-9]{2}-[0-9]{2}$`, []string{"1900-01-01", "2099-12-31", "2000-02-29", "1970-01-01"}},
		"date-wide":    {`^[3-9][0-9]{3}-[0-9]{2}-[0-9]{2}$`, []string{"0001-01-01", "2738-11-28", "2000-02-29"}},
		"timestamp": {`^[3-9][0-9]{3}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?(Z|[-+][0-9:]+)?$`, []string{"1900-01-01 00:00:00", "2099-12-31 23:59:59.999999",
			"2000-02-29T12:34:56Z", "2024-05-01 12:34:56.5+00", "2024-05-01 12:34:56+05:30", "2024-05-01 12:34:56.000001-03:30", "1900-01-01 00:00:00-00:53:28"}},
		"second":     {`^[3-9][0-9]{3}-[0-9]{2}-[0-9]{2}[ T][0-9:]{8}(Z|[-+][0-9:]+)?$`, []string{"1970-01-01 00:00:00", "2069-12-31 23:59:59", "2024-05-01T12:00:00+02"}},
		"card-6-4":   {`^[2-6]([ -]?[0-9]){5}([ -]?[A-Z]){3,6}([ -]?[0-9]){4}$`, []string{"4111111111111111", "4111-1111-1111-1111", "378282246310005", "4222222222222"}},
		"sealed-ssn": {`^t1_[a-z2-7]{28,}$`, []string{"123-45-6789", "123456789"}},
		"json": {`^ *\{.*\}\s*$`, []string{
			`{"patient":{"ssn":"123-45-6789","name":"Zoë \"東京\" \\"},"other":[1,2.50,null,{"ssn":"clear"}]}`,
			` { "n" : 42 , "patient" : { "ssn" : null, "x" : "\u0041" } }  `, `{"n":0,"cards":[{"pan":"4111111111111111"},{"pan":"378282246310005","x":1}]}`,
			`{"a/b":"12345678","n":"7","cards":[]}`, `{"patient":{"name":"a\nb"}}`,
		}},
		"bytes": {`^\\x70677665696c0001[0-9a-f]{34,}$`, []string{`\x00`, `\xff00ff`, `\x` + strings.Repeat("ab", 1000), `\x70677665696c`, `\x70677665696c0001`}},
	})
}

func TestCasesCoverEveryFormat(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, name := range cases() {
		seen[named(name).Format] = true
	}
	for _, f := range engine.Formats() {
		if !seen[f.Name] {
			t.Errorf("format %s has no round trip", f.Name)
		}
	}
}
