package ff1

import (
	"encoding/binary"
	"sync"
)

// A lone value waits for AES ten times over: each block depends on the one before. Values beside each other do not
// depend on one another, so lanes run them round by round, and the processor overlaps their blocks.

// Lanes is how many values EncryptPairs keeps in flight.
const Lanes = 8

// lanes is the scratch of a batch: for each lane the blocks, the state of the CBC-MAC's second half, and the halves.
type lanes struct {
	in, out [Lanes][16]byte
	lo      [Lanes]uint64
	a, b    [Lanes]uint64
	one     scratch
}

var lanesPool = sync.Pool{New: func() any { return new(lanes) }}

// EncryptPairs enciphers the pairs (a[i], b[i]) in place as EncryptPair does, with the tweaks one behind the other in
// tweaks. It panics where EncryptPair would, and for slices that do not fit together. It
// allocates nothing.
func (p *Plan) EncryptPairs(a, b []uint64, tweaks []byte) { p.pairs(a, b, tweaks, false) }

// DecryptPairs is the inverse of EncryptPairs.
func (p *Plan) DecryptPairs(a, b []uint64, tweaks []byte) { p.pairs(a, b, tweaks, true) }

func (p *Plan) pairs(a, b []uint64, tweaks []byte, inverse bool) {
	if len(a) != len(b) || len(tweaks) != len(a)*p.tweakLen {
		panic("ff1: halves and tweaks of different numbers")
	}
	p.mustFit(p.tweakLen)
	for i := range a {
		p.mustBelow(a[i], b[i])
	}
	if p.form != form32 || len(a) < 3 {
		for i := range a {
			a[i], b[i] = p.pair(a[i], b[i], tweaks[i*p.tweakLen:(i+1)*p.tweakLen], inverse)
		}
		return
	}
	s := lanesPool.Get().(*lanes)
	for len(a) > 0 {
		n := min(Lanes, len(a))
		for i := range n {
			var hi uint64
			hi, s.lo[i] = p.absorb(&s.one, tweaks[i*p.tweakLen:(i+1)*p.tweakLen])
			binary.BigEndian.PutUint64(s.in[i][:8], hi)
		}
		copy(s.a[:], a[:n])
		copy(s.b[:], b[:n]) // what the lanes beyond n hold does not matter
		if inverse {
			p.decryptLanes(s)
		} else {
			p.encryptLanes(s)
		}
		copy(a, s.a[:n])
		copy(b, s.b[:n])
		a, b, tweaks = a[n:], b[n:], tweaks[n*p.tweakLen:]
	}
	clear(s.a[:]) // no value stays behind in the pool
	clear(s.b[:])
	lanesPool.Put(s)
}

// encryptLanes is encrypt32 over all lanes.
func (p *Plan) encryptLanes(s *lanes) {
	shift, mu, mv := uint(8*p.b), p.mu, p.mv
	for round := uint64(0); round < rounds; round += 2 {
		p.blocks(s, &s.b, round<<shift)
		for i := range s.a {
			s.a[i] = mu.addReduced(s.a[i], binary.BigEndian.Uint64(s.out[i][:8]))
		}
		p.blocks(s, &s.a, (round+1)<<shift)
		for i := range s.b {
			s.b[i] = mv.addReduced(s.b[i], binary.BigEndian.Uint64(s.out[i][:8]))
		}
	}
}

func (p *Plan) decryptLanes(s *lanes) {
	shift, mu, mv := uint(8*p.b), p.mu, p.mv
	for round := uint64(rounds); round > 0; round -= 2 {
		p.blocks(s, &s.a, (round-1)<<shift)
		for i := range s.b {
			s.b[i] = mv.subReduced(s.b[i], binary.BigEndian.Uint64(s.out[i][:8]))
		}
		p.blocks(s, &s.b, (round-2)<<shift)
		for i := range s.a {
			s.a[i] = mu.subReduced(s.a[i], binary.BigEndian.Uint64(s.out[i][:8]))
		}
	}
}

// blocks enciphers the round's block of every lane. All are written before the first is read: the processor cannot
// hand a 16-byte load what two 8-byte stores just wrote, and by then they have reached the cache.
func (p *Plan) blocks(s *lanes, half *[Lanes]uint64, round uint64) {
	for i := range half {
		binary.BigEndian.PutUint64(s.in[i][8:], s.lo[i]^round^half[i])
	}
	block := p.block
	for i := range half {
		block.Encrypt(s.out[i][:], s.in[i][:])
	}
}
