package ff1

import (
	"crypto/cipher"
	"encoding/binary"
)

// The rounds come in pairs: an even one turns A into A + F(B) mod radix^u, an odd one B into B + F(A) mod radix^v, so
// that the swaps of steps viii and ix of Algorithm 7 are only a naming of the halves. A half is held as the fraction
// of its modulus (modulus.go) and becomes a number where it goes into the block.

// encrypt32 is for halves up to 2^32. The first half of the block does not change from round to round. It is written
// out because a loop keeps its variables on the stack across the calls, on the path from one block to the next.
func (p *Plan) encrypt32(s *scratch, hi, lo, a, b uint64) (uint64, uint64) {
	mu, mv, step, block := p.mu32, p.mv32, p.step.lo, p.block
	binary.BigEndian.PutUint64(s.in[:8], hi)
	fa, fb := mu.start(a), mv.start(b)
	fa = mu.plus(fa, s.f32(block, lo^b))
	a = mu.whole(fa)
	fb = mv.plus(fb, s.f32(block, lo^step^a))
	b = mv.whole(fb)
	fa = mu.plus(fa, s.f32(block, lo^2*step^b))
	a = mu.whole(fa)
	fb = mv.plus(fb, s.f32(block, lo^3*step^a))
	b = mv.whole(fb)
	fa = mu.plus(fa, s.f32(block, lo^4*step^b))
	a = mu.whole(fa)
	fb = mv.plus(fb, s.f32(block, lo^5*step^a))
	b = mv.whole(fb)
	fa = mu.plus(fa, s.f32(block, lo^6*step^b))
	a = mu.whole(fa)
	fb = mv.plus(fb, s.f32(block, lo^7*step^a))
	b = mv.whole(fb)
	fa = mu.plus(fa, s.f32(block, lo^8*step^b))
	a = mu.whole(fa)
	fb = mv.plus(fb, s.f32(block, lo^9*step^a))
	return a, mv.whole(fb)
}

func (p *Plan) decrypt32(s *scratch, hi, lo, a, b uint64) (uint64, uint64) {
	mu, mv, step, block := p.mu32, p.mv32, p.step.lo, p.block
	binary.BigEndian.PutUint64(s.in[:8], hi)
	fa, fb := mu.start(a), mv.start(b)
	fb = mv.minus(fb, s.f32(block, lo^9*step^a))
	b = mv.whole(fb)
	fa = mu.minus(fa, s.f32(block, lo^8*step^b))
	a = mu.whole(fa)
	fb = mv.minus(fb, s.f32(block, lo^7*step^a))
	b = mv.whole(fb)
	fa = mu.minus(fa, s.f32(block, lo^6*step^b))
	a = mu.whole(fa)
	fb = mv.minus(fb, s.f32(block, lo^5*step^a))
	b = mv.whole(fb)
	fa = mu.minus(fa, s.f32(block, lo^4*step^b))
	a = mu.whole(fa)
	fb = mv.minus(fb, s.f32(block, lo^3*step^a))
	b = mv.whole(fb)
	fa = mu.minus(fa, s.f32(block, lo^2*step^b))
	a = mu.whole(fa)
	fb = mv.minus(fb, s.f32(block, lo^step^a))
	b = mv.whole(fb)
	fa = mu.minus(fa, s.f32(block, lo^b))
	return mu.whole(fa), b
}

// f32 returns y, the first d = 8 bytes of the round's block, for the block's second half.
func (s *scratch) f32(block cipher.Block, lo uint64) uint64 {
	binary.BigEndian.PutUint64(s.in[8:], lo)
	block.Encrypt(s.out[:], s.in[:])
	return binary.BigEndian.Uint64(s.out[:8])
}

// run96 is for halves up to 2^96.
func (p *Plan) run96(s *scratch, state, a, b uint128, inverse bool) (uint128, uint128) {
	mu, mv := &p.mu, &p.mv
	fa, fb := mu.start(a), mv.start(b)
	if !inverse {
		for i := uint64(0); i < rounds; i += 2 {
			fa = fa.plus(mu.fraction(p.f96(s, state, i, b)))
			a = mu.whole(fa)
			fb = fb.plus(mv.fraction(p.f96(s, state, i+1, a)))
			b = mv.whole(fb)
		}
		return a, b
	}
	for i := uint64(rounds); i > 0; i -= 2 {
		fb = fb.minus(mv.fraction(p.f96(s, state, i-1, a)))
		b = mv.whole(fb)
		fa = fa.minus(mu.fraction(p.f96(s, state, i-2, b)))
		a = mu.whole(fa)
	}
	return a, b
}

// f96 returns y times 2^lift: the block, of which the plan's mask keeps the first d = 12 or 16 bytes.
func (p *Plan) f96(s *scratch, state uint128, i uint64, half uint128) uint128 {
	binary.BigEndian.PutUint64(s.in[:8], state.hi^i*p.step.hi^half.hi)
	binary.BigEndian.PutUint64(s.in[8:], state.lo^i*p.step.lo^half.lo)
	p.block.Encrypt(s.out[:], s.in[:])
	return uint128{binary.BigEndian.Uint64(s.out[:8]), binary.BigEndian.Uint64(s.out[8:]) & p.mask}
}
