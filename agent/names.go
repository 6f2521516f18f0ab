package agent

import (
	"context"
	"encoding/json"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"
)

// names knows the addresses behind the names of partner hosts, for the fence of the kernel and for gates. Questions are
// asked in the background, because a name server that does not answer must not hold up the loop.
type names struct {
	lookup  func(ctx context.Context, host string) ([]netip.Addr, error)
	changed func() // called from the background when addresses have changed
	wake    chan struct{}
	path    string // remembers the addresses for the next start, which may not have the time to ask

	mu    sync.Mutex
	known map[string][]netip.Addr // by name; also those that have no answer yet
}

// namesAgain is how often names are looked up anew; until one has an answer, namesSoon.
const (
	namesAgain = 30 * time.Second
	namesSoon  = 2 * time.Second
	namesWait  = 5 * time.Second
	// namesFirst bounds what the start of the agent waits: it must go on within the lease of the former one.
	namesFirst = 300 * time.Millisecond
)

func newNames(path string, changed func()) *names {
	resolver := &net.Resolver{}
	n := &names{
		path: path,
		lookup: func(ctx context.Context, host string) ([]netip.Addr, error) {
			return resolver.LookupNetIP(ctx, "ip", host)
		},
		changed: changed, wake: make(chan struct{}, 1), known: map[string][]netip.Addr{},
	}
	// Without the file, or with one that makes no sense, names are just asked for anew.
	if raw, err := os.ReadFile(path); err == nil && json.Unmarshal(raw, &n.known) != nil {
		n.known = map[string][]netip.Addr{}
	}
	return n
}

// remember is best effort: what is not remembered is asked for.
func (n *names) remember() {
	n.mu.Lock()
	raw, err := json.Marshal(n.known)
	n.mu.Unlock()
	if err == nil {
		_ = replace(n.path, raw, false)
	}
}

// addresses returns what is known of the hosts' addresses; a host that is an address is known at once. Others are
// looked up soon, and changed tells when there is news.
func (n *names) addresses(hosts ...string) []netip.Addr {
	n.mu.Lock()
	defer n.mu.Unlock()
	var all []netip.Addr
	for _, host := range hosts {
		if host == "" {
			continue
		}
		if ip, err := netip.ParseAddr(host); err == nil {
			all = append(all, ip.Unmap())
			continue
		}
		found, asked := n.known[host]
		if !asked {
			n.known[host] = nil
			select {
			case n.wake <- struct{}{}:
			default:
			}
		}
		all = append(all, found...)
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return slices.Compact(all)
}

// run looks names up until ctx ends.
func (n *names) run(ctx context.Context) error {
	for {
		next := namesAgain
		if !n.refresh(ctx) {
			next = namesSoon
		}
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		case <-n.wake:
			timer.Stop()
		}
	}
}

// refresh says whether every name has addresses. A name that has had some keeps them when it has no answer any more: a
// name server's trouble must not cut replication.
func (n *names) refresh(ctx context.Context) bool {
	n.mu.Lock()
	var hosts []string
	for host := range n.known {
		hosts = append(hosts, host)
	}
	n.mu.Unlock()
	complete := true
	for _, host := range hosts {
		asking, cancel := context.WithTimeout(ctx, namesWait)
		found, err := n.lookup(asking, host)
		cancel()
		for i := range found {
			found[i] = found[i].Unmap()
		}
		slices.SortFunc(found, netip.Addr.Compare)
		n.mu.Lock()
		news := err == nil && !slices.Equal(found, n.known[host])
		if news {
			n.known[host] = found
		}
		complete = complete && len(n.known[host]) > 0
		n.mu.Unlock()
		if news {
			n.remember()
			n.changed()
		}
	}
	return complete
}
