package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"pgveil/engine"
)

// layoutFlags say what a policy is: `policy create` makes it, `policy test` tries it out. Each option of the engine is
// the flag of the same name.
var layoutFlags = []cli.Flag{
	&cli.StringFlag{Name: "format", Usage: "`FORMAT` of the values: " + formatNames()},
	&cli.StringFlag{Name: "options", Usage: "read the options from `FILE`, a JSON object as policy show -o json prints it; flags override it"},
	&cli.StringFlag{Name: "method", Usage: "`METHOD` ff1, aes-siv (the whole value sealed) or one-way (nothing turns it back; default: the format's)"},
	&cli.StringFlag{Name: "mask", Usage: "`MASK` shown to roles that may mask (default: the format's; null shows NULL)"},
	&cli.IntFlag{Name: "keep-first", Usage: "leave the first `N` characters as they are"},
	&cli.IntFlag{Name: "keep-last", Usage: "leave the last `N` characters as they are (0: the format's default, -1: none)"},
	&cli.IntFlag{Name: "min-length", Usage: "shortest value that is accepted is `N` long (0: the format's default)"},
	&cli.IntFlag{Name: "max-length", Usage: "longest value that is accepted is `N` long (0: the format's default)"},
	&cli.StringFlag{Name: "alphabet", Usage: "alphabet, custom: the `SYMBOLS`, each once; their order matters"},
	&cli.StringFlag{Name: "token-alphabet", Usage: "`SYMBOLS` that tell a token from a value, none of them in the alphabet (default: chosen)"},
	&cli.StringFlag{Name: "separators", Usage: "digits, custom: `CHARACTERS` that pass through between symbols"},
	&cli.StringFlag{Name: "short", Usage: "`WHAT` becomes of values below the shortest length: error (default) or aes-siv"},
	&cli.StringFlag{Name: "case", Usage: "alphanumeric: `CASE` upper, lower or mixed (default)"},
	&cli.StringFlag{Name: "type", Usage: "integer: `TYPE` that a token must fit in, int4, int8 (default) or numeric"},
	&cli.StringFlag{Name: "min", Usage: "smallest `VALUE` of an integer; first day of a date or timestamp, YYYY-MM-DD"},
	&cli.StringFlag{Name: "max", Usage: "largest `VALUE` of an integer; last day of a date or timestamp, YYYY-MM-DD"},
	&cli.IntFlag{Name: "precision", Usage: "timestamp: at most `N` digits of a fraction of a second, 1 to 6 (0: 6, -1: none)"},
	&cli.IntFlag{Name: "bits", Usage: "one-way: keep `N` bits of the hash, 64 to 256 (0: 256)"},
	&cli.BoolFlag{Name: "exact", Usage: "tokens look as values do: no guard, and no key version in them"},
	&cli.GenericFlag{Name: "path", Value: new(pathList), Usage: "json: tokenize what stands at a `PATH=FORMAT` such as /patient/ssn=ssn, or {\"path\": …, \"format\": …, \"options\": …}; may be repeated"},
	&cli.BoolFlag{Name: "accept-small-domain", Usage: "allow fewer than 1,000,000 possible values: who may tokenize can list them all"},
}

// pathList collects --path. The library's own lists split at commas, which JSON has.
type pathList struct{ paths []engine.Path }

func (l *pathList) String() string { return "" }

// Set adds one path. A pointer may contain =, a format's name does not.
func (l *pathList) Set(text string) error {
	var path engine.Path
	if strings.HasPrefix(text, "{") {
		if err := strictJSON([]byte(text), &path); err != nil {
			return err
		}
		l.paths = append(l.paths, path)
		return nil
	}
	i := strings.LastIndexByte(text, '=')
	if i < 0 {
		return errors.New("it is neither PATH=FORMAT nor a JSON object")
	}
	l.paths = append(l.paths, engine.Path{Path: text[:i], Format: text[i+1:]})
	return nil
}

// maxOptionsBytes bounds an options file: 65,536 symbols of four bytes, each escaped in JSON, and room to spare.
const maxOptionsBytes = 4 << 20

// layout reads a policy out of layoutFlags.
func (c *call) layout(name string) (engine.Policy, error) {
	format, err := c.required("format")
	if err != nil {
		return engine.Policy{}, err
	}
	p := engine.Policy{Name: name, Format: format, AcceptSmallDomain: c.Bool("accept-small-domain")}
	if file := c.String("options"); file != "" {
		if err := readOptions(file, &p.Options); err != nil {
			return engine.Policy{}, err
		}
	}
	c.setOptions(&p.Options)
	if p.AcceptSmallDomain { // said of a document, it is said of all that is in it
		for i := range p.Options.Paths {
			p.Options.Paths[i].AcceptSmallDomain = true
		}
	}
	return p, nil
}

// setOptions takes over the flags that were given.
func (c *call) setOptions(o *engine.Options) {
	for name, field := range map[string]*string{
		"mask": &o.Mask, "alphabet": &o.Alphabet, "token-alphabet": &o.TokenAlphabet, "separators": &o.Separators, "short": &o.Short,
		"case": &o.Case, "type": &o.Type, "min": &o.Min, "max": &o.Max, "method": (*string)(&o.Method),
	} {
		if c.IsSet(name) {
			*field = c.String(name)
		}
	}
	for name, field := range map[string]*int{
		"keep-first": &o.KeepFirst, "keep-last": &o.KeepLast, "min-length": &o.MinLength, "max-length": &o.MaxLength,
		"precision": &o.Precision, "bits": &o.Bits,
	} {
		if c.IsSet(name) {
			*field = c.Int(name)
		}
	}
	if c.IsSet("exact") {
		o.Exact = c.Bool("exact")
	}
	if l, ok := c.Generic("path").(*pathList); ok && len(l.paths) > 0 {
		o.Paths = l.paths
	}
}

// givenLayout returns a flag of layoutFlags that was given, "" if none was.
func (c *call) givenLayout() string {
	for _, f := range layoutFlags {
		if name := f.Names()[0]; c.IsSet(name) {
			return name
		}
	}
	return ""
}

func readOptions(file string, o *engine.Options) error {
	f, err := os.Open(file)
	if err != nil {
		return failed("%v", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxOptionsBytes+1))
	switch {
	case err != nil:
		return err
	case len(text) > maxOptionsBytes:
		return failed("options file %s is larger than %d bytes", file, maxOptionsBytes)
	}
	if err := strictJSON(text, o); err != nil {
		return failed("options file %s: %w", file, err).hint("write one JSON object, such as {\"keep_last\": 2}; docs/engine.md lists the options")
	}
	return nil
}

// strictJSON reads one JSON text into v. A name that v does not have is an error: it would be a mistake overlooked.
func strictJSON(text []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is something behind the JSON")
	}
	return nil
}

// inFlags spells the options in a hint of the engine's as the flags they are here.
var inFlags = strings.NewReplacer("keep_first", "--keep-first", "keep_last", "--keep-last", "min_length", "--min-length",
	"max_length", "--max-length", "token_alphabet", "--token-alphabet", "(min, max)", "(--min, --max)", "(alphabet)", "(--alphabet)",
	"(paths)", "(--path)")

// refused is what a person is told of a policy that the engine refuses.
func refused(err error) error {
	var policy *engine.PolicyError
	if !errors.As(err, &policy) {
		return err
	}
	f := failed("%w", err)
	f.help = inFlags.Replace(policy.Hint)
	return f
}
