package raftstore

import (
	"log/slog"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// contacts remembers when each peer answered last, for Status, and logs once when a peer is lost and once
// when it is back. Raft itself logs an error for every message that fails, several a second for each peer.
type contacts struct {
	log *slog.Logger

	mu    sync.Mutex
	peers map[raft.ServerID]contact
}

type contact struct {
	heard time.Time // on this node's clock; zero if never
	lost  bool
}

// note is called after each message to a peer, on the goroutines of raft that replicate to it.
func (c *contacts) note(peer raft.ServerID, failure error) {
	c.mu.Lock()
	before := c.peers[peer]
	after := contact{heard: before.heard, lost: true}
	if failure == nil {
		after = contact{heard: now()}
	}
	c.peers[peer] = after
	c.mu.Unlock()
	switch {
	case after.lost && !before.lost:
		c.log.Warn("node does not answer", "node", string(peer), "error", failure)
	case before.lost && !after.lost:
		c.log.Info("node answers again", "node", string(peer))
	}
}

func (c *contacts) heard(peer raft.ServerID) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.peers[peer].heard
}
