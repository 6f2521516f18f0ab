package main

import (
	"time"

	"github.com/spf13/cobra"
)

// membershipTimeout is how long a change of the nodes may take: a new one has to get the whole state.
const membershipTimeout = time.Minute

func (r *run) node() *cobra.Command {
	return group("node", "change the nodes of the witness",
		"A node is one of the processes that together are the witness.",
		r.nodeAdd(), r.nodeRemove(), r.nodeTransfer())
}

// patient gives a change of the nodes its time, unless a time was asked for.
func (r *run) patient() {
	if r.globals.timeout == 0 {
		r.settings.Timeout = max(r.settings.Timeout, membershipTimeout)
	}
}
