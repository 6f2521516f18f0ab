package pair

import (
	"fmt"
	"time"
)

// Policy is what an administrator chooses for a pair. Its durations are the protocol's timing; Validate
// refuses relations between them that would break the argument of DESIGN section 3.
type Policy struct {
	Profile string // the name of the timing profile, or "custom"

	// Heartbeat is how often an agent asks and reports.
	Heartbeat time.Duration
	// Lease is the length of each granted lease.
	Lease time.Duration
	// Guard is the tail of a lease in which the holder has already stopped.
	Guard time.Duration
	// MirrorTimeout is how long commits are held for a mirror that does not confirm them before Expose.
	MirrorTimeout time.Duration
	// ReleaseTimeout bounds a procedure's wait for the primary to stop and release.
	ReleaseTimeout time.Duration
	// PromoteTimeout bounds a procedure's wait for the new primary to serve.
	PromoteTimeout time.Duration
}

// Profiles of DESIGN section 3, "Timing".
func profiles() map[string]Policy {
	base := Policy{ReleaseTimeout: 30 * time.Second, PromoteTimeout: 60 * time.Second}
	with := func(name string, heartbeat, lease, guard, mirror time.Duration) Policy {
		p := base
		p.Profile, p.Heartbeat, p.Lease, p.Guard, p.MirrorTimeout = name, heartbeat, lease, guard, mirror
		return p
	}
	return map[string]Policy{
		"fast":    with("fast", 200*time.Millisecond, time.Second, 250*time.Millisecond, time.Second),
		"default": with("default", 500*time.Millisecond, 3*time.Second, 300*time.Millisecond, 2*time.Second),
		"patient": with("patient", 2*time.Second, 12*time.Second, 500*time.Millisecond, 6*time.Second),
	}
}

// ProfileOf returns the name of the timing profile that has these durations, if there is one.
func ProfileOf(p Policy) (string, bool) {
	for name, profile := range profiles() {
		p.Profile = name
		if p == profile {
			return name, true
		}
	}
	return "", false
}

// DefaultPolicy is the profile "default".
func DefaultPolicy() Policy { return profiles()["default"] }

// ProfilePolicy returns the timing profile of that name.
func ProfilePolicy(name string) (Policy, bool) {
	p, ok := profiles()[name]
	return p, ok
}

// MinimumGuard is the shortest guard that the engine-level fence can keep: killing a database server takes
// up to 200 ms on a busy host (measured, docs/timing.md).
const MinimumGuard = 200 * time.Millisecond

// MaximumLease bounds a lease, and with it every wait that safety asks for.
const MaximumLease = 5 * time.Minute

// Validate says in sentences which relation is broken; nil means that the safety argument holds.
func (p Policy) Validate() []string {
	var bad []string
	check := func(ok bool, format string, args ...any) {
		if !ok {
			bad = append(bad, fmt.Sprintf(format, args...))
		}
	}
	check(p.Heartbeat >= 50*time.Millisecond, "heartbeat (%v) must be at least 50ms", p.Heartbeat)
	// The bounds come first: beyond them the relations could overflow.
	check(p.Lease > 0 && p.Lease <= MaximumLease, "lease (%v) must be at most %v", p.Lease, MaximumLease)
	if len(bad) > 0 {
		return bad
	}
	check(p.Guard >= MinimumGuard, "guard (%v) must be at least %v, the time a fence may need",
		p.Guard, MinimumGuard)
	check(p.Guard-MinimumGuard >= p.Lease/50,
		"guard (%v) must be at least 2 %% of lease (%v) longer than %v: clock rates may differ by 1 %% each way",
		p.Guard, p.Lease, MinimumGuard)
	check((p.Lease-p.Guard)/3 >= p.Heartbeat,
		"lease (%v) must be at least three heartbeats (%v each) and the guard (%v), so that two lost messages stop nobody",
		p.Lease, p.Heartbeat, p.Guard)
	check(p.MirrorTimeout >= p.Heartbeat, "mirror_timeout (%v) must be at least one heartbeat (%v)",
		p.MirrorTimeout, p.Heartbeat)
	check(p.ReleaseTimeout >= time.Second, "release_timeout (%v) must be at least 1s", p.ReleaseTimeout)
	check(p.PromoteTimeout >= time.Second, "promote_timeout (%v) must be at least 1s", p.PromoteTimeout)
	return bad
}
