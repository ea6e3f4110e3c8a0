package engine_test

import (
	"bytes"
	"crypto/aes"
	"testing"
)

// BenchmarkChain is the unit of the ratios: ten AES-256 blocks, each the input of the next, as many as a lone FF1 value
// needs.
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

// BenchmarkToken and BenchmarkPlain check the answer of every iteration.
func BenchmarkToken(b *testing.B) {
	for format, c := range roundTrips {
		b.Run(format, func(b *testing.B) {
			tr, value := compile(b, format), []byte(c.values[0])
			want, err := tr.AppendToken(nil, value, 1)
			if err != nil {
				b.Fatal(err)
			}
			dst := make([]byte, 0, len(want))
			b.ReportAllocs()
			for b.Loop() {
				if dst, err = tr.AppendToken(dst[:0], value, 1); err != nil || !bytes.Equal(dst, want) {
					b.Fatal("wrong token")
				}
			}
		})
	}
}

func BenchmarkPlain(b *testing.B) {
	for format, c := range roundTrips {
		b.Run(format, func(b *testing.B) {
			tr, value := compile(b, format), []byte(c.values[0])
			token, err := tr.AppendToken(nil, value, 1)
			if err != nil {
				b.Fatal(err)
			}
			dst := make([]byte, 0, len(value))
			b.ReportAllocs()
			for b.Loop() {
				if dst, err = tr.AppendPlain(dst[:0], token); err != nil || !bytes.Equal(dst, value) {
					b.Fatal("wrong value")
				}
			}
		})
	}
}
