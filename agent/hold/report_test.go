package hold_test

import (
	"testing"

	"github.com/witnessd/witnessd/agent/hold"
)

// TestHandingOver: load balancers must hear of a release from its very beginning, while the database still serves
// those who are in, and no longer than it lasts.
func TestHandingOver(t *testing.T) {
	a := leasedPrimary(t)
	status := func() hold.Status { return a.s.Status(a.now) }
	if s := status(); !s.Serving || s.HandingOver {
		t.Fatalf("before: %+v", s)
	}
	a.answer(asked(hold.AskHandOver))
	if s := status(); a.do.Op != hold.OpHandOver || !s.Serving || !s.HandingOver {
		t.Errorf("told %v; %+v", a.dos, s)
	}
	a.finish()
	if s := status(); s.Serving || s.HandingOver || a.disk.Released != 1 {
		t.Errorf("released: %+v", s)
	}
}
