package engine

import "pgveil/engine/ff1"

// lanes is what FF1 runs over for up to ff1.Lanes values.
type lanes struct {
	plan     [ff1.Lanes]*ff1.Plan
	a, b     [ff1.Lanes]uint64
	tweakLen int // bytes of each tweak; the tweaks stand one behind the other
	tweaks   [ff1.Lanes*maxTweak + maxTweak]byte
}

// tweak returns the place of tweak i. What is written behind its tweakLen bytes is overwritten by the next.
func (w *lanes) tweak(i int) []byte { return w.tweaks[i*w.tweakLen:] }

// run runs FF1 over the first n values: at once where they share a plan, which they do if they have one length and
// one key version.
func (w *lanes) run(n int, inverse bool) {
	same := true
	for i := range n {
		same = same && w.plan[i] == w.plan[0]
	}
	switch {
	case n == 0:
	case same && inverse:
		w.plan[0].DecryptPairs(w.a[:n], w.b[:n], w.tweaks[:n*w.tweakLen])
	case same:
		w.plan[0].EncryptPairs(w.a[:n], w.b[:n], w.tweaks[:n*w.tweakLen])
	default:
		for i := range n {
			tweak := w.tweak(i)[:w.tweakLen]
			if inverse {
				w.a[i], w.b[i] = w.plan[i].DecryptPair(w.a[i], w.b[i], tweak)
			} else {
				w.a[i], w.b[i] = w.plan[i].EncryptPair(w.a[i], w.b[i], tweak)
			}
		}
	}
}
