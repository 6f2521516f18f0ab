package agent

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Fence says how a right is made to end by itself.
type Fence struct {
	// Level is the strongest level to use: auto, kernel, gate or engine. With kernel the agent does not start where
	// the kernel cannot; with auto it takes what works and says so.
	Level string `yaml:"level"`
	// Table is the nftables table of this agent.
	Table string `yaml:"table"`
	// MirrorReads lets clients read at a mirror through the kernel fence.
	MirrorReads bool `yaml:"mirror_reads"`
	// WatchdogDevice restarts the host when the agent hangs (/dev/watchdog); empty: none.
	WatchdogDevice string `yaml:"watchdog_device"`
}

// What Fence.Level may be.
const (
	FenceAuto   = "auto"
	FenceKernel = "kernel"
	FenceGate   = "gate"
	FenceEngine = "engine"
)

// checker notes a sentence if ok is false.
type checker func(ok bool, format string, args ...any)

func (f Fence) validate(check checker) {
	levels := []string{FenceAuto, FenceKernel, FenceGate, FenceEngine}
	check(slices.Contains(levels, f.Level), "fence.level (%q) must be one of %s", f.Level, strings.Join(levels, ", "))
	check(plainTableName(f.Table), "fence.table (%q) must be 1 to 32 letters, digits and underscores, a letter first",
		f.Table)
	check(f.WatchdogDevice == "" || filepath.IsAbs(f.WatchdogDevice),
		"fence.watchdog_device (%q) must be an absolute path", f.WatchdogDevice)
}

func plainTableName(s string) bool {
	plain := func(r rune) bool {
		return r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
	}
	return s != "" && len(s) <= 32 && !strings.ContainsFunc(s, func(r rune) bool { return !plain(r) }) &&
		(s[0] < '0' || s[0] > '9')
}

// Gate is an instance's own TCP gate: clients that connect to it are always at the primary.
type Gate struct {
	// Listen is where clients connect (host:port); empty: no gate.
	Listen string `yaml:"listen"`
	// Advertise is where the partner's gate reaches this one; empty: as Listen.
	Advertise string `yaml:"advertise"`
	// Allow lists the networks and addresses that may connect; empty: all.
	Allow []string `yaml:"allow"`
	// MaxConnections bounds the clients of this gate, waiting ones included.
	MaxConnections int `yaml:"max_connections"`
	// Wait is how long a new connection waits for a primary.
	Wait time.Duration `yaml:"wait"`
	// ProxyProtocol sends the client's address to the database (PROXY protocol, version 2).
	ProxyProtocol bool `yaml:"proxy_protocol"`
	// Exclusive states that clients can reach the database through gates only; without it the gate is no fence.
	Exclusive bool `yaml:"exclusive"`
}

// DefaultGate is what an instance without the section has: none.
func DefaultGate() Gate {
	return Gate{MaxConnections: 5000, Wait: 15 * time.Second}
}

func (g Gate) validate(where string, check checker) {
	if g.Listen == "" {
		check(!g.Exclusive, "%s.exclusive needs gate.listen", where)
		return
	}
	check(portOf(g.Listen), "%s.listen (%q) must be host:port", where, g.Listen)
	check(hostPort(g.reachable()), "%s.advertise (%q) must be host:port that the partner host reaches; listen without "+
		"a host cannot stand in for it", where, g.reachable())
	for _, a := range g.Allow {
		_, err := parseNetwork(a)
		check(err == nil, "%s.allow: %q must be an address or a network such as 10.0.0.0/8", where, a)
	}
	check(g.MaxConnections > 0, "%s.max_connections (%d) must be at least 1", where, g.MaxConnections)
	check(g.Wait >= 0 && g.Wait <= 10*time.Minute, "%s.wait (%v) must be 0 to 10m", where, g.Wait)
}

// reachable is where the partner's gate comes to.
func (g Gate) reachable() string {
	if g.Advertise != "" {
		return g.Advertise
	}
	return g.Listen
}

// networks is Allow as values; it was validated.
func (g Gate) networks() []netip.Prefix {
	var list []netip.Prefix
	for _, a := range g.Allow {
		if n, err := parseNetwork(a); err == nil {
			list = append(list, n)
		}
	}
	return list
}

// parseNetwork takes an address for the network that has only it.
func parseNetwork(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	return p.Masked(), err
}

// Hook is a command that runs when the role of an instance changes.
type Hook struct {
	// On lists the events that run it: primary, mirror, fenced; empty: all.
	On []string `yaml:"on"`
	// Instances lists the instances that run it; empty: all.
	Instances []string `yaml:"instances"`
	// Command is the program, by its absolute path, and its arguments. No shell is involved.
	Command []string `yaml:"command"`
	// Timeout is after which the command and all its children are killed; absent: 30s.
	Timeout time.Duration `yaml:"timeout"`
}

// What Hook.On may list.
const (
	HookPrimary = "primary" // clients may write here from now on
	HookMirror  = "mirror"  // the instance follows its partner from now on
	HookFenced  = "fenced"  // clients may write here no more
)

func (h Hook) validate(i int, check checker) {
	where := fmt.Sprintf("hooks[%d]", i)
	for _, on := range h.On {
		check(slices.Contains([]string{HookPrimary, HookMirror, HookFenced}, on),
			"%s.on: %q must be primary, mirror or fenced", where, on)
	}
	check(len(h.Command) > 0 && filepath.IsAbs(h.Command[0]), "%s.command must begin with an absolute path", where)
	check(h.Timeout >= 0 && h.Timeout <= time.Hour, "%s.timeout (%v) must be 0 to 1h", where, h.Timeout)
}

func portOf(s string) bool {
	return hostPort(s) || strings.HasPrefix(s, ":") && hostPort("any"+s)
}
