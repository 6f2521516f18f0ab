package raftstore

import "errors"

// The errors that callers tell apart, with errors.Is.
var (
	// ErrNotLeader means that this node does not lead, or is handing its leadership over. The entry was
	// not proposed.
	ErrNotLeader = errors.New("this node does not lead")

	// ErrOutcomeUnknown means that the entry was proposed and may or may not be, or come to be, in the
	// log. Whoever proposed it must look, or propose something that does no harm twice.
	ErrOutcomeUnknown = errors.New("it is not known whether the entry was accepted")

	// ErrTooBusy means that the node could not take the entry in time. The entry was not proposed.
	ErrTooBusy = errors.New("too many proposals are waiting")

	// ErrTooLarge means that the entry would keep heartbeats waiting while it is sent. It was not proposed.
	ErrTooLarge = errors.New("the entry is too large")

	// ErrClosed means that the store is closed.
	ErrClosed = errors.New("the replicated log is closed")

	// ErrDamaged means that a file does not hold what was written to it. This node must not go on with it.
	ErrDamaged = errors.New("damaged")

	// ErrUnknownServer means that the group has no such member.
	ErrUnknownServer = errors.New("no such server in the group")
)
