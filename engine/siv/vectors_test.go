package siv_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"pgveil/engine/siv"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRFC5297(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("testdata/rfc5297.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []struct {
		Section, Key, Plaintext, Output string
		AD                              []string
	}
	if err := json.Unmarshal(data, &vectors); err != nil || len(vectors) != 2 {
		t.Fatalf("%d vectors, want 2 (%v)", len(vectors), err)
	}
	for _, v := range vectors {
		t.Run(v.Section, func(t *testing.T) {
			c, err := siv.New(unhex(t, v.Key))
			if err != nil {
				t.Fatal(err)
			}
			var ad [][]byte
			for _, a := range v.AD {
				ad = append(ad, unhex(t, a))
			}
			plain, want := unhex(t, v.Plaintext), unhex(t, v.Output)
			for early := range len(ad) + 1 { // any split between With and Seal is the same cipher
				bound := c.With(ad[:early]...)
				got := bound.Seal(nil, plain, ad[early:]...)
				if !bytes.Equal(got, want) {
					t.Errorf("%d strings ahead: Seal = %x, want %x", early, got, want)
				}
				if got, err := bound.Open(nil, want, ad[early:]...); err != nil || !bytes.Equal(got, plain) {
					t.Errorf("%d strings ahead: Open = %x, %v, want %x", early, got, err, plain)
				}
			}
			if _, err := c.Open(nil, want, ad[:len(ad)-1]...); !errors.Is(err, siv.ErrOpen) {
				t.Errorf("Open without the last associated data: %v, want ErrOpen", err)
			}
		})
	}
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

func TestWycheproofSIV(t *testing.T) {
	t.Parallel()
	dir := wycheproof(t)
	for _, f := range []struct {
		name           string
		valid, invalid int
	}{
		{"aes_siv_cmac_test.json", 118, 324},
		{"aead_aes_siv_cmac_test.json", 252, 648}, // with a nonce, and the tag apart
	} {
		t.Run(f.name, func(t *testing.T) {
			valid, invalid := wycheproofSIV(t, filepath.Join(dir, f.name))
			if valid != f.valid || invalid != f.invalid {
				t.Errorf("%d valid and %d invalid vectors, want %d and %d", valid, invalid, f.valid, f.invalid)
			}
			t.Logf("valid %d, invalid, all refused: %d", valid, invalid)
		})
	}
}

func wycheproofSIV(t *testing.T, name string) (valid, invalid int) {
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var f struct {
		TestGroups []struct {
			Tests []struct {
				TcID                               int
				Key, AAD, IV, Msg, Ct, Tag, Result string
			}
		}
	}
	if err := json.Unmarshal(data, &f); err != nil {
		t.Fatal(err)
	}
	withNonce := strings.HasPrefix(filepath.Base(name), "aead_")
	for _, g := range f.TestGroups {
		for _, v := range g.Tests {
			ad := [][]byte{unhex(t, v.AAD)}
			if withNonce {
				ad = append(ad, unhex(t, v.IV))
			}
			c, err := siv.New(unhex(t, v.Key))
			if err != nil {
				t.Fatalf("vector %d: %v", v.TcID, err)
			}
			sealed, plain := append(unhex(t, v.Tag), unhex(t, v.Ct)...), unhex(t, v.Msg)
			got, err := c.Open(nil, sealed, ad...)
			if v.Result != "valid" {
				invalid++
				if !errors.Is(err, siv.ErrOpen) || len(got) != 0 {
					t.Errorf("vector %d: invalid, but opened", v.TcID)
				}
				continue
			}
			valid++
			if err != nil || !bytes.Equal(got, plain) {
				t.Errorf("vector %d: Open failed or is wrong: %v", v.TcID, err)
			}
			if !bytes.Equal(c.Seal(nil, plain, ad...), sealed) {
				t.Errorf("vector %d: Seal is wrong", v.TcID)
			}
		}
	}
	return valid, invalid
}
