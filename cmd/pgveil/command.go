package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// A command is one row of the table in commands.go. The library behind it is an implementation detail of
// this file and arrange.go.
type command struct {
	name     string // "key rotate": a noun, or a noun and a verb
	args     string // "POLICY", as shown in the usage line
	min, max int    // number of arguments
	summary  string // one line
	example  string // a command line somebody could type, and more
	flags    []cli.Flag
	run      func(context.Context, *call) error
}

// A call is one use of a command.
type call struct {
	*cli.Context
	ui *ui
}

func (c *call) arg(i int) string { return c.Args().Get(i) }

// nouns says in a line what each group of commands is about.
var nouns = map[string]string{
	"key":       "make and rotate keys",
	"policy":    "say how a kind of value is tokenized",
	"column":    "protect columns of tables",
	"role":      "let roles log in, and grant them actions",
	"audit":     "read and check the audit log",
	"replicate": "keep protected replicas of other databases",
}

var outputFlag = &cli.StringFlag{Name: "output", Aliases: []string{"o"}, Value: "table", Usage: "`FORMAT` of what is printed: table or json"}

func newApp(table []command, u *ui) *cli.App {
	app := &cli.App{
		Name:            "pgveil",
		Usage:           "tokenized columns in PostgreSQL, for any client",
		HideVersion:     true,
		HideHelpCommand: true,
		Writer:          u.out,
		ErrWriter:       io.Discard, // errors are printed by ui.finish
		ExitErrHandler:  func(*cli.Context, error) {},
		OnUsageError:    func(_ *cli.Context, err error, _ bool) error { return usage("%v", err) },
		CustomAppHelpTemplate: `pgveil: {{.Usage}}

usage: pgveil NOUN [VERB] [ARGUMENT…] [--flag…]
{{range .VisibleCommands}}
  {{printf "%-10s" .Name}} {{.Usage}}{{end}}

'pgveil NOUN VERB --help' shows flags and an example.
Read from the environment: PGVEIL_DATABASE_URL, PGVEIL_KEK, PGVEIL_AUDIT_CHECKPOINTS.
Exit codes: 0 ok, 1 failure, 2 usage, 3 configuration invalid, 4 backing database unreachable, 5 denied.
`,
	}
	for _, c := range table {
		noun, verb, two := strings.Cut(c.name, " ")
		if !two {
			app.Commands = append(app.Commands, c.build(noun, u))
			continue
		}
		i := slices.IndexFunc(app.Commands, func(g *cli.Command) bool { return g.Name == noun })
		if i < 0 {
			i = len(app.Commands)
			app.Commands = append(app.Commands, &cli.Command{
				Name: noun, Usage: nouns[noun], HideHelpCommand: true, OnUsageError: app.OnUsageError,
				CustomHelpTemplate: `pgveil {{.Name}}: {{.Usage}}
{{range .VisibleCommands}}
  {{printf "%-30s" (printf "pgveil %s %s" $.Name .Name)}} {{.Usage}}{{end}}

'pgveil {{.Name}} VERB --help' shows flags and an example.
`,
			})
			// The library uses the template of subcommands for a command that has some.
			g := app.Commands[i]
			g.Action = func(ctx *cli.Context) error {
				cli.HelpPrinter(u.out, g.CustomHelpTemplate, g)
				return nil
			}
		}
		app.Commands[i].Subcommands = append(app.Commands[i].Subcommands, c.build(verb, u))
	}
	return app
}

func (c command) build(name string, u *ui) *cli.Command {
	line := strings.TrimSpace("pgveil " + c.name + " " + c.args)
	return &cli.Command{
		Name:            name,
		Usage:           c.summary,
		HideHelpCommand: true,
		Flags:           fresh(append(slices.Clone(c.flags), outputFlag)),
		OnUsageError: func(_ *cli.Context, err error, _ bool) error {
			return usage("%v", err).hint("pgveil %s --help", c.name)
		},
		CustomHelpTemplate: "pgveil " + c.name + `: {{.Usage}}

usage: ` + line + ` [--flag…]
{{range .VisibleFlags}}
  {{.}}{{end}}

example:
` + indent(c.example) + "\n",
		Action: func(ctx *cli.Context) error {
			if err := c.check(ctx); err != nil {
				return err
			}
			u.json = ctx.String("output") == "json"
			return c.run(ctx.Context, &call{Context: ctx, ui: u})
		},
	}
}

// fresh copies flags, because the library writes what it parsed into them.
func fresh(flags []cli.Flag) []cli.Flag {
	out := make([]cli.Flag, len(flags))
	for i, f := range flags {
		switch f := f.(type) {
		case *cli.StringFlag:
			c := *f
			out[i] = &c
		case *cli.StringSliceFlag:
			c := *f
			out[i] = &c
		case *cli.BoolFlag:
			c := *f
			out[i] = &c
		case *cli.IntFlag:
			c := *f
			out[i] = &c
		case *cli.DurationFlag:
			c := *f
			out[i] = &c
		case *cli.GenericFlag:
			c := *f
			c.Value = new(pathList)
			out[i] = &c
		default:
			panic(fmt.Sprintf("pgveil: flag --%s is of a kind that command.go does not know", f.Names()[0]))
		}
	}
	return out
}

func (c command) check(ctx *cli.Context) error {
	if n := ctx.NArg(); n < c.min || n > c.max {
		want := c.args
		if want == "" {
			want = "no argument"
		}
		return usage("%s takes %s, got %d", c.name, want, n).hint("pgveil %s --help", c.name)
	}
	if o := ctx.String("output"); o != "table" && o != "json" {
		return usage("--output is table or json, not %q", o)
	}
	return nil
}

func indent(s string) string {
	return "  " + strings.ReplaceAll(strings.TrimSpace(s), "\n", "\n  ")
}

// find returns the command that words name, and how many words it took.
func find(table []command, words []string) (*command, int) {
	for n := min(2, len(words)); n > 0; n-- {
		name := strings.Join(words[:n], " ")
		if i := slices.IndexFunc(table, func(c command) bool { return c.name == name }); i >= 0 {
			return &table[i], n
		}
	}
	return nil, 0
}

// required returns the value of a flag that has no default.
func (c *call) required(name string) (string, error) {
	v := c.String(name)
	if v == "" {
		return "", usage("--%s is missing", name).hint("%s", fmt.Sprintf("pgveil %s --help", strings.TrimPrefix(c.Command.HelpName, "pgveil ")))
	}
	return v, nil
}
