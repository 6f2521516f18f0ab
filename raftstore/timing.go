package raftstore

import (
	"errors"
	"fmt"
	"time"
)

// Timing is how fast the nodes notice that a leader is gone, and how long they are patient with each other.
type Timing struct {
	Heartbeat   time.Duration // a follower that heard nothing for one to two of these looks for a new leader
	Election    time.Duration // an election that is not won within one to two of these starts again
	LeaderLease time.Duration // a leader that reached no quorum for so long steps down by itself
	Commit      time.Duration // followers hear of a commit after one to two of these, if not by the next entry
	RPC         time.Duration // a node that does not answer for so long is taken for unreachable
}

// DefaultTiming finds a new leader in about half a second, at most 0.7, among nodes whose round trip is
// below 20 ms. Lower values were tried: from 100 ms down a busy processor alone makes leaders change.
func DefaultTiming() Timing {
	return Timing{
		Heartbeat:   250 * time.Millisecond,
		Election:    250 * time.Millisecond,
		LeaderLease: 150 * time.Millisecond,
		Commit:      50 * time.Millisecond,
		RPC:         time.Second,
	}
}

// Validate says, in sentences, which relations do not hold.
func (t Timing) Validate() error {
	var wrong []error
	must := func(ok bool, format string, args ...any) {
		if !ok {
			wrong = append(wrong, fmt.Errorf(format, args...))
		}
	}
	must(t.LeaderLease >= 5*time.Millisecond, "leader lease (%v) must be at least 5ms", t.LeaderLease)
	must(t.Commit >= time.Millisecond, "commit interval (%v) must be at least 1ms", t.Commit)
	must(t.LeaderLease <= t.Heartbeat,
		"leader lease (%v) must not be longer than the heartbeat time-out (%v): "+
			"a leader should step down before another is elected", t.LeaderLease, t.Heartbeat)
	// The leader sends a heartbeat every tenth to fifth of the time-out.
	must(2*t.LeaderLease >= t.Heartbeat,
		"leader lease (%v) must be at least half the heartbeat time-out (%v): "+
			"one late heartbeat should not depose a leader", t.LeaderLease, t.Heartbeat)
	must(t.Election >= t.Heartbeat,
		"election time-out (%v) must not be shorter than the heartbeat time-out (%v)", t.Election, t.Heartbeat)
	must(t.RPC >= t.Heartbeat,
		"rpc time-out (%v) must not be shorter than the heartbeat time-out (%v)", t.RPC, t.Heartbeat)
	return errors.Join(wrong...)
}
