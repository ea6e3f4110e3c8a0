package ff1_test

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"pgveil/engine/ff1"
)

const base36 = "0123456789abcdefghijklmnopqrstuvwxyz"

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// numerals reads s in the given alphabet; ok is false where a character is not in it.
func numerals(s, alphabet string) (x []uint16, ok bool) {
	for _, c := range s {
		i := strings.IndexRune(alphabet, c)
		if i < 0 {
			return nil, false
		}
		x = append(x, uint16(i))
	}
	return x, true
}

func TestNISTFF1(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("testdata/sp800-38g-samples.json")
	if err != nil {
		t.Fatal(err)
	}
	var samples []struct {
		Sample, Radix                     int
		Key, Tweak, Plaintext, Ciphertext string
	}
	if err := json.Unmarshal(data, &samples); err != nil {
		t.Fatal(err)
	}
	if len(samples) != 9 {
		t.Fatalf("%d samples, want 9", len(samples))
	}
	for _, s := range samples {
		plain, _ := numerals(s.Plaintext, base36)
		want, _ := numerals(s.Ciphertext, base36)
		if reason := bothWays(unhex(t, s.Key), s.Radix, unhex(t, s.Tweak), plain, want); reason != "" {
			t.Errorf("sample %d: %s", s.Sample, reason)
		}
	}
}

// bothWays enciphers plain and deciphers want and returns what is wrong, or "".
func bothWays(key []byte, radix int, tweak []byte, plain, want []uint16) string {
	c, err := ff1.New(key)
	if err != nil {
		return err.Error()
	}
	p, err := c.Plan(radix, len(plain), len(tweak))
	if err != nil {
		return err.Error()
	}
	got := make([]uint16, len(plain))
	if err := p.Encrypt(got, plain, tweak); err != nil {
		return err.Error()
	}
	if !slices.Equal(got, want) {
		return "wrong ciphertext"
	}
	if err := p.Decrypt(got, got, tweak); err != nil {
		return err.Error()
	}
	if !slices.Equal(got, plain) {
		return "wrong plaintext"
	}
	return ""
}

// wycheproof returns the directory of the vectors, fetching the pinned module where it is not in the cache.
// The package is not imported: it embeds every file.
func wycheproof(t *testing.T) string {
	t.Helper()
	const module = "github.com/c2sp/wycheproof"
	list := func() string {
		out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", module).Output()
		if err != nil {
			t.Fatalf("go list -m %s: %v", module, err)
		}
		return strings.TrimSpace(string(out))
	}
	dir := list()
	if dir == "" {
		if out, err := exec.CommandContext(t.Context(), "go", "mod", "download", module).CombinedOutput(); err != nil {
			t.Fatalf("go mod download %s: %v\n%s", module, err, out)
		}
		dir = list()
	}
	return filepath.Join(dir, "testvectors_v1")
}

type wycheproofFile struct {
	TestGroups []struct {
		Alphabet string
		Radix    int
		Tests    []struct {
			TcID                int
			Key, Tweak, Msg, Ct json.RawMessage
			Result              string
		}
	}
}

// message reads a message given as a string over the alphabet or as a list of integers. ok is false where it is no
// string of 16-bit numerals at all: such a message cannot be handed to the package.
func message(raw json.RawMessage, alphabet string) (x []uint16, ok bool) {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return numerals(s, alphabet)
	}
	return x, json.Unmarshal(raw, &x) == nil
}

func TestWycheproofFF1(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join(wycheproof(t), "aes_ff1_*_test.json"))
	if err != nil || len(files) != 22 {
		t.Fatalf("%d vector files, want 22 (%v)", len(files), err)
	}
	var valid, invalid atomic.Int64
	t.Cleanup(func() {
		if valid.Load() != 49240 || invalid.Load() != 8006 {
			t.Errorf("%d valid and %d invalid vectors, want 49240 and 8006", valid.Load(), invalid.Load())
		}
	})
	t.Run("files", func(t *testing.T) {
		for _, name := range files {
			t.Run(filepath.Base(name), func(t *testing.T) {
				t.Parallel()
				v, i := wycheproofFF1(t, name)
				valid.Add(v)
				invalid.Add(i)
			})
		}
	})
	t.Logf("valid %d", valid.Load())
	t.Logf("invalid, all refused: %d", invalid.Load())
}

func wycheproofFF1(t *testing.T, name string) (valid, invalid int64) {
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var f wycheproofFile
	if err := json.Unmarshal(data, &f); err != nil {
		t.Fatal(err)
	}
	for _, g := range f.TestGroups {
		for _, v := range g.Tests {
			var key, tweak string
			if json.Unmarshal(v.Key, &key) != nil || json.Unmarshal(v.Tweak, &tweak) != nil {
				t.Fatalf("vector %d: key or tweak is no string", v.TcID)
			}
			plain, ok := message(v.Msg, g.Alphabet)
			if v.Result != "valid" {
				invalid++
				if ok && !refused(unhex(t, key), g.Radix, unhex(t, tweak), plain) {
					t.Errorf("vector %d: invalid, but enciphered", v.TcID)
				}
				continue
			}
			valid++
			want, wantOK := message(v.Ct, g.Alphabet)
			if !ok || !wantOK {
				t.Errorf("vector %d: valid, but not numerals", v.TcID)
				continue
			}
			if reason := bothWays(unhex(t, key), g.Radix, unhex(t, tweak), plain, want); reason != "" {
				t.Errorf("vector %d: %s", v.TcID, reason)
			}
		}
	}
	return valid, invalid
}

// refused says whether New, Plan or Encrypt returned an error.
func refused(key []byte, radix int, tweak []byte, plain []uint16) bool {
	c, err := ff1.New(key)
	if err != nil {
		return true
	}
	p, err := c.Plan(radix, len(plain), len(tweak))
	if err != nil {
		return true
	}
	return p.Encrypt(make([]uint16, len(plain)), plain, tweak) != nil
}
