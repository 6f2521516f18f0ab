package main

import (
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"

	"github.com/witnessd/witnessd/cmd/witnessctl/view"
)

func (r *run) pair() *cobra.Command {
	return group("pair", "show, change and move pairs", "A pair is one database service kept on two hosts.",
		r.pairCreate(), r.pairList(), r.pairShow(), r.pairWatch(), r.pairExplain(),
		r.pairSwitchover(), r.pairFailover(), r.pairPause(), r.pairResume(), r.pairRemove(),
		r.pairSet(), r.pairReplaceMirror(), r.pairAdopt())
}

// staleFlag is for reads only: a change is never decided on an old record.
func staleFlag(flags *pflag.FlagSet, stale *bool) {
	flags.BoolVar(stale, "stale", false, "answer from one node's own state, also without a leader; it may be old")
}

func reasonFlag(flags *pflag.FlagSet, reason *string) {
	flags.StringVar(reason, "reason", "", "`why`, for the history and for whoever is on call next")
}

// expected is what a change was decided on; zero is whatever it is now.
type expected struct {
	revision revision
	epoch    uint64
}

func (e *expected) define(flags *pflag.FlagSet) {
	flags.Var(&e.revision, "expect-revision", "refuse if the pair's `revision` is another by now")
	flags.Uint64Var(&e.epoch, "expect-epoch", 0, "refuse if the pair's `epoch` is another by now")
}

// again are the refusals that a change may be tried again after: somebody else changed the pair at the same
// moment, and the caller has not said that this matters.
func (e *expected) again() []string {
	if e.revision != 0 {
		return nil
	}
	return []string{"STALE_REVISION"}
}

// revision is a flag that takes 12 as well as 1.5.
type revision uint64

func (v *revision) String() string { return view.Revision(uint64(*v)) }
func (v *revision) Type() string   { return "revision" }
func (v *revision) Set(text string) error {
	n, err := view.ParseRevision(text)
	*v = revision(n)
	return err
}

// defaultInstance is the name in the example of an agent's configuration.
const defaultInstance = "main"

// member reads HOST[=INSTANCE].
func member(text string) (*witnessv1.Member, error) {
	host, instance, named := strings.Cut(text, "=")
	if !named {
		instance = defaultInstance
	}
	if host == "" || instance == "" {
		return nil, usagef("%q is not HOST or HOST=INSTANCE", text)
	}
	return &witnessv1.Member{Host: host, Instance: instance}, nil
}
