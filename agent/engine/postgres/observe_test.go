//go:build linux

package postgres

import (
	"testing"

	"github.com/witnessd/witnessd/agent/engine"
)

// TestReplayed: what a mirror has on disk and what its readers can see are two positions.
func TestReplayed(t *testing.T) {
	a, b := newPair(t)
	reader := b.client()
	reader.must("select pg_wal_replay_pause()")
	a.client().must("create table later (n int)") // acknowledged: it is on the mirror's disk
	paused := b.until("received and not replayed", func(s engine.State) bool {
		return s.Replayed.Offset > 0 && s.Replayed.Offset < s.Position.Offset
	})
	if paused.Replayed.Timeline != paused.Position.Timeline {
		t.Errorf("replayed %v of %v", paused.Replayed, paused.Position)
	}
	reader.must("select pg_wal_replay_resume()")
	b.until("all replayed", func(s engine.State) bool { return s.Replayed == s.Position })
	if got := a.see(); got.Replayed != (engine.Position{}) {
		t.Errorf("a primary replays nothing, and shows %v", got.Replayed)
	}
}
