package ff1

import (
	"encoding/binary"
	"math/bits"
)

// The ten rounds run in pairs: an even round turns A into A + F(B) mod radix^u, an odd one B into B + F(A) mod
// radix^v, so that the swaps of steps viii and ix of Algorithm 7 are only a naming of the halves.

// encrypt32 is for halves up to 2^32. The first half of the block does not change from round to round.
func (p *Plan) encrypt32(s *scratch, hi, lo, a, b uint64) (uint64, uint64) {
	shift, mu, mv := uint(8*p.b), &p.mu, &p.mv
	binary.BigEndian.PutUint64(s.in[:8], hi)
	for i := uint64(0); i < rounds; i += 2 {
		a = mu.addReduced(a, p.f32(s, lo^i<<shift^b))
		b = mv.addReduced(b, p.f32(s, lo^(i+1)<<shift^a))
	}
	return a, b
}

func (p *Plan) decrypt32(s *scratch, hi, lo, a, b uint64) (uint64, uint64) {
	shift, mu, mv := uint(8*p.b), &p.mu, &p.mv
	binary.BigEndian.PutUint64(s.in[:8], hi)
	for i := uint64(rounds); i > 0; i -= 2 {
		b = mv.subReduced(b, p.f32(s, lo^(i-1)<<shift^a))
		a = mu.subReduced(a, p.f32(s, lo^(i-2)<<shift^b))
	}
	return a, b
}

// f32 returns y, the first d = 8 bytes of the round's block, for the block's second half.
func (p *Plan) f32(s *scratch, lo uint64) uint64 {
	binary.BigEndian.PutUint64(s.in[8:], lo)
	p.block.Encrypt(s.out[:], s.in[:])
	return binary.BigEndian.Uint64(s.out[:8])
}

// encrypt64 is for halves up to 2^64.
func (p *Plan) encrypt64(s *scratch, hi, lo, a, b uint64) (uint64, uint64) {
	for i := uint64(0); i < rounds; i += 2 {
		a = p.mu.add(a, p.f64(s, hi, lo, i, b, p.mu.lo))
		b = p.mv.add(b, p.f64(s, hi, lo, i+1, a, p.mv.lo))
	}
	return a, b
}

func (p *Plan) decrypt64(s *scratch, hi, lo, a, b uint64) (uint64, uint64) {
	for i := uint64(rounds); i > 0; i -= 2 {
		b = p.mv.sub(b, p.f64(s, hi, lo, i-1, a, p.mv.lo))
		a = p.mu.sub(a, p.f64(s, hi, lo, i-2, b, p.mu.lo))
	}
	return a, b
}

// f64 returns y mod m, where y is the first d = 12 bytes. m = 0 stands for 2^64.
func (p *Plan) f64(s *scratch, hi, lo, i, half, m uint64) uint64 {
	if p.b == 8 {
		hi ^= i // i stands in byte 15−b = 7
	} else {
		lo ^= i << (8 * uint(p.b))
	}
	binary.BigEndian.PutUint64(s.in[:8], hi)
	binary.BigEndian.PutUint64(s.in[8:], lo^half)
	p.block.Encrypt(s.out[:], s.in[:])
	y, tail := binary.BigEndian.Uint64(s.out[:8]), uint64(binary.BigEndian.Uint32(s.out[8:12]))
	if m == 0 {
		return y<<32 | tail
	}
	return bits.Rem64(y>>32, y<<32|tail, m)
}

// run96 is for halves up to 2^96.
func (p *Plan) run96(a, b uint128, tweak []byte, inverse bool) (uint128, uint128) {
	s := scratches.Get().(*scratch)
	hi, lo := p.absorb(s, tweak)
	if !inverse {
		for i := uint64(0); i < rounds; i += 2 {
			a = p.mu.add128(a, p.mu.reduce128(p.f96(s, hi, lo, i, b)))
			b = p.mv.add128(b, p.mv.reduce128(p.f96(s, hi, lo, i+1, a)))
		}
	} else {
		for i := uint64(rounds); i > 0; i -= 2 {
			b = p.mv.sub128(b, p.mv.reduce128(p.f96(s, hi, lo, i-1, a)))
			a = p.mu.sub128(a, p.mu.reduce128(p.f96(s, hi, lo, i-2, b)))
		}
	}
	scratches.Put(s)
	return a, b
}

// f96 returns y, the whole block (d = 16), as a number.
func (p *Plan) f96(s *scratch, hi, lo, i uint64, half uint128) uint128 {
	binary.BigEndian.PutUint64(s.in[:8], hi^half.hi^i<<(8*uint(p.b-8)))
	binary.BigEndian.PutUint64(s.in[8:], lo^half.lo)
	p.block.Encrypt(s.out[:], s.in[:])
	return uint128{binary.BigEndian.Uint64(s.out[:8]), binary.BigEndian.Uint64(s.out[8:])}
}
