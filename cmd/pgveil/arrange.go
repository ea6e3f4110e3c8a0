package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// greedy flags take every word that follows, up to the next flag: --tables public.a public.b.
var greedy = []string{"tables"}

// arrange reorders a command line so that flags stand before arguments, where the library looks for them: it
// stops at the first argument, and would silently drop the --yes of `key rotate ssn --yes`. Words after "--"
// are arguments. A flag means the same, and takes a value or does not, in every command that has it.
func arrange(argv []string, table []command) ([]string, error) {
	var flags, words, pool []string // pool: what greedy flags took beyond their first value
	var taker string                // the greedy flag that filled pool
	rest := argv[1:]
	for len(rest) > 0 {
		word := rest[0]
		rest = rest[1:]
		if word == "--" {
			words = append(words, rest...)
			break
		}
		if len(word) < 2 || word[0] != '-' {
			words = append(words, word)
			continue
		}
		flags = append(flags, word)
		name, _, joined := strings.Cut(strings.TrimLeft(word, "-"), "=")
		if joined || !takesValue(table, name) || len(rest) == 0 {
			continue
		}
		flags = append(flags, rest[0])
		rest = rest[1:]
		if slices.Contains(greedy, name) {
			taker = name
			for len(rest) > 0 && !strings.HasPrefix(rest[0], "-") {
				pool = append(pool, rest[0])
				rest = rest[1:]
			}
		}
	}

	c, n := find(table, words)
	if c == nil {
		return unnamed(argv[0], table, words, flags)
	}
	path, args := words[:n], words[n:]
	// A greedy flag before the arguments has swallowed them: give back as many as the command needs.
	if missing := c.min - len(args); missing > 0 && missing <= len(pool) {
		args = append(slices.Clone(args), pool[len(pool)-missing:]...)
		pool = pool[:len(pool)-missing]
	}
	for _, p := range pool {
		flags = append(flags, "--"+taker, p)
	}
	out := slices.Concat(argv[:1], path, flags)
	if len(args) > 0 {
		out = append(append(out, "--"), args...)
	}
	return out, nil
}

// unnamed handles a line that names no command: a request for help, a noun alone, or a mistake.
func unnamed(self string, table []command, words, flags []string) ([]string, error) {
	isNoun := len(words) > 0 && slices.ContainsFunc(table, func(c command) bool { return strings.HasPrefix(c.name, words[0]+" ") })
	switch {
	case len(words) == 0, len(words) == 1 && words[0] == "help":
		return []string{self, "--help"}, nil
	case isNoun && len(words) == 1:
		return []string{self, words[0]}, nil
	case isNoun:
		return nil, usage("%s has no %q", words[0], words[1]).hint("pgveil %s --help", words[0])
	default:
		return nil, usage("no command %q", words[0]).hint("pgveil --help")
	}
}

func takesValue(table []command, name string) bool {
	for _, c := range table {
		for _, f := range append(slices.Clone(c.flags), outputFlag) {
			if slices.Contains(f.Names(), name) {
				_, isBool := f.(*cli.BoolFlag)
				return !isBool
			}
		}
	}
	return false
}
