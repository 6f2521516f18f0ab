package hold_test

import (
	"testing"

	"github.com/witnessd/witnessd/agent/hold"
)

// TestFormingHeardFromPartner: a database that serves when its pair begins is taken over as it runs, also if the mirror's
// agent is the first to hear of it.
func TestFormingHeardFromPartner(t *testing.T) {
	a := start(t, "a", hold.File{Pair: "p1", Name: "payroll", Peer: hold.Peer{Host: "b"}}, hold.Mark{})
	a.engine.Running, a.engine.Role = true, hold.RolePrimary
	a.looks()
	a.asks(func(s *hold.Says) { s.Epoch, s.Primary, s.AskLease = 1, "a", false })
	if a.fences != 0 || a.do.Op == hold.OpStop {
		t.Fatalf("fenced %d times, told %v", a.fences, a.dos)
	}
	// A file that was lost is another matter: what runs may have lost its right.
	a.asks(func(s *hold.Says) { s.Epoch, s.Primary, s.AskLease = 2, "a", false })
	if a.fences != 1 {
		t.Errorf("fenced %d times", a.fences)
	}
}
