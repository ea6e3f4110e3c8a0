package engine

import (
	"math/big"
	"strings"
)

// ibanFormat is an International Bank Account Number (ISO 13616) of a country in the registry: upper case, valid check
// digits, in one piece or with a space after every four characters. The country stays.
//
// The rest of the number is ranked by its country's structure, so that digits stay digits and letters letters, and
// enciphered. In the place of the check digits stand two letters, so a token is never valid: the first is the version's
// mark, the second X, or Y where with X the remainder by 97 would be 1 for whoever computes it over letters too.
var ibanFormat = format{
	info: FormatInfo{
		Name: "iban", Method: FF1, Mask: "last4", Shape: "CCAX999…",
		Description: "bank account number (ISO 13616); the country stays, two letters in the place of the check digits",
	},
	masks: []string{"last4", "country", "fixed"},
	prepare: func(p Policy, r *resolved) *PolicyError {
		r.versions = 26
		for _, c := range ibanCountries {
			if r.values == nil || c.size.Cmp(r.values) < 0 {
				r.values = c.size
			}
			r.calls = max(r.calls, expected(c.size))
		}
		r.guard = func(column string) string {
			return "(" + begins(column, "A", "[") + " AND " + begins("pg_catalog.substr("+column+", 3, 1)", "A", "[") +
				" AND pg_catalog.substr(" + column + `, 4, 1) COLLATE "C" IN ('X', 'Y'))`
		}
		r.warn("the country stays, and so does the structure of its numbers")
		r.newCode = func(r resolved) code {
			sizes := make([]*big.Int, len(ibanCountries))
			for i, c := range ibanCountries {
				sizes[i] = c.size
			}
			return newIrregular(r, ibanLayout{}, sizes...)
		}
		return nil
	},
}

// ibanRegistry is the country codes with the structure of what follows the check digits: n digits, a upper-case
// letters, c either (SWIFT IBAN registry, release 101). An entry is added, never changed: tokens depend on it.
const ibanRegistry = `
AD 8n12c     AE 19n       AL 8n16c     AT 16n       AZ 4a20c     BA 16n       BE 12n       BG 4a6n8c
BH 4a14c     BI 23n       BR 23n1a1c   BY 4c4n16c   CH 5n12c     CR 18n       CY 8n16c     CZ 20n
DE 18n       DJ 23n       DK 14n       DO 4c20n     EE 16n       EG 25n       ES 20n       FI 14n
FK 2a12n     FO 14n       FR 10n11c2n  GB 4a14n     GE 2a16n     GI 4a15c     GL 14n       GR 7n16c
GT 4c20c     HN 4a20n     HR 17n       HU 24n       IE 4a14n     IL 19n       IQ 4a15n     IS 22n
IT 1a10n12c  JO 4a4n18c   KW 4a22c     KZ 3n13c     LB 4n20c     LC 4a24c     LI 5n12c     LT 16n
LU 3n13c     LV 4a13c     LY 21n       MC 10n11c2n  MD 2c18c     ME 18n       MK 3n10c2n   MN 16n
MR 23n       MT 4a5n18c   MU 4a19n3a   NI 4a20n     NL 4a10n     NO 11n       OM 3n16c     PK 4a16c
PL 24n       PS 4a21c     PT 21n       QA 4a21c     RO 4a16c     RS 18n       RU 14n15c    SA 2n18c
SC 4a20n3a   SD 14n       SE 20n       SI 15n       SK 20n       SM 1a10n12c  SO 19n       ST 21n
SV 4a20n     TL 19n       TN 20n       TR 5n1n16c   UA 6n19c     VA 18n       VG 4a16n     XK 16n
YE 4a4n18c`

// ibanCountry is one country's structure: for each character behind the check digits how many it may be.
type ibanCountry struct {
	code    string
	classes []byte // 10 digits, 26 letters, 36 both
	size    *big.Int
}

var (
	ibanCountries []ibanCountry
	ibanIndex     [26 * 26]int8 // by country code; index + 1
)

func init() {
	fields := strings.Fields(ibanRegistry)
	for i := 0; i < len(fields); i += 2 {
		c := ibanCountry{code: fields[i], size: big.NewInt(1)}
		n := 0
		for _, s := range []byte(fields[i+1]) {
			if s >= '0' && s <= '9' {
				n = 10*n + int(s-'0')
				continue
			}
			class := map[byte]byte{'n': 10, 'a': 26, 'c': 36}[s]
			for ; n > 0; n-- {
				c.classes = append(c.classes, class)
				c.size.Mul(c.size, big.NewInt(int64(class)))
			}
		}
		ibanCountries = append(ibanCountries, c)
		ibanIndex[int(c.code[0]-'A')*26+int(c.code[1]-'A')] = int8(len(ibanCountries))
	}
}

type ibanLayout struct{}

// read takes an IBAN or a token apart: the country, the check characters, and the rank of the rest. remainder is that of
// the rest and the country by 97, with the check characters still to come.
func (ibanLayout) read(r *ranking, src []byte) (check [2]byte, remainder int, f fault) {
	var country *ibanCountry
	n, class := 0, byte(0) // characters without spaces; what the next one may be
	r.x = wide{}
	for i, c := range src {
		if i%5 == 4 && c == ' ' && i < len(src)-1 {
			continue
		}
		letter := c >= 'A' && c <= 'Z'
		if !letter && (c < '0' || c > '9') {
			if c >= 'a' && c <= 'z' {
				return check, 0, fault{"a lower-case letter where an upper-case one belongs", i}
			}
			return check, 0, fault{stray(c), i}
		}
		switch {
		case n < 2 && !letter:
			return check, 0, fault{stray(c), i}
		case n < 2:
			r.tweak[n] = c
		case n < 4:
			check[n-2] = c
		case n-4 == len(country.classes):
			return check, 0, fault{"it is longer than its country's numbers", i}
		default:
			class = country.classes[n-4]
			if letter && class == 10 || !letter && class == 26 {
				return check, 0, fault{stray(c), i}
			}
			d := uint64(c - '0')
			switch {
			case letter && class == 26:
				d = uint64(c - 'A')
			case letter:
				d = uint64(c-'A') + 10
			}
			r.x = r.x.times(uint64(class), d)
			remainder = remainder97(remainder, c)
		}
		if n++; n == 2 {
			at := ibanIndex[int(r.tweak[0]-'A')*26+int(r.tweak[1]-'A')]
			if at == 0 {
				return check, 0, fault{"no country of the registry has this code", 0}
			}
			r.domain = int(at) - 1
			country = &ibanCountries[r.domain]
		}
	}
	if n < 4 || n-4 < len(country.classes) {
		return check, 0, fault{"it is shorter than its country's numbers", -1}
	}
	remainder = remainder97(remainder97(remainder, r.tweak[0]), r.tweak[1])
	return check, remainder, fault{}
}

// remainder97 is the remainder by 97 with one character more, a letter counting as two digits (ISO 13616, ISO 7064 MOD 97-10).
func remainder97(m int, c byte) int {
	if c >= 'A' {
		return (m*100 + int(c-'A') + 10) % 97
	}
	return (m*10 + int(c-'0')) % 97
}

// checkDigits makes the remainder 1: two digits from 02 to 98.
func checkDigits(remainder int) [2]byte {
	n := 98 - remainder*100%97
	return [2]byte{'0' + byte(n/10), '0' + byte(n%10)}
}

// tokenCheck is what stands in a token in their place.
func tokenCheck(remainder, mark int) [2]byte {
	first := 'A' + byte(mark)
	if remainder97(remainder97(remainder, first), 'X') == 1 {
		return [2]byte{first, 'Y'}
	}
	return [2]byte{first, 'X'}
}

func (l ibanLayout) value(r *ranking, src []byte) fault {
	check, remainder, f := l.read(r, src)
	switch {
	case f.reason != "":
		return f
	case check[0] > '9' || check[1] > '9':
		return fault{"letters where check digits belong", 2}
	case check != checkDigits(remainder):
		return fault{"its check digits are wrong", 2}
	}
	return fault{}
}

func (l ibanLayout) token(r *ranking, src []byte) fault {
	check, remainder, f := l.read(r, src)
	if f.reason != "" {
		return f
	}
	if check[0] < 'A' || check != tokenCheck(remainder, int(check[0]-'A')) {
		return fault{reasonShape, 2}
	}
	r.mark = int(check[0] - 'A')
	return fault{}
}

func (l ibanLayout) appendToken(dst, src []byte, r *ranking) []byte {
	return l.append(dst, src, r, func(remainder int) [2]byte { return tokenCheck(remainder, r.mark) })
}

func (l ibanLayout) appendPlain(dst, src []byte, r *ranking) ([]byte, fault) {
	return l.append(dst, src, r, checkDigits), fault{}
}

// append writes the country, what check makes of the rest's remainder, and the rest, with the spaces of src.
func (ibanLayout) append(dst, src []byte, r *ranking, check func(remainder int) [2]byte) []byte {
	classes := ibanCountries[r.domain].classes
	var text [4 + 30]byte
	text[0], text[1] = r.tweak[0], r.tweak[1]
	x := r.x
	for i := len(classes) - 1; i >= 0; i-- {
		var d uint64
		x, d = x.divide(uint64(classes[i]))
		switch {
		case classes[i] == 26:
			text[4+i] = 'A' + byte(d)
		case d >= 10:
			text[4+i] = 'A' + byte(d-10)
		default:
			text[4+i] = '0' + byte(d)
		}
	}
	remainder := 0
	for _, c := range text[4 : 4+len(classes)] {
		remainder = remainder97(remainder, c)
	}
	two := check(remainder97(remainder97(remainder, text[0]), text[1]))
	text[2], text[3] = two[0], two[1]
	n := 0
	for _, c := range src {
		if c != ' ' {
			c = text[n]
			n++
		}
		dst = append(dst, c)
	}
	return dst
}

func (ibanLayout) tweakLen() int { return 2 }

func (ibanLayout) masked(dst, plain []byte, mask string) ([]byte, fault) {
	last := 4
	if mask == "country" {
		last = 0
	}
	n := 0
	for _, c := range plain {
		if c != ' ' {
			n++
		}
	}
	i := 0
	for _, c := range plain {
		if c != ' ' {
			if i >= 2 && i < n-last {
				c = '*'
			}
			i++
		}
		dst = append(dst, c)
	}
	return dst, fault{}
}

func (ibanLayout) tokenLen(n int) int { return n }
