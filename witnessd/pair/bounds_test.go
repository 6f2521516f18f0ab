package pair

import "testing"

// TestBounds: figures beyond every use are refused before anything is computed from them.
func TestBounds(t *testing.T) {
	for name, change := range map[string]func(*Policy){
		"a lease of minus 292 years": func(p *Policy) { p.Lease = -1 << 63 },
		"a lease of nothing":         func(p *Policy) { p.Lease = 0 },
	} {
		p := DefaultPolicy()
		change(&p)
		if len(p.Validate()) == 0 {
			t.Errorf("%s is valid", name)
		}
	}
	r := Record{ID: "p", Stage: StageReady, Procedure: &Procedure{ID: "x", Step: StepRelease}}
	if _, _, err := r.Apply(Command{Pair: "p", Body: StepProcedure{ID: "x"}}, 0); err == nil {
		t.Error("a procedure took a step that does not exist")
	}
	if _, _, err := r.Apply(Command{Pair: "p", Body: Restore{Generation: MaximumGeneration + 1}}, 0); err == nil {
		t.Error("a generation was taken for which a revision has no room")
	}
}

// TestProfileOf: a policy whose durations are those of a profile is that profile, however it came about.
func TestProfileOf(t *testing.T) {
	p := DefaultPolicy()
	p.Profile = "custom"
	if name, ok := ProfileOf(p); !ok || name != "default" {
		t.Errorf("profile %q, %t", name, ok)
	}
	p.ReleaseTimeout++
	if name, ok := ProfileOf(p); ok {
		t.Errorf("profile %q", name)
	}
}
