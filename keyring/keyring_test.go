package keyring_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"pgveil/internal/secret"
	"pgveil/keyring"
)

func newKEK(t *testing.T) keyring.KEK {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kek")
	if err := keyring.CreateFile(path); err != nil {
		t.Fatal(err)
	}
	kek, err := keyring.OpenKEK("file:" + path)
	if err != nil {
		t.Fatal(err)
	}
	return kek
}

func newRing(t *testing.T) *keyring.Ring {
	t.Helper()
	_, ring, err := keyring.Init(t.Context(), newKEK(t))
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

func TestLoadOpensWhatInitMade(t *testing.T) {
	t.Parallel()
	kek := newKEK(t)
	blob, made, err := keyring.Init(t.Context(), kek)
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := keyring.Load(t.Context(), kek, blob)
	if err != nil {
		t.Fatal(err)
	}
	if made.CheckValue() != loaded.CheckValue() || made.Installation() != loaded.Installation() {
		t.Error("the loaded ring is another one")
	}
	dek, err := made.NewDEK("p1", 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := loaded.OpenDEK("p1", 1, dek); err != nil {
		t.Errorf("the loaded ring does not open a DEK of the ring that was stored: %v", err)
	}
	if !bytes.Equal(made.AuditKey(), loaded.AuditKey()) || !bytes.Equal(made.MAC("d", []byte("m")), loaded.MAC("d", []byte("m"))) {
		t.Error("derived keys differ")
	}
}

func TestAnotherKEKIsOneClearError(t *testing.T) {
	t.Parallel()
	blob, _, err := keyring.Init(t.Context(), newKEK(t))
	if err != nil {
		t.Fatal(err)
	}
	_, err = keyring.Load(t.Context(), newKEK(t), blob)
	if !errors.Is(err, keyring.ErrWrongKEK) || err.Error() != "the KEK does not open this installation's keys" {
		t.Errorf("Load with another KEK = %v", err)
	}
}

// sameID pretends to be another KEK, as a row of another installation would.
type sameID struct {
	keyring.KEK
	id string
}

func (k sameID) ID() string { return k.id }

func TestChangedRootBlobIsRefused(t *testing.T) {
	t.Parallel()
	kek := newKEK(t)
	blob, ring, err := keyring.Init(t.Context(), kek)
	if err != nil {
		t.Fatal(err)
	}
	other := bytes.Replace(blob, []byte(ring.Installation()), bytes.Repeat([]byte("0"), 32), 1)
	if _, err := keyring.Load(t.Context(), kek, other); !errors.Is(err, keyring.ErrWrongKEK) {
		t.Errorf("Load with another installation's name = %v", err)
	}
	if _, err := keyring.Load(t.Context(), sameID{newKEK(t), kek.ID()}, blob); !errors.Is(err, keyring.ErrWrongKEK) {
		t.Errorf("Load with a KEK of the same id = %v", err)
	}
	swapped := bytes.Replace(blob, []byte(ring.CheckValue()), []byte("00000000"), 1)
	if _, err := keyring.Load(t.Context(), kek, swapped); !errors.Is(err, keyring.ErrWrongKEK) {
		t.Errorf("Load with another check value = %v", err)
	}
	for _, damaged := range [][]byte{nil, []byte("x"), []byte(`{"format":2}`), blob[:len(blob)/2]} {
		if _, err := keyring.Load(t.Context(), kek, damaged); err == nil {
			t.Errorf("Load of %d damaged bytes succeeds", len(damaged))
		}
	}
}

func TestDEKIsBoundToPolicyAndVersion(t *testing.T) {
	t.Parallel()
	ring := newRing(t)
	blob, err := ring.NewDEK("p1", 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ring.OpenDEK("p1", 1, blob); err != nil {
		t.Fatal(err)
	}
	changed := bytes.Clone(blob)
	changed[len(changed)-1] ^= 1
	for name, open := range map[string]func() (secret.Bytes, error){
		"another policy":       func() (secret.Bytes, error) { return ring.OpenDEK("p2", 1, blob) },
		"another version":      func() (secret.Bytes, error) { return ring.OpenDEK("p1", 2, blob) },
		"another installation": func() (secret.Bytes, error) { return newRing(t).OpenDEK("p1", 1, blob) },
		"a changed bit":        func() (secret.Bytes, error) { return ring.OpenDEK("p1", 1, changed) },
		"nothing":              func() (secret.Bytes, error) { return ring.OpenDEK("p1", 1, nil) },
	} {
		if _, err := open(); err == nil {
			t.Errorf("OpenDEK with %s succeeds", name)
		}
	}
	again, err := ring.NewDEK("p1", 1)
	if err != nil {
		t.Fatal(err)
	}
	a, _ := ring.OpenDEK("p1", 1, blob)
	b, _ := ring.OpenDEK("p1", 1, again)
	if a.Equal(b) || bytes.Equal(blob, again) {
		t.Error("two new DEKs are equal")
	}
}

func TestSealAndMACAreBoundToTheirPurpose(t *testing.T) {
	t.Parallel()
	ring := newRing(t)
	blob, err := ring.Seal("replica a", []byte("text"))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := ring.Open("replica a", blob)
	if err != nil || string(plain.Expose()) != "text" {
		t.Errorf("Open(Seal) gives %d bytes, %v", plain.Len(), err)
	}
	if _, err := ring.Open("replica b", blob); err == nil {
		t.Error("Open under another purpose succeeds")
	}
	if bytes.Equal(ring.MAC("a", []byte("bc")), ring.MAC("ab", []byte("c"))) {
		t.Error("the MAC does not tell domain from message")
	}
	if bytes.Equal(ring.MAC("a", nil), newRing(t).MAC("a", nil)) {
		t.Error("two installations have one MAC")
	}
}

func TestKEKFileIsPrivateAndNeverReplaced(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "kek")
	if err := keyring.CreateFile(path); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
		t.Errorf("mode is %o", info.Mode().Perm())
	}
	if err := keyring.CreateFile(path); err == nil {
		t.Error("CreateFile replaces a file")
	}
	if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
		t.Error("CreateFile changed an existing file")
	}
	for _, uri := range []string{"file:" + path, "file://" + path} {
		if _, err := keyring.OpenKEK(uri); err != nil {
			t.Errorf("OpenKEK(%q): %v", uri, err)
		}
	}
}

func TestBadKEKFilesAreRefusedWithAHint(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	good := filepath.Join(dir, "good")
	if err := keyring.CreateFile(good); err != nil {
		t.Fatal(err)
	}
	text, _ := os.ReadFile(good)
	key := strings.TrimSpace(strings.TrimPrefix(string(text), "pgveil-kek-1:"))
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil { // whatever the umask
			t.Fatal(err)
		}
		return "file:" + path
	}
	for name, uri := range map[string]string{
		"group readable":   write("group", string(text), 0o640),
		"world readable":   write("world", string(text), 0o604),
		"empty":            write("empty", "", 0o600),
		"no header":        write("header", key, 0o600),
		"too short":        write("short", "pgveil-kek-1:"+key[:20], 0o600),
		"not base64":       write("base64", "pgveil-kek-1:"+key+"!", 0o600),
		"missing":          "file:" + filepath.Join(dir, "nowhere"),
		"a directory":      "file:" + dir,
		"no path":          "file:",
		"nothing":          "",
		"the key itself":   key,
		"another provider": "vault:" + key,
	} {
		_, err := keyring.OpenKEK(uri)
		var e *keyring.Error
		if !errors.As(err, &e) || e.Hint == "" {
			t.Errorf("%s: got %v, want a *keyring.Error with a hint", name, err)
			continue
		}
		if strings.Contains(e.Message+e.Hint, key[:20]) {
			t.Errorf("%s: the error shows the key", name)
		}
	}
}

func TestNoPrintedFormShowsAKey(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "kek")
	if err := keyring.CreateFile(path); err != nil {
		t.Fatal(err)
	}
	kek, err := keyring.OpenKEK("file:" + path)
	if err != nil {
		t.Fatal(err)
	}
	_, ring, err := keyring.Init(t.Context(), kek)
	if err != nil {
		t.Fatal(err)
	}
	dek, _ := ring.NewDEK("p", 1)
	opened, _ := ring.OpenDEK("p", 1, dek)
	var out strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%x", "%s", "%d"} {
		fmt.Fprintf(&out, verb+verb+verb, ring, kek, opened)
	}
	for what, key := range map[string][]byte{"DEK": opened.Expose(), "root key": keyring.RootKey(ring), "KEK": keyring.WrapKey(kek)} {
		for _, form := range []string{fmt.Sprintf("%x", key), fmt.Sprint(key), string(key)} {
			if strings.Contains(out.String(), strings.Trim(form, "[]")) {
				t.Errorf("a printed form shows the %s", what)
			}
		}
	}
}

func TestRingIsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	ring := newRing(t)
	want := ring.MAC("d", []byte("m"))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				blob, err := ring.Seal("p", want)
				if err != nil {
					t.Error(err)
					return
				}
				if got, err := ring.Open("p", blob); err != nil || !bytes.Equal(got.Expose(), ring.MAC("d", []byte("m"))) {
					t.Error("Open(Seal) under concurrency is wrong")
					return
				}
			}
		})
	}
	wg.Wait()
}
