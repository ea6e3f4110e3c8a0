package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/urfave/cli/v2"

	"pgveil/audit"
	"pgveil/engine"
)

// tokenize and detokenize as filters: standard input to standard output, a value a line or a column of CSV.
//
//	filter.go          the commands, their flags, the audit records
//	filterpipe.go      blocks of whole lines through a pool of workers, in order
//	filterlines.go     what a worker does with a block of lines
//	filtercsv.go       and with a block of CSV
//	filterprogress.go  the bar on a terminal
//
// Whoever can open the KEK and the control plane is an administrator: no grant is asked for here. What is detokenized
// is recorded: that it begins, before the first value leaves, and at the end how many did.
var filterCommands = []command{
	{
		name: "tokenize", args: "POLICY", min: 1, max: 1,
		summary: "turn values on standard input into tokens",
		example: `pgveil tokenize ssn < values.txt > tokens.txt
pgveil tokenize card --csv --column card_number < orders.csv > tokenized.csv
pgveil tokenize card --csv --column 3 --on-error null < rows.csv`,
		flags: append([]cli.Flag{
			&cli.IntFlag{Name: "key-version", Usage: "make tokens of key version `N` (0: the active one)"},
		}, filterFlags...),
		run: withControl(func(ctx context.Context, c *call, p *control) error { return p.filter(ctx, c, false) }),
	},
	{
		name: "detokenize", args: "POLICY", min: 1, max: 1,
		summary: "turn tokens on standard input back into values; recorded in the audit log",
		example: `pgveil detokenize ssn < tokens.txt
pgveil detokenize card --csv --column card_number < tokenized.csv > orders.csv`,
		flags: filterFlags,
		run:   withControl(func(ctx context.Context, c *call, p *control) error { return p.filter(ctx, c, true) }),
	},
}

var filterFlags = []cli.Flag{
	&cli.BoolFlag{Name: "csv", Usage: "read and write CSV (RFC 4180) instead of a value a line; empty unquoted fields are NULL and stay"},
	&cli.StringFlag{Name: "column", Usage: "`NAME` of the CSV column, as in the first row, which is passed through; or its number from 1"},
	&cli.BoolFlag{Name: "header", Usage: "pass the first CSV row through, where --column is a number"},
	&cli.StringFlag{Name: "on-error", Value: onErrorStop, Usage: "what to do with a line that is no value or token of the policy: `stop` (exit code 1), skip it, or null (leave it empty); skip and null exit 0"},
}

const (
	onErrorStop = "stop"
	onErrorSkip = "skip"
	onErrorNull = "null"
)

// filter is one use of the commands. The workers share it and do not change it.
type filter struct {
	transform *engine.Transform
	inverse   bool
	version   int // key version that tokenize writes
	onError   string
	csv       *csvColumn // nil: a value a line
}

func (p *control) filter(ctx context.Context, c *call, inverse bool) error {
	f, err := p.newFilter(c, inverse)
	if err != nil {
		return err
	}
	// A reader that goes away is an error of ours to record, not the end of the process.
	signal.Ignore(syscall.SIGPIPE)
	run := func() (int64, error) { return f.run(ctx, c.ui) }
	if inverse {
		return p.recorded(ctx, "detokenize", c.arg(0), run)
	}
	_, err = run()
	return err
}

func (p *control) newFilter(c *call, inverse bool) (*filter, error) {
	f := &filter{inverse: inverse, onError: c.String("on-error"), version: c.Int("key-version")}
	switch f.onError {
	case onErrorStop, onErrorSkip, onErrorNull:
	default:
		return nil, usage("--on-error is stop, skip or null, not %q", f.onError)
	}
	column := c.String("column")
	switch {
	case c.Bool("csv") && column == "":
		return nil, usage("--csv needs --column").hint("--column NAME, or its number from 1")
	case !c.Bool("csv") && (column != "" || c.Bool("header")):
		return nil, usage("--column and --header go with --csv")
	case c.Bool("csv"):
		f.csv = &csvColumn{name: column, header: true}
		if n, err := strconv.Atoi(column); err == nil {
			if n < 1 {
				return nil, usage("--column counts from 1")
			}
			f.csv = &csvColumn{index: n - 1, header: c.Bool("header")}
		}
	}
	snapshot, err := p.store.Current()
	if err != nil {
		return nil, err
	}
	policy := snapshot.Policy(c.arg(0))
	if policy == nil {
		return nil, unusablePolicy("pgveil policy list shows the policies")
	}
	f.transform = policy.Transform
	if f.version == 0 {
		f.version = policy.Active
	}
	if !inverse { // a version without a key is reported before anything is read
		if _, _, err := f.transform.AppendTokens(nil, nil, nil, f.version); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// unusablePolicy does not repeat what was given: who forgot the policy gave a value.
func unusablePolicy(hint string) *failure {
	return failed("the policy named is unknown or unusable").hint("%s", hint)
}

// recorded runs something that reveals values between two audit records. Without the first one it does not happen.
func (p *control) recorded(ctx context.Context, action, policy string, run func() (rows int64, err error)) (err error) {
	log, err := p.openAudit(ctx, cliNode(), nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeAudit(log)) }()
	r := audit.Record{Kind: audit.Admin, Action: action, Outcome: "begun", Role: p.operator(), Addr: "local", Policies: []string{policy}}
	if config, err := pgconn.ParseConfig(p.databaseURL); err == nil {
		r.Database = config.Database
	}
	if err := log.Append(ctx, r); err != nil {
		return err
	}
	r.Rows, err = run()
	r.Outcome = "ok"
	if err != nil {
		r.Outcome = "failed"
	}
	return errors.Join(err, log.Append(context.WithoutCancel(ctx), r))
}

// run filters all of the input and returns how many values were converted and written.
func (f *filter) run(ctx context.Context, u *ui) (rows int64, err error) {
	bar := newProgress(u, f.verb())
	defer func() { bar.end(err == nil) }()
	p := &pipe{filter: f, in: bar.reader(u.in), out: u.out, report: func(line int64, reason string) { bar.warn(u, line, reason) }}
	if err := p.run(ctx); err != nil {
		if errors.Is(err, syscall.EPIPE) {
			err = failed("nobody reads standard output")
		}
		return p.rows, err
	}
	if p.skipped > 0 {
		bar.end(true)
		u.warn("%d of %d lines were %s", p.skipped, p.rows+p.skipped, map[string]string{onErrorSkip: "skipped", onErrorNull: "left empty"}[f.onError])
	}
	return p.rows, nil
}

func (f *filter) verb() string {
	if f.inverse {
		return "detokenize"
	}
	return "tokenize"
}

// convert appends what the values become, one behind the other, and where each ends.
func (f *filter) convert(dst []byte, ends []int, values [][]byte) ([]byte, []int, error) {
	if f.inverse {
		return f.transform.AppendPlains(dst, ends, values)
	}
	return f.transform.AppendTokens(dst, ends, values, f.version)
}

// reason says what is wrong with a value. The engine's errors hold no value.
func reason(err error) string {
	var format *engine.FormatError
	var token *engine.TokenError
	switch {
	case errors.As(err, &format):
		return withOffset(format.Reason, format.Offset)
	case errors.As(err, &token):
		return withOffset(token.Reason, token.Offset)
	}
	return err.Error()
}

func withOffset(reason string, offset int) string {
	if offset < 0 {
		return reason
	}
	return reason + " (byte " + strconv.Itoa(offset+1) + ")"
}

// size is how much there is to read, 0 where that is not known.
func size(r io.Reader) int64 {
	f, ok := r.(*os.File)
	if !ok {
		return 0
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return 0
	}
	at, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return 0
	}
	return max(0, info.Size()-at)
}
