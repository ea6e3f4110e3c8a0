package scram

import (
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// prepare applies SASLprep (RFC 4013) to a password. One that is not valid UTF-8, or that SASLprep forbids, comes
// back as it is: PostgreSQL's manual says the same of "SCRAM-SHA-256 and non-UTF-8 passwords".
// Code points that Unicode 3.2 had not assigned are not looked for.
func prepare(password []byte) []byte {
	if !utf8.Valid(password) {
		return password
	}
	ascii := true
	for _, c := range password {
		ascii = ascii && c >= 0x20 && c < 0x7f
	}
	if ascii {
		return password
	}
	mapped := make([]rune, 0, len(password))
	for _, r := range string(password) {
		switch {
		case mappedToNothing(r):
		case nonASCIISpace(r):
			mapped = append(mapped, ' ')
		default:
			mapped = append(mapped, r)
		}
	}
	out := norm.NFKC.Bytes([]byte(string(mapped)))
	if len(out) == 0 {
		return password
	}
	var rtl, ltr bool
	for _, r := range string(out) {
		if prohibited(r) {
			return password
		}
		rtl = rtl || unicode.In(r, unicode.Hebrew, unicode.Arabic, unicode.Syriac, unicode.Thaana)
		ltr = ltr || unicode.In(r, unicode.Latin, unicode.Greek, unicode.Cyrillic)
	}
	if rtl && ltr { // RFC 3454 section 6
		return password
	}
	return out
}

// mappedToNothing is table B.1 of RFC 3454.
func mappedToNothing(r rune) bool {
	switch r {
	case 0x00ad, 0x034f, 0x1806, 0x180b, 0x180c, 0x180d, 0x200b, 0x200c, 0x200d, 0x2060, 0xfeff:
		return true
	}
	return r >= 0xfe00 && r <= 0xfe0f
}

// nonASCIISpace is table C.1.2 of RFC 3454 (U+200B is in B.1 too and goes there).
func nonASCIISpace(r rune) bool {
	switch r {
	case 0x00a0, 0x1680, 0x202f, 0x205f, 0x3000:
		return true
	}
	return r >= 0x2000 && r <= 0x200a
}

// prohibited is tables C.2 to C.9 of RFC 3454: controls, private use, non-characters, surrogates, and the rest.
func prohibited(r rune) bool {
	switch {
	case unicode.IsControl(r), unicode.Is(unicode.Co, r), unicode.Is(unicode.Cs, r), unicode.Is(unicode.Noncharacter_Code_Point, r):
		return true
	case r == 0x06dd, r == 0x070f, r == 0x180e, r >= 0x2028 && r <= 0x202e, r >= 0x2061 && r <= 0x2063, r >= 0x206a && r <= 0x206f:
		return true
	case r >= 0xfff9 && r <= 0xfffd, r >= 0x1d173 && r <= 0x1d17a, r >= 0x2ff0 && r <= 0x2ffb, r == 0x0340, r == 0x0341, r == 0x200e, r == 0x200f:
		return true
	}
	return r == 0xe0001 || r >= 0xe0020 && r <= 0xe007f
}
