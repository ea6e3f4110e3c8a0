package ff1

import (
	"crypto/cipher"
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
	fa, fb  [Lanes]uint64 // the halves as fractions
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
	clear(s.fa[:])
	clear(s.fb[:])
	lanesPool.Put(s)
}

// encryptLanes is encrypt32 over all lanes. All blocks of a round are written before the first is read: the processor
// cannot hand a 16-byte load what two 8-byte stores just wrote, and by then they have reached the cache.
func (p *Plan) encryptLanes(s *lanes) {
	mu, mv, step := p.mu32, p.mv32, p.step.lo
	for i := range Lanes {
		s.fa[i], s.fb[i] = mu.start(s.a[i]), mv.start(s.b[i])
		s.put(i, s.b[i])
	}
	for round := uint64(1); ; round += 2 {
		s.encrypt(p.block)
		for i := range Lanes {
			s.fa[i] = mu.plus(s.fa[i], s.y(i))
			s.put(i, round*step^mu.whole(s.fa[i]))
		}
		s.encrypt(p.block)
		if round == rounds-1 {
			break
		}
		for i := range Lanes {
			s.fb[i] = mv.plus(s.fb[i], s.y(i))
			s.put(i, (round+1)*step^mv.whole(s.fb[i]))
		}
	}
	for i := range Lanes {
		s.a[i], s.b[i] = mu.whole(s.fa[i]), mv.whole(mv.plus(s.fb[i], s.y(i)))
	}
}

func (p *Plan) decryptLanes(s *lanes) {
	mu, mv, step := p.mu32, p.mv32, p.step.lo
	for i := range Lanes {
		s.fa[i], s.fb[i] = mu.start(s.a[i]), mv.start(s.b[i])
		s.put(i, (rounds-1)*step^s.a[i])
	}
	for round := uint64(rounds - 2); ; round -= 2 {
		s.encrypt(p.block)
		for i := range Lanes {
			s.fb[i] = mv.minus(s.fb[i], s.y(i))
			s.put(i, round*step^mv.whole(s.fb[i]))
		}
		s.encrypt(p.block)
		if round == 0 {
			break
		}
		for i := range Lanes {
			s.fa[i] = mu.minus(s.fa[i], s.y(i))
			s.put(i, (round-1)*step^mu.whole(s.fa[i]))
		}
	}
	for i := range Lanes {
		s.a[i], s.b[i] = mu.whole(mu.minus(s.fa[i], s.y(i))), mv.whole(s.fb[i])
	}
}

// put writes the second half of a lane's block.
func (s *lanes) put(i int, x uint64) { binary.BigEndian.PutUint64(s.in[i][8:], s.lo[i]^x) }

// y returns the first d = 8 bytes of a lane's block.
func (s *lanes) y(i int) uint64 { return binary.BigEndian.Uint64(s.out[i][:8]) }

func (s *lanes) encrypt(block cipher.Block) {
	for i := range Lanes {
		block.Encrypt(s.out[i][:], s.in[i][:])
	}
}
