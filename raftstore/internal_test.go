package raftstore

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

func TestQuorum(t *testing.T) {
	const self = "a"
	voters := func(ids ...string) (all []raft.Server) {
		for _, id := range ids {
			suffrage := raft.Voter
			if id, ok := strings.CutPrefix(id, "-"); ok {
				all = append(all, raft.Server{ID: raft.ServerID(id), Suffrage: raft.Nonvoter})
				continue
			}
			all = append(all, raft.Server{ID: raft.ServerID(id), Suffrage: suffrage})
		}
		return all
	}
	type answer struct {
		from         raft.ServerID
		term, number uint64
	}
	// Numbers up to 100 have been given out when the question is asked, in term 5.
	tests := map[string]struct {
		servers []raft.Server
		answers []answer
		want    uint64
	}{
		"nobody":                        {want: 0},
		"alone":                         {voters("a"), nil, 100},
		"alone with a nonvoter":         {voters("a", "-b"), nil, 100},
		"nobody has answered":           {voters("a", "b", "c"), nil, 0},
		"the faster of two":             {voters("a", "b", "c"), []answer{{"b", 5, 10}, {"c", 5, 20}}, 20},
		"one of two is enough":          {voters("a", "b", "c"), []answer{{"c", 5, 20}}, 20},
		"of two, both":                  {voters("a", "b"), []answer{{"b", 5, 10}}, 10},
		"of four, three":                {voters("a", "b", "c", "d"), []answer{{"b", 5, 10}, {"c", 5, 20}, {"d", 5, 30}}, 20},
		"of five, three":                {voters("a", "b", "c", "d", "e"), []answer{{"b", 5, 10}, {"c", 5, 20}}, 10},
		"of five, two":                  {voters("a", "b", "c", "d", "e"), []answer{{"b", 5, 10}}, 0},
		"a nonvoter":                    {voters("a", "b", "-c", "d"), []answer{{"c", 5, 20}}, 0},
		"this node has no vote":         {voters("-a", "b", "c"), []answer{{"b", 5, 10}, {"c", 5, 20}}, 10},
		"this node was removed":         {voters("b", "c", "d"), []answer{{"b", 5, 10}, {"c", 5, 20}}, 10},
		"an earlier term":               {voters("a", "b", "c"), []answer{{"b", 4, 10}}, 0},
		"an earlier term, later":        {voters("a", "b", "c"), []answer{{"b", 5, 10}, {"c", 4, 99}}, 10},
		"a later term":                  {voters("a", "b", "c"), []answer{{"b", 5, 10}, {"c", 6, 99}}, 0},
		"answers out of order":          {voters("a", "b", "c"), []answer{{"b", 5, 30}, {"b", 5, 10}}, 30},
		"somebody who was a member":     {voters("a", "b", "c"), []answer{{"z", 5, 99}}, 0},
		"a former leader's own answers": {voters("b", "c", "d"), []answer{{"a", 5, 99}}, 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var c confirmations
			c.sequence.Store(100)
			for _, a := range test.answers {
				c.accepted(a.from, a.term, a.number, 0)
			}
			if got := c.quorum(test.servers, self, 5); got != test.want {
				t.Errorf("got %d, want %d", got, test.want)
			}
		})
	}
}

// record keeps the writes to a stable store in order, and fails those that it is told to.
type record struct {
	*raft.InmemStore
	mu     sync.Mutex
	writes []string
	fail   map[string]error
}

func newRecord() *record {
	return &record{InmemStore: raft.NewInmemStore(), fail: make(map[string]error)}
}

func (r *record) note(key []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.writes = append(r.writes, string(key))
	return r.fail[string(key)]
}

func (r *record) Set(key, value []byte) error {
	return errors.Join(r.note(key), r.InmemStore.Set(key, value))
}

func (r *record) SetUint64(key []byte, value uint64) error {
	return errors.Join(r.note(key), r.InmemStore.SetUint64(key, value))
}

// StoreLogs can fail too.
func (r *record) StoreLogs(entries []*raft.Log) error {
	return errors.Join(r.note([]byte("log")), r.InmemStore.StoreLogs(entries))
}

func watched(r *record) (watchedStable, watchedLog, *[]string) {
	var faults []string
	d := newDisk(time.Second, func(err error) { faults = append(faults, err.Error()) })
	return newWatchedStable(r, d), watchedLog{log: r, disk: d}, &faults
}

// The order matters when the machine stops in between: see watchedStable.
func TestVoteIsWrittenCandidateFirst(t *testing.T) {
	r := newRecord()
	stable, _, _ := watched(r)
	if err := errors.Join(
		stable.SetUint64([]byte(keyVoteTerm), 7), stable.Set([]byte(keyVoteCandidate), []byte("b")),
	); err != nil {
		t.Fatal(err)
	}
	if want := []string{keyVoteCandidate, keyVoteTerm}; !slices.Equal(r.writes, want) {
		t.Errorf("wrote %v, want %v", r.writes, want)
	}
	if term, err := stable.GetUint64([]byte(keyVoteTerm)); term != 7 || err != nil {
		t.Errorf("read term %d, %v", term, err)
	}
}

// This node's guards go by the names of raft's keys. If a new release of raft renames them, it must show.
func TestKeysOfRaft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecord()
		s := alone(t, r)
		defer s.Close()
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, key := range r.writes {
			if !slices.Contains([]string{keyTerm, keyVoteCandidate, keyVoteTerm, "log"}, key) {
				t.Errorf("raft writes %q", key)
			}
		}
		first := slices.Index(r.writes, keyVoteCandidate)
		if first < 0 || r.writes[first+1] != keyVoteTerm {
			t.Errorf("raft wrote %q; where is the vote?", r.writes)
		}
	})
}

func TestTermDoesNotGoBack(t *testing.T) {
	stable, _, faults := watched(newRecord())
	for _, term := range []uint64{3, 3, 4} {
		if err := stable.SetUint64([]byte(keyTerm), term); err != nil {
			t.Fatal(err)
		}
	}
	if err := stable.SetUint64([]byte(keyTerm), 3); err == nil || len(*faults) != 1 {
		t.Errorf("error %v, faults %v", err, *faults)
	}
	if term, _ := stable.GetUint64([]byte(keyTerm)); term != 4 {
		t.Errorf("term %d, want 4", term)
	}
}

func TestFaults(t *testing.T) {
	broken := errors.New("no space")
	entries := func(first, last uint64) (all []*raft.Log) {
		for i := first; i <= last; i++ {
			all = append(all, &raft.Log{Index: i})
		}
		return all
	}
	tests := map[string]struct {
		fail map[string]error
		do   func(watchedStable, watchedLog)
		want string // in the report; empty: none
	}{
		"a vote that cannot be written": {
			map[string]error{keyVoteTerm: broken},
			func(s watchedStable, _ watchedLog) {
				_ = s.SetUint64([]byte(keyVoteTerm), 7)
				_ = s.Set([]byte(keyVoteCandidate), []byte("b"))
			}, keyVoteTerm,
		},
		"a term that cannot be written": {
			map[string]error{keyTerm: broken},
			func(s watchedStable, _ watchedLog) { _ = s.SetUint64([]byte(keyTerm), 7) }, keyTerm,
		},
		"a key and an entry that are not there": {nil, func(s watchedStable, l watchedLog) {
			_, _ = s.Get([]byte("nothing"))
			_ = l.GetLog(99, new(raft.Log))
		}, ""},
		"an entry that cannot be written": {
			map[string]error{"log": broken},
			func(_ watchedStable, l watchedLog) { _ = l.StoreLogs(entries(10, 11)) }, "",
		},
		"an entry that cannot be written after others were cut off": {
			map[string]error{"log": broken},
			func(_ watchedStable, l watchedLog) {
				_ = l.DeleteRange(5, 9)
				_ = l.StoreLogs(entries(5, 6))
			}, "in the place of others",
		},
		"an entry that cannot be written after a snapshot": {
			map[string]error{"log": broken},
			func(_ watchedStable, l watchedLog) {
				_ = l.DeleteRange(1, 5)
				_ = l.StoreLogs(entries(10, 11))
			}, "",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRecord()
			stable, log, faults := watched(r)
			if err := log.StoreLogs(entries(1, 9)); err != nil {
				t.Fatal(err)
			}
			if test.fail != nil {
				r.fail = test.fail
			}
			test.do(stable, log)
			defer stable.close()
			switch got := strings.Join(*faults, "; "); {
			case test.want == "" && got != "":
				t.Errorf("reported %s", got)
			case !strings.Contains(got, test.want):
				t.Errorf("reported %q, want something with %q", got, test.want)
			}
		})
	}
}

// A process that was stopped for longer than the limit finds its timers run out and its disk well.
func TestStoppedProcessIsNoFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk(time.Second, func(err error) { t.Error(err) })
		_ = d.call("write", func() error {
			// As much as passes before the first timer, and a little: what a stopped process finds.
			time.Sleep(time.Second - d.stalled()/2)
			return nil
		})
		time.Sleep(time.Minute)
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
