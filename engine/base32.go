package engine

// base32 is RFC 4648 section 6 in lower case without padding. Lower case because mail systems fold the local part of
// an address; our own because encoding/base32 passes over line ends and takes any trailing bits, and a token must
// have one spelling.
const base32 = "abcdefghijklmnopqrstuvwxyz234567"

var base32Value = func() (v [256]byte) {
	for i := range v {
		v[i] = 0xff
	}
	for i := range len(base32) {
		v[base32[i]] = byte(i)
	}
	return v
}()

func base32Len(n int) int { return (n*8 + 4) / 5 }

func appendBase32(dst, src []byte) []byte {
	for len(src) >= 5 {
		x := uint64(src[0])<<32 | uint64(src[1])<<24 | uint64(src[2])<<16 | uint64(src[3])<<8 | uint64(src[4])
		dst = append(dst, base32[x>>35&31], base32[x>>30&31], base32[x>>25&31], base32[x>>20&31],
			base32[x>>15&31], base32[x>>10&31], base32[x>>5&31], base32[x&31])
		src = src[5:]
	}
	var x uint64
	for _, b := range src {
		x = x<<8 | uint64(b)
	}
	bits := 8 * len(src)
	for ; bits >= 5; bits -= 5 {
		dst = append(dst, base32[x>>(bits-5)&31])
	}
	if bits > 0 {
		dst = append(dst, base32[x<<(5-bits)&31])
	}
	return dst
}

// decodeBase32 appends what src spells. ok is false for another symbol, a length no bytes have, or trailing bits that
// are not zero.
func decodeBase32(dst, src []byte) (out []byte, ok bool) {
	var x, bits uint
	for _, c := range src {
		v := base32Value[c]
		if v == 0xff {
			return dst, false
		}
		x = x<<5 | uint(v)
		if bits += 5; bits >= 8 {
			bits -= 8
			dst = append(dst, byte(x>>bits))
		}
	}
	return dst, bits < 5 && x&(1<<bits-1) == 0
}

// isBase32 reports whether src is nothing but symbols, and at least as many as the shortest token has.
func isBase32(src []byte, least int) bool {
	for _, c := range src {
		if base32Value[c] == 0xff {
			return false
		}
	}
	return len(src) >= least
}
