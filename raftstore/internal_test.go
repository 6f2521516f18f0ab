package raftstore

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

type nothing struct{}

func (nothing) Apply(uint64, uint64, []byte) any { return nil }
func (nothing) Snapshot() (func(io.Writer) error, error) {
	return func(io.Writer) error { return nil }, nil
}
func (nothing) Restore(io.Reader) error { return nil }

// deaf is a stream layer without a network.
type deaf struct {
	closed chan struct{}
}

func (d deaf) Accept() (net.Conn, error)                    { <-d.closed; return nil, io.EOF }
func (d deaf) Close() error                                 { close(d.closed); return nil }
func (d deaf) Addr() net.Addr                               { return namedAddr("a:1") }
func (d deaf) Dial(string, time.Duration) (net.Conn, error) { return nil, io.EOF }

// alone starts a group of one and waits until it leads.
func alone(t *testing.T, r *record) *Store {
	t.Helper()
	s, err := Open(Options{
		ID: "a", Machine: nothing{}, Stream: deaf{make(chan struct{})},
		Bootstrap: []Server{{ID: "a", Address: "a:1"}},
		Stores: &Stores{
			Log: r, Stable: r, Snapshots: raft.NewInmemSnapshotStore(), Close: func() error { return nil },
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	for s.reigning() == 0 {
		<-s.reigns.rung()
	}
	return s
}

// LeaderCh keeps only the newest change, so leadership that was lost and won again may be heard of as won
// twice. The first office must end all the same: its term may be over.
func TestLeadershipLostAndWonUnseen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := alone(t, newRecord())
		ctx, cancel := context.WithCancel(t.Context())
		var began, ended int
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = s.Lead(ctx, func(ctx context.Context, _ uint64) {
				began++
				<-ctx.Done()
				ended++
			})
		}()
		synctest.Wait()
		news := make(chan bool)
		s.watcher.Go(func() { s.watchLeadership(news) })
		for i := range 3 {
			if began != i+1 || ended != i {
				t.Fatalf("%d offices began and %d ended after winning %d times unseen", began, ended, i)
			}
			news <- true
			synctest.Wait()
			if got := s.reigning(); got != s.raft.CurrentTerm() {
				t.Fatalf("reigning in term %d, want %d", got, s.raft.CurrentTerm())
			}
		}
		news <- false
		synctest.Wait()
		if _, leading := s.Confirmed(s.raft.CurrentTerm()); leading || began != ended {
			t.Fatalf("%d offices began and %d ended; confirmed: %v", began, ended, leading)
		}
		cancel()
		<-done
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestAnsweredBy(t *testing.T) {
	if err := answeredBy("b", "b:1", raft.RPCHeader{ID: []byte("b")}); err != nil {
		t.Error(err)
	}
	err := answeredBy("b", "b:1", raft.RPCHeader{ID: []byte("c")})
	if err == nil || !strings.Contains(err.Error(), `should be node "b" and says it is node "c"`) {
		t.Errorf("error %v", err)
	}
}

func TestTimingValidate(t *testing.T) {
	if err := DefaultTiming().Validate(); err != nil {
		t.Error(err)
	}
	tests := map[string]func(*Timing){
		"at least 5ms":                  func(t *Timing) { t.LeaderLease = time.Millisecond },
		"at least 1ms":                  func(t *Timing) { t.Commit = 0 },
		"should step down before":       func(t *Timing) { t.LeaderLease = 300 * time.Millisecond },
		"at least half the heartbeat":   func(t *Timing) { t.LeaderLease = 100 * time.Millisecond },
		"election time-out (100ms)":     func(t *Timing) { t.Election = 100 * time.Millisecond },
		"rpc time-out (200ms) must not": func(t *Timing) { t.RPC = 200 * time.Millisecond },
	}
	for want, change := range tests {
		timing := DefaultTiming()
		change(&timing)
		if err := timing.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
}

func TestLog(t *testing.T) {
	var out bytes.Buffer
	logger := newRaftLog(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	})))
	var l hclog.Logger = logger
	l.With("node", "a").Warn("Election lost", "last-leader-id", "b", "servers", hclog.Fmt("%v", []int{1, 2}))
	l.Error("failed to heartbeat to", "peer", "b") // repeated too often
	l.Named("x").Info("odd", "alone")
	l.Debug("too much")
	want := "level=WARN msg=\"election lost\" node=a last_leader_id=b servers=\"[1 2]\"\n" +
		"level=INFO msg=odd detail=alone\n"
	if out.String() != want {
		t.Errorf("logged\n%s\nwant\n%s", out.String(), want)
	}
}
