package engine

import (
	"math"
	"math/big"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"pgveil/engine/ff1"
)

// symbols is the code of the formats that are strings over an alphabet: FF1 in the alphabet's radix over the symbols
// between the kept characters.
//
// The version is in the head, the first few enciphered symbols. As a number h they have r^head possibilities; a token
// has in their place the number mark·r^head + h, its first character from the marks, which are no symbols of the
// alphabet, and the others from marks and alphabet together. So a token has as many characters as the value, and says
// by one of them that it is none.
type symbols struct {
	resolved
	in          *alphabet // of values
	marks       *alphabet // of a token's first enciphered character; nil for exact policies
	out         *alphabet // of the rest of the head: the marks and then the alphabet
	head        int
	perMark     uint64 // r^head
	first, last int    // kept characters
	kept        bool   // kept characters may be any printable ones, not only symbols
	separators  []rune
	short       bool // values of fewer symbols are sealed
}

const (
	maxHead      = 12      // symbols
	maxHeadCodes = 1 << 62 // numbers that a head may stand for
	enoughMarks  = 16      // versions from which a longer head is not asked for
	maxSymbolic  = 256     // characters of a value
	runeBytes    = 3       // of a kept character in the tweak
	maxKept      = 32      // kept characters at either end
)

// marking is how a token's head is written.
type marking struct {
	marks    []rune
	head     int
	versions int
}

// markWith returns the best marking by a set of characters for values of at least free symbols: the shortest head that
// has room for enoughMarks versions, or that with the most.
func markWith(marks []rune, radix, free int) (best marking) {
	best.marks = marks
	values, tokens := uint64(1), uint64(len(marks))
	for head := 1; head <= min(free, maxHead); head++ {
		if values *= uint64(radix); values > maxHeadCodes {
			break
		}
		if head > 1 {
			hi, lo := bits.Mul64(tokens, uint64(len(marks)+radix))
			if hi != 0 || lo > maxHeadCodes {
				break
			}
			tokens = lo
		}
		if n := int(min(tokens/values, maxVersion)); n > best.versions {
			best.head, best.versions = head, n
		}
		if best.versions >= enoughMarks {
			break
		}
		if values > maxHeadCodes/uint64(radix) {
			break
		}
	}
	return best
}

// goodMarks is the number of versions from which no other set of marks is looked for.
const goodMarks = 3

func chooseMarks(in *alphabet, separators []rune, free int) (best marking) {
	for _, set := range markSets {
		marks := set()
		if !in.disjoint(marks) || slices.ContainsFunc(separators, func(c rune) bool { return slices.Contains(marks, c) }) {
			continue
		}
		if m := markWith(marks, len(in.symbols), free); m.versions > best.versions {
			best = m
		}
		if best.versions >= goodMarks {
			break
		}
	}
	return best
}

// prepareSymbols compiles the formats over an alphabet.
func prepareSymbols(p Policy, r *resolved, in []rune, kept bool) *PolicyError {
	o := p.Options
	c := symbols{in: newAlphabet(in), first: o.KeepFirst, last: r.keep, kept: kept, separators: []rune(o.Separators), short: o.Short == shortSeal}
	if refused := c.checkSeparators(o.Separators); refused != nil {
		return refused
	}
	free := r.min - c.first - c.last
	switch {
	case c.first > maxKept || c.last > maxKept:
		return refusal("keeping "+strconv.Itoa(c.first)+" and "+strconv.Itoa(c.last)+" characters is not possible", "keep at most "+strconv.Itoa(maxKept)+" at either end")
	case free < 2:
		return refusal("keeping "+strconv.Itoa(c.first+c.last)+" of "+strconv.Itoa(r.min)+" characters leaves "+strconv.Itoa(max(free, 0))+
			" to encipher", "keep fewer, or raise min_length, so that at least 2 are left")
	}
	r.values = new(big.Int).Exp(big.NewInt(int64(len(in))), big.NewInt(int64(free)), nil)
	if r.values.Cmp(big.NewInt(leastDomain)) < 0 && !p.whole() {
		return refusal("the shortest values have only "+r.values.String()+" possibilities, and FF1 needs "+strconv.Itoa(leastDomain), "raise min_length")
	}
	r.calls = 1
	r.describe("alphabet", string(in))
	r.describe("keep first", strconv.Itoa(c.first))
	r.describe("separators", o.Separators)
	r.describe("short", strconv.FormatBool(c.short))
	if refused := c.prepareMarks(p, r, free); refused != nil {
		return refused
	}
	if c.short {
		r.warn("values of fewer than " + strconv.Itoa(free) + " enciphered characters become t<version>_ tokens, which are longer than they are")
	}
	r.guard = c.guard
	r.newCode = func(r resolved) code {
		c.resolved = r
		return &c
	}
	return nil
}

func (c *symbols) checkSeparators(text string) *PolicyError {
	if !utf8.ValidString(text) || !norm.NFC.IsNormalString(text) {
		return refusal("separators are not UTF-8 in normalization form C", "")
	}
	for _, s := range c.separators {
		if !unicode.IsGraphic(s) || !norm.NFC.PropertiesString(string(s)).BoundaryBefore() {
			return refusal("a separator is a control or combining character", "leave it out")
		}
		if c.in.number(s) >= 0 {
			return refusal("a separator is also a symbol of the alphabet", "take it out of one of them")
		}
	}
	return nil
}

func (c *symbols) prepareMarks(p Policy, r *resolved, free int) *PolicyError {
	o, radix := p.Options, len(c.in.symbols)
	if o.Exact || p.whole() {
		r.versions = maxVersion
		if o.Exact {
			r.sure = Unknown
		}
		return nil
	}
	m := marking{}
	if o.TokenAlphabet == "" {
		m = chooseMarks(c.in, c.separators, free)
	} else {
		given, refused := parseAlphabet("token_alphabet", o.TokenAlphabet, 1)
		if refused != nil {
			return refused
		}
		if !c.in.disjoint(given) || slices.ContainsFunc(c.separators, func(s rune) bool { return slices.Contains(given, s) }) {
			return refusal("token_alphabet shares a character with the alphabet or the separators", "give it characters that no value has")
		}
		m = markWith(given, radix, free)
	}
	if m.versions == 0 {
		return refusal(strconv.Itoa(len(m.marks))+" characters to mark tokens by, and values of "+strconv.Itoa(free)+" symbols out of "+
			strconv.Itoa(radix)+": room for 0 key versions", "give a larger token_alphabet, raise min_length, or choose exact")
	}
	if c.short && (slices.Contains(m.marks, '_') || c.in.number('_') >= 0 || slices.Contains(c.separators, '_')) {
		return refusal("short values would become tokens that begin with t1_, and _ may stand in others too", "take _ out of the alphabets and separators, or leave short out")
	}
	c.marks, c.out = newAlphabet(m.marks), newAlphabet(slices.Concat(m.marks, c.in.symbols))
	c.head, c.perMark = m.head, 1
	for range m.head {
		c.perMark *= uint64(radix)
	}
	r.versions = m.versions
	r.describe("marks", string(m.marks))
	r.describe("head", strconv.Itoa(m.head))
	return nil
}

// guard looks at the one character that is a mark in a token and a symbol in a value.
func (c *symbols) guard(column string) string {
	if c.marks == nil {
		return "true"
	}
	lo, hi := bounds(c.marks.symbols)
	between := func(x rune) bool { return x >= lo && x <= hi }
	contiguous := !slices.ContainsFunc(c.in.symbols, between)
	g := ""
	at := "pg_catalog.substr(" + column + ", " + strconv.Itoa(c.first+1) + `, 1) COLLATE "C"`
	switch {
	case contiguous && c.first == 0 && hi < utf8.RuneSelf-1:
		g = column + ` COLLATE "C" >= ` + literal(string(lo)) + " AND " + column + ` COLLATE "C" < ` + literal(string(hi+1))
	case contiguous:
		g = at + " >= " + literal(string(lo)) + " AND " + at + " <= " + literal(string(hi))
	default:
		g = at + " <> '' AND pg_catalog.strpos(" + literal(string(c.marks.symbols)) + ", " + at + ") > 0"
	}
	if c.short {
		g = g + " OR " + guardSealed(column, column, sealedMin)
	}
	return "(" + g + ")"
}

// literal is s as a string constant whatever standard_conforming_strings is.
func literal(s string) string {
	return "E'" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(s) + "'"
}

// spelling is a value or token taken apart.
type spelling struct {
	numerals [maxSymbolic]uint16
	written  [maxHead]uint32 // the head of a token, over marks and alphabet together: they may be more than a numeral holds
	n        int
	mark     int
	tweak    [2 * maxKept * runeBytes]byte
	sealed   bool // a value too short for FF1
}

// spellings keep what is too large to be made anew for each value.
var spellings = sync.Pool{New: func() any { return new(spelling) }}

func (c *symbols) tweakLen() int { return runeBytes * (c.first + c.last) }

func (c *symbols) derive(k *versionKey, key func(int) []byte) error {
	if c.short {
		if err := k.seal(key); err != nil {
			return err
		}
	}
	aes := key(32)
	f, err := ff1.New(aes)
	clear(aes)
	if err != nil {
		return err
	}
	kept := c.first + c.last
	k.plans = make([]*ff1.Plan, c.max-kept+1)
	for free := c.min - kept; free <= c.max-kept; free++ {
		if k.plans[free], err = f.Plan(len(c.in.symbols), free, c.tweakLen()); err != nil {
			return err
		}
	}
	return nil
}

// read takes a value or a token apart.
func (c *symbols) read(s *spelling, src []byte, token bool) fault {
	s.n, s.mark, s.sealed = 0, 0, false
	switch {
	case len(src) == 0:
		return fault{reasonEmpty, -1}
	case len(src) > 2*utf8.UTFMax*maxSymbolic:
		return fault{reasonMore, -1}
	}
	if f := notUTF8(src); f.reason != "" {
		return f
	}
	total := utf8.RuneCount(src)
	i, kept, code := 0, 0, uint64(0)
	for at, x := range string(src) {
		switch {
		case !c.kept && (i == 0 || i == total-1) && c.separator(x):
			return fault{reasonSeparator, at}
		case i < c.first || i >= total-c.last:
			if f := c.keptCharacter(x, src, at); f.reason != "" {
				return f
			}
			if i == c.first && c.short && c.marks.number(x) >= 0 { // of a value too short to have a symbol there: the guard would take it for a token
				return fault{reasonTokenlike, at}
			}
			if kept < c.first+c.last {
				s.tweak[runeBytes*kept], s.tweak[runeBytes*kept+1], s.tweak[runeBytes*kept+2] = byte(x>>16), byte(x>>8), byte(x)
			}
			kept++
		case c.separator(x):
			if s.n == 0 {
				return fault{reasonSeparator, at}
			}
		default:
			n := int32(-1)
			switch head := token && s.n < c.head; {
			case head && s.n == 0:
				n = c.marks.number(x)
				code = uint64(max(n, 0))
			case head:
				n = c.out.number(x)
				code = code*uint64(len(c.out.symbols)) + uint64(max(n, 0))
			default:
				n = c.in.number(x)
			}
			if n < 0 {
				return fault{c.foreign(x), at}
			}
			if s.n == c.max-c.first-c.last {
				return fault{reasonMore, at}
			}
			s.numerals[s.n] = uint16(n)
			s.n++
		}
		i++
	}
	if s.n < c.min-c.first-c.last {
		s.sealed = c.short && !token
		if !s.sealed {
			return fault{reasonFewer, -1}
		}
	}
	if token && c.head > 0 {
		if code/c.perMark >= uint64(c.versions) {
			return fault{reasonShape, -1}
		}
		s.mark = int(code / c.perMark)
		code %= c.perMark
		radix := uint64(len(c.in.symbols))
		for j := c.head - 1; j >= 0; j-- {
			s.numerals[j] = uint16(code % radix)
			code /= radix
		}
	}
	return fault{}
}

func (c *symbols) keptCharacter(x rune, src []byte, at int) fault {
	switch {
	case c.kept && unicode.IsGraphic(x) && (x < utf8.RuneSelf || !unicode.Is(unicode.M, x) && isComposed(src[at:at+utf8.RuneLen(x)])):
	case !c.kept && (c.in.number(x) >= 0 || c.separator(x)):
	default:
		return fault{c.foreign(x), at}
	}
	return fault{}
}

// isComposed reports whether a character stays as it is, and apart from what stands before it, when a text is normalized
// to NFC.
func isComposed(s []byte) bool {
	return norm.NFC.Properties(s).BoundaryBefore() && norm.NFC.QuickSpan(s) == len(s)
}

func (c *symbols) separator(x rune) bool {
	for _, s := range c.separators {
		if s == x {
			return true
		}
	}
	return false
}

// foreign names a character that is no symbol.
func (c *symbols) foreign(x rune) string {
	switch {
	case unicode.IsControl(x):
		return "a control character"
	case unicode.Is(unicode.M, x):
		return "a combining mark"
	case unicode.ToUpper(x) != x && c.in.number(unicode.ToUpper(x)) >= 0, unicode.ToLower(x) != x && c.in.number(unicode.ToLower(x)) >= 0:
		return "a letter of the other case"
	}
	return "a character that is not in the alphabet"
}

func (c *symbols) value(s *spelling, plain []byte) fault {
	f := c.read(s, plain, false)
	if f.reason == "" && c.short && tokenlike(plain, sealedMin) {
		f = fault{reasonTokenlike, 0}
	}
	return f
}

func (c *symbols) check(plain []byte) fault {
	s := spellings.Get().(*spelling)
	defer spellings.Put(s)
	return c.value(s, plain)
}

func (c *symbols) token(dst, plain []byte, k *versionKey) ([]byte, fault) {
	s := spellings.Get().(*spelling)
	defer spellings.Put(s)
	if f := c.value(s, plain); f.reason != "" {
		return dst, f
	}
	if s.sealed {
		return k.appendSealed(dst, plain), fault{}
	}
	numerals := s.numerals[:s.n]
	if err := k.plans[s.n].Encrypt(numerals, numerals, s.tweak[:c.tweakLen()]); err != nil {
		panic("engine: " + err.Error()) // lengths are the plan's, and numerals are of the alphabet
	}
	if c.head > 0 {
		code, radix := uint64(0), uint64(len(c.in.symbols))
		for _, n := range numerals[:c.head] {
			code = code*radix + uint64(n)
		}
		code += uint64(k.mark) * c.perMark
		out := uint64(len(c.out.symbols))
		for j := c.head - 1; j >= 0; j-- {
			if j == 0 {
				out = uint64(len(c.marks.symbols))
			}
			s.written[j] = uint32(code % out)
			code /= out
		}
	}
	return c.render(dst, plain, s, true), fault{}
}

// render appends src with other symbols in the place of those between the kept characters.
func (c *symbols) render(dst, src []byte, s *spelling, token bool) []byte {
	total, i, n := utf8.RuneCount(src), 0, 0
	for len(src) > 0 {
		x, size := utf8.DecodeRune(src)
		switch {
		case i < c.first || i >= total-c.last || c.separator(x):
			dst = append(dst, src[:size]...)
		default:
			switch head := token && n < c.head; {
			case head && n == 0:
				dst = c.marks.append(dst, s.written[n])
			case head:
				dst = c.out.append(dst, s.written[n])
			default:
				dst = c.in.append(dst, uint32(s.numerals[n]))
			}
			n++
		}
		src = src[size:]
		i++
	}
	return dst
}

func (c *symbols) plain(dst, token []byte, keys *keySet) ([]byte, fault) {
	if c.short && isSealed(token) {
		return c.opened(dst, token, keys)
	}
	s := spellings.Get().(*spelling)
	defer spellings.Put(s)
	if f := c.read(s, token, true); f.reason != "" {
		return dst, f
	}
	k := keys.mark(s.mark)
	if c.sure == Unknown {
		if k = keys.only(); k == nil {
			return dst, fault{reasonNoMark, -1}
		}
	}
	if k == nil {
		return dst, fault{reasonVersion, -1}
	}
	numerals := s.numerals[:s.n]
	if err := k.plans[s.n].Decrypt(numerals, numerals, s.tweak[:c.tweakLen()]); err != nil {
		panic("engine: " + err.Error())
	}
	return c.render(dst, token, s, false), fault{}
}

func isSealed(token []byte) bool {
	_, body, ok := prefixVersion(token)
	return ok && isBase32(body, sealedMin)
}

// opened appends the value of a sealed short value's token. Its version stands in the token, so that it is looked up by
// number and not by mark.
func (c *symbols) opened(dst, token []byte, keys *keySet) ([]byte, fault) {
	version, body, _ := prefixVersion(token)
	k := keys.version(version)
	if k == nil {
		return dst, fault{reasonVersion, -1}
	}
	return k.appendOpened(dst, body)
}

func (c *symbols) mark(token []byte) (int, bool) {
	if c.sure == Unknown {
		return 0, false
	}
	if c.short && isSealed(token) {
		version, _, _ := prefixVersion(token)
		return version % c.versions, true
	}
	s := spellings.Get().(*spelling)
	defer spellings.Put(s)
	f := c.read(s, token, true)
	return s.mark, f.reason == ""
}

func (c *symbols) tokens(dst []byte, ends []int, values [][]byte, k *versionKey) ([]byte, []int, fault) {
	return oneByOne(dst, ends, values, func(dst, v []byte) ([]byte, fault) { return c.token(dst, v, k) })
}

func (c *symbols) plains(dst []byte, ends []int, tokens [][]byte, keys *keySet) ([]byte, []int, fault) {
	return oneByOne(dst, ends, tokens, func(dst, v []byte) ([]byte, fault) { return c.plain(dst, v, keys) })
}

// masked puts a star for each character that is no separator, but the last four or the first one, and of a short value
// shows no more than half of them.
func (c *symbols) masked(dst, plain []byte, mask string) ([]byte, fault) {
	if f := c.check(plain); f.reason != "" {
		return dst, f
	}
	n, i := 0, 0
	for _, x := range string(plain) {
		if !c.separator(x) {
			n++
		}
	}
	for _, x := range string(plain) {
		switch {
		case c.separator(x):
			dst = utf8.AppendRune(dst, x)
			continue
		case mask == "last4" && i >= n-shown(n), mask == "first-letter" && i == 0 && n > 1:
			dst = utf8.AppendRune(dst, x)
		default:
			dst = append(dst, '*')
		}
		i++
	}
	return dst, fault{}
}

func (c *symbols) tokenLen(n int) int {
	size := c.in.size
	if c.out != nil {
		size = c.out.size
	}
	bound := n * size
	if c.short {
		bound = max(bound, sealedLen(n))
	}
	return bound
}

// The formats over an alphabet.

var alphanumericFormat = format{
	info: FormatInfo{
		Name: "alphanumeric", Method: FF1, Mask: "last4", Shape: "aA9…",
		Description: "ASCII letters and digits of one case or both; the first characters become letters of another kind",
	},
	masks: []string{"last4", "first-letter", "fixed"}, takes: []string{"keep_first", "case", "token_alphabet", "exact", "short"},
	keeps: true, sized: true, floats: true, least: 2, min: 6, max: maxSymbolic,
	prepare: func(p Policy, r *resolved) *PolicyError {
		in := runes('0', '9')
		switch p.Options.Case {
		case "", "mixed":
			in = slices.Concat(in, runes('A', 'Z'), runes('a', 'z'))
		case "upper":
			in = append(in, runes('A', 'Z')...)
		case "lower":
			in = append(in, runes('a', 'z')...)
		default:
			return refusal("format alphanumeric has no case "+strconv.Quote(p.Options.Case), "use upper, lower or mixed")
		}
		return prepareSymbols(p, r, in, false)
	},
}

var alphabetFormat = format{
	info: FormatInfo{
		Name: "alphabet", Method: FF1, Mask: "fixed", Shape: "as the value, the first characters of another alphabet",
		Description: "string over an alphabet of your own, of up to 65536 symbols (option alphabet)",
	},
	masks: []string{"fixed", "last4", "first-letter"}, takes: []string{"keep_first", "alphabet", "token_alphabet", "exact", "short"},
	keeps: true, sized: true, floats: true, least: 2, max: maxSymbolic,
	prepare: func(p Policy, r *resolved) *PolicyError { return prepareGiven(p, r, false) },
}

// customFormat is for identifiers of one's own.
var customFormat = format{
	info: FormatInfo{
		Name: "custom", Method: FF1, Mask: "fixed", Shape: "as the value, the first enciphered characters of another alphabet",
		Description: "identifier of your own: kept prefix and suffix, alphabet, separators, lengths, what becomes of short values",
	},
	masks: []string{"fixed", "last4", "first-letter"}, takes: []string{"keep_first", "alphabet", "token_alphabet", "exact", "short", "separators"},
	keeps: true, sized: true, floats: true, least: 2, max: maxSymbolic,
	prepare: func(p Policy, r *resolved) *PolicyError { return prepareGiven(p, r, true) },
}

// prepareGiven compiles a format whose alphabet the policy gives. The shortest values by default have a million
// possibilities.
func prepareGiven(p Policy, r *resolved, kept bool) *PolicyError {
	if p.Options.Alphabet == "" {
		return refusal("format "+p.Format+" needs an alphabet, and has none", "give its symbols (alphabet)")
	}
	in, refused := parseAlphabet("alphabet", p.Options.Alphabet, minSymbols)
	if refused != nil {
		return refused
	}
	if p.Options.MinLength == 0 {
		floor := int(math.Ceil(math.Log(minDomain) / math.Log(float64(len(in)))))
		for pow := new(big.Int); ; floor++ { // the logarithm is only where to begin: integers decide
			if pow.Exp(big.NewInt(int64(len(in))), big.NewInt(int64(floor)), nil).Cmp(big.NewInt(minDomain)) >= 0 {
				break
			}
		}
		r.min = max(floor, 2) + r.keep + p.Options.KeepFirst
		if r.min > r.max {
			return refusal("max_length "+strconv.Itoa(r.max)+" is below "+strconv.Itoa(r.min)+", from which there are a million values", "raise max_length, or choose min_length")
		}
	}
	return prepareSymbols(p, r, in, kept)
}

// digitsSymbolsFormat is digits where more is asked for than its own code does.
var digitsSymbolsFormat = format{
	info:  digitsInfo,
	masks: digitsMasks,
	takes: []string{"keep_first", "exact", "separators"}, keeps: true, sized: true, floats: true, least: 2, min: 6, max: maxDigits,
	prepare: func(p Policy, r *resolved) *PolicyError { return prepareSymbols(p, r, runes('0', '9'), false) },
}

func digitsVariant(o Options) *format {
	if o.KeepFirst > 0 || o.Exact || o.Separators != "" {
		return &digitsSymbolsFormat
	}
	return nil
}
