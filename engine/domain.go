package engine

import (
	"math"
	"math/big"
	"strconv"

	"pgveil/engine/ff1"
)

// domain is the numbers below size, which FF1 permutes: over n numerals of the smallest sufficient radix, with cycle
// walking, that is, FF1 again until the result is below size (Black and Rogaway, Ciphers with arbitrary finite domains,
// CT-RSA 2002, method 2).
type domain struct {
	size  wide
	radix int
	n     int
}

const (
	leastDomain = 100 // FF1 is defined from here (SP 800-38G section 5.1: radix^minlen ≥ 100)
	maxWalk     = 64  // applications of FF1. Of a random permutation the chance to need more is below (1−size/radix^n)^64 ≤ 2^−150
	maxNumerals = 12  // 12 of 16 bits are 192 bits
)

// newDomain returns the domain of a size of at least leastDomain and at most 2^191. The number of numerals is the
// smallest even one for which the radix does not exceed FF1's.
func newDomain(size *big.Int) domain {
	d := domain{size: wideOf(size)}
	for d.n = 2; ; d.n += 2 {
		if d.radix = root(size, d.n); d.radix <= ff1.MaxRadix {
			return d
		}
	}
}

// root returns ⌈size^(1/n)⌉, or more than ff1.MaxRadix where it is more.
func root(size *big.Int, n int) int {
	lo, hi := 1, ff1.MaxRadix+1 // lo^n < size, and hi is the answer if nothing smaller is
	for hi-lo > 1 {
		mid := (lo + hi) / 2
		if new(big.Int).Exp(big.NewInt(int64(mid)), big.NewInt(int64(n)), nil).Cmp(size) < 0 {
			lo = mid
		} else {
			hi = mid
		}
	}
	return hi
}

// calls is how often FF1 is applied on average: what it permutes, in units of what is wanted.
func (d *domain) calls() float64 {
	size, _ := new(big.Float).SetInt(d.size.big()).Float64()
	return math.Pow(float64(d.radix), float64(d.n)) / size
}

func (d *domain) plan(c *ff1.Cipher, tweakLen int) (*ff1.Plan, error) {
	return c.Plan(d.radix, d.n, tweakLen)
}

// walk enciphers x, below size, or deciphers it. ok is false if the walk was given up.
func (d *domain) walk(p *ff1.Plan, x wide, tweak []byte, inverse bool) (y wide, ok bool) {
	var numerals [maxNumerals]uint16
	s := numerals[:d.n]
	for range maxWalk {
		for i := d.n - 1; i >= 0; i-- {
			var r uint64
			x, r = x.divide(uint64(d.radix))
			s[i] = uint16(r)
		}
		var err error
		if inverse {
			err = p.Decrypt(s, s, tweak)
		} else {
			err = p.Encrypt(s, s, tweak)
		}
		if err != nil {
			panic("engine: " + err.Error()) // lengths are the plan's, and numerals are remainders of the radix
		}
		x = wide{}
		for _, n := range s {
			x = x.times(uint64(d.radix), uint64(n))
		}
		if x.less(d.size) {
			return x, true
		}
	}
	return wide{}, false
}

// checkDomain refuses what FF1 is not defined for.
func checkDomain(what string, size *big.Int) *PolicyError {
	switch {
	case size.Cmp(big.NewInt(leastDomain)) < 0:
		return refusal(what+" has only "+size.String()+" values, and FF1 needs "+strconv.Itoa(leastDomain), "widen it, or use method aes-siv")
	case size.BitLen() > wideBits-1:
		return refusal(what+" has more than 2^191 values", "narrow it, or use method aes-siv")
	}
	return nil
}

// room returns how many times values fit into tokens, at most maxVersion: the key versions that can be told apart.
func room(tokens, values *big.Int) int {
	n := new(big.Int).Quo(tokens, values)
	if n.Cmp(big.NewInt(maxVersion)) > 0 {
		return maxVersion
	}
	return int(n.Int64())
}
