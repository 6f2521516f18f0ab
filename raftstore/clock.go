package raftstore

import "time"

// now is this node's clock, for what is shown to people. Nothing is decided by it.
func now() time.Time { return time.Now() }
