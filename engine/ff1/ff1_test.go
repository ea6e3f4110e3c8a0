package ff1_test

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"

	"pgveil/engine/ff1"
)

func TestPermutationOfAMillion(t *testing.T) {
	t.Parallel()
	p := plan(t, 10, 6, 3)
	seen := make([]bool, 1_000_000)
	for a := range uint64(1000) {
		for b := range uint64(1000) {
			x, y := p.EncryptPair(a, b, []byte("abc"))
			if x >= 1000 || y >= 1000 || seen[x*1000+y] {
				t.Fatalf("(%d, %d) goes to (%d, %d): out of range or a second time", a, b, x, y)
			}
			seen[x*1000+y] = true
		}
	}
}

// TestPairEqualsNumerals holds for every form of halves that fit: one 64-bit word of y, and 96 bits.
func TestPairEqualsNumerals(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct{ radix, n int }{
		{10, 2}, {10, 3}, {10, 16}, {10, 19}, {10, 20}, {10, 37}, {10, 38}, {2, 7}, {2, 64}, {2, 65}, {2, 127}, {2, 128},
		{65536, 2}, {65536, 4}, {65536, 5}, {65536, 8}, {473, 4}, {16, 16}, {16, 32},
	} {
		for _, tweakLen := range []int{0, 3, 7, 8, 11, 12, 16, 40} {
			p := plan(t, c.radix, c.n, tweakLen)
			if !p.PairsFit() {
				t.Fatalf("radix %d, length %d: halves do not fit", c.radix, c.n)
			}
			tweak, src, dst := make([]byte, tweakLen), make([]uint16, c.n), make([]uint16, c.n)
			fill(r, tweak)
			for range 50 {
				for i := range src {
					src[i] = uint16(r.IntN(c.radix))
				}
				if err := p.Encrypt(dst, src, tweak); err != nil {
					t.Fatal(err)
				}
				a, b := halves(src, c.radix)
				x, y := p.EncryptPair(a, b, tweak)
				if wx, wy := halves(dst, c.radix); x != wx || y != wy {
					t.Fatalf("radix %d, length %d, tweak of %d: the pair differs from the numerals", c.radix, c.n, tweakLen)
				}
				if x, y = p.DecryptPair(x, y, tweak); x != a || y != b {
					t.Fatalf("radix %d, length %d, tweak of %d: no round trip", c.radix, c.n, tweakLen)
				}
			}
		}
	}
}

func halves(x []uint16, radix int) (a, b uint64) {
	for i, d := range x {
		if i < len(x)/2 {
			a = a*uint64(radix) + uint64(d)
		} else {
			b = b*uint64(radix) + uint64(d)
		}
	}
	return a, b
}

func TestPairsThatDoNotFitPanic(t *testing.T) {
	t.Parallel()
	p, wide := plan(t, 10, 16, 0), plan(t, 10, 40, 0)
	for name, f := range map[string]func(){
		"wide plan":          func() { wide.EncryptPair(1, 1, nil) },
		"half out of range":  func() { p.EncryptPair(100_000_000, 1, nil) },
		"other out of range": func() { p.DecryptPair(1, 100_000_000, nil) },
		"tweak of no plan":   func() { p.EncryptPair(1, 1, []byte("x")) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}

func TestWhatTheStandardDoesNotAllowIsRefused(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 15, 17, 33} {
		if _, err := ff1.New(make([]byte, n)); err == nil {
			t.Errorf("a key of %d bytes is accepted", n)
		}
	}
	c, err := ff1.New(make([]byte, 16))
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []struct {
		radix, n, tweak int
		want            error
	}{
		{1, 10, 0, ff1.ErrRadix}, {0, 10, 0, ff1.ErrRadix}, {-1, 10, 0, ff1.ErrRadix}, {65537, 10, 0, ff1.ErrRadix},
		{10, 1, 0, ff1.ErrLength}, {10, 0, 0, ff1.ErrLength}, {10, -1, 0, ff1.ErrLength}, {65536, 1, 0, ff1.ErrLength},
		{2, 6, 0, ff1.ErrLength}, {9, 2, 0, ff1.ErrLength}, {10, 10, -1, ff1.ErrTweak},
		{10, 2, 0, nil}, {2, 7, 0, nil}, {65536, 2, 0, nil},
	} {
		if _, err := c.Plan(v.radix, v.n, v.tweak); !errors.Is(err, v.want) {
			t.Errorf("radix %d, length %d, tweak %d: %v, want %v", v.radix, v.n, v.tweak, err, v.want)
		}
	}
	p := plan(t, 10, 8, 2)
	eight, tweak := make([]uint16, 8), []byte("ab")
	if err := p.Encrypt(eight, eight[:7], tweak); !errors.Is(err, ff1.ErrLength) {
		t.Errorf("seven numerals: %v", err)
	}
	if err := p.Decrypt(eight, eight, tweak[:1]); !errors.Is(err, ff1.ErrTweak) {
		t.Errorf("a tweak of one byte: %v", err)
	}
	eight[5] = 10
	var ne *ff1.NumeralError
	if err := p.Encrypt(eight, eight, tweak); !errors.As(err, &ne) || ne.Offset != 5 {
		t.Errorf("numeral 10 of radix 10: %v", err)
	}
}

// TestOnePlanServesManyGoroutines has known answers: what a lone goroutine computed before.
func TestOnePlanServesManyGoroutines(t *testing.T) {
	t.Parallel()
	for _, n := range []int{16, 30, 50, 60} { // each form of halves
		p := plan(t, 10, n, 5)
		type answer struct{ src, want []uint16 }
		answers := make([]answer, 64)
		for i := range answers {
			src, want := make([]uint16, n), make([]uint16, n)
			for j := range src {
				src[j] = uint16((i*31 + j*j) % 10)
			}
			if err := p.Encrypt(want, src, []byte("tweak")); err != nil {
				t.Fatal(err)
			}
			answers[i] = answer{src, want}
		}
		var wg sync.WaitGroup
		for g := range 64 {
			wg.Go(func() {
				dst := make([]uint16, n)
				for i := range 40 {
					a := answers[(g+i)%len(answers)]
					if err := p.Encrypt(dst, a.src, []byte("tweak")); err != nil || !slices.Equal(dst, a.want) {
						t.Errorf("length %d: wrong ciphertext: %v", n, err)
						return
					}
					if err := p.Decrypt(dst, dst, []byte("tweak")); err != nil || !slices.Equal(dst, a.src) {
						t.Errorf("length %d: wrong plaintext: %v", n, err)
						return
					}
				}
			})
		}
		wg.Wait()
	}
}

func TestNoAllocations(t *testing.T) {
	if raceEnabled {
		t.Log("sync.Pool drops at random under the race detector: not measured")
		return
	}
	for _, c := range []struct{ radix, n int }{{10, 16}, {10, 38}, {10, 56}, {62, 32}} {
		p := plan(t, c.radix, c.n, 20)
		x, tweak := make([]uint16, c.n), make([]byte, 20)
		if n := testing.AllocsPerRun(200, func() {
			if p.Encrypt(x, x, tweak) != nil || p.Decrypt(x, x, tweak) != nil {
				t.Error("refused")
			}
		}); n != 0 {
			t.Errorf("radix %d, length %d: %v allocations", c.radix, c.n, n)
		}
	}
}

func FuzzRoundTrip(f *testing.F) {
	f.Add(uint16(9), []byte("tweak"), []byte("0123456789abcdef"))
	f.Add(uint16(65535-2), []byte(""), []byte("\xff\xff\xff\xff\xff\xff\xff\xff"))
	f.Add(uint16(0), make([]byte, 256), make([]byte, 300))
	f.Fuzz(func(t *testing.T, r uint16, tweak, data []byte) {
		c, err := ff1.New([]byte("0123456789abcdef"))
		if err != nil {
			t.Fatal(err)
		}
		radix := int(r) + 2
		src := make([]uint16, len(data)/2)
		for i := range src {
			src[i] = uint16((int(data[2*i])<<8 | int(data[2*i+1])) % min(radix, ff1.MaxRadix))
		}
		p, err := c.Plan(radix, len(src), len(tweak))
		if err != nil {
			return
		}
		dst := make([]uint16, len(src))
		if err := p.Encrypt(dst, src, tweak); err != nil {
			t.Fatal(err)
		}
		for i, x := range dst {
			if int(x) >= radix {
				t.Fatalf("numeral %d is not below radix %s", i, strconv.Itoa(radix))
			}
		}
		if err := p.Decrypt(dst, dst, tweak); err != nil || !slices.Equal(dst, src) {
			t.Fatalf("no round trip: %v", err)
		}
	})
}
