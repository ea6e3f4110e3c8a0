package ff1

import (
	"math/big"
	"math/rand/v2"
	"testing"
)

// The inside is the point here: the quotients are estimates, and only numbers around multiples of the modulus show
// whether the corrections are right.

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

func words(n *big.Int) uint128 {
	lo := new(big.Int).And(n, new(big.Int).SetUint64(1<<64-1))
	return uint128{new(big.Int).Rsh(n, 64).Uint64(), lo.Uint64()}
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
		q := newModulus(m)
		a := below(r, m)
		if m.BitLen() <= 32 || m.BitLen() == 33 && m.TrailingZeroBits() == 32 {
			y := near(r, m, 64)
			sum, diff := new(big.Int).Add(a, y), new(big.Int).Sub(a, y)
			if got, want := q.addReduced(a.Uint64(), y.Uint64()), sum.Mod(sum, m).Uint64(); got != want {
				t.Fatalf("%v + %v mod %v = %d, want %d", a, y, m, got, want)
			}
			if got, want := q.subReduced(a.Uint64(), y.Uint64()), diff.Mod(diff, m).Uint64(); got != want {
				t.Fatalf("%v - %v mod %v = %d, want %d", a, y, m, got, want)
			}
		}
		y := near(r, m, 128)
		want := new(big.Int).Mod(y, m)
		reduced := q.reduce128(words(y))
		if reduced.big().Cmp(want) != 0 {
			t.Fatalf("%v mod %v = %v, want %v", y, m, reduced.big(), want)
		}
		sum, diff := new(big.Int).Add(a, want), new(big.Int).Sub(a, want)
		if got := q.add128(words(a), reduced); got.big().Cmp(sum.Mod(sum, m)) != 0 {
			t.Fatalf("%v + %v mod %v = %v", a, want, m, got.big())
		}
		if got := q.sub128(words(a), reduced); got.big().Cmp(diff.Mod(diff, m)) != 0 {
			t.Fatalf("%v - %v mod %v = %v", a, want, m, got.big())
		}
	}
}
