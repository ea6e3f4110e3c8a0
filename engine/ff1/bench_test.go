package ff1_test

import (
	"crypto/aes"
	"slices"
	"testing"

	"pgveil/engine/ff1"
)

// BenchmarkChain is the unit of the ratios: ten AES-256 blocks, each the input of the next.
func BenchmarkChain(b *testing.B) {
	block, err := aes.NewCipher(make([]byte, 32))
	if err != nil {
		b.Fatal(err)
	}
	x := make([]byte, 16)
	for b.Loop() {
		for range 10 {
			block.Encrypt(x, x)
		}
	}
}

func plan(t testing.TB, radix, n, tweakLen int) *ff1.Plan {
	t.Helper()
	c, err := ff1.New([]byte("0123456789abcdef0123456789abcdef"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := c.Plan(radix, n, tweakLen)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Each benchmark enciphers and checks the answer.
func BenchmarkPair16Digits(b *testing.B) {
	p := plan(b, 10, 16, 4)
	tweak := []byte("1234")
	x, y := p.EncryptPair(12345678, 87654321, tweak)
	b.ReportAllocs()
	for b.Loop() {
		if u, v := p.EncryptPair(12345678, 87654321, tweak); u != x || v != y {
			b.Fatal("wrong answer")
		}
	}
}

func BenchmarkNumerals(b *testing.B) {
	for name, c := range map[string]struct{ radix, n int }{
		"16 digits": {10, 16}, "32 of radix 62": {62, 32}, "56 digits": {10, 56}, "57 digits": {10, 57},
	} {
		b.Run(name, func(b *testing.B) {
			p := plan(b, c.radix, c.n, 4)
			src, dst, want, tweak := make([]uint16, c.n), make([]uint16, c.n), make([]uint16, c.n), []byte("1234")
			for i := range src {
				src[i] = uint16((i*7 + 3) % c.radix)
			}
			if err := p.Encrypt(want, src, tweak); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if err := p.Encrypt(dst, src, tweak); err != nil || !slices.Equal(dst, want) {
					b.Fatal("wrong answer")
				}
			}
		})
	}
}
