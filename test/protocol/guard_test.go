package protocol

import (
	"testing"

	"github.com/witnessd/witnessd/agent/hold"
	"github.com/witnessd/witnessd/witnessd/pair"
)

// TestFenceTime: what the witness asks a guard to cover, and what a host takes off a lease, is one figure.
func TestFenceTime(t *testing.T) {
	if hold.FenceTime != pair.MinimumGuard {
		t.Errorf("hold counts %v for a fence, the witness %v", hold.FenceTime, pair.MinimumGuard)
	}
}
