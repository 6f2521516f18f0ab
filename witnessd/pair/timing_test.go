package pair_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/witnessd/witnessd/witnessd/pair"
)

// docs/timing.md is what people plan with; it must say what the code does.
func TestTimingDocument(t *testing.T) {
	raw, err := os.ReadFile("../../docs/timing.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	var want []string
	for _, name := range []string{"fast", "default", "patient"} {
		p, ok := pair.ProfilePolicy(name)
		if !ok {
			t.Fatalf("no profile %s", name)
		}
		if bad := p.Validate(); len(bad) > 0 {
			t.Errorf("profile %s: %v", name, bad)
		}
		want = append(want, fmt.Sprintf("| %s | %v | %v | %v | %v |", name, p.Heartbeat, p.Lease, p.Guard, p.MirrorTimeout))
	}
	d := pair.DefaultPolicy()
	want = append(want,
		fmt.Sprintf("wait at most %v for a release and %v for the new primary", d.ReleaseTimeout, d.PromoteTimeout),
		fmt.Sprintf("| shortest guard | %d ms |", pair.MinimumGuard.Milliseconds()),
		fmt.Sprintf("| longest lease | %d min |", int(pair.MaximumLease.Minutes())),
	)
	for _, line := range want {
		if !strings.Contains(text, line) {
			t.Errorf("docs/timing.md lacks %q", line)
		}
	}
}
