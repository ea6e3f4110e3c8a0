package engine_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"testing"
	"unicode/utf8"

	"pgveil/engine"
)

// seed adds every value that is known to be one, its token, and what is known to be neither.
func seed(f *testing.F) (transforms []*engine.Transform) {
	for i, name := range cases() {
		tr := compile(f, name, 1, 2)
		transforms = append(transforms, tr)
		for _, v := range roundTrips[name].values {
			f.Add(uint8(i), []byte(v))
			token, err := tr.AppendToken(nil, []byte(v), 2)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(uint8(i), token)
		}
		for _, v := range []string{"", "\x00", "+", "@", "-", "t1_", "\xff", "４１１１", "KQD-12-3456", "１", "t1_" + string(bytes.Repeat([]byte{'a'}, 28))} {
			f.Add(uint8(i), []byte(v))
		}
	}
	return transforms
}

// FuzzAppendToken: a value makes a round trip, its token is one and it is none, and anything else is a *FormatError.
func FuzzAppendToken(f *testing.F) {
	transforms := seed(f)
	f.Fuzz(func(t *testing.T, format uint8, value []byte) {
		tr := transforms[int(format)%len(transforms)]
		given := bytes.Clone(value)
		token, err := tr.AppendToken([]byte("x"), value, 1)
		if !bytes.Equal(value, given) {
			t.Fatal("the value was written to")
		}
		var fe *engine.FormatError
		if err != nil {
			if !errors.As(err, &fe) || string(token) != "x" || fe.Offset > len(value) {
				t.Fatalf("not a plain refusal: %v", err)
			}
			return
		}
		token = token[1:]
		if tr.Policy().Format == "json" {
			if back, err := tr.AppendPlain(nil, token); err != nil || !sameJSON(back, value) {
				t.Fatalf("no round trip: %v", err)
			}
			return
		}
		if tr.Is(value) || !tr.Is(token) {
			t.Fatal("value and token cannot be told apart")
		}
		if v, ok := tr.Version(token); v != 1 || !ok {
			t.Fatalf("Version = %d, %v", v, ok)
		}
		if keepsLength(tr.Policy()) && utf8.RuneCount(token) != utf8.RuneCount(value) || len(token) > tr.MaxTokenLen(len(value)) {
			t.Fatal("the token's length is wrong")
		}
		if back, err := tr.AppendPlain(nil, token); err != nil || !bytes.Equal(back, value) {
			t.Fatalf("no round trip: %v", err)
		}
	})
}

// sameJSON compares documents but for the spelling of strings.
func sameJSON(a, b []byte) bool {
	read := func(text []byte) (v any, err error) {
		d := json.NewDecoder(bytes.NewReader(text))
		d.UseNumber()
		err = d.Decode(&v)
		return v, err
	}
	x, errX := read(a)
	y, errY := read(b)
	return errX == nil && errY == nil && reflect.DeepEqual(x, y)
}

// FuzzAppendPlain: a token deciphers to a value whose token it is, and anything else is a *TokenError.
func FuzzAppendPlain(f *testing.F) {
	transforms := seed(f)
	f.Fuzz(func(t *testing.T, format uint8, token []byte) {
		tr := transforms[int(format)%len(transforms)]
		version, ok := tr.Version(token)
		value, err := tr.AppendPlain([]byte("x"), token)
		var te *engine.TokenError
		if err != nil {
			if !errors.As(err, &te) || string(value) != "x" {
				t.Fatalf("not a plain refusal: %v", err)
			}
			return
		}
		if tr.Policy().Format == "json" {
			return // a document may hold no token, or hold those of several versions
		}
		if !ok {
			t.Fatal("it deciphers without a version")
		}
		if again, err := tr.AppendToken(nil, value[1:], version); err != nil || !bytes.Equal(again, token) {
			t.Fatalf("its value has another token: %v", err)
		}
	})
}

// FuzzBatches: batches and what names the version give what AppendToken and AppendPlain give.
func FuzzBatches(f *testing.F) {
	transforms := seed(f)
	f.Fuzz(func(t *testing.T, format uint8, value []byte) {
		tr := transforms[int(format)%len(transforms)]
		known := []byte(roundTrips[cases()[int(format)%len(transforms)]].values[0])
		values := [][]byte{known, known, value, known, known}
		tokens, ends, batchErr := tr.AppendTokens(nil, []int{0}, values, 2)
		token, err := tr.AppendToken(nil, value, 2)
		if err != nil {
			if batchErr == nil || batchErr.Error() != err.Error() || len(ends) != 3 {
				t.Fatalf("alone %v, in a batch %v behind %d", err, batchErr, len(ends)-1)
			}
			return
		}
		all := split(tokens, ends)
		if batchErr != nil || !bytes.Equal(all[2], token) {
			t.Fatalf("in a batch it is another token: %v", batchErr)
		}
		if tr.Policy().Method() == engine.OneWay {
			return
		}
		back, err := tr.AppendPlain(nil, token)
		if err != nil {
			t.Fatal(err)
		}
		plains, ends, err := tr.AppendPlains(nil, []int{0}, all)
		if at, errAt := tr.AppendPlainAt(nil, token, 2); err != nil || errAt != nil || !bytes.Equal(split(plains, ends)[2], back) || !bytes.Equal(at, back) {
			t.Fatalf("in a batch it is another value: %v, %v", err, errAt)
		}
	})
}

// FuzzAppendMask: a mask of anything shows no more than four digits and half of them, or a letter and a domain.
func FuzzAppendMask(f *testing.F) {
	transforms := seed(f)
	f.Fuzz(func(t *testing.T, format uint8, value []byte) {
		tr := transforms[int(format)%len(transforms)]
		mask := tr.AppendMask([]byte("x"), value)[1:]
		if string(mask) == "********" {
			return
		}
		switch tr.Policy().Format {
		case "ssn", "pan", "phone", "digits":
		case "email":
			if local, _, _ := bytes.Cut(mask, []byte("@")); len(bytes.Trim(local, "*")) > 1 {
				t.Fatal("the mask shows more than a letter")
			}
			return
		default:
			if bytes.Equal(mask, value) && tr.Check(value) == nil {
				t.Fatal("the mask is the value")
			}
			return
		}
		if digits := countDigits(mask); digits != min(4, countDigits(value)/2) || len(mask) != len(value) {
			t.Fatalf("the mask shows %d digits", digits)
		}
	})
}

func countDigits(s []byte) (n int) {
	for _, c := range s {
		if c >= '0' && c <= '9' {
			n++
		}
	}
	return n
}

// FuzzPolicy: options are refused or compile, and what compiles makes a round trip of whatever it takes for a value.
func FuzzPolicy(f *testing.F) {
	infos := engine.Formats()
	for i, info := range infos {
		for _, name := range cases() {
			p := named(name)
			options, err := json.Marshal(p.Options)
			if err != nil {
				f.Fatal(err)
			}
			if p.Format == info.Name && len(options) < 1000 {
				f.Add(uint8(i), options, []byte(roundTrips[name].values[0]))
			}
		}
		f.Add(uint8(i), []byte(`{"keep_first":3,"keep_last":2,"min_length":12,"separators":"-"}`), []byte("1234-5678-90"))
		f.Add(uint8(i), []byte(`{"alphabet":"01","min_length":7,"short":"aes-siv"}`), []byte("01"))
	}
	f.Fuzz(func(t *testing.T, format uint8, options, value []byte) {
		p := engine.Policy{ID: policyID, Format: infos[int(format)%len(infos)].Name, AcceptSmallDomain: true}
		if json.Unmarshal(options, &p.Options) != nil {
			return
		}
		tr, err := engine.Compile(p, []engine.Key{dek(1)})
		if err != nil {
			var pe *engine.PolicyError
			if !errors.As(err, &pe) {
				t.Fatalf("not a *PolicyError: %v", err)
			}
			return
		}
		if _, err := p.Describe(); err != nil {
			t.Fatal(err)
		}
		token, err := tr.AppendToken(nil, value, 1)
		tr.AppendMask(nil, value)
		if err != nil || p.Method() == engine.OneWay || p.Format == "json" {
			return
		}
		if back, err := tr.AppendPlain(nil, token); err != nil || !bytes.Equal(back, value) {
			t.Fatalf("no round trip: %v", err)
		}
		if len(token) > tr.MaxTokenLen(len(value)) {
			t.Fatalf("a token of %d bytes", len(token))
		}
		if !p.Options.Exact && (!tr.Is(token) || tr.Is(value)) {
			t.Fatal("value and token cannot be told apart")
		}
	})
}
