package hold

import (
	"testing"
	"time"
)

// TestGuardFitsTheLease: a partner that has heard of a longer policy first grants for longer than this host's guard
// was made for (rules R1, R12).
func TestGuardFitsTheLease(t *testing.T) {
	const long = 12 * time.Second
	for _, c := range []struct {
		name  string
		guard time.Duration
		lease time.Duration
		want  time.Duration
	}{
		{"of this host's policy", 300 * time.Millisecond, 3 * time.Second, 2700 * time.Millisecond},
		{"longer lease than this host knows of", 300 * time.Millisecond, long, long - 440*time.Millisecond},
		{"guard that is longer than it must be", 2 * time.Second, long, 10 * time.Second},
	} {
		s := State{File: File{Timing: Timing{Guard: c.guard}}}
		if got := s.guarded(1e12, c.lease).Sub(1e12); got != c.want {
			t.Errorf("%s: counts for %v, want %v", c.name, got, c.want)
		}
	}
}
