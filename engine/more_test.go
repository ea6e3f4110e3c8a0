package engine_test

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgveil/engine"
)

// TestRandomRoundTrips runs 10,000 random values of every case, or a million with PGVEIL_LONG, through each of a few key
// versions.
func TestRandomRoundTrips(t *testing.T) {
	t.Parallel()
	n := 10_000
	if os.Getenv("PGVEIL_LONG") != "" {
		n = 1_000_000
	}
	for _, name := range cases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := fnv.New64a()
			h.Write([]byte(name))
			r := rand.New(rand.NewPCG(h.Sum64(), uint64(n)))
			versions := distinct(named(name), 1, 2, 7)
			tr := compile(t, name, versions...)
			var token, back []byte
			for range n {
				value := random(r, name)
				for _, v := range versions {
					var err error
					if token, err = tr.AppendToken(token[:0], value, v); err != nil {
						t.Fatalf("%q: %v", value, err)
					}
					if got, ok := tr.Version(token); got != v || !ok || tr.Is(value) {
						t.Fatalf("%q: Version of its token = %d, %v, want %d", value, got, ok, v)
					}
					if keepsLength(tr.Policy()) && len([]rune(string(token))) != len([]rune(string(value))) || len(token) > tr.MaxTokenLen(len(value)) {
						t.Fatalf("%q: its token has %d bytes", value, len(token))
					}
					if back, err = tr.AppendPlain(back[:0], token); err != nil || !bytes.Equal(back, value) {
						t.Fatalf("%q back to %q, %v", value, back, err)
					}
					if back, err = tr.AppendPlainAt(back[:0], token, v); err != nil || !bytes.Equal(back, value) {
						t.Fatalf("%q at its version back to %q, %v", value, back, err)
					}
				}
			}
		})
	}
}

func TestOneWayIsHMACAndDoesNotComeBack(t *testing.T) {
	t.Parallel()
	for bits, symbols := range map[int]int{0: 52, 64: 13, 128: 26, 256: 52} {
		p := engine.Policy{ID: policyID, Name: "p", Format: "ssn", Options: engine.Options{Method: engine.OneWay, Bits: bits}}
		tr := compilePolicy(t, p, 1, 2)
		one, err := tr.AppendToken(nil, []byte("123-45-6789"), 1)
		if err != nil || len(one) != 3+symbols || len(one) > tr.MaxTokenLen(11) {
			t.Fatalf("%d bits: %q, %v", bits, one, err)
		}
		if want := hmacToken(t, p, "123-45-6789"); string(one[3:]) != want {
			t.Errorf("%d bits: %s, want %s", bits, one[3:], want)
		}
		again, _ := tr.AppendToken(nil, []byte("123-45-6789"), 1)
		other, _ := tr.AppendToken(nil, []byte("123-45-6780"), 1)
		two, _ := tr.AppendToken(nil, []byte("123-45-6789"), 2)
		if !hmac.Equal(one, again) || bytes.Equal(one, other) || bytes.Equal(one[3:], two[3:]) {
			t.Errorf("%d bits: tokens are not of value and key alone", bits)
		}
		if v, ok := tr.Version(two); v != 2 || !ok {
			t.Errorf("%d bits: Version = %d, %v", bits, v, ok)
		}
		var te *engine.TokenError
		if _, err := tr.AppendPlain(nil, one); !errors.As(err, &te) || !strings.Contains(te.Reason, "one-way") {
			t.Errorf("%d bits: turned back: %v", bits, err)
		}
		var fe *engine.FormatError
		for _, v := range []string{"123-45-678", string(one), ""} {
			if _, err := tr.AppendToken(nil, []byte(v), 1); !errors.As(err, &fe) {
				t.Errorf("%d bits: %q: %v, want a *FormatError", bits, v, err)
			}
		}
		if got := tr.AppendMask(nil, []byte("123-45-6789")); string(got) != "***-**-6789" {
			t.Errorf("mask %q", got)
		}
		if tr.Policy().Method() != engine.OneWay || tr.Policy().MaxVersions() != 999 {
			t.Error("method or versions")
		}
	}
}

// hmacToken makes the token of version 1 from docs/engine.md.
func hmacToken(t *testing.T, p engine.Policy, value string) string {
	t.Helper()
	field := func(b []byte, s string) []byte { return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...) }
	digest := p.Digest()
	info := append(binary.BigEndian.AppendUint32(field(field(nil, "pgveil/1 one-way"), p.ID), 1), digest[:]...)
	key, err := hkdf.Key(sha256.New, dek(1).Secret.Expose(), nil, string(info), 32)
	if err != nil {
		t.Fatal(err)
	}
	h := hmac.New(sha256.New, key)
	h.Write([]byte(value))
	sum := h.Sum(nil)
	if p.Options.Bits != 0 {
		sum = sum[:p.Options.Bits/8]
	}
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum))
}

func TestExactTokensDoNotSayTheirVersion(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		policy engine.Policy
		value  string
	}{
		{engine.Policy{Format: "digits", Options: engine.Options{Exact: true}}, "0123456789"},
		{engine.Policy{Format: "alphanumeric", Options: engine.Options{Exact: true}}, "aB3456"},
		{engine.Policy{Format: "alphabet", Options: engine.Options{Exact: true, Alphabet: "ACGT"}}, "ACGTACGTACGT"},
		{engine.Policy{Format: "custom", Options: engine.Options{Exact: true, Alphabet: "0123456789", Separators: "-", KeepFirst: 1}}, "X12-34-567"},
		{engine.Policy{Format: "integer", Options: engine.Options{Exact: true, Type: "int4", Min: "-2147483648", Max: "2147483647"}}, "-17"},
	} {
		c.policy.ID, c.policy.Name = policyID, c.policy.Format
		tr := compilePolicy(t, c.policy, 1, 2)
		for _, v := range []int{1, 2} {
			token, err := tr.AppendToken(nil, []byte(c.value), v)
			if err != nil {
				t.Fatal(err)
			}
			if err := tr.Check(token); err != nil {
				t.Errorf("%s: %q is no value", c.policy.Format, token)
			}
			if _, ok := tr.Version(token); ok || tr.Is(token) || tr.Is([]byte(c.value)) {
				t.Errorf("%s: it says it can tell", c.policy.Format)
			}
			if back, err := tr.AppendPlainAt(nil, token, v); err != nil || string(back) != c.value {
				t.Errorf("%s: back to %q, %v", c.policy.Format, back, err)
			}
			var te *engine.TokenError
			if _, err := tr.AppendPlain(nil, token); !errors.As(err, &te) {
				t.Errorf("%s: read without a version under two keys: %v", c.policy.Format, err)
			}
			if back, err := compilePolicy(t, c.policy, v).AppendPlain(nil, token); err != nil || string(back) != c.value {
				t.Errorf("%s: under its key alone back to %q, %v", c.policy.Format, back, err)
			}
		}
		d, err := c.policy.Describe()
		if err != nil || d.Sure != engine.Unknown || d.Guard != "true" || !strings.Contains(strings.Join(d.Warnings, "\n"), "no guard") {
			t.Errorf("%s: %+v, %v", c.policy.Format, d, err)
		}
	}
}

func TestIBANTokenIsNeverValid(t *testing.T) {
	t.Parallel()
	var versions []int
	for v := range 26 {
		versions = append(versions, v+1)
	}
	tr, r := compile(t, "iban", versions...), rand.New(rand.NewPCG(13616, 1))
	for i := range 3000 {
		value := iban(r)
		token, err := tr.AppendToken(nil, value, 1+i%26)
		if err != nil {
			t.Fatalf("%q: %v", value, err)
		}
		if !bytes.Equal(token[:2], value[:2]) || token[2] >= '0' && token[2] <= '9' || token[3] >= '0' && token[3] <= '9' {
			t.Fatalf("%q: token %q", value, token)
		}
		if ibanRemainder(string(token)) == 1 {
			t.Fatalf("%q: the token's remainder is that of a valid number", value)
		}
		for j := 4; j < len(value); j++ { // a country's digits stay digits
			if string(value[:2]) == "DE" && (token[j] < '0' || token[j] > '9') {
				t.Fatalf("%q: token %q", value, token)
			}
		}
	}
}

func TestDateTokensAreABijectionOutsideTheRange(t *testing.T) {
	t.Parallel()
	tr, seen := compile(t, "date", 1, 2), map[string]bool{}
	var token []byte
	day := time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC)
	days := 0
	for ; day.Year() < 2100; day = day.AddDate(0, 0, 1) {
		value := day.AppendFormat(nil, time.DateOnly)
		var err error
		if token, err = tr.AppendToken(token[:0], value, 1+days%2); err != nil {
			t.Fatalf("%s: %v", value, err)
		}
		at, err := time.Parse(time.DateOnly, string(token))
		if err != nil || at.Year() < 3000 {
			t.Fatalf("%s: token %s", value, token)
		}
		if days%7 == 0 {
			if back, err := tr.AppendPlain(nil, token); err != nil || !bytes.Equal(back, value) {
				t.Fatalf("%s back to %s, %v", value, back, err)
			}
		}
		seen[string(token)] = true
		days++
	}
	if len(seen) != days || days != 73_049 {
		t.Errorf("%d tokens of %d days", len(seen), days)
	}
	var te *engine.TokenError
	refused := 0
	for i := range 200 {
		at := time.Date(3000, 1, 1+i*12_000, 0, 0, 0, 0, time.UTC)
		if _, err := tr.AppendPlain(nil, at.AppendFormat(nil, time.DateOnly)); errors.As(err, &te) {
			refused++
		}
	}
	if refused < 150 { // 93 of 100 days of the window stand for no day of the range
		t.Errorf("%d of 200 made-up tokens were refused", refused)
	}
}

// TestIntegersAreABijection goes through a small range under every version.
func TestIntegersAreABijection(t *testing.T) {
	t.Parallel()
	p := engine.Policy{ID: policyID, Name: "n", Format: "integer", Options: engine.Options{Type: "int4", Min: "-700", Max: "1300"}, AcceptSmallDomain: true}
	tr, seen := compilePolicy(t, p, 1, 2, 998), map[string]bool{}
	for n := -700; n <= 1300; n++ {
		for _, v := range []int{1, 2, 998} {
			token, err := tr.AppendToken(nil, strconv.AppendInt(nil, int64(n), 10), v)
			if err != nil {
				t.Fatal(err)
			}
			if x, err := strconv.ParseInt(string(token), 10, 32); err != nil || x <= 1300 {
				t.Fatalf("%d: token %s", n, token)
			}
			seen[string(token)] = true
		}
	}
	if len(seen) != 3*2001 {
		t.Errorf("%d different tokens of %d", len(seen), 3*2001)
	}
}

func TestPANThatKeepsSixAndFourIsABijection(t *testing.T) {
	t.Parallel()
	tr, seen := compile(t, "card-6-4"), map[string]bool{}
	count := 0
	for i := range 100_000 {
		value := fmt.Appendf(nil, "411111%05d01111", i)
		for !luhn(value) {
			value[11]++
		}
		token, err := tr.AppendToken(nil, value, 1)
		if err != nil || !bytes.HasPrefix(token, []byte("411111")) || !bytes.HasSuffix(token, []byte("1111")) {
			t.Fatalf("%s: %s, %v", value, token, err)
		}
		for _, c := range token[6:12] {
			if c < 'A' || c > 'Z' {
				t.Fatalf("%s: token %s", value, token)
			}
		}
		seen[string(token)] = true
		count++
	}
	if len(seen) != count {
		t.Errorf("%d tokens of %d cards", len(seen), count)
	}
}

func TestLargestAlphabet(t *testing.T) {
	t.Parallel()
	all := manySymbols(1 << 16)
	p := engine.Policy{ID: policyID, Name: "all", Format: "alphabet", Options: engine.Options{Alphabet: all}}
	tr, symbols := compilePolicy(t, p), []rune(all)
	for i := range 500 {
		value := string([]rune{symbols[i*131], symbols[65535-i], symbols[i]})
		token, err := tr.AppendToken(nil, []byte(value), 1)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := tr.AppendPlain(nil, token); err != nil || string(back) != value || len([]rune(string(token))) != 3 {
			t.Fatalf("%q: token %q, back to %q, %v", value, token, back, err)
		}
	}
	if w := strings.Join(p.Warnings(), "\n"); p.MaxVersions() != 1 || !strings.Contains(w, "room for 1 key version at once") {
		t.Errorf("%d versions, warnings %s", p.MaxVersions(), w)
	}
}

func TestTokensOfOtherVersionsAndPolicies(t *testing.T) {
	t.Parallel()
	for _, name := range cases() {
		versions := distinct(named(name), 1, 2)
		if len(versions) < 2 {
			continue
		}
		tr := compile(t, name, 1, 2)
		token, err := tr.AppendToken(nil, []byte(roundTrips[name].values[0]), 1)
		if err != nil {
			t.Fatal(err)
		}
		var te *engine.TokenError
		var pe *engine.PolicyError
		left := compile(t, name, 2) // version 1 was destroyed
		if _, err := left.AppendPlain(nil, token); !errors.As(err, &te) || !strings.Contains(te.Reason, "version") {
			t.Errorf("%s: a token of a destroyed version: %v", name, err)
		}
		if _, err := tr.AppendPlainAt(nil, token, 2); !errors.As(err, &te) {
			t.Errorf("%s: a token of version 1 as one of 2: %v", name, err)
		}
		if _, err := tr.AppendPlainAt(nil, token, 3); !errors.As(err, &pe) {
			t.Errorf("%s: a version without a key: %v", name, err)
		}
		if _, ok := left.Version(token); ok || !left.Is(token) {
			t.Errorf("%s: Version and Is of a token of a destroyed version", name)
		}
		other := named(name)
		other.ID = "00000000-0000-4000-8000-000000000001"
		if back, err := compilePolicy(t, other, 1, 2).AppendPlain(nil, token); err == nil && string(back) == roundTrips[name].values[0] {
			t.Errorf("%s: another policy reads its token", name)
		} else if tr.Policy().Method() != engine.FF1 && name != "json" && !errors.As(err, &te) {
			t.Errorf("%s: another policy's token authenticates", name)
		}
	}
}

// TestLastVersionIsReadLikeTheFirst: 999 versions have marks from 0 to 998 where the mark is a number in the token.
func TestLastVersionIsReadLikeTheFirst(t *testing.T) {
	t.Parallel()
	bins := engine.Policy{ID: policyID, Name: "bins", Format: "pan", Options: engine.Options{KeepFirst: 2, KeepLast: 2, MaxLength: 16}}
	for name, p := range map[string]engine.Policy{
		"integer": named("integer"), "alphabet": named("alphabet"), "card": bins, "text": named("text"), "bytes": named("bytes"), "one-way": named("one-way"),
		"json": named("json"), "short": named("short"), "exact": named("exact"),
	} {
		value := map[string]string{"card": "4111111111111111", "short": "12"}[name]
		if value == "" {
			value = roundTrips[p.Format].values[0]
		}
		tr := compilePolicy(t, p, 998, 999)
		for _, v := range []int{998, 999} {
			token, err := tr.AppendToken(nil, []byte(value), v)
			if err != nil {
				t.Fatal(err)
			}
			if got, ok := tr.Version(token); (got != v || !ok) && name != "exact" {
				t.Errorf("%s: Version = %d, %v, want %d", name, got, ok, v)
			}
			if p.Method() == engine.OneWay {
				continue
			}
			if back, err := tr.AppendPlainAt(nil, token, v); err != nil || string(back) != value {
				t.Errorf("%s: version %d back to %q, %v", name, v, back, err)
			}
		}
	}
}

// TestShortValueWithAMarkIsRefused: a value of kept characters alone may have a mark where tokens have theirs, and the
// guard looks at nothing else.
func TestShortValueWithAMarkIsRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		first, last int
		value       string
		offset      int // −1 where it is a value
	}{
		{0, 1, "A", 0}, {0, 1, "a", -1}, {0, 1, "9", -1}, {1, 2, "xAB", 1}, {1, 2, "AxB", -1}, {1, 2, "AB", 1}, {1, 2, "A1AB", -1}, {2, 1, "ABC", 2},
	} {
		p := engine.Policy{ID: policyID, Name: "p", Format: "custom",
			Options: engine.Options{Alphabet: "0123456789", KeepFirst: c.first, KeepLast: c.last, Short: "aes-siv"}}
		tr := compilePolicy(t, p)
		token, err := tr.AppendToken(nil, []byte(c.value), 1)
		var fe *engine.FormatError
		if errors.As(err, &fe) != (c.offset >= 0) || fe != nil && fe.Offset != c.offset || err == nil && !tr.Is(token) {
			t.Errorf("keeping %d and %d of %q: %v", c.first, c.last, c.value, err)
		}
	}
}

// TestKeptCharactersStayAsTheyAre: a kept character that Unicode would compose with what stands before it is refused.
func TestKeptCharactersStayAsTheyAre(t *testing.T) {
	t.Parallel()
	p := engine.Policy{ID: policyID, Name: "p", Format: "custom", Options: engine.Options{Alphabet: "가나다ᄀᄁᄂᄃ0123456789", KeepLast: 1}}
	tr := compilePolicy(t, p)
	for value, good := range map[string]bool{"ᄀᄁᄂᄃ012X": true, "ᄀᄁᄂᄃ012é": true, "ᄀᄁᄂᄃᄀᄁᄀ\u1161": false, "0123456e\u0301": false, "0123456\u212b": false, "0123456\u00ad": false} {
		if err := tr.Check([]byte(value)); (err == nil) != good {
			t.Errorf("%+q: %v", value, err)
		}
	}
}

// TestMegabyteOfEveryFormat: what is long is a value or refused like anything else, and no error shows it.
func TestMegabyteOfEveryFormat(t *testing.T) {
	t.Parallel()
	for _, name := range cases() {
		tr := compile(t, name)
		for _, piece := range []string{"1", "Aa", " ", "-", "é", "a\u0301", "１", "@", "t1_", `\x`, "[", "\x00", "\xff"} {
			value := []byte(strings.Repeat(piece, 1<<20/len(piece)))
			token, err := tr.AppendToken(nil, value, 1)
			var fe *engine.FormatError
			if err != nil {
				if !errors.As(err, &fe) || len(err.Error()) > 200 || fe.Offset > len(value) {
					t.Errorf("%s: %q many times: %.200v", name, piece, err)
				}
			} else if back, err := tr.AppendPlain(nil, token); err != nil || !bytes.Equal(back, value) {
				t.Errorf("%s: %q many times does not come back: %v", name, piece, err)
			}
			var te *engine.TokenError
			if _, err := tr.AppendPlain(nil, value); !errors.As(err, &te) || len(err.Error()) > 200 {
				t.Errorf("%s: %q many times as a token: %.200v", name, piece, err)
			}
		}
	}
	for name, value := range map[string]string{"text": strings.Repeat("é", 1<<19), "bytes": `\x` + strings.Repeat("ab", 1<<19), "json": `{"patient":{"name":"` + strings.Repeat("a", 1<<20) + `"}}`} {
		tr := compile(t, name)
		token, err := tr.AppendToken(nil, []byte(value), 1)
		if err != nil || len(token) > tr.MaxTokenLen(len(value)) {
			t.Fatalf("%s: %v", name, err)
		}
		if back, err := tr.AppendPlain(nil, token); err != nil || string(back) != value {
			t.Errorf("%s: a megabyte does not come back: %v", name, err)
		}
	}
}
