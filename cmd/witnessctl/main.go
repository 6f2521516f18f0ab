// Witnessctl is how people speak to a witness: it shows pairs, says why they would or would not fail over,
// and asks for what only a person may ask. Whatever it can do, anyone's program can do over the same API.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first interrupt ends what runs with a word about what goes on without it; the second just ends it.
	context.AfterFunc(ctx, stop)
	os.Exit(execute(ctx, system(), os.Args[1:]))
}
