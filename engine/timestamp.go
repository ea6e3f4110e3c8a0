package engine

import (
	"math/big"
	"strconv"
)

// timestampFormat is an instant of the policy's range in the spelling PostgreSQL prints under DateStyle ISO, and in RFC
// 3339's: YYYY-MM-DD, a space or T, HH:MM:SS, a fraction without trailing zeros, and Z or the offset of a time zone. The
// separator and the zone stay. What is enciphered is the instant in UTC (without a zone: as if it were UTC), so one
// instant has one token in all zones.
//
// A token is an instant from 3000-01-02 to 9999-12-30 in UTC: the first of those + mark·instants + the enciphered rank.
// The day left free at either end keeps the local date within the years 3000 to 9999 in every zone.
var timestampFormat = format{
	info: FormatInfo{
		Name: "timestamp", Method: FF1, Mask: "fixed", Shape: "9999-99-99 99:99:99.999999, year 3000 or later",
		Description: "instant of a range (1900 to 2099 by default), with or without zone; the token is one from the year 3000 on",
	},
	masks: []string{"fixed", "year", "month", "day"}, widen: "widen the range (min, max) or raise precision",
	takes:   []string{"min", "max", "precision"},
	prepare: prepareTimestamp,
}

const (
	daySeconds   = 86_400
	maxZone      = 16 * 3600 // seconds; PostgreSQL's offsets are below
	maxPrecision = 6
)

func prepareTimestamp(p Policy, r *resolved) *PolicyError {
	first, last, refused := rangeOfDays(p.Options)
	if refused != nil {
		return refused
	}
	l := timestampLayout{precision: p.Options.Precision, unit: 1}
	switch {
	case l.precision == 0:
		l.precision = maxPrecision
	case l.precision == -1:
		l.precision = 0
	case l.precision < 0 || l.precision > maxPrecision:
		return refusal("a fraction of "+strconv.Itoa(l.precision)+" digits is not possible", "use 1 to 6, or -1 for none")
	}
	for range l.precision {
		l.unit *= 10
	}
	l.first, l.values = first*daySeconds*l.unit, (last-first+1)*daySeconds*l.unit
	l.start = (tokenFirstDay + 1) * daySeconds * l.unit
	window := (tokenLastDay - tokenFirstDay - 1) * daySeconds * l.unit
	r.values = big.NewInt(l.values)
	l.versions = room(big.NewInt(window), r.values)
	if r.versions = l.versions; r.versions == 0 && !p.whole() {
		return refusal("the years 3000 to 9999 have room for "+strconv.FormatInt(window, 10)+" tokens, and the range has "+
			r.values.String()+" values: 0 key versions", "narrow the range (min, max)")
	}
	r.calls = expected(r.values)
	r.describe("first", strconv.FormatInt(l.first, 10))
	r.describe("values", strconv.FormatInt(l.values, 10))
	r.describe("precision", strconv.Itoa(l.precision))
	r.guard = func(column string) string { return guardYears(column, "____-__-_____:__:__%") }
	r.typed = func(column, sqlType string) string {
		switch sqlType {
		case "timestamp without time zone":
			return "(" + column + " >= '3000-01-01'::pg_catalog.timestamp)"
		case "timestamp with time zone":
			return "(" + column + " >= '3000-01-02 00:00:00+00'::pg_catalog.timestamptz)"
		}
		return ""
	}
	r.newCode = func(r resolved) code { return newIrregular(r, l, r.values) }
	return nil
}

// timestampLayout counts in units of the precision, of which a second has unit.
type timestampLayout struct {
	precision int
	unit      int64
	first     int64 // the smallest value
	values    int64
	start     int64 // of the token of rank 0 and mark 0
	versions  int
}

const timeLen = len("2006-01-02 15:04:05")

// read returns the instant in UTC, and the zone's offset.
func (l *timestampLayout) read(src []byte) (instant, offset int64, f fault) {
	day, f := readDate(src)
	if f.reason != "" {
		return 0, 0, f
	}
	for i, c := range src[dateLen:min(len(src), timeLen)] {
		i += dateLen
		switch {
		case i == dateLen && (c == ' ' || c == 'T'):
		case (i == 13 || i == 16) && c == ':':
		case i != dateLen && i != 13 && i != 16 && c >= '0' && c <= '9':
		default:
			return 0, 0, fault{stray(c), i}
		}
	}
	if len(src) < timeLen {
		return 0, 0, fault{reasonFewer, -1}
	}
	hour, minute, second := number2(src[11:]), number2(src[14:]), number2(src[17:])
	switch {
	case hour > 23:
		return 0, 0, fault{"there is no such hour", 11}
	case minute > 59:
		return 0, 0, fault{"there is no such minute", 14}
	case second > 59:
		return 0, 0, fault{"there is no such second", 17}
	}
	fraction, i, f := l.fraction(src)
	if f.reason != "" {
		return 0, 0, f
	}
	if offset, f = zoneOffset(src, i); f.reason != "" {
		return 0, 0, f
	}
	offset *= l.unit
	seconds := day*daySeconds + int64(hour)*3600 + int64(minute)*60 + int64(second)
	return seconds*l.unit + fraction - offset, offset, fault{}
}

// fraction reads what stands behind the seconds and returns where it ends.
func (l *timestampLayout) fraction(src []byte) (n int64, end int, f fault) {
	if len(src) == timeLen || src[timeLen] != '.' {
		return 0, timeLen, fault{}
	}
	end = timeLen + 1
	for unit := l.unit; end < len(src) && src[end] >= '0' && src[end] <= '9'; end++ {
		if unit /= 10; unit == 0 {
			return 0, 0, fault{"a fraction finer than the policy's precision", end}
		}
		n += int64(src[end]-'0') * unit
	}
	switch {
	case end == timeLen+1:
		return 0, 0, fault{"a fraction without digits", timeLen}
	case src[end-1] == '0':
		return 0, 0, fault{"a trailing zero in the fraction", end - 1}
	}
	return n, end, fault{}
}

// zoneOffset reads what stands from i on, Z or ±HH, ±HH:MM or ±HH:MM:SS, and returns the offset in seconds.
func zoneOffset(src []byte, i int) (int64, fault) {
	zone := src[i:]
	if len(zone) == 0 || len(zone) == 1 && zone[0] == 'Z' {
		return 0, fault{}
	}
	if zone[0] != '+' && zone[0] != '-' {
		return 0, fault{stray(zone[0]), i}
	}
	seconds := int64(0)
	for j, c := range zone[1:] {
		if colon := j%3 == 2; j > 7 || colon != (c == ':') || !colon && (c < '0' || c > '9') {
			return 0, fault{stray(c), i + 1 + j}
		}
	}
	parts := (len(zone) + 1) / 3
	if len(zone) != 3*parts {
		return 0, fault{"a time zone that is not complete", i}
	}
	for j := range 3 {
		seconds *= 60
		if j < parts {
			n := number2(zone[1+3*j:])
			if j > 0 && n > 59 {
				return 0, fault{"there is no such time zone", i}
			}
			seconds += int64(n)
		}
	}
	if seconds >= maxZone {
		return 0, fault{"there is no such time zone", i}
	}
	if zone[0] == '-' {
		seconds = -seconds
	}
	return seconds, fault{}
}

func (l timestampLayout) value(r *ranking, src []byte) (f fault) {
	instant, offset, f := l.read(src)
	switch {
	case f.reason != "":
		return f
	case instant < l.first || instant-l.first >= l.values:
		return fault{reasonRange, -1}
	}
	r.domain, r.x, r.offset = 0, wide{uint64(instant - l.first)}, offset
	return fault{}
}

func (l timestampLayout) token(r *ranking, src []byte) fault {
	instant, offset, f := l.read(src)
	switch {
	case f.reason != "":
		return f
	case instant < l.start || instant-l.start >= l.values*int64(l.versions):
		return fault{reasonShape, -1}
	}
	n := instant - l.start
	r.domain, r.mark, r.x, r.offset = 0, int(n/l.values), wide{uint64(n % l.values)}, offset
	return fault{}
}

func (l timestampLayout) appendToken(dst, src []byte, r *ranking) []byte {
	return l.append(dst, src, l.start+int64(r.mark)*l.values+int64(r.x[0])+r.offset)
}

func (l timestampLayout) appendPlain(dst, src []byte, r *ranking) ([]byte, fault) {
	local := l.first + int64(r.x[0]) + r.offset
	if day := local / (daySeconds * l.unit); day < dayNumber(1, 1, 1) {
		return dst, fault{reasonPlain, -1}
	}
	return l.append(dst, src, local), fault{}
}

// append writes a local time with the separator and the zone of src.
func (l *timestampLayout) append(dst, src []byte, local int64) []byte {
	seconds, fraction := local/l.unit, local%l.unit
	dst = appendDate(dst, seconds/daySeconds)
	s := seconds % daySeconds
	dst = append(dst, src[dateLen], '0'+byte(s/36_000), '0'+byte(s/3600%10), ':', '0'+byte(s/600%6), '0'+byte(s/60%10), ':',
		'0'+byte(s/10%6), '0'+byte(s%10))
	if fraction > 0 {
		dst = append(dst, '.')
		for unit := l.unit / 10; fraction > 0; unit /= 10 {
			dst = append(dst, '0'+byte(fraction/unit))
			fraction %= unit
		}
	}
	end := timeLen
	if len(src) > end && src[end] == '.' {
		for end++; end < len(src) && src[end] >= '0' && src[end] <= '9'; end++ {
		}
	}
	return append(dst, src[end:]...)
}

func (timestampLayout) tweakLen() int { return 0 }

// masked shows the beginning of the year, month or day, in the value's zone.
func (timestampLayout) masked(dst, plain []byte, mask string) ([]byte, fault) {
	n := len(dst)
	dst = append(dst, plain[:timeLen]...)
	copy(dst[n+11:], "00:00:00")
	if mask != "day" {
		copy(dst[n+8:], "01")
	}
	if mask == "year" {
		copy(dst[n+5:], "01")
	}
	end := timeLen
	if len(plain) > end && plain[end] == '.' {
		for end++; end < len(plain) && plain[end] >= '0' && plain[end] <= '9'; end++ {
		}
	}
	return append(dst, plain[end:]...), fault{}
}

func (timestampLayout) tokenLen(n int) int { return max(n, timeLen) + 1 + maxPrecision }
