package siv_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	tink "github.com/tink-crypto/tink-go/v2/daead/subtle"

	"pgveil/engine/siv"
)

func random(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// TestEqualsTink compares every length around the block boundaries with an implementation that takes 64-byte keys and
// one string of associated data.
func TestEqualsTink(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(5, 2))
	for n := range 100 {
		for _, adLen := range []int{0, 1, 15, 16, 17, 31, 32, 33, 100, 256} {
			key, plain, ad := random(r, 64), random(r, n), random(r, adLen)
			c, err := siv.New(key)
			if err != nil {
				t.Fatal(err)
			}
			o, err := tink.NewAESSIV(key)
			if err != nil {
				t.Fatal(err)
			}
			want, err := o.EncryptDeterministically(plain, ad)
			if err != nil {
				t.Fatal(err)
			}
			got := c.Seal([]byte("x"), plain, ad)
			if !bytes.Equal(got[1:], want) || got[0] != 'x' {
				t.Fatalf("%d bytes under %d: Seal differs from the oracle", n, adLen)
			}
			if back, err := c.With(ad).Open(nil, want); err != nil || !bytes.Equal(back, plain) {
				t.Fatalf("%d bytes under %d: Open: %v", n, adLen, err)
			}
		}
	}
}

func TestEveryAlteredBitIsRefused(t *testing.T) {
	t.Parallel()
	c, err := siv.New(make([]byte, 64))
	if err != nil {
		t.Fatal(err)
	}
	sealed := c.Seal(nil, []byte("a value of some length"), []byte("ad"))
	for i := range 8 * len(sealed) {
		altered := bytes.Clone(sealed)
		altered[i/8] ^= 1 << (i % 8)
		if out, err := c.Open([]byte("kept"), altered, []byte("ad")); !errors.Is(err, siv.ErrOpen) || string(out) != "kept" {
			t.Errorf("bit %d: %v", i, err)
		}
	}
	for n := range sealed {
		if _, err := c.Open(nil, sealed[:n], []byte("ad")); !errors.Is(err, siv.ErrOpen) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
	for _, ad := range [][][]byte{nil, {[]byte("aD")}, {[]byte("ad"), nil}, {[]byte("a"), []byte("d")}} {
		if _, err := c.Open(nil, sealed, ad...); !errors.Is(err, siv.ErrOpen) {
			t.Errorf("%d strings of other associated data: %v", len(ad), err)
		}
	}
}

// TestWhatFailsToOpenIsWiped looks behind the slice that Open returns.
func TestWhatFailsToOpenIsWiped(t *testing.T) {
	t.Parallel()
	c, err := siv.New(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	sealed := c.Seal(nil, []byte("a clear value"))
	sealed[0] ^= 0x80
	dst := make([]byte, 0, 64)
	out, err := c.Open(dst, sealed)
	if err == nil || len(out) != 0 || !bytes.Equal(dst[:64], make([]byte, 64)) {
		t.Errorf("%v, %d bytes, and something is left behind them", err, len(out))
	}
}

func TestKeysAndStringsOutOfBounds(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 16, 31, 33, 63, 65} {
		if _, err := siv.New(make([]byte, n)); !errors.Is(err, siv.ErrKey) {
			t.Errorf("a key of %d bytes: %v", n, err)
		}
	}
	c, err := siv.New(make([]byte, 48))
	if err != nil {
		t.Fatal(err)
	}
	full := c.With(make([][]byte, 126)...)
	full.Seal(nil, nil)
	defer func() {
		if recover() == nil {
			t.Error("127 strings of associated data are taken")
		}
	}()
	full.Seal(nil, nil, nil)
}

func TestOneCipherServesManyGoroutines(t *testing.T) {
	t.Parallel()
	c, err := siv.New(unhex(t, "7f7e7d7c7b7a79787776757473727170404142434445464748494a4b4c4d4e4f"))
	if err != nil {
		t.Fatal(err)
	}
	plain := unhex(t, "7468697320697320736f6d6520706c61696e7465787420746f20656e6372797074207573696e67205349562d414553")
	var wants [64][]byte
	for i := range wants {
		wants[i] = c.Seal(nil, plain[:i%48], plain[i%8:])
	}
	var wg sync.WaitGroup
	for g := range 64 {
		wg.Go(func() {
			for i := range 200 {
				k := (g + i) % 64
				got := c.Seal(nil, plain[:k%48], plain[k%8:])
				if !bytes.Equal(got, wants[k]) {
					t.Error("wrong output")
					return
				}
				if back, err := c.Open(nil, got, plain[k%8:]); err != nil || !bytes.Equal(back, plain[:k%48]) {
					t.Errorf("no round trip: %v", err)
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
	c, err := siv.New(make([]byte, 64))
	if err != nil {
		t.Fatal(err)
	}
	plain, ad, buf, back := make([]byte, 22), make([]byte, 11), make([]byte, 0, 64), make([]byte, 0, 64)
	if n := testing.AllocsPerRun(200, func() {
		buf = c.Seal(buf[:0], plain, ad)
		back, _ = c.Open(back[:0], buf, ad)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzSealOpen(f *testing.F) {
	f.Add([]byte("a value"), []byte("associated"), []byte("more"))
	f.Add([]byte{}, []byte{}, []byte{})
	f.Add(make([]byte, 33), make([]byte, 16), make([]byte, 17))
	c, err := siv.New([]byte("0123456789abcdef0123456789ABCDEF"))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, plain, ad1, ad2 []byte) {
		sealed := c.With(ad1).Seal(nil, plain, ad2)
		if len(sealed) != len(plain)+siv.Overhead {
			t.Fatalf("%d bytes from %d", len(sealed), len(plain))
		}
		if back, err := c.Open(nil, sealed, ad1, ad2); err != nil || !bytes.Equal(back, plain) {
			t.Fatalf("no round trip: %v", err)
		}
		if _, err := c.Open(nil, plain, ad1, ad2); err == nil {
			t.Fatal("a forgery opens")
		}
	})
}

func BenchmarkSeal22(b *testing.B) {
	c, err := siv.New(make([]byte, 64))
	if err != nil {
		b.Fatal(err)
	}
	c = c.With([]byte("example.com"))
	plain, dst := []byte("twenty-two bytes, yes!"), make([]byte, 0, 64)
	want := c.Seal(nil, plain)
	b.ReportAllocs()
	for b.Loop() {
		if dst = c.Seal(dst[:0], plain); !bytes.Equal(dst, want) {
			b.Fatal("wrong output")
		}
	}
}
