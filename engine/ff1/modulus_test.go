package ff1

import (
	"math/big"
	"math/rand/v2"
	"testing"
)

// The inside is the point here: the fractions are rounded, and only numbers around multiples of the modulus show
// whether the bias is right.

func (x uint128) big() *big.Int {
	n := new(big.Int).SetUint64(x.hi)
	return n.Or(n.Lsh(n, 64), new(big.Int).SetUint64(x.lo))
}

// near returns a number of at most the given bits, often within 2 of a multiple of m.
func near(r *rand.Rand, m *big.Int, bits uint) *big.Int {
	top := new(big.Int).Lsh(big.NewInt(1), bits)
	y := new(big.Int).SetUint64(r.Uint64())
	y.Or(y.Lsh(y, 64), new(big.Int).SetUint64(r.Uint64())).Mod(y, top)
	switch r.IntN(4) {
	case 0:
		y.Sub(y, new(big.Int).Mod(y, m)).Add(y, big.NewInt(int64(r.IntN(5)-2)))
	case 1:
		y.Sub(top, big.NewInt(int64(1+r.IntN(3))))
	}
	if y.Sign() < 0 || y.Cmp(top) >= 0 {
		return new(big.Int)
	}
	return y
}

// below returns a number below m, often at either end.
func below(r *rand.Rand, m *big.Int) *big.Int {
	switch r.IntN(4) {
	case 0:
		return new(big.Int)
	case 1:
		return new(big.Int).Sub(m, big.NewInt(1))
	}
	a := near(r, m, 127)
	return a.Mod(a, m)
}

func TestReductionEqualsMathBig(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(4, 3))
	for range 60_000 {
		bits := 2 + r.IntN(95)
		m := new(big.Int).Lsh(big.NewInt(1), uint(bits)) // 2^bits, or below it
		if r.IntN(4) > 0 {
			m.Sub(m, big.NewInt(1+r.Int64N(1<<min(bits-1, 62))))
		}
		a := below(r, m)
		want := new(big.Int).Set(a)
		inverse := r.IntN(2) == 0
		check := func(name string, y *big.Int, got uint128) {
			t.Helper()
			if inverse {
				want.Sub(want, y)
			} else {
				want.Add(want, y)
			}
			if want.Mod(want, m); got.big().Cmp(want) != 0 {
				t.Fatalf("%s: modulo %v after %v from %v: %v, want %v", name, m, y, a, got.big(), want)
			}
		}
		if m.BitLen() <= 32 || m.BitLen() == 33 && m.TrailingZeroBits() == 32 {
			q := newNarrow(m)
			f := q.start(a.Uint64())
			for range rounds / 2 {
				y := near(r, m, 64)
				if inverse {
					f = q.minus(f, y.Uint64())
				} else {
					f = q.plus(f, y.Uint64())
				}
				check("narrow", y, uint128{0, q.whole(f)})
			}
			want.Set(a)
		}
		lift := uint(0)
		if m.BitLen() <= 64 || m.BitLen() == 65 && m.TrailingZeroBits() == 64 {
			lift = 32
		}
		q := newWide(m, lift)
		f := q.start(words(a))
		for range rounds / 2 {
			y := near(r, m, 128-lift)
			if x := q.fraction(words(new(big.Int).Lsh(y, lift))); inverse {
				f = f.minus(x)
			} else {
				f = f.plus(x)
			}
			check("wide", y, q.whole(f))
		}
	}
}
