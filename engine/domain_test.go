package engine

import (
	"encoding/binary"
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	"pgveil/engine/ff1"
)

// TestCycleWalkingTakesAsManyCallsAsSaid counts applications of FF1, and tries ranks at both ends.
func TestCycleWalkingTakesAsManyCallsAsSaid(t *testing.T) {
	t.Parallel()
	c, err := ff1.New(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []string{"100", "101", "73049", "1000000", "1000001", "4294967297", "50000000000", "42535295865117307932921825928971026432"} {
		n, _ := new(big.Int).SetString(size, 10)
		d := newDomain(n)
		p, err := d.plan(c, 0)
		if err != nil {
			t.Fatal(err)
		}
		r, calls, walks := rand.New(rand.NewPCG(1, 1)), 0, 4000
		for i := range walks {
			x := wideOf(new(big.Int).Mod(new(big.Int).SetBytes(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, r.Uint64()), r.Uint64())), n))
			switch i {
			case 0:
				x = wide{}
			case 1:
				x = wideOf(new(big.Int).Sub(n, big.NewInt(1)))
			}
			y, ok := d.walk(p, x, nil, false)
			if back, okBack := d.walk(p, y, nil, true); !ok || !okBack || back != x || !y.less(d.size) {
				t.Fatalf("of %s: no round trip", size)
			}
			step := domain{size: wideOf(new(big.Int).Exp(big.NewInt(int64(d.radix)), big.NewInt(int64(d.n)), nil)), radix: d.radix, n: d.n}
			for z := x; ; { // the same walk, an application at a time
				calls++
				if z, _ = step.walk(p, z, nil, false); z == y {
					break
				}
			}
		}
		if average := float64(calls) / float64(walks); math.Abs(average-d.calls()) > 0.03*d.calls() {
			t.Errorf("of %s: %.4f calls on average, said %.4f", size, average, d.calls())
		}
	}
}
