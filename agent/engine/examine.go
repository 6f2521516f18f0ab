package engine

import "context"

// Grade is how a check of an instance ended.
type Grade string

// The grades of a check.
const (
	Good Grade = "good"
	Weak Grade = "weak" // works, with less protection than there could be
	Bad  Grade = "bad"  // the instance cannot do its part like this
)

// Check is one requirement of an engine, and whether an instance meets it.
type Check struct {
	Name   string
	Grade  Grade
	Detail string // what was found
	Do     string // what mends it, or what to know; empty if nothing
}

// Mended is one thing that Mend did, or would do.
type Mended struct {
	What string // in a few words
	How  string // the statement, or the change of a file
	Err  error  // why it could not be done
}

// Examiner is what an engine may have for the doctor: it looks at an instance from outside, beside an agent that
// may be driving it, in whatever state the instance is. Nothing of it ever starts, stops or restarts a server.
type Examiner interface {
	// Examine checks every requirement of the engine that can be checked in the instance's present state, also
	// against the partner's instance if its address (host:port) is given.
	Examine(ctx context.Context, partner string) []Check
	// Mend does what can be done about bad and weak checks without asking, and without touching what only an
	// administrator can decide. A dry run says what it would do.
	Mend(ctx context.Context, partner string, dry bool) []Mended
	// Close lets go of connections.
	Close()
}
