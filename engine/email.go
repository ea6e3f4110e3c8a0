package engine

import "bytes"

// emailFormat is a mail address: a local part of 1 to 64 bytes without quotes (RFC 5322 atext and dots), @, and a
// domain name or address of ASCII letters, digits, dots and hyphens. The local part is sealed, the domain stays and
// is bound to it as associated data. The case of both is kept, and two addresses that differ in case are two values.
//
// A token's local part has up to 133 bytes, more than the 64 that mail allows: a token is not for sending mail to.
var emailFormat = format{
	info: FormatInfo{
		Name: "email", Method: AESSIV, Mask: "first-letter", Shape: "t9_xxxx…@example.com",
		Description: "mail address; the domain stays, the local part is sealed",
	},
	masks: []string{"first-letter", "domain", "fixed"}, versions: maxVersion,
	guard: func(column string) string {
		return guardSealed(column, "pg_catalog.split_part("+column+` COLLATE "C", '@', 1)`, sealedMin)
	},
	newCode: func(r resolved) code { return &email{r} },
}

const (
	maxLocal  = 64  // RFC 5321 section 4.5.3.1.1
	maxDomain = 255 // RFC 5321 section 4.5.3.1.2
)

type email struct {
	resolved
}

func (c *email) derive(k *versionKey, key func(int) []byte) error { return k.seal(key) }

// split takes an address or a token apart and judges the domain.
func (c *email) split(s []byte) (local, domain []byte, f fault) {
	if len(s) == 0 {
		return nil, nil, fault{reasonEmpty, -1}
	}
	i := bytes.IndexByte(s, '@')
	if i < 0 {
		return nil, nil, fault{"it has no @", -1}
	}
	local, domain = s[:i], s[i+1:]
	if len(domain) == 0 || len(domain) > maxDomain {
		return nil, nil, fault{"it has no domain of 1 to 255 characters", i + 1}
	}
	for j, c := range domain {
		switch {
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9':
		case (c == '.' || c == '-') && j > 0 && j < len(domain)-1:
		case c == '@':
			return nil, nil, fault{"it has a second @", i + 1 + j}
		default:
			return nil, nil, fault{foreign(c), i + 1 + j}
		}
	}
	return local, domain, fault{}
}

// foreign names a byte that may not stand in an address.
func foreign(c byte) string {
	if c >= ' ' && c < 0x7f {
		return "a character that may not stand there in an address"
	}
	return stray(c)
}

func (c *email) value(plain []byte) (local, domain []byte, f fault) {
	if local, domain, f = c.split(plain); f.reason != "" {
		return nil, nil, f
	}
	if tokenlike(local, sealedMin) {
		return nil, nil, fault{reasonTokenlike, 0}
	}
	if len(local) == 0 || len(local) > maxLocal {
		return nil, nil, fault{"it has no local part of 1 to 64 characters", min(len(local), maxLocal)}
	}
	for i, c := range local {
		if !atext[c] {
			return nil, nil, fault{foreign(c), i}
		}
	}
	return local, domain, fault{}
}

// atext is RFC 5322 section 3.2.3 and the dot. Where dots stand is not asked: addresses with two in a row are in use.
var atext = func() (ok [256]bool) {
	for c := '0'; c <= 'z'; c++ {
		ok[c] = c <= '9' || c >= 'a' || c >= 'A' && c <= 'Z'
	}
	for _, c := range "!#$%&'*+-/=?^_`{|}~." {
		ok[c] = true
	}
	return ok
}()

func (c *email) check(plain []byte) fault {
	_, _, f := c.value(plain)
	return f
}

func (c *email) token(dst, plain []byte, k *versionKey) ([]byte, fault) {
	local, domain, f := c.value(plain)
	if f.reason != "" {
		return dst, f
	}
	dst = k.appendSealed(dst, local, domain)
	dst = append(dst, '@')
	return append(dst, domain...), fault{}
}

func (c *email) plain(dst, token []byte, keys *keySet) ([]byte, fault) {
	local, domain, f := c.split(token)
	if f.reason != "" {
		return dst, f
	}
	version, body, ok := prefixVersion(local)
	if !ok || !isBase32(body, sealedMin) {
		return dst, fault{reasonShape, -1}
	}
	k := keys.mark(version)
	if k == nil {
		return dst, fault{reasonVersion, -1}
	}
	if dst, f = k.appendOpened(dst, body, domain); f.reason != "" {
		return dst, f
	}
	dst = append(dst, '@')
	return append(dst, domain...), fault{}
}

func (c *email) tokens(dst []byte, ends []int, values [][]byte, k *versionKey) ([]byte, []int, fault) {
	return oneByOne(dst, ends, values, func(dst, v []byte) ([]byte, fault) { return c.token(dst, v, k) })
}

func (c *email) plains(dst []byte, ends []int, tokens [][]byte, keys *keySet) ([]byte, []int, fault) {
	return oneByOne(dst, ends, tokens, func(dst, v []byte) ([]byte, fault) { return c.plain(dst, v, keys) })
}

func (c *email) mark(token []byte) (int, bool) {
	local, _, f := c.split(token)
	if f.reason != "" {
		return 0, false
	}
	version, body, ok := prefixVersion(local)
	return version, ok && isBase32(body, sealedMin)
}

// masked shows the domain and, unless that would be all of it, the first letter of the local part.
func (c *email) masked(dst, plain []byte, mask string) ([]byte, fault) {
	local, domain, f := c.value(plain)
	if f.reason != "" {
		return dst, f
	}
	if mask == "first-letter" && len(local) > 1 {
		dst = append(dst, local[0])
	}
	dst = append(dst, "***@"...)
	return append(dst, domain...), fault{}
}

func (c *email) tokenLen(n int) int {
	local := max(1, min(maxLocal, n-2))
	return sealedLen(local) + max(0, n-local)
}
