package raftstore

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

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
