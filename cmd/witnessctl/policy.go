package main

import (
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

// timing is the flags that make a policy.
type timing struct {
	profile   string
	durations map[string]*time.Duration
}

func (t *timing) define(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&t.profile, "profile", "", "timing `profile`: fast, default or patient")
	t.durations = map[string]*time.Duration{}
	for _, f := range []struct{ name, usage string }{
		{"heartbeat", "how often an agent asks and reports"},
		{"lease", "length of each lease"},
		{"guard", "tail of a lease in which the holder has already stopped"},
		{"mirror-timeout", "how long commits are held for a silent mirror"},
		{"release-timeout", "limit of a procedure's wait for the primary to release"},
		{"promote-timeout", "limit of a procedure's wait for the new primary to serve"},
	} {
		t.durations[f.name] = flags.Duration(f.name, 0, f.usage)
	}
	complete(cmd, "profile", cobra.FixedCompletions([]string{
		"fast\tlease 1 s, for hosts in one room", "default\tlease 3 s", "patient\tlease 12 s, for slow hosts",
	}, cobra.ShellCompDirectiveNoFileComp))
}

// policy returns what was asked for, nil if nothing was.
func (t *timing) policy() *witnessv1.Policy {
	p := &witnessv1.Policy{
		Profile: t.profile, Heartbeat: t.duration("heartbeat"), Lease: t.duration("lease"), Guard: t.duration("guard"),
		MirrorTimeout: t.duration("mirror-timeout"), ReleaseTimeout: t.duration("release-timeout"),
		PromoteTimeout: t.duration("promote-timeout"),
	}
	given := t.profile != ""
	for _, d := range t.durations {
		given = given || *d != 0
	}
	if !given {
		return nil
	}
	return p
}

func (t *timing) duration(name string) *durationpb.Duration {
	if d := *t.durations[name]; d != 0 {
		return durationpb.New(d)
	}
	return nil
}
