package engine

// digitsFormat is any number of decimal digits from 6 to 38, without separators. Leading zeros count.
var digitsFormat = format{
	info: digitsInfo, masks: digitsMasks, versions: letteredMark,
	takes: []string{"keep_first", "exact", "separators"}, variant: digitsVariant,
	keeps: true, sized: true, floats: true, least: letters, min: 6, max: maxDigits, leastFree: letters, domain: pow10,
	guard:   guardLetter,
	newCode: func(r resolved) code { return &lettered{r, digitsLayout{}} },
}

var (
	digitsInfo = FormatInfo{
		Name: "digits", Method: FF1, Mask: "last4", Shape: "AAA999…",
		Description: "6 to 38 decimal digits; the first three become letters",
	}
	digitsMasks = []string{"last4", "fixed"}
)

type digitsLayout struct{}

func (digitsLayout) lead([]byte) (int, fault) { return 0, fault{} }

func (digitsLayout) check([]byte) fault { return fault{} }

func (digitsLayout) separator([]byte, int) bool { return false }
