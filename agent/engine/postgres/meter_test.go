package postgres

import (
	"testing"
	"time"

	"github.com/witnessd/witnessd/agent/engine"
)

// TestMeter: the rate is that of the last seconds, and the time left counts what the primary adds meanwhile.
func TestMeter(t *testing.T) {
	begin := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var m meter
	at := func(seconds float64, step string, done, total int64) engine.Progress {
		p := engine.Progress{Step: step, Done: done, Total: total}
		return m.measure(p, begin.Add(time.Duration(seconds*float64(time.Second))))
	}
	if p := at(0, "clone", 0, 1000); p.Rate != 0 || p.Left != 0 {
		t.Errorf("at the start: %+v", p)
	}
	if p := at(0.5, "clone", 50, 1000); p.Rate != 0 {
		t.Errorf("too early: %+v", p)
	}
	if p := at(2, "clone", 200, 1000); p.Rate != 100 || p.Left != 8*time.Second {
		t.Errorf("even pace: %+v", p)
	}
	for s := 3; s <= 20; s++ { // ten times slower
		at(float64(s), "clone", 200+int64(s-2)*10, 1000)
	}
	if p := at(21, "clone", 390, 1000); p.Rate != 10 || p.Left != 61*time.Second {
		t.Errorf("slower: %+v", p)
	}
	if p := at(22, "catch-up", 0, 100); p.Rate != 0 {
		t.Errorf("another step: %+v", p)
	}
	if p := at(24, "catch-up", 100, 150); p.Rate != 50 || p.Left != 2*time.Second {
		t.Errorf("the primary writes half as fast: %+v", p)
	}
	if p := at(26, "catch-up", 120, 400); p.Left >= 0 {
		t.Errorf("the primary is faster: %+v", p)
	}
	if p := at(27, "catch-up", 400, 400); p.Left != 0 {
		t.Errorf("done: %+v", p)
	}
	if p := at(28, "catch-up", 10, 400); p.Rate != 0 {
		t.Errorf("begun anew: %+v", p)
	}
	if p := at(29, "catch-up", 10, 0); p.Rate != 0 || p.Total != 0 {
		t.Errorf("nothing known: %+v", p)
	}
}
