package engine

import (
	"math/big"
	"sync"

	"pgveil/engine/ff1"
)

// irregular is the code of the formats whose values are not a plain string over an alphabet: a value is ranked to a
// number, FF1 permutes the numbers (see domain), and the result is written as a token that no value looks like.
type irregular struct {
	resolved
	layout  ranker
	domains []domain
}

// ranker turns values and tokens into ranks and back.
type ranker interface {
	// value and token take a value or a token apart.
	value(r *ranking, src []byte) fault
	token(r *ranking, src []byte) fault
	// appendToken and appendPlain write the enciphered or deciphered rank in the layout of src. appendPlain refuses what
	// is no value: a rank of the domain that no value has.
	appendToken(dst, src []byte, r *ranking) []byte
	appendPlain(dst, src []byte, r *ranking) ([]byte, fault)
	// tweakLen is the bytes of a ranking's tweak, the same for all.
	tweakLen() int
	masked(dst, plain []byte, mask string) ([]byte, fault)
	tokenLen(n int) int
}

// ranking is a value or token taken apart.
type ranking struct {
	domain int // which one
	mark   int
	x      wide
	tweak  [maxTweak]byte
	digits cardDigits // panLetters
	offset int64      // timestamp: of the zone, in its units
}

// rankings hold what goes through ranker, an interface, and so cannot stay on the stack.
var rankings = sync.Pool{New: func() any { return new(ranking) }}

func newIrregular(r resolved, layout ranker, sizes ...*big.Int) *irregular {
	c := &irregular{resolved: r, layout: layout}
	for _, s := range sizes {
		c.domains = append(c.domains, newDomain(s))
	}
	return c
}

// expected is the average number of FF1 calls over a domain of a size.
func expected(size *big.Int) float64 {
	d := newDomain(size)
	return d.calls()
}

func (c *irregular) derive(k *versionKey, key func(int) []byte) error {
	aes := key(32)
	f, err := ff1.New(aes)
	clear(aes)
	if err != nil {
		return err
	}
	k.plans = make([]*ff1.Plan, len(c.domains))
	for i := range c.domains {
		if k.plans[i], err = c.domains[i].plan(f, c.layout.tweakLen()); err != nil {
			return err
		}
	}
	return nil
}

func (c *irregular) check(plain []byte) fault {
	r := rankings.Get().(*ranking)
	defer rankings.Put(r)
	return c.value(r, plain)
}

func (c *irregular) value(r *ranking, plain []byte) fault {
	if len(plain) == 0 {
		return fault{reasonEmpty, -1}
	}
	return c.layout.value(r, plain)
}

func (c *irregular) token(dst, plain []byte, k *versionKey) ([]byte, fault) {
	r := rankings.Get().(*ranking)
	defer rankings.Put(r)
	if f := c.value(r, plain); f.reason != "" {
		return dst, f
	}
	var ok bool
	if r.x, ok = c.domains[r.domain].walk(k.plans[r.domain], r.x, r.tweak[:c.layout.tweakLen()], false); !ok {
		return dst, fault{reasonWalk, -1}
	}
	r.mark = k.mark
	return c.layout.appendToken(dst, plain, r), fault{}
}

func (c *irregular) plain(dst, token []byte, keys *keySet) ([]byte, fault) {
	r := rankings.Get().(*ranking)
	defer rankings.Put(r)
	if f := c.marked(r, token); f.reason != "" {
		return dst, f
	}
	k := keys.mark(r.mark)
	if c.sure == Unknown {
		if k = keys.only(); k == nil {
			return dst, fault{reasonNoMark, -1}
		}
	}
	if k == nil {
		return dst, fault{reasonVersion, -1}
	}
	var ok bool
	if r.x, ok = c.domains[r.domain].walk(k.plans[r.domain], r.x, r.tweak[:c.layout.tweakLen()], true); !ok {
		return dst, fault{reasonWalk, -1}
	}
	return c.layout.appendPlain(dst, token, r)
}

func (c *irregular) marked(r *ranking, token []byte) fault {
	if len(token) == 0 {
		return fault{reasonEmpty, -1}
	}
	return c.layout.token(r, token)
}

func (c *irregular) mark(token []byte) (int, bool) {
	if c.sure == Unknown {
		return 0, false
	}
	r := rankings.Get().(*ranking)
	defer rankings.Put(r)
	f := c.marked(r, token)
	return r.mark, f.reason == ""
}

func (c *irregular) tokens(dst []byte, ends []int, values [][]byte, k *versionKey) ([]byte, []int, fault) {
	return oneByOne(dst, ends, values, func(dst, v []byte) ([]byte, fault) { return c.token(dst, v, k) })
}

func (c *irregular) plains(dst []byte, ends []int, tokens [][]byte, keys *keySet) ([]byte, []int, fault) {
	return oneByOne(dst, ends, tokens, func(dst, v []byte) ([]byte, fault) { return c.plain(dst, v, keys) })
}

func (c *irregular) masked(dst, plain []byte, mask string) ([]byte, fault) {
	if f := c.check(plain); f.reason != "" {
		return dst, f
	}
	return c.layout.masked(dst, plain, mask)
}

func (c *irregular) tokenLen(n int) int { return c.layout.tokenLen(n) }
