package engine

// ssnFormat is a US Social Security number: nine digits, plain or as 3-2-4 with hyphens. Which areas and groups have
// been issued is not asked: all 10^9 are values, so that test numbers and later ranges are not turned away.
var ssnFormat = format{
	info: FormatInfo{
		Name: "ssn", Method: FF1, Mask: "last4", Shape: "AAA-99-9999",
		Description: "US Social Security number, with or without hyphens; three letters in the area part",
	},
	masks: []string{"last4", "fixed"}, versions: letteredMark,
	keeps: true, least: 9, min: 9, max: 9, leastFree: letters, domain: pow10,
	guard: func(column string) string {
		return "(" + begins(column, "A", "[") + " AND pg_catalog.octet_length(" + column + ") <= 11)"
	},
	newCode: func(r resolved) code { return &lettered{r, ssnLayout{}} },
}

type ssnLayout struct{}

func (ssnLayout) lead([]byte) (int, fault) { return 0, fault{} }

func (ssnLayout) check([]byte) fault { return fault{} }

func (ssnLayout) separator(src []byte, i int) bool {
	return src[i] == '-' && len(src) == 11 && (i == 3 || i == 6)
}
