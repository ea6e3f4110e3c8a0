// Package engine turns values into tokens and back.
//
// Start with Policy, which says how one kind of value is tokenized, and Compile, which turns a Policy and its keys into
// a Transform; Transform.AppendToken and Transform.AppendPlain do the work. Guard gives the SQL that tells a token from
// a value inside PostgreSQL.
//
// The package is pure: its output depends on its arguments alone. It knows no clock, file, socket, log or database,
// and it holds no state, so a token is computed, never looked up.
//
// # Methods
//
// A format has one method, and with it a promise:
//
//	ff1      FF1 (NIST SP 800-38G), package ff1: a token of the value's length and layout. A permutation, so equal
//	         values have equal tokens and others never. No integrity: every well-formed token deciphers to something.
//	aes-siv  AES-SIV (RFC 5297), package siv: a longer token that authenticates itself.
//	one-way  HMAC-SHA-256 (RFC 2104): a token that nothing turns back.
//
// Options.Method asks for aes-siv or one-way in any format: the format then only says what a value is.
//
// # Keys
//
// A key version is a 32-byte DEK. What enciphers is derived from it by HKDF-SHA-256 (RFC 5869) with the method, the
// policy's ID, the version and the digest of format and options in the info string: two policies, two versions or two
// layouts never share a key, and changing a layout needs a new version.
//
// # Marks: a token is told from a value by its structure, and says its version
//
// FF1 cannot detect a wrong key, so keys are never tried in turn. The version is in the token:
//
//	ssn, digits, phone  three letters stand for three digits: 26·26·26 = 17,576 codes hold 17 versions of 1,000
//	pan                 the first digit is outside 2–6 and the Luhn residue is 1 + version mod 9, never 0
//	alphanumeric, alphabet, custom
//	                    the head of the token is a number over more symbols than a value has, its first character a
//	                    mark that no value has there
//	iban                two letters in the place of the check digits
//	uuid                a variant digit that no value has
//	integer             a number above all values
//	date, timestamp     a day from the year 3000 on
//	email, text         the prefix t<version>_
//	bytes               six bytes and the version in two
//
// All but the last two are counted modulo MaxVersions, which Policy.Describe reports: it is the number of times that the
// values fit into the tokens. Two versions that are equal modulo that number cannot both be kept. A policy may do without
// a mark (Options.Exact); then Version says that it cannot tell, and AppendPlainAt is told. Every format refuses as a value what its guard takes for a token, so the guard is false for every value.
//
// # Domains
//
// The drafts of SP 800-38G revision 1 ask for a domain of at least 1,000,000. Policy.Check counts the plaintexts that
// can occur (a card number is fixed in its check digit and its first digit is one of five) and refuses less, unless
// the policy says AcceptSmallDomain. Where a domain is not a power of a radix, a value is ranked and enciphered over the
// next larger even power of a radix with cycle walking: FF1 again until the result is in the domain, at most 64 times.
//
// See docs/engine.md for what leaks and what does not.
package engine
