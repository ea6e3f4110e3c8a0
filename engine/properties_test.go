package engine_test

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"

	oracle "github.com/capitalone/fpe/ff1"

	"pgveil/engine"
)

// luhn is the check as ISO/IEC 7812-1 annex B words it, apart from the code under test.
func luhn(number []byte) bool {
	sum, double := 0, false
	for i := len(number) - 1; i >= 0; i-- {
		if number[i] < '0' || number[i] > '9' {
			continue
		}
		d := int(number[i] - '0')
		if double {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum, double = sum+d, !double
	}
	return sum%10 == 0
}

// card returns a random card number of n digits.
func card(r *rand.Rand, n int) []byte {
	c := make([]byte, n)
	c[0] = byte('2' + r.IntN(5))
	for i := 1; i < n; i++ {
		c[i] = byte('0' + r.IntN(10))
	}
	for !luhn(c) {
		c[n-1] = '0' + (c[n-1]-'0'+1)%10
	}
	return c
}

func TestPANTokenIsNeverACardNumber(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(7812, 1))
	for _, keep := range []int{-1, 1, 4} {
		p := engine.Policy{ID: policyID, Name: "card", Format: "pan", Options: engine.Options{KeepLast: keep}}
		tr := compilePolicy(t, p, 1, 2, 3, 4, 5, 6, 7, 8, 18)
		versions := []int{1, 2, 3, 4, 5, 6, 7, 8, 18}
		for i := range 4000 {
			value, version := card(r, 12+i%8), versions[r.IntN(9)]
			token, err := tr.AppendToken(nil, value, version)
			if err != nil {
				t.Fatal(err)
			}
			if luhn(token) || token[0] >= '2' && token[0] <= '6' || len(token) != len(value) {
				t.Fatalf("keep %d: a token of version %d could be a card number", keep, version)
			}
			if k := max(keep, 0); !bytes.Equal(token[len(token)-k:], value[len(value)-k:]) {
				t.Fatalf("keep %d: the last digits are not kept", keep)
			}
			if v, ok := tr.Version(token); v != version || !ok {
				t.Fatalf("keep %d: Version = %d, %v, want %d", keep, v, ok, version)
			}
			if back, err := tr.AppendPlain(nil, token); err != nil || !bytes.Equal(back, value) {
				t.Fatalf("keep %d: no round trip: %v", keep, err)
			}
		}
	}
}

// TestPANIsABijectionOnASmallDomain goes through all 5·10^4 cards of 12 digits with six of them kept.
func TestPANIsABijectionOnASmallDomain(t *testing.T) {
	t.Parallel()
	p := engine.Policy{ID: policyID, Name: "card", Format: "pan", Options: engine.Options{KeepLast: 6}, AcceptSmallDomain: true}
	tr := compilePolicy(t, p)
	seen, value := map[string]bool{}, []byte("000000123456")
	for i := range 500_000 {
		copy(value, fmt.Sprintf("%06d", 200_000+i))
		if !luhn(value) {
			continue
		}
		token, err := tr.AppendToken(nil, value, 1)
		if err != nil || luhn(token) || token[0] >= '2' && token[0] <= '6' {
			t.Fatalf("a token that could be a card number, or none: %v", err)
		}
		seen[string(token)] = true
	}
	if len(seen) != 50_000 {
		t.Errorf("%d different tokens of 50000 card numbers", len(seen))
	}
}

func TestSSNTokenIsNeverAnSSN(t *testing.T) {
	t.Parallel()
	tr := compile(t, "ssn", 1, 2, 17)
	r := rand.New(rand.NewPCG(9, 9))
	for i := range 10_000 {
		n := r.IntN(1_000_000_000)
		value := fmt.Appendf(nil, "%03d-%02d-%04d", n/1_000_000, n/10_000%100, n%10_000)
		if i%2 == 0 {
			value = fmt.Appendf(nil, "%09d", n)
		}
		token, err := tr.AppendToken(nil, value, []int{1, 2, 17}[i%3])
		if err != nil {
			t.Fatal(err)
		}
		for j, c := range token[:3] {
			if c < 'A' || c > 'Z' {
				t.Fatalf("symbol %d of the area part is no letter", j)
			}
		}
		if back, err := tr.AppendPlain(nil, token); err != nil || !bytes.Equal(back, value) {
			t.Fatalf("no round trip: %v", err)
		}
	}
}

// TestSSNIsABijectionOnASmallDomain goes through all numbers that share their last four digits, in both layouts.
func TestSSNIsABijectionOnASmallDomain(t *testing.T) {
	t.Parallel()
	p := engine.Policy{ID: policyID, Name: "ssn", Format: "ssn", Options: engine.Options{KeepLast: 4}, AcceptSmallDomain: true}
	tr, seen := compilePolicy(t, p), map[string]bool{}
	var token []byte
	for i := range 100_000 {
		value, err := fmt.Appendf(nil, "%03d-%02d-6789", i/100, i%100), error(nil)
		if token, err = tr.AppendToken(token[:0], value, 1); err != nil || tr.Check(token) == nil || !bytes.HasSuffix(token, []byte("-6789")) {
			t.Fatalf("%s: %s, %v", value, token, err)
		}
		seen[string(token)] = true
	}
	if len(seen) != 100_000 {
		t.Errorf("%d tokens of 100000 numbers", len(seen))
	}
}

// TestCodesBeyondTheLastVersionAreNoTokens: of 17,576 codes of three letters, 17,000 mean something.
func TestCodesBeyondTheLastVersionAreNoTokens(t *testing.T) {
	t.Parallel()
	versions := make([]int, 17)
	for i := range versions {
		versions[i] = i + 1
	}
	tr, tokens := compile(t, "ssn", versions...), 0
	for code := range 26 * 26 * 26 {
		token := []byte{byte('A' + code/676), byte('A' + code/26%26), byte('A' + code%26), '1', '2', '3', '4', '5', '6'}
		_, ok := tr.Version(token)
		if _, err := tr.AppendPlain(nil, token); ok != (err == nil) {
			t.Fatalf("code %d: Version says %v, AppendPlain %v", code, ok, err)
		}
		if ok {
			tokens++
		}
	}
	if tokens != 17_000 {
		t.Errorf("%d codes are tokens, want 17000", tokens)
	}
}

// TestSSNTokenFollowsFromTheDocument makes the token a second way: docs/engine.md and another FF1.
func TestSSNTokenFollowsFromTheDocument(t *testing.T) {
	t.Parallel()
	field := func(b []byte, s string) []byte {
		return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
	}
	layout := field(field(field(nil, "pgveil/1 layout"), "ff1"), "ssn")
	for _, n := range []uint64{0, 9, 9} { // kept, shortest, longest
		layout = binary.BigEndian.AppendUint64(layout, n)
	}
	digest := sha256.Sum256(layout)
	for _, version := range []int{1, 20} {
		info := field(field(nil, "pgveil/1 ff1"), policyID)
		info = binary.BigEndian.AppendUint32(info, uint32(version))
		info = append(info, digest[:]...)
		key, err := hkdf.Key(sha256.New, dek(version).Secret.Expose(), nil, string(info), 32)
		if err != nil {
			t.Fatal(err)
		}
		c, err := oracle.NewCipher(10, 4, key, make([]byte, 4))
		if err != nil {
			t.Fatal(err)
		}
		enciphered, err := c.Encrypt("078051120")
		if err != nil {
			t.Fatal(err)
		}
		var area int
		if _, err := fmt.Sscanf(enciphered[:3], "%03d", &area); err != nil {
			t.Fatal(err)
		}
		code := version%17*1000 + area
		want := string([]byte{byte('A' + code/676), byte('A' + code/26%26), byte('A' + code%26)}) + "-" + enciphered[3:5] + "-" + enciphered[5:]
		got, err := compile(t, "ssn", version).AppendToken(nil, []byte("078-05-1120"), version)
		if err != nil || string(got) != want {
			t.Errorf("version %d: %s, %v, want %s", version, got, err, want)
		}
	}
}

// golden reads testdata/tokens.txt: format, version, value and token between bars.
func golden(t testing.TB) (lines [][4]string) {
	t.Helper()
	data, err := os.ReadFile("testdata/tokens.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "|")
		if len(f) != 4 {
			t.Fatalf("a line of %d fields", len(f))
		}
		lines = append(lines, [4]string(f))
	}
	return lines
}

// TestTokensNeverChange holds what databases hold. If it fails, tokens that were stored can no longer be read: the
// change needs a new format, not a new file.
func TestTokensNeverChange(t *testing.T) {
	t.Parallel()
	for _, g := range golden(t) {
		format, value, token := g[0], g[2], g[3]
		version := int(g[1][0] - '0')
		tr := compile(t, format, 1, 2)
		if got, err := tr.AppendToken(nil, []byte(value), version); err != nil || string(got) != token {
			t.Errorf("%s version %d of %q = %q, %v, want %q", format, version, value, got, err, token)
		}
		if tr.Policy().Method() == engine.OneWay {
			continue
		}
		if got, err := tr.AppendPlainAt(nil, []byte(token), version); err != nil || string(got) != value {
			t.Errorf("%s: %q back to %q, %v, want %q", format, token, got, err, value)
		}
	}
}

// TestOneTransformServesManyGoroutines has known answers: those of testdata/tokens.txt.
func TestOneTransformServesManyGoroutines(t *testing.T) {
	t.Parallel()
	transforms, lines := map[string]*engine.Transform{}, golden(t)
	for _, g := range lines {
		if transforms[g[0]] == nil {
			transforms[g[0]] = compile(t, g[0], 1, 2)
		}
	}
	var wg sync.WaitGroup
	for worker := range 64 {
		wg.Go(func() {
			var buf []byte
			for i := range 150 {
				g := lines[(worker+i)%len(lines)]
				tr, err := transforms[g[0]], error(nil)
				if buf, err = tr.AppendToken(buf[:0], []byte(g[2]), int(g[1][0]-'0')); err != nil || string(buf) != g[3] {
					t.Errorf("%s: wrong token: %v", g[0], err)
					return
				}
				if tr.Policy().Method() == engine.OneWay {
					continue
				}
				if buf, err = tr.AppendPlainAt(buf[:0], []byte(g[3]), int(g[1][0]-'0')); err != nil || string(buf) != g[2] {
					t.Errorf("%s: wrong value: %v", g[0], err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestNoAllocations(t *testing.T) {
	if raceEnabled {
		t.Log("sync.Pool drops at random under the race detector: not measured")
		return
	}
	for _, g := range golden(t) {
		if g[0] == "json" || g[0] == "exact" || len(g[2]) > 100 {
			continue // documents need maps, what is refused an error, and halves above 2^96 math/big
		}
		tr, value, token := compile(t, g[0], 1, 2), []byte(g[2]), []byte(g[3])
		out, back, masked := make([]byte, 0, 1<<10), make([]byte, 0, 1<<10), make([]byte, 0, 1<<10)
		version := int(g[1][0] - '0')
		if n := testing.AllocsPerRun(100, func() {
			out, _ = tr.AppendToken(out[:0], value, version)
			if tr.Policy().Method() != engine.OneWay {
				back, _ = tr.AppendPlain(back[:0], token)
			}
			masked = tr.AppendMask(masked[:0], value)
			tr.Version(token)
		}); n != 0 {
			t.Errorf("%s of %d bytes: %v allocations", g[0], len(value), n)
		}
	}
}
