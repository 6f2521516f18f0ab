package main

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func (r *run) procedure() *cobra.Command {
	return group("procedure", "show and wait for procedures",
		"A procedure is a change that takes more than one step. It lives in the witness and goes on by itself.",
		r.procedureShow(), r.procedureWait())
}

func noWaitFlag(flags *pflag.FlagSet, noWait *bool) {
	flags.BoolVar(noWait, "no-wait", false, "start the procedure and do not wait for its end")
}
