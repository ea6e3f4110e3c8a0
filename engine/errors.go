package engine

import "strconv"

// FormatError says that a value is not in its policy's format. It does not hold the value.
type FormatError struct {
	Policy, Format string
	Reason         string
	Offset         int // in bytes; −1 where the whole value is meant
}

func (e *FormatError) Error() string {
	return "policy " + strconv.Quote(e.Policy) + ": value is not in format " + e.Format + ": " + e.Reason + at(e.Offset)
}

// TokenError says that something is not a token of the policy, or one of a version it has no key for.
// It does not hold the token.
type TokenError struct {
	Policy, Reason string
	Offset         int // in bytes; −1 where the whole token is meant
}

func (e *TokenError) Error() string {
	return "policy " + strconv.Quote(e.Policy) + ": not a token: " + e.Reason + at(e.Offset)
}

// PolicyError says why a policy, or a policy with its keys, is refused, and what to do instead.
type PolicyError struct {
	Policy, Reason, Hint string
}

func (e *PolicyError) Error() string {
	return "policy " + strconv.Quote(e.Policy) + ": " + e.Reason
}

func at(offset int) string {
	if offset < 0 {
		return ""
	}
	return " (at byte " + strconv.Itoa(offset) + ")"
}

// fault is a FormatError or TokenError before it is known whose. The zero value is none.
type fault struct {
	reason string
	offset int
}

// What a fault says where several formats say the same.
const (
	reasonEmpty     = "it is empty"
	reasonShort     = "it has too few digits"
	reasonLong      = "it has too many digits"
	reasonToken     = "it is already a token"
	reasonTokenlike = "it begins as tokens do"
	reasonShape     = "it has not a token's structure"
	reasonVersion   = "its key version is unknown"
	reasonSeparator = "a separator stands where none may"
	reasonUTF8      = "it is not UTF-8"
	reasonFewer     = "it is shorter than the policy allows"
	reasonMore      = "it is longer than the policy allows"
	reasonRange     = "it is outside the policy's range"
	reasonPlain     = "it deciphers to what is no value of the policy: it was altered, or is of another policy"
	reasonNoMark    = "it does not say its key version, and there are several keys"
	reasonWalk      = "cycle walking did not end"
	reasonOneWay    = "it was made one-way: nothing turns it back"
)

// stray names what kind of byte stands where a digit, or in a token a letter or digit, belongs.
func stray(c byte) string {
	switch {
	case c >= 0x80:
		return "a character outside ASCII"
	case c < ' ' || c == 0x7f:
		return "a control character"
	case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z':
		return "a letter where a digit belongs"
	case c >= '0' && c <= '9':
		return "a digit where none may stand"
	case c == '+' || c == '-':
		return "a sign or hyphen where none may stand"
	}
	return "a character where none such may stand"
}
