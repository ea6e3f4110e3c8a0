package engine

import "math/big"

// uuidFormat is a UUID (RFC 9562) in the spelling PostgreSQL prints: 8-4-4-4-12 hexadecimal digits in lower case, of a
// version from 1 to 8 and the RFC's variant, whose digit is 8, 9, a or b. The nil and the max UUID are no values.
//
// A value is its 120 free bits and one of 32 codes for the version and variant digits. A token is a UUID with another
// variant digit, of which there are 12, and any version digit: 192 codes, so 6 key versions.
var uuidFormat = format{
	info: FormatInfo{
		Name: "uuid", Method: FF1, Mask: "fixed", Shape: "xxxxxxxx-xxxx-xxxx-cxxx-xxxxxxxxxxxx",
		Description: "UUID of RFC 9562; the token is a UUID of a variant that no value has",
	},
	masks: []string{"fixed", "last4"},
	prepare: func(p Policy, r *resolved) *PolicyError {
		r.versions, r.values = uuidVersions, new(big.Int).Lsh(big.NewInt(1), 120+5)
		r.calls = expected(r.values)
		r.guard = func(column string) string {
			return "(" + column + ` COLLATE "C" LIKE '________-____-____-____-____________' AND ` + uuidGuard(column) + ")"
		}
		r.typed = func(column, sqlType string) string {
			if sqlType != "uuid" {
				return ""
			}
			return uuidGuard(column + "::pg_catalog.text")
		}
		r.newCode = func(r resolved) code { return newIrregular(r, uuidLayout{}, r.values) }
		return nil
	},
}

// uuidGuard looks at the variant digit.
func uuidGuard(text string) string {
	digit := "pg_catalog.substr(" + text + `, 20, 1) COLLATE "C"`
	return "(" + digit + " < '8' OR " + digit + " > 'b')"
}

const (
	uuidVersions = 6
	uuidCodes    = 8 * 4 // of values
)

type uuidLayout struct{}

// read returns the 30 free digits as a number, and the version and variant digits.
func (uuidLayout) read(src []byte) (free wide, version, variant byte, f fault) {
	for i, c := range src {
		if i == 36 {
			return wide{}, 0, 0, fault{reasonMore, -1}
		}
		if hyphen := i == 8 || i == 13 || i == 18 || i == 23; hyphen != (c == '-') {
			return wide{}, 0, 0, fault{stray(c), i}
		} else if hyphen {
			continue
		}
		var d byte
		switch {
		case c >= '0' && c <= '9':
			d = c - '0'
		case c >= 'a' && c <= 'f':
			d = c - 'a' + 10
		case c >= 'A' && c <= 'F':
			return wide{}, 0, 0, fault{"an upper-case letter where PostgreSQL writes a lower-case one", i}
		default:
			return wide{}, 0, 0, fault{stray(c), i}
		}
		switch i {
		case 14:
			version = d
		case 19:
			variant = d
		default:
			free = free.times(16, uint64(d))
		}
	}
	if len(src) < 36 {
		return wide{}, 0, 0, fault{reasonFewer, -1}
	}
	return free, version, variant, fault{}
}

// join makes one number of a code and the free digits: code·2^120 + free.
func (uuidLayout) join(code uint64, free wide) wide {
	free[1] |= code << 56
	return free
}

func (uuidLayout) split(x wide) (code uint64, free wide) {
	code = x[1] >> 56
	x[1] &= 1<<56 - 1
	return code, x
}

func (l uuidLayout) value(r *ranking, src []byte) fault {
	free, version, variant, f := l.read(src)
	switch {
	case f.reason != "":
		return f
	case variant < 8 || variant > 0xb:
		return fault{"its variant is not that of RFC 9562", 19}
	case version < 1 || version > 8:
		return fault{"its version is not one from 1 to 8", 14}
	}
	r.domain, r.x = 0, l.join(uint64(version-1)*4+uint64(variant-8), free)
	return fault{}
}

func (l uuidLayout) token(r *ranking, src []byte) fault {
	free, version, variant, f := l.read(src)
	switch {
	case f.reason != "":
		return f
	case variant >= 8 && variant <= 0xb:
		return fault{reasonShape, 19}
	case variant > 0xb:
		variant -= 4
	}
	code := uint64(variant)*16 + uint64(version)
	r.domain, r.mark, r.x = 0, int(code/uuidCodes), l.join(code%uuidCodes, free)
	return fault{}
}

func (l uuidLayout) appendToken(dst, _ []byte, r *ranking) []byte {
	code, free := l.split(r.x)
	code += uint64(r.mark) * uuidCodes
	variant := byte(code / 16)
	if variant >= 8 {
		variant += 4
	}
	return l.append(dst, free, byte(code%16), variant)
}

func (l uuidLayout) appendPlain(dst, _ []byte, r *ranking) ([]byte, fault) {
	code, free := l.split(r.x)
	return l.append(dst, free, byte(code/4)+1, byte(code%4)+8), fault{}
}

const hexDigits = "0123456789abcdef"

func (uuidLayout) append(dst []byte, free wide, version, variant byte) []byte {
	var text [36]byte
	for i := len(text) - 1; i >= 0; i-- {
		switch i {
		case 8, 13, 18, 23:
			text[i] = '-'
		case 14:
			text[i] = hexDigits[version]
		case 19:
			text[i] = hexDigits[variant]
		default:
			text[i] = hexDigits[free[0]&15]
			free[0] = free[0]>>4 | free[1]<<60
			free[1] >>= 4
		}
	}
	return append(dst, text[:]...)
}

func (uuidLayout) tweakLen() int { return 0 }

func (uuidLayout) masked(dst, plain []byte, _ string) ([]byte, fault) {
	for i, c := range plain {
		if c != '-' && i < len(plain)-4 {
			c = '*'
		}
		dst = append(dst, c)
	}
	return dst, fault{}
}

func (uuidLayout) tokenLen(int) int { return 36 }
