package engine_test

import (
	"fmt"
	"math/big"
	"math/rand/v2"
	"strconv"
	"time"
)

// manyRunes is many taken apart once: it is long.
var manyRunes = []rune(many)

// random returns a value of a case, drawn from the whole of its range as well as one may.
func random(r *rand.Rand, name string) []byte {
	pick := func(from string, n int) (s []byte) {
		symbols := manyRunes
		if from != many {
			symbols = []rune(from)
		}
		for range n {
			s = append(s, string(symbols[r.IntN(len(symbols))])...)
		}
		return s
	}
	const digits, upper, lower = "0123456789", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz"
	switch name {
	case "ssn", "sealed-ssn":
		return pick(digits, 9)
	case "pan":
		return card(r, 12+r.IntN(8))
	case "card-6-4":
		return card(r, 13+r.IntN(7))
	case "digits":
		return pick(digits, 6+r.IntN(33))
	case "digits-kept":
		return pick(digits, 10+r.IntN(20))
	case "phone":
		return append([]byte("+1"), pick(digits, 10)...)
	case "email":
		return append(pick(lower+digits+".+", 1+r.IntN(30)), "@example.com"...)
	case "text":
		return pick(lower+upper+" äöü東京☃", 1+r.IntN(60))
	case "alphanumeric":
		return pick(digits+upper+lower, 6+r.IntN(40))
	case "upper":
		return pick(digits+upper, 6+r.IntN(20))
	case "lower":
		return pick(digits+lower, 8+r.IntN(20))
	case "alphabet":
		return pick("ACGT", 10+r.IntN(60))
	case "greek":
		return pick("αβγδεζηθικλμνξοπρστυφχψω", 7+r.IntN(20))
	case "signs":
		return pick(`'"\%_-×`, 8+r.IntN(20))
	case "many":
		return pick(many, 2+r.IntN(6))
	case "custom":
		return append(append(pick(upper+"é-/ ", 2), pick(digits, 6+r.IntN(20))...), pick(upper+digits, 1)...)
	case "short":
		return pick(digits+"ABCDEF", 1+r.IntN(12))
	case "iban":
		return iban(r)
	case "uuid":
		hi, lo := r.Uint64(), r.Uint64()
		return fmt.Appendf(nil, "%08x-%04x-%x%03x-%x%03x-%012x", hi>>32, hi>>16&0xffff, 1+(hi>>12&7), hi&0xfff, 8+(lo>>60&3), lo>>48&0xfff, lo&0xffffffffffff)
	case "integer":
		return strconv.AppendInt(nil, r.Int64N(1_000_000_000_000)>>r.IntN(40), 10)
	case "integer-int4":
		return strconv.AppendInt(nil, r.Int64N(1_001_000)-1000, 10)
	case "integer-wide":
		return new(big.Int).Sub(new(big.Int).SetUint64(r.Uint64()), big.NewInt(1<<62)).Sub(new(big.Int).SetUint64(r.Uint64()>>1), big.NewInt(0)).Append(nil, 10)
	case "integer-neg":
		return strconv.AppendInt(nil, -5-r.Int64N(1_999_996), 10)
	case "date":
		return time.Date(1900, 1, 1+r.IntN(73_049), 0, 0, 0, 0, time.UTC).AppendFormat(nil, time.DateOnly)
	case "date-wide":
		return time.Date(1, 1, 1+r.IntN(1_000_000), 0, 0, 0, 0, time.UTC).AppendFormat(nil, time.DateOnly)
	case "timestamp":
		zone := time.FixedZone("", r.IntN(1441)*60-720*60)
		at := time.Date(1900, 1, 2, 0, 0, 0, 0, time.UTC).Add(time.Duration(r.IntN(73_000)) * 24 * time.Hour).Add(time.Duration(r.IntN(86_400_000_000)) * time.Microsecond)
		return at.In(zone).AppendFormat(nil, "2006-01-02 15:04:05.999999-07:00")
	case "second":
		return time.Unix(r.Int64N(100*365*86_400), 0).UTC().AppendFormat(nil, time.DateTime)
	case "json":
		return fmt.Appendf(nil, `{"patient":{"ssn":"%s","name":%q},"n":%s,"cards":[{"pan":"%s"}],"x":%d}`, random(r, "ssn"), pick(lower+" ", 5), random(r, "integer"), random(r, "pan"), r.IntN(99))
	case "bytes":
		return fmt.Appendf(nil, `\x%0*x`, 2*(8+r.IntN(8)), r.Uint64())
	}
	panic("no random values of " + name)
}

// iban returns a random valid IBAN of a few countries, with check digits by big numbers, apart from the code under test.
func iban(r *rand.Rand) []byte {
	country := []struct{ code, shape string }{
		{"DE", "nnnnnnnnnnnnnnnnnn"}, {"GB", "aaaannnnnnnnnnnnnn"}, {"NO", "nnnnnnnnnnn"}, {"FR", "nnnnnnnnnncccccccccccnn"},
		{"MT", "aaaannnnncccccccccccccccccc"}, {"KW", "aaaacccccccccccccccccccccc"}, {"MU", "aaaannnnnnnnnnnnnnnnnnnaaa"}, {"LC", "aaaacccccccccccccccccccccccc"},
	}[r.IntN(8)]
	body := make([]byte, len(country.shape))
	for i, class := range []byte(country.shape) {
		set := map[byte]string{'n': "0123456789", 'a': "ABCDEFGHIJKLMNOPQRSTUVWXYZ", 'c': "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"}[class]
		body[i] = set[r.IntN(len(set))]
	}
	check := 98 - ibanRemainder(country.code+"00"+string(body))
	return fmt.Appendf(nil, "%s%02d%s", country.code, check, body)
}

// ibanRemainder moves the first four characters behind, writes letters as numbers, and divides by 97 (ISO 13616).
func ibanRemainder(s string) int64 {
	text := ""
	for _, c := range s[4:] + s[:4] {
		if c >= 'A' {
			text += strconv.Itoa(int(c-'A') + 10)
		} else {
			text += string(c)
		}
	}
	n, _ := new(big.Int).SetString(text, 10)
	return n.Mod(n, big.NewInt(97)).Int64()
}
