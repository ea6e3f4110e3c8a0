// Command pgveil is the whole product in one binary: the front-end, the replication worker, the HTTP
// endpoints and the tools to administer them.
//
// Start with commands.go, the table of everything it can do; a file per noun holds the code. ui.go is the
// one place that talks to a person. `pgveil dev` (dev.go) starts a demonstration of all of it.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// After the first signal the shutdown is under way; a second one ends the process the hard way.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args, newUI(os.Stdin, os.Stdout, os.Stderr)))
}

// run executes one command line and returns the exit code.
func run(ctx context.Context, argv []string, u *ui) int {
	app := newApp(commands(), u)
	args, err := arrange(argv, commands())
	if err == nil {
		err = app.RunContext(ctx, args)
	}
	return u.finish(err)
}
