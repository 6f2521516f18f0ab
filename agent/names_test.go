package agent

import (
	"context"
	"errors"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// nameServer answers from a table that the test changes.
type nameServer struct {
	mu    sync.Mutex
	table map[string]string
	asked int
}

func (s *nameServer) set(host, ip string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.table[host] = ip
}

func (s *nameServer) lookup(_ context.Context, host string) ([]netip.Addr, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	if s.table[host] == "" {
		return nil, errors.New("no such host")
	}
	return []netip.Addr{netip.MustParseAddr(s.table[host])}, nil
}

func TestNames(t *testing.T) {
	path := filepath.Join(t.TempDir(), "addresses.json")
	synctest.Test(t, func(t *testing.T) {
		server := &nameServer{table: map[string]string{"db2": "::ffff:10.0.0.2"}}
		changes := 0
		n := newNames(path, func() { changes++ })
		n.lookup = server.lookup
		want := func(when string, want ...string) {
			t.Helper()
			var got []string
			for _, a := range n.addresses("192.0.2.7", "db2", "") {
				got = append(got, a.String())
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s: %v, want %v", when, got, want)
			}
		}
		go func() { _ = n.run(t.Context()) }()
		want("before anybody was asked", "192.0.2.7")
		synctest.Wait()
		want("asked", "10.0.0.2", "192.0.2.7")
		server.set("db2", "10.0.0.3")
		time.Sleep(namesAgain + time.Second)
		want("moved", "10.0.0.3", "192.0.2.7")
		server.set("db2", "")
		time.Sleep(2 * namesAgain)
		want("the name server has lost it", "10.0.0.3", "192.0.2.7")
		if changes != 2 {
			t.Errorf("told of %d changes, want 2", changes)
		}
		next := newNames(path, func() {})
		if got := next.addresses("db2"); len(got) != 1 || got[0].String() != "10.0.0.3" {
			t.Errorf("the next start knows %v", got)
		}
	})
}

// A name that has no answer yet is asked for soon, not after half a minute.
func TestNamesAskSoonForWhatIsMissing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "addresses.json")
	synctest.Test(t, func(t *testing.T) {
		server := &nameServer{table: map[string]string{}}
		n := newNames(path, func() {})
		n.lookup = server.lookup
		go func() { _ = n.run(t.Context()) }()
		n.addresses("db2")
		time.Sleep(time.Second)
		server.set("db2", "10.0.0.2")
		time.Sleep(namesSoon)
		synctest.Wait()
		if got := n.addresses("db2"); len(got) != 1 {
			t.Errorf("knows %v", got)
		}
	})
}

// set makes a name lead elsewhere, as a later lookup would.
func (n *names) set(host string, ip netip.Addr) {
	n.mu.Lock()
	n.known[host] = []netip.Addr{ip}
	n.mu.Unlock()
	n.changed()
}
