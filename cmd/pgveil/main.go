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
	"time"
)

func main() {
	os.Exit(run(untilSignal(), os.Args, newUI(os.Stdin, os.Stdout, os.Stderr)))
}

// untilSignal returns a context that SIGINT and SIGTERM end, for a shutdown in order. Somebody who asks again
// after a while gets the end at once. A repetition within seconds is no request: timeout(1) and shells send one
// signal to the process and the same to its group.
func untilSignal() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() { // ends with the process
		<-signals
		cancel()
		began := time.Now()
		for range signals {
			if time.Since(began) > impatience {
				os.Exit(exitFailure)
			}
		}
	}()
	return ctx
}

const impatience = 3 * time.Second

// run executes one command line and returns the exit code.
func run(ctx context.Context, argv []string, u *ui) int {
	app := newApp(commands(), u)
	args, err := arrange(argv, commands())
	if err == nil {
		err = app.RunContext(ctx, args)
	}
	return u.finish(err)
}
