package main

import (
	"context"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// Every command takes its flags before its arguments, after them, between them and before its own name.
func TestFlagsStandAnywhereInEveryCommand(t *testing.T) {
	t.Parallel()
	for _, c := range commands() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			args := words(c.max)
			var flags, want []string
			for _, f := range append(slices.Clone(c.flags), outputFlag) {
				name := f.Names()[0]
				flags = append(flags, "--"+name)
				value := "true"
				if _, isBool := f.(*cli.BoolFlag); !isBool {
					value = sample(f)
					flags = append(flags, value)
				}
				want = append(want, name+"="+value)
			}
			path := strings.Fields(c.name)
			for order, argv := range map[string][]string{
				"before the arguments": slices.Concat(path, flags, args),
				"after the arguments":  slices.Concat(path, args, flags),
				"before the name":      slices.Concat(flags, path, args),
				"between":              slices.Concat(path, args[:len(args)/2], flags, args[len(args)/2:]),
				"with --":              slices.Concat(path, flags, []string{"--"}, args),
			} {
				gotArgs, got := parse(t, c.name, argv)
				if !slices.Equal(gotArgs, args) || !slices.Equal(got, want) {
					t.Errorf("%s: pgveil %s\ngot  %q %q\nwant %q %q", order, strings.Join(argv, " "), gotArgs, got, args, want)
				}
			}
		})
	}
}

func TestGreedyFlagTakesSeveralWords(t *testing.T) {
	t.Parallel()
	if c, _ := find(commands(), []string{"replicate", "create"}); c == nil {
		t.Fatal("there is no replicate create")
	}
	for _, line := range []string{
		"replicate create s --from d --schema x --tables a b",
		"replicate create --tables a b --from d --schema x s",
		"replicate create s --tables a --tables b --from d --schema x",
		"replicate create s --tables a,b --from d --schema x",
		"replicate create --from d --schema x --tables a b s",
	} {
		args, flags := parse(t, "replicate create", strings.Fields(line))
		if !slices.Equal(args, []string{"s"}) || !slices.Contains(flags, "tables=a,b") {
			t.Errorf("%s: arguments %q, flags %q", line, args, flags)
		}
	}
}

func TestWordsAfterTwoDashesAreArguments(t *testing.T) {
	t.Parallel()
	table := []command{{name: "x", min: 0, max: 3, flags: []cli.Flag{&cli.BoolFlag{Name: "yes"}}}}
	got, err := arrange([]string{"pgveil", "x", "--", "--yes", "-"}, table)
	if want := []string{"pgveil", "x", "--", "--yes", "-"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
}

// A flag is parsed without knowing the command, so it must take a value everywhere or nowhere.
func TestAFlagMeansTheSameEverywhere(t *testing.T) {
	t.Parallel()
	kinds := map[string]bool{}
	for _, c := range commands() {
		for _, f := range c.flags {
			_, isBool := f.(*cli.BoolFlag)
			for _, name := range f.Names() {
				if before, ok := kinds[name]; ok && before != isBool {
					t.Errorf("--%s of %q takes a value in one command and none in another", name, c.name)
				}
				kinds[name] = isBool
			}
		}
	}
}

func TestEveryCommandHelpsWithAnExample(t *testing.T) {
	t.Parallel()
	for _, c := range commands() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var out, errs strings.Builder
			argv := append(append([]string{"pgveil"}, strings.Fields(c.name)...), "--help")
			if code := run(t.Context(), argv, newUI(strings.NewReader(""), &out, &errs)); code != exitOK {
				t.Fatalf("exit %d: %s", code, errs.String())
			}
			for _, part := range []string{"usage: pgveil " + c.name, "--output", "example:", "pgveil " + c.name} {
				if !strings.Contains(out.String(), part) {
					t.Errorf("help lacks %q:\n%s", part, out.String())
				}
			}
		})
	}
}

// An example is a promise: each of its lines that calls pgveil names a command and flags that exist.
func TestExamplesParse(t *testing.T) {
	t.Parallel()
	for _, c := range commands() {
		for line := range strings.Lines(c.example) {
			fields := strings.Fields(line)
			if len(fields) == 0 || fields[0] != "pgveil" {
				continue
			}
			if i := slices.IndexFunc(fields, func(w string) bool { return w == "|" || w == "<" || w == ">" || strings.HasPrefix(w, "#") }); i > 0 {
				fields = fields[:i]
			}
			parse(t, "", fields[1:])
		}
	}
}

func TestWrongLinesAreUsageErrors(t *testing.T) {
	t.Parallel()
	for _, line := range []string{"nonsense", "version extra", "version --nope", "version -o yaml", "dev --listen nowhere --data " + t.TempDir(), "dev --ephemeral --data /x"} {
		var out, errs strings.Builder
		code := run(t.Context(), append([]string{"pgveil"}, strings.Fields(line)...), newUI(strings.NewReader(""), &out, &errs))
		if code != exitUsage || !strings.HasPrefix(errs.String(), "pgveil: error: ") {
			t.Errorf("%s: exit %d, %q; want %d and an error", line, code, errs.String(), exitUsage)
		}
	}
}

// parse runs a line through arrange and the library with every command's action replaced, and returns the
// arguments and the values of all flags of the command that ran.
func parse(t *testing.T, name string, argv []string) (args, flags []string) {
	t.Helper()
	table := commands()
	ran := ""
	for i := range table {
		c := &table[i]
		c.run = func(_ context.Context, call *call) error {
			ran = c.name
			args = call.Args().Slice()
			for _, f := range append(slices.Clone(c.flags), outputFlag) {
				value := call.String(f.Names()[0])
				switch f := f.(type) {
				case *cli.BoolFlag:
					value = map[bool]string{true: "true", false: "false"}[call.Bool(f.Name)]
				case *cli.StringSliceFlag:
					value = strings.Join(call.StringSlice(f.Name), ",")
				case *cli.GenericFlag:
					value = ""
					for _, path := range call.Generic(f.Name).(*pathList).paths {
						value += path.Path + "=" + path.Format
					}
				case *cli.IntFlag:
					value = sampleInt
					if call.Int(f.Name) != 7 {
						value = "wrong"
					}
				}
				flags = append(flags, f.Names()[0]+"="+value)
			}
			return nil
		}
	}
	argv = append([]string{"pgveil"}, argv...)
	arranged, err := arrange(argv, table)
	if err != nil {
		t.Fatalf("%q: %v", argv, err)
	}
	if err := newApp(table, newUI(strings.NewReader(""), io.Discard, io.Discard)).Run(arranged); err != nil {
		t.Fatalf("%q: %v", argv, err)
	}
	if name != "" && ran != name {
		t.Fatalf("%q ran %q", argv, ran)
	}
	if ran == "" {
		t.Errorf("%q ran nothing", argv)
	}
	return args, flags
}

const sampleInt = "7"

func sample(f cli.Flag) string {
	switch f.(type) {
	case *cli.IntFlag:
		return sampleInt
	case *cli.DurationFlag:
		return "1m0s"
	case *cli.GenericFlag:
		return "/a,b=c=text"
	}
	if f == outputFlag {
		return "json"
	}
	return "v-" + f.Names()[0]
}

func words(n int) []string {
	all := []string{"one", "two", "three", "four", "five"}
	return slices.Clone(all[:n])
}
