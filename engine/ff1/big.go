package ff1

import (
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"math/big"
)

// bigPlan is what halves above 2^96 need: the two moduli.
type bigPlan struct {
	mu, mv *big.Int
}

// runBig is Algorithms 7 and 8 as they are written, with numbers for the halves. It allocates.
func (p *Plan) runBig(dst, src []uint16, tweak []byte, inverse bool) {
	a, b := p.bigNumber(src[:p.u]), p.bigNumber(src[p.u:])
	q := make([]byte, (p.tweakLen+p.b+1+15)/16*16)
	copy(q, tweak)
	mac := &bigMAC{block: p.block, q: q, i: &q[len(q)-p.b-1], half: q[len(q)-p.b:]}
	binary.BigEndian.PutUint64(mac.first[:8], p.hi)
	binary.BigEndian.PutUint64(mac.first[8:], p.lo)
	mac.s = make([]byte, (4*((p.b+3)/4)+4+15)/16*16)
	d := 4*((p.b+3)/4) + 4
	if !inverse {
		for i := 0; i < rounds; i += 2 {
			a.Mod(a.Add(a, mac.y(i, b, d)), p.big.mu)
			b.Mod(b.Add(b, mac.y(i+1, a, d)), p.big.mv)
		}
	} else {
		for i := rounds; i > 0; i -= 2 {
			b.Mod(b.Sub(b, mac.y(i-1, a, d)), p.big.mv)
			a.Mod(a.Sub(a, mac.y(i-2, b, d)), p.big.mu)
		}
	}
	p.bigString(dst[:p.u], a)
	p.bigString(dst[p.u:], b)
}

// bigMAC is the round function over a Q of any length.
type bigMAC struct {
	block cipher.Block
	first [16]byte // E(P)
	q     []byte
	i     *byte
	half  []byte
	s     []byte
	n     big.Int
}

// y returns the first d bytes of S for round i and the given half as a number, valid until the next call.
func (m *bigMAC) y(i int, half *big.Int, d int) *big.Int {
	*m.i = byte(i)
	half.FillBytes(m.half)
	r := m.s[:16]
	copy(r, m.first[:])
	for q := m.q; len(q) > 0; q = q[16:] {
		subtle.XORBytes(r, r, q[:16])
		m.block.Encrypt(r, r)
	}
	for j := 1; 16*j < len(m.s); j++ {
		s := m.s[16*j : 16*j+16]
		copy(s, r)
		binary.BigEndian.PutUint64(s[8:], binary.BigEndian.Uint64(s[8:])^uint64(j))
		m.block.Encrypt(s, s)
	}
	return m.n.SetBytes(m.s[:d])
}

// bigNumber and bigString work in chunks of numerals, as number128 and spell128 do.
func (p *Plan) bigNumber(x []uint16) *big.Int {
	width, chunk, d := p.digits.width, new(big.Int).SetUint64(p.digits.chunk), new(big.Int)
	first := len(x) % width
	n := new(big.Int).SetUint64(p.digits.number(x[:first]))
	for x = x[first:]; len(x) > 0; x = x[width:] {
		n.Add(n.Mul(n, chunk), d.SetUint64(p.digits.number(x[:width])))
	}
	return n
}

func (p *Plan) bigString(dst []uint16, n *big.Int) {
	width, chunk, d := p.digits.width, new(big.Int).SetUint64(p.digits.chunk), new(big.Int)
	for ; len(dst) > width; dst = dst[:len(dst)-width] {
		n.QuoRem(n, chunk, d)
		p.digits.spell(dst[len(dst)-width:], d.Uint64())
	}
	p.digits.spell(dst, n.Uint64())
}
