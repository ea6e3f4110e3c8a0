package replication

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// copyTransformer is an io.Writer for COPY's text format. It replaces the fields that have a tokenizer and passes
// everything else on as the bytes it got: the source's output functions wrote it, the target's input functions read
// it (PostgreSQL manual, COPY, "Text Format").
type copyTransformer struct {
	w          io.Writer
	tokenizers []Tokenizer      // by field; nil passes
	each       func(rows int64) // called now and then, with the rows so far

	rest  []byte // an unfinished row
	out   []byte
	plain []byte
	rows  int64
	told  int64 // to each
}

// eachRows is the number of rows between two calls of each.
const eachRows = 500

// fieldError says which field of which row could not be transformed.
type fieldError struct {
	field int
	row   int64
	err   error
}

func (e *fieldError) Error() string {
	return fmt.Sprintf("field %d of row %d: %v", e.field+1, e.row, e.err)
}
func (e *fieldError) Unwrap() error { return e.err }

func (c *copyTransformer) Write(p []byte) (int, error) {
	n := len(p)
	c.out = c.out[:0]
	for {
		end := bytes.IndexByte(p, '\n')
		if end < 0 {
			c.rest = append(c.rest, p...)
			break
		}
		line := p[:end]
		p = p[end+1:]
		if len(c.rest) > 0 {
			c.rest = append(c.rest, line...)
			line = c.rest
		}
		if err := c.row(line); err != nil {
			return 0, err
		}
		c.rest = c.rest[:0]
	}
	if len(c.out) == 0 {
		return n, nil
	}
	if _, err := c.w.Write(c.out); err != nil {
		return 0, err
	}
	if c.rows-c.told >= eachRows {
		c.told = c.rows
		c.each(c.rows)
	}
	return n, nil
}

func (c *copyTransformer) row(line []byte) error {
	c.rows++
	for i, tok := range c.tokenizers {
		field, rest, more := bytes.Cut(line, []byte{'\t'})
		if more != (i < len(c.tokenizers)-1) {
			return &fieldError{field: i, row: c.rows, err: errors.New("the row has another number of columns")}
		}
		line = rest
		if i > 0 {
			c.out = append(c.out, '\t')
		}
		if tok == nil || string(field) == `\N` {
			c.out = append(c.out, field...)
			continue
		}
		var err error
		if c.plain, err = appendUnescaped(c.plain[:0], field); err != nil {
			return &fieldError{field: i, row: c.rows, err: err}
		}
		token, err := tokenize(tok, c.plain)
		if err != nil {
			return &fieldError{field: i, row: c.rows, err: err}
		}
		c.out = appendEscaped(c.out, token)
	}
	c.out = append(c.out, '\n')
	return nil
}

// appendUnescaped reads the escapes COPY TO writes; another one is an error, since guessing would change a value.
func appendUnescaped(dst, field []byte) ([]byte, error) {
	for i := 0; i < len(field); i++ {
		if field[i] != '\\' {
			dst = append(dst, field[i])
			continue
		}
		i++
		if i == len(field) {
			return dst, errors.New("an escape without its end")
		}
		at := bytes.IndexByte([]byte(`bfnrtv\`), field[i])
		if at < 0 {
			return dst, errors.New("an unknown escape")
		}
		dst = append(dst, "\b\f\n\r\t\v\\"[at])
	}
	return dst, nil
}

func appendEscaped(dst, text []byte) []byte {
	for _, b := range text {
		if at := bytes.IndexByte([]byte("\b\f\n\r\t\v\\"), b); at >= 0 {
			dst = append(dst, '\\', `bfnrtv\`[at])
		} else {
			dst = append(dst, b)
		}
	}
	return dst
}

// tokenize returns the token, or an error whose text is sure not to quote the value.
func tokenize(tok Tokenizer, plain []byte) ([]byte, error) {
	token, err := tok.Append(nil, plain)
	switch {
	case err == nil && bytes.IndexByte(token, 0) >= 0:
		return nil, errors.New("its token has a zero byte")
	case err == nil && len(token) == 0 && len(plain) > 0:
		return nil, errors.New("its token is empty")
	case err == nil && token == nil:
		return []byte{}, nil // a nil parameter would be NULL
	case err == nil:
		return token, nil
	case len(plain) > 0 && bytes.Contains([]byte(err.Error()), plain):
		return nil, errors.New("the value does not fit the policy")
	}
	return nil, err
}
