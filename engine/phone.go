package engine

// phoneFormat is a telephone number: digits with the usual punctuation, and a country code if it begins with + (ITU-T
// E.164). The country code and the punctuation stay; the first three digits after the country code become letters.
// The country code is in the tweak, and so is its absence: a number with and without it are two values.
var phoneFormat = format{
	info: FormatInfo{
		Name: "phone", Method: FF1, Mask: "last4", Shape: "+9AAA9999999",
		Description: "telephone number; country code and punctuation stay, three letters in the area part",
	},
	masks: []string{"last4", "fixed"}, versions: letteredMark,
	keeps: true, sized: true, floats: true, least: letters, min: 6, max: maxPhone, leastFree: letters, domain: pow10,
	guard:   guardUpper,
	newCode: func(r resolved) code { return &lettered{r, phoneLayout{}} },
}

// guardUpper is true for what has an upper-case letter anywhere.
func guardUpper(column string) string {
	return "(pg_catalog.lower(" + column + ` COLLATE "C") <> ` + column + ")"
}

const (
	maxPhone      = 15 // digits in all (E.164 section 6)
	maxPhoneBytes = 40 // with punctuation
)

type phoneLayout struct{}

// lead returns the length of the country code behind a +: 1 and 7 stand alone, and the other codes have two or three
// digits by their first two (ITU-T E.164.D, a prefix code; codes not assigned count as three digits).
func (phoneLayout) lead(src []byte) (int, fault) {
	if src[0] != '+' {
		return 0, fault{}
	}
	first := -1
	for i, c := range src {
		if c < '0' || c > '9' {
			continue
		}
		d := int(c - '0')
		switch {
		case first < 0 && d == 0:
			return 0, fault{"no country code begins with 0", i}
		case first < 0 && (d == 1 || d == 7):
			return 1, fault{}
		case first < 0:
			first = d
		case twoDigitCode[first]>>d&1 == 1:
			return 2, fault{}
		default:
			return 3, fault{}
		}
	}
	return 0, fault{reasonShort, -1}
}

// twoDigitCode has bit d of entry f set where fd is a country code of two digits.
var twoDigitCode = [10]uint16{
	2: bit(0) | bit(7),
	3: bit(0) | bit(1) | bit(2) | bit(3) | bit(4) | bit(6) | bit(9),
	4: bit(0) | bit(1) | bit(3) | bit(4) | bit(5) | bit(6) | bit(7) | bit(8) | bit(9),
	5: bit(1) | bit(2) | bit(3) | bit(4) | bit(5) | bit(6) | bit(7) | bit(8),
	6: bit(0) | bit(1) | bit(2) | bit(3) | bit(4) | bit(5) | bit(6),
	8: bit(1) | bit(2) | bit(4) | bit(6),
	9: bit(0) | bit(1) | bit(2) | bit(3) | bit(4) | bit(5) | bit(8),
}

func bit(d int) uint16 { return 1 << d }

func (phoneLayout) check(src []byte) fault {
	if len(src) > maxPhoneBytes {
		return fault{"it is longer than a telephone number", maxPhoneBytes}
	}
	if last := src[len(src)-1]; last < '0' || last > '9' {
		return fault{"it does not end with a digit", len(src) - 1}
	}
	n := 0
	for _, c := range src {
		if c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' {
			n++
		}
	}
	if n > maxPhone {
		return fault{reasonLong, -1}
	}
	return fault{}
}

func (phoneLayout) separator(src []byte, i int) bool {
	switch src[i] {
	case '+':
		return i == 0 && len(src) > 1 && src[1] >= '0' && src[1] <= '9'
	case '(':
		return true
	case ' ', '-', '.', ')', '/':
		return i > 0
	}
	return false
}
