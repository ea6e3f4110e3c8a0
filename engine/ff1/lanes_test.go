package ff1_test

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// TestPairsEqualOneByOne holds for every number of values around the width of a batch, and for both forms of halves.
func TestPairsEqualOneByOne(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(8, 8))
	for _, digits := range []int{6, 15, 16, 30} {
		for _, tweakLen := range []int{0, 5, 30} {
			p := plan(t, 10, digits, tweakLen)
			u, v := p.Halves()
			for n := range 20 {
				a, b, tweaks := make([]uint64, n), make([]uint64, n), make([]byte, n*tweakLen)
				fill(r, tweaks)
				for i := range a {
					a[i], b[i] = r.Uint64N(u), r.Uint64N(v)
				}
				wasA, wasB := slices.Clone(a), slices.Clone(b)
				p.EncryptPairs(a, b, tweaks)
				for i := range a {
					x, y := p.EncryptPair(wasA[i], wasB[i], tweaks[i*tweakLen:(i+1)*tweakLen])
					if a[i] != x || b[i] != y {
						t.Fatalf("%d digits, value %d of %d: the batch differs", digits, i, n)
					}
				}
				p.DecryptPairs(a, b, tweaks)
				if !slices.Equal(a, wasA) || !slices.Equal(b, wasB) {
					t.Fatalf("%d digits, %d values: no round trip", digits, n)
				}
			}
		}
	}
}

func TestNoAllocationsInABatch(t *testing.T) {
	if raceEnabled {
		t.Log("sync.Pool drops at random under the race detector: not measured")
		return
	}
	p := plan(t, 10, 16, 4)
	a, b, tweaks := make([]uint64, 20), make([]uint64, 20), make([]byte, 80)
	if n := testing.AllocsPerRun(200, func() {
		p.EncryptPairs(a, b, tweaks)
		p.DecryptPairs(a, b, tweaks)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkBatch8Of16Digits(b *testing.B) {
	p := plan(b, 10, 16, 4)
	var x, y, wantX, wantY [8]uint64
	tweaks := make([]byte, 32)
	for i := range x {
		x[i], y[i] = uint64(i)*1_234_567, uint64(i)*7_654_321
		wantX[i], wantY[i] = p.EncryptPair(x[i], y[i], tweaks[:4])
	}
	fromX, fromY := x, y
	b.ReportAllocs()
	for b.Loop() {
		x, y = fromX, fromY
		if p.EncryptPairs(x[:], y[:], tweaks); x != wantX || y != wantY {
			b.Fatal("wrong answer")
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(8*b.N), "ns/value")
}
