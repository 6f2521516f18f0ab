package raftstore_test

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/witnessd/witnessd/raftstore"
)

// TestTCP runs three nodes as they are run: on sockets and files, in real time.
func TestTCP(t *testing.T) {
	var layers []raftstore.StreamLayer
	var first []raftstore.Server
	for _, id := range []string{"a", "b", "c"} {
		l, err := raftstore.ListenTCP("127.0.0.1:0", "")
		if err != nil {
			t.Fatal(err)
		}
		layers = append(layers, l)
		first = append(first, raftstore.Server{ID: id, Address: l.Addr().String()})
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	offices := make(chan *raftstore.Store, 3)
	var stores []*raftstore.Store
	for i, l := range layers {
		s, err := raftstore.Open(raftstore.Options{
			ID: first[i].ID, Dir: t.TempDir(), Stream: l, Machine: &notes{}, Bootstrap: first,
		})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		stores = append(stores, s)
		go func() {
			_ = s.Lead(ctx, func(ctx context.Context, _ uint64) { offices <- s; <-ctx.Done() })
		}()
	}
	leader := <-offices
	if _, err := leader.Propose(ctx, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := leader.Close(); err != nil {
		t.Fatal(err)
	}
	leader = <-offices
	if err := leader.Read(ctx); err != nil {
		t.Fatal(err)
	}
	if got := leader.Status().Applied; got < 3 {
		t.Errorf("applied up to %d", got)
	}
	for _, s := range stores {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if c, err := net.Dial("tcp", first[0].Address); err == nil {
		_ = c.Close()
		t.Error("the port is still open")
	}
}

func TestListenTCP(t *testing.T) {
	tests := map[string]struct{ listen, advertised, want string }{
		"a name":           {"127.0.0.1:0", "witness-1.example:7000", "witness-1.example:7000"},
		"all interfaces":   {"127.0.0.1:0", "0.0.0.0:7000", "name a host"},
		"all of IPv6":      {"127.0.0.1:0", "[::]:7000", "name a host"},
		"no host":          {"127.0.0.1:0", ":7000", "name a host"},
		"any port":         {"127.0.0.1:0", "witness-1:0", "name a port"},
		"no port":          {"127.0.0.1:0", "witness-1", "missing port"},
		"not this machine": {"192.0.2.1:7000", "", "listen for the other nodes"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			l, err := raftstore.ListenTCP(test.listen, test.advertised)
			if err != nil {
				if !strings.Contains(err.Error(), test.want) {
					t.Fatalf("error %v, want one with %q", err, test.want)
				}
				return
			}
			defer l.Close()
			if got := l.Addr().String(); got != test.want {
				t.Fatalf("address %s, want %s", got, test.want)
			}
		})
	}
}
