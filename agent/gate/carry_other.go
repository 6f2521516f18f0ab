//go:build !linux

package gate

import "net"

// newCrew: splice and epoll are Linux's.
func newCrew(g *Gate) ([]carrier, error) { return []carrier{newPlain(g)}, nil }

// blockSize is how much is moved at a time.
const blockSize = 32 << 10

// untilGone cannot look at a connection without reading from it here: a client that goes away while it waits is
// found when its bytes are passed.
func untilGone(net.Conn) bool { return false }

// tunePartner: what it sets is Linux's.
func tunePartner(net.Conn) {}
