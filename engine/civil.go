package engine

// Days are counted from 0000-03-01 in the proleptic Gregorian calendar, as PostgreSQL's and ISO 8601's: a year that
// begins in March has its leap day last, so that a month's length does not depend on the year.

// dayNumber returns the day of a date that exists (see monthDays).
func dayNumber(year, month, day int) int64 {
	m := (month + 9) % 12 // March is 0
	y := int64(year - m/10)
	return 365*y + y/4 - y/100 + y/400 + int64((m*306+5)/10) + int64(day-1)
}

// dayDate is the inverse of dayNumber, from 0000-03-01 on.
func dayDate(n int64) (year, month, day int) {
	y := (10_000*n + 14_780) / 3_652_425
	rest := n - (365*y + y/4 - y/100 + y/400)
	if rest < 0 {
		y--
		rest = n - (365*y + y/4 - y/100 + y/400)
	}
	m := (100*rest + 52) / 3060
	return int(y + (m+2)/12), int((m+2)%12) + 1, int(rest-(m*306+5)/10) + 1
}

func monthDays(year, month int) int {
	switch month {
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	case 4, 6, 9, 11:
		return 30
	}
	return 31
}

const dateLen = len("2006-01-02")

// readDate reads YYYY-MM-DD at the head of s, of the years 1 to 9999.
func readDate(s []byte) (day int64, f fault) {
	for i, c := range s[:min(len(s), dateLen)] {
		if hyphen := i == 4 || i == 7; hyphen != (c == '-') || !hyphen && (c < '0' || c > '9') {
			return 0, fault{stray(c), i}
		}
	}
	if len(s) < dateLen {
		return 0, fault{reasonFewer, -1}
	}
	year, month, d := int(number2(s))*100+int(number2(s[2:])), int(number2(s[5:])), int(number2(s[8:]))
	switch {
	case year == 0:
		return 0, fault{"there is no year 0000", 0}
	case month < 1 || month > 12:
		return 0, fault{"there is no such month", 5}
	case d < 1 || d > monthDays(year, month):
		return 0, fault{"there is no such day in that month", 8}
	}
	return dayNumber(year, month, d), fault{}
}

// number2 is the number of two digits.
func number2(s []byte) byte { return (s[0]-'0')*10 + s[1] - '0' }

func appendDate(dst []byte, day int64) []byte {
	year, month, d := dayDate(day)
	return append(dst, '0'+byte(year/1000), '0'+byte(year/100%10), '0'+byte(year/10%10), '0'+byte(year%10), '-',
		'0'+byte(month/10), '0'+byte(month%10), '-', '0'+byte(d/10), '0'+byte(d%10))
}

// The days between which tokens of date and timestamp lie.
var (
	tokenFirstDay = dayNumber(3000, 1, 1)
	tokenLastDay  = dayNumber(9999, 12, 31)
)

// rangeOfDays returns the policy's range.
func rangeOfDays(o Options) (first, last int64, refused *PolicyError) {
	first, last = dayNumber(1900, 1, 1), dayNumber(2099, 12, 31)
	for _, bound := range []struct {
		name, text string
		day        *int64
	}{{"min", o.Min, &first}, {"max", o.Max, &last}} {
		if bound.text == "" {
			continue
		}
		day, f := readDate([]byte(bound.text))
		if f.reason != "" || len(bound.text) != dateLen {
			return 0, 0, refusal(bound.name+" is not a day that exists", "write it as YYYY-MM-DD")
		}
		*bound.day = day
	}
	switch {
	case first > last:
		return 0, 0, refusal("min is after max", "exchange them")
	case last >= tokenFirstDay-1:
		return 0, 0, refusal("the range reaches into the years of tokens", "choose max before 2999-12-31")
	}
	return first, last, nil
}
