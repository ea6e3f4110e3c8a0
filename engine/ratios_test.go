package engine_test

import (
	"bytes"
	"crypto/aes"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	oracle "github.com/capitalone/fpe/ff1"

	"pgveil/engine/ff1"
	"pgveil/engine/siv"
)

// contender is something to be timed against ten chained AES-256 blocks. run does it n times and reports whether
// every answer was right; values is how many values one time is.
type contender struct {
	name   string
	values int
	run    func(n int) bool
}

// TestRatios times everything in turn, many times over, and gives for each the median of its time a value in units of
// the chain timed beside it. Every answer is checked. It is short and judges no times unless PGVEIL_BENCH is set: then
// it prints the ratios as make bench-engine shows them. A neighbor on the same core slows batches more than the chain,
// which waits most of the time: the figures are worth keeping only from a quiet machine.
func TestRatios(t *testing.T) {
	turns, perTurn := 3, 20
	if os.Getenv("PGVEIL_BENCH") != "" {
		turns, perTurn = 2000, 200 // about 8 s
	}
	chain, all := chainContender(t), contenders(t)
	ratios := map[string][]float64{}
	for range turns {
		times := map[string]float64{}
		for _, c := range all {
			unit := timed(t, chain, perTurn)
			times[c.name] = timed(t, c, max(1, perTurn/c.values))
			ratios[c.name] = append(ratios[c.name], times[c.name]/unit)
		}
		for vs, c := range map[string]string{"vs_capitalone_single": "ff1_16_single", "vs_capitalone_batch": "ff1_16_batch8"} {
			ratios[vs] = append(ratios[vs], times["capitalone_16"]/times[c])
		}
	}
	for _, name := range []string{
		"capitalone_16", "pan_batch", "ssn_single", "ssn_batch", "phone_single", "phone_batch", "email_single", "email_batch",
		"ff1_16_single", "ff1_16_batch8", "ff1_32_r62", "pan_single", "siv_22", "vs_capitalone_single", "vs_capitalone_batch",
	} {
		r := ratios[name]
		slices.Sort(r)
		if os.Getenv("PGVEIL_BENCH") != "" {
			fmt.Printf("%s %.3f\n", name, r[len(r)/2])
		}
	}
}

// timed returns the nanoseconds a value.
func timed(t *testing.T, c contender, n int) float64 {
	t.Helper()
	start := time.Now()
	if !c.run(n) {
		t.Fatalf("%s: wrong answer", c.name)
	}
	return float64(time.Since(start).Nanoseconds()) / float64(n*c.values)
}

func chainContender(b testing.TB) contender {
	block, err := aes.NewCipher(make([]byte, 32))
	if err != nil {
		b.Fatal(err)
	}
	x := make([]byte, 16)
	return contender{"chain", 1, func(n int) bool {
		for range n {
			for range 10 {
				block.Encrypt(x, x)
			}
		}
		return true
	}}
}

func contenders(b testing.TB) []contender {
	key := bytes.Repeat([]byte{7}, 32)
	f, err := ff1.New(key)
	if err != nil {
		b.Fatal(err)
	}
	must := func(p *ff1.Plan, err error) *ff1.Plan {
		if err != nil {
			b.Fatal(err)
		}
		return p
	}
	digits, wide := must(f.Plan(10, 16, 4)), must(f.Plan(62, 32, 4))
	tweak, tweaks := []byte("1234"), bytes.Repeat([]byte("1234"), 8)
	wantA, wantB := digits.EncryptPair(12345678, 87654321, tweak)
	var lanesA, lanesB [8]uint64
	var long, out, wantLong [32]uint16
	for i := range long {
		long[i] = uint16(i)
	}
	if err := wide.Encrypt(wantLong[:], long[:], tweak); err != nil {
		b.Fatal(err)
	}
	sealer, err := siv.New(append(key, key...))
	if err != nil {
		b.Fatal(err)
	}
	sealer = sealer.With([]byte("example.com"))
	plain22, sealed := []byte("twenty-two bytes, yes!"), make([]byte, 0, 64)
	wantSealed := sealer.Seal(nil, plain22)
	wantOracle := fmt.Sprintf("%08d%08d", wantA, wantB)
	return append([]contender{
		{"ff1_16_single", 1, func(n int) bool {
			for range n {
				if x, y := digits.EncryptPair(12345678, 87654321, tweak); x != wantA || y != wantB {
					return false
				}
			}
			return true
		}},
		{"ff1_16_batch8", 8, func(n int) bool {
			for range n {
				for i := range lanesA {
					lanesA[i], lanesB[i] = 12345678, 87654321
				}
				if digits.EncryptPairs(lanesA[:], lanesB[:], tweaks); lanesA[7] != wantA || lanesB[0] != wantB {
					return false
				}
			}
			return true
		}},
		{"ff1_32_r62", 1, func(n int) bool {
			for range n {
				if wide.Encrypt(out[:], long[:], tweak) != nil || out != wantLong {
					return false
				}
			}
			return true
		}},
		{"siv_22", 1, func(n int) bool {
			for range n {
				if sealed = sealer.Seal(sealed[:0], plain22); !bytes.Equal(sealed, wantSealed) {
					return false
				}
			}
			return true
		}},
		{"capitalone_16", 1, func(n int) bool { // a Cipher for each value: the only safe use
			for range n {
				c, err := oracle.NewCipher(10, 4, key, tweak)
				if err != nil {
					return false
				}
				if s, err := c.Encrypt("1234567887654321"); err != nil || s != wantOracle {
					return false
				}
			}
			return true
		}},
	}, transformContenders(b)...)
}

// transformContenders are whole values through a policy, one by one and in batches of 64.
func transformContenders(b testing.TB) (all []contender) {
	for _, c := range []struct{ format, value string }{
		{"pan", "4111111111111111"}, {"ssn", "123-45-6789"}, {"phone", "+12125550123"}, {"email", "jane.doe@example.com"},
	} {
		tr, value := compile(b, c.format), []byte(c.value)
		want, err := tr.AppendToken(nil, value, 1)
		if err != nil {
			b.Fatal(err)
		}
		batch := slices.Repeat([][]byte{value}, 64)
		wants := bytes.Repeat(want, 64)
		dst, ends := make([]byte, 0, len(wants)), make([]int, 0, 64)
		all = append(all, contender{c.format + "_single", 1, func(n int) bool {
			for range n {
				if dst, err = tr.AppendToken(dst[:0], value, 1); err != nil || !bytes.Equal(dst, want) {
					return false
				}
			}
			return true
		}}, contender{c.format + "_batch", 64, func(n int) bool {
			for range n {
				if dst, ends, err = tr.AppendTokens(dst[:0], ends[:0], batch, 1); err != nil || !bytes.Equal(dst, wants) {
					return false
				}
			}
			return true
		}})
	}
	return all
}
