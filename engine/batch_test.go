package engine_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"pgveil/engine"
)

// TestBatchEqualsOneByOne mixes lengths and versions, so that some groups share a plan and others do not.
func TestBatchEqualsOneByOne(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 1))
	for format, c := range roundTrips {
		tr := compile(t, format, 1, 2)
		for n := range 40 {
			values, same := make([][]byte, n), r.IntN(2) == 0
			for i := range values {
				if values[i] = []byte(c.values[r.IntN(len(c.values))]); same {
					values[i] = []byte(c.values[0])
				}
			}
			want, wantEnds := []byte("x"), []int{1}
			for _, v := range values {
				want, _ = tr.AppendToken(want, v, 2)
				wantEnds = append(wantEnds, len(want))
			}
			got, ends, err := tr.AppendTokens([]byte("x"), []int{1}, values, 2)
			if err != nil || !bytes.Equal(got, want) || !slices.Equal(ends, wantEnds) {
				t.Fatalf("%s: batch of %d differs: %v", format, n, err)
			}
			tokens := split(got, ends)
			for i := range tokens {
				if r.IntN(3) == 0 && !same {
					tokens[i], _ = tr.AppendToken(nil, values[i], 1)
				}
			}
			back, ends, err := tr.AppendPlains([]byte("y"), []int{1}, tokens)
			if err != nil || !slices.EqualFunc(split(back, ends), values, bytes.Equal) {
				t.Fatalf("%s: batch of %d does not come back: %v", format, n, err)
			}
		}
	}
}

// split returns what stands between one end and the next.
func split(b []byte, ends []int) (parts [][]byte) {
	for i := range ends[1:] {
		parts = append(parts, b[ends[i]:ends[i+1]])
	}
	return parts
}

func TestBatchStopsAtTheFirstBadValue(t *testing.T) {
	t.Parallel()
	for format, c := range roundTrips {
		tr, good := compile(t, format), []byte(c.values[0])
		token, err := tr.AppendToken(nil, good, 1)
		if err != nil {
			t.Fatal(err)
		}
		for bad := range 20 {
			values, tokens := make([][]byte, 20), make([][]byte, 20)
			for i := range values {
				values[i], tokens[i] = good, token
			}
			values[bad], tokens[bad] = nil, good
			var fe *engine.FormatError
			dst, ends, err := tr.AppendTokens(nil, nil, values, 1)
			if !errors.As(err, &fe) || len(ends) != bad || !bytes.Equal(dst, bytes.Repeat(token, bad)) {
				t.Errorf("%s: %d tokens before bad value %d: %v", format, len(ends), bad, err)
			}
			var te *engine.TokenError
			dst, ends, err = tr.AppendPlains(nil, nil, tokens)
			if !errors.As(err, &te) || len(ends) != bad || !bytes.Equal(dst, bytes.Repeat(good, bad)) {
				t.Errorf("%s: %d values before bad token %d: %v", format, len(ends), bad, err)
			}
			values[bad] = token
			if _, _, err := tr.AppendTokens(nil, nil, values, 1); !errors.As(err, &fe) || fe.Reason != "it is already a token" {
				t.Errorf("%s: a token among values: %v", format, err)
			}
		}
		var pe *engine.PolicyError
		if _, _, err := tr.AppendTokens(nil, nil, [][]byte{good}, 2); !errors.As(err, &pe) {
			t.Errorf("%s: a version without a key: %v", format, err)
		}
	}
}

func TestNoAllocationsInABatch(t *testing.T) {
	if raceEnabled {
		t.Log("sync.Pool drops at random under the race detector: not measured")
		return
	}
	for format, c := range roundTrips {
		if format == "json" { // a document's names are kept in maps
			continue
		}
		tr := compile(t, format)
		values, dst, ends := make([][]byte, 20), make([]byte, 0, 1<<12), make([]int, 0, 20)
		for i := range values {
			values[i] = []byte(c.values[0])
		}
		if n := testing.AllocsPerRun(100, func() { dst, ends, _ = tr.AppendTokens(dst[:0], ends[:0], values, 1) }); n != 0 {
			t.Errorf("%s: %v allocations", format, n)
		}
	}
}

func BenchmarkTokens(b *testing.B) {
	for format, c := range roundTrips {
		b.Run(format, func(b *testing.B) {
			tr, values := compile(b, format), make([][]byte, 64)
			for i := range values {
				values[i] = []byte(c.values[0])
			}
			want, _, err := tr.AppendTokens(nil, nil, values, 1)
			if err != nil {
				b.Fatal(err)
			}
			dst, ends := make([]byte, 0, len(want)), make([]int, 0, len(values))
			b.ReportAllocs()
			for b.Loop() {
				if dst, ends, err = tr.AppendTokens(dst[:0], ends[:0], values, 1); err != nil || !bytes.Equal(dst, want) {
					b.Fatal("wrong tokens")
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(len(values)*b.N), "ns/value")
		})
	}
}
