package engine

import (
	"math/big"
	"strconv"
)

// integerFormat is a whole number of the policy's range in the spelling PostgreSQL prints: no leading zeros, no plus, no
// minus zero. A value is ranked, so that leading zeros of what FF1 returns are not lost in an integer column.
//
// A token is a larger number than any value, and above 0: max+1 + mark·values + the enciphered rank. It fits the
// policy's type.
var integerFormat = format{
	info: FormatInfo{
		Name: "integer", Method: FF1, Mask: "fixed", Shape: "a number above max",
		Description: "whole number of a range; the token is a number above it that fits int4, int8 or numeric",
	},
	masks: []string{"fixed", "zero", "last4"}, widen: "widen the range (min, max)",
	takes:   []string{"type", "min", "max", "exact"},
	prepare: prepareInteger,
}

// integerTypes are what a token may have to fit, with the range of values by default.
var integerTypes = map[string]struct {
	sql   string // as format_type() names it
	limit *big.Int
	max   int64
}{
	"int4":    {"integer", big.NewInt(1<<31 - 1), 99_999_999},
	"int8":    {"bigint", big.NewInt(1<<63 - 1), 999_999_999_999},
	"numeric": {"numeric", new(big.Int).Sub(new(big.Int).Exp(big.NewInt(10), big.NewInt(38), nil), big.NewInt(1)), 999_999_999_999_999_999},
}

func prepareInteger(p Policy, r *resolved) *PolicyError {
	o, name := p.Options, p.Options.Type
	if name == "" {
		name = "int8"
	}
	t, ok := integerTypes[name]
	if !ok {
		return refusal("format integer has no type "+strconv.Quote(name), "use int4, int8 or numeric")
	}
	lo, hi := big.NewInt(0), big.NewInt(t.max)
	for _, bound := range []struct {
		name, text string
		n          *big.Int
	}{{"min", o.Min, lo}, {"max", o.Max, hi}} {
		if bound.text == "" {
			continue
		}
		if n, ok := new(big.Int).SetString(bound.text, 10); !ok || len(bound.text) > 40 || n.String() != bound.text {
			return refusal(bound.name+" is not a whole number", "write it as PostgreSQL does: digits, with - in front where it is negative")
		} else {
			bound.n.Set(n)
		}
	}
	least := new(big.Int).Not(t.limit) // −limit−1
	if lo.Cmp(hi) > 0 {
		return refusal("min "+lo.String()+" is above max "+hi.String(), "give --min a number that is not above --max")
	}
	if lo.Cmp(least) < 0 || hi.Cmp(t.limit) > 0 {
		return refusal("values from "+lo.String()+" to "+hi.String()+" are not of type "+name,
			"type "+name+" holds "+least.String()+" to "+t.limit.String())
	}
	one := big.NewInt(1)
	l := &integerLayout{lo: lo, hi: hi, first: new(big.Int).Add(hi, one), exact: o.Exact}
	values := new(big.Int).Sub(l.first, lo)
	if l.first.Sign() <= 0 {
		l.first.Set(one) // a token is never negative
	}
	if refused := checkDomain("the range "+lo.String()+" to "+hi.String(), values); refused != nil && !p.whole() {
		return refused
	}
	r.values = values
	if o.Exact {
		r.versions, r.sure = maxVersion, Unknown
		l.first = lo
	} else {
		left := new(big.Int).Sub(t.limit, l.first)
		left.Add(left, one)
		if r.versions = room(left, values); r.versions == 0 && !p.whole() {
			return refusal("from "+l.first.String()+" on type "+name+" has room for "+left.String()+" tokens, and there are "+values.String()+" values: 0 key versions",
				"lower max, raise min, choose a wider type, or choose exact")
		}
	}
	r.describe("type", name)
	r.describe("min", lo.String())
	r.describe("max", hi.String())
	r.describe("exact", strconv.FormatBool(o.Exact))
	r.guard = l.guard
	r.typed = func(column, sqlType string) string {
		switch {
		case sqlType != t.sql && sqlType != "numeric" && !(name == "int4" && sqlType == "bigint"):
			return ""
		case o.Exact:
			return "true"
		}
		return "(" + column + " >= " + l.first.String() + ")"
	}
	if p.whole() {
		l.shifted(1)
		r.newCode = func(r resolved) code { return &irregular{resolved: r, layout: l} }
		return nil
	}
	r.calls = expected(values)
	l.shifted(r.versions)
	r.newCode = func(r resolved) code { return newIrregular(r, l, values) }
	return nil
}

// integerLayout reads and writes decimal numbers. Numbers are held with a bias that makes the smallest value 0.
type integerLayout struct {
	lo, hi, first *big.Int // first is what the token of rank 0 and mark 0 stands for
	exact         bool

	bias     wide // −lo where lo is negative
	negative bool // values below zero exist
	base     wide // lo + bias: the smallest value
	values   wide // how many there are
	start    wide // first + bias
	versions int
}

func (l *integerLayout) shifted(versions int) {
	l.versions = max(versions, 1)
	bias := new(big.Int)
	if l.negative = l.lo.Sign() < 0; l.negative {
		bias.Neg(l.lo)
	}
	l.bias = wideOf(bias)
	l.base = wideOf(new(big.Int).Add(l.lo, bias))
	l.start = wideOf(new(big.Int).Add(l.first, bias))
	l.values = wideOf(new(big.Int).Add(new(big.Int).Sub(l.hi, l.lo), big.NewInt(1)))
}

const maxIntegerDigits = 39 // a numeric token has up to 38, and with one more the number still fits

// read returns the number with its bias.
func (l *integerLayout) read(src []byte) (n wide, f fault) {
	digits, minus := src, len(src) > 0 && src[0] == '-'
	if minus {
		if digits = src[1:]; !l.negative {
			return wide{}, fault{"a sign where none may stand", 0}
		}
	}
	start := len(src) - len(digits)
	for i, c := range digits {
		if c < '0' || c > '9' {
			return wide{}, fault{stray(c), start + i}
		}
		if i == maxIntegerDigits {
			return wide{}, fault{reasonRange, -1}
		}
		n = n.times(10, uint64(c-'0'))
	}
	switch {
	case len(digits) == 0:
		return wide{}, fault{reasonShort, -1}
	case digits[0] == '0' && len(digits) > 1:
		return wide{}, fault{"a leading zero", start}
	case minus && digits[0] == '0':
		return wide{}, fault{"a minus before zero", 0}
	case minus && l.bias.less(n):
		return wide{}, fault{reasonRange, -1}
	case minus:
		return l.bias.sub(n), fault{}
	}
	return n.add(l.bias), fault{}
}

func (l *integerLayout) value(r *ranking, src []byte) (f fault) {
	if r.x, f = l.read(src); f.reason != "" {
		return f
	}
	if r.x.less(l.base) || !r.x.sub(l.base).less(l.values) {
		return fault{reasonRange, -1}
	}
	r.domain, r.x = 0, r.x.sub(l.base)
	return fault{}
}

func (l *integerLayout) token(r *ranking, src []byte) (f fault) {
	if l.exact {
		return l.value(r, src)
	}
	if r.x, f = l.read(src); f.reason != "" {
		return f
	}
	if r.x.less(l.start) {
		return fault{reasonShape, -1}
	}
	var ok bool
	if r.mark, r.x, ok = r.x.sub(l.start).part(l.values, l.versions); !ok {
		return fault{reasonShape, -1}
	}
	r.domain = 0
	return fault{}
}

func (l *integerLayout) appendToken(dst, _ []byte, r *ranking) []byte {
	n := r.x.add(l.start)
	if !l.exact {
		n = n.add(l.values.times(uint64(r.mark), 0))
	}
	return l.append(dst, n)
}

func (l *integerLayout) appendPlain(dst, _ []byte, r *ranking) ([]byte, fault) {
	return l.append(dst, r.x.add(l.base)), fault{}
}

// append writes a number that is held with its bias.
func (l *integerLayout) append(dst []byte, n wide) []byte {
	if n.less(l.bias) {
		dst, n = append(dst, '-'), l.bias.sub(n)
	} else {
		n = n.sub(l.bias)
	}
	var buf [60]byte
	i := len(buf)
	for {
		var d uint64
		n, d = n.divide(10)
		i--
		buf[i] = '0' + byte(d)
		if n == (wide{}) {
			return append(dst, buf[i:]...)
		}
	}
}

func (l *integerLayout) tweakLen() int { return 0 }

func (l *integerLayout) masked(dst, plain []byte, mask string) ([]byte, fault) {
	if mask == "zero" {
		return append(dst, '0'), fault{}
	}
	digits := 0
	for _, c := range plain {
		if c >= '0' && c <= '9' {
			digits++
		}
	}
	return appendLast4(dst, plain, digits), fault{}
}

func (l *integerLayout) tokenLen(int) int {
	last := new(big.Int).Add(l.first, new(big.Int).Mul(l.values.big(), big.NewInt(maxVersion)))
	return max(len(last.String()), len(l.lo.String()))
}

// guard compares as text does: of digits alone, a longer number is larger, and of one length the order is that of the digits.
func (l *integerLayout) guard(column string) string {
	if l.exact {
		return "true"
	}
	first, length := l.first.String(), "pg_catalog.octet_length("+column+")"
	n := strconv.Itoa(len(first))
	return "(" + begins(column, "1", ":") + " AND (" + length + " > " + n + " OR " + length + " = " + n + " AND " + column +
		" OPERATOR(pg_catalog.~>=~) '" + first + "') AND pg_catalog.octet_length(pg_catalog.ltrim(" + column + ", '0123456789')) = 0)"
}
