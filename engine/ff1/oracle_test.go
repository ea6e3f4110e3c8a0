package ff1_test

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	oracle "github.com/capitalone/fpe/ff1"

	"pgveil/engine/ff1"
)

// TestEqualsCapitalOne compares with capitalone/fpe where that is correct: lower-case alphabets of at most 36 symbols,
// and a Cipher for each call, since one that is shared between goroutines returns wrong answers.
func TestEqualsCapitalOne(t *testing.T) {
	t.Parallel()
	for worker := range 4 {
		t.Run(strconv.Itoa(worker), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(uint64(worker), 38))
			for range 1500 {
				if reason := equalsOracle(r, r.IntN(40)); reason != "" {
					t.Fatal(reason)
				}
			}
		})
	}
}

func TestTweaksOfNoBytesAndOf256(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(256, 0))
	for range 200 {
		for _, n := range []int{0, 255, 256} {
			if reason := equalsOracle(r, n); reason != "" {
				t.Fatal(reason)
			}
		}
	}
}

// equalsOracle tries one random key, radix, length, tweak of tweakLen bytes and string and returns what differs, or "".
func equalsOracle(r *rand.Rand, tweakLen int) string {
	key, tweak := make([]byte, 16+8*r.IntN(3)), make([]byte, tweakLen)
	fill(r, key)
	fill(r, tweak)
	radix, n := 2+r.IntN(35), 8+r.IntN(90)
	src, dst, text := make([]uint16, n), make([]uint16, n), make([]byte, n)
	for i := range src {
		src[i] = uint16(r.IntN(radix))
		if r.IntN(8) == 0 {
			src[i] = uint16(radix - 1) // carries
		}
		text[i] = base36[src[i]]
	}
	c, err := ff1.New(key)
	if err != nil {
		return err.Error()
	}
	p, err := c.Plan(radix, n, len(tweak))
	if err != nil {
		return err.Error()
	}
	if err := p.Encrypt(dst, src, tweak); err != nil {
		return err.Error()
	}
	o, err := oracle.NewCipher(radix, len(tweak), key, tweak)
	if err != nil {
		return err.Error()
	}
	want, err := o.Encrypt(string(text))
	if err != nil {
		return err.Error()
	}
	where := " at radix " + strconv.Itoa(radix) + ", length " + strconv.Itoa(n) + ", tweak of " + strconv.Itoa(len(tweak))
	if w, ok := numerals(want, base36); !ok || !slices.Equal(w, dst) {
		return "the oracle differs" + where
	}
	if err := p.Decrypt(dst, dst, tweak); err != nil || !slices.Equal(dst, src) {
		return "no round trip" + where
	}
	return ""
}

func fill(r *rand.Rand, b []byte) {
	for i := range b {
		b[i] = byte(r.Uint32())
	}
}
