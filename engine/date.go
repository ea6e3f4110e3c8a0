package engine

import (
	"math/big"
	"strconv"
)

// dateFormat is a day of the policy's range, as YYYY-MM-DD. A token is a day from 3000-01-01 to 9999-12-31: the day's
// rank in the range is enciphered over a window of 10^6 days, of which two fit. So FF1 has the domain its standard asks
// for, and a token that was altered, or deciphered under another key, most often gives a day outside the range.
var dateFormat = format{
	info: FormatInfo{
		Name: "date", Method: FF1, Mask: "fixed", Shape: "9999-99-99, year 3000 or later",
		Description: "day of a range (1900 to 2099 by default); the token is a day from the year 3000 on",
	},
	masks: []string{"fixed", "year", "month"}, widen: "widen the range (min, max)",
	takes: []string{"min", "max"},
	prepare: func(p Policy, r *resolved) *PolicyError {
		first, last, refused := rangeOfDays(p.Options)
		if refused != nil {
			return refused
		}
		days := last - first + 1
		if days > dateWindow && !p.whole() {
			return refusal("the range has "+strconv.FormatInt(days, 10)+" days, above the window of "+strconv.Itoa(dateWindow), "narrow it (min, max)")
		}
		l := dateLayout{first, last}
		window := big.NewInt(dateWindow)
		r.values, r.calls = big.NewInt(days), expected(window)
		r.versions = room(big.NewInt(tokenLastDay-tokenFirstDay+1), window)
		r.describe("first day", strconv.FormatInt(first, 10))
		r.describe("last day", strconv.FormatInt(last, 10))
		r.guard = func(column string) string { return guardYears(column, "____-__-__") }
		r.typed = func(column, sqlType string) string {
			if sqlType != "date" {
				return ""
			}
			return "(" + column + " >= '3000-01-01'::pg_catalog.date)"
		}
		r.newCode = func(r resolved) code { return newIrregular(r, l, window) }
		return nil
	},
}

// guardYears is true for what has the shape of an ISO date, or of one with a time, and a year from 3000 on: values end before.
func guardYears(column, shape string) string {
	return "(" + begins(column, "3", ":") + " AND " + column + ` COLLATE "C" LIKE '` + shape + "')"
}

const dateWindow = 1_000_000

type dateLayout struct{ first, last int64 }

func (l dateLayout) read(src []byte) (int64, fault) {
	day, f := readDate(src)
	if f.reason == "" && len(src) > dateLen {
		f = fault{reasonMore, dateLen}
	}
	return day, f
}

func (l dateLayout) value(r *ranking, src []byte) fault {
	day, f := l.read(src)
	switch {
	case f.reason != "":
		return f
	case day < l.first || day > l.last:
		return fault{reasonRange, -1}
	}
	r.domain, r.x = 0, wide{uint64(day - l.first)}
	return fault{}
}

func (l dateLayout) token(r *ranking, src []byte) fault {
	day, f := l.read(src)
	if f.reason != "" {
		return f
	}
	n := day - tokenFirstDay
	if n < 0 || n >= (tokenLastDay-tokenFirstDay+1)/dateWindow*dateWindow {
		return fault{reasonShape, -1}
	}
	r.domain, r.mark, r.x = 0, int(n/dateWindow), wide{uint64(n % dateWindow)}
	return fault{}
}

func (l dateLayout) appendToken(dst, _ []byte, r *ranking) []byte {
	return appendDate(dst, tokenFirstDay+int64(r.mark)*dateWindow+int64(r.x[0]))
}

func (l dateLayout) appendPlain(dst, _ []byte, r *ranking) ([]byte, fault) {
	day := l.first + int64(r.x[0])
	if day > l.last {
		return dst, fault{reasonPlain, -1}
	}
	return appendDate(dst, day), fault{}
}

func (dateLayout) tweakLen() int { return 0 }

// masked shows the first day of the year or month: a date still, and of the value's year.
func (dateLayout) masked(dst, plain []byte, mask string) ([]byte, fault) {
	n := len(dst)
	dst = append(dst, plain...)
	copy(dst[n+8:], "01")
	if mask == "year" {
		copy(dst[n+5:], "01")
	}
	return dst, fault{}
}

func (dateLayout) tokenLen(int) int { return dateLen }
