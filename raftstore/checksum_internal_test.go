package raftstore

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// What is read is what was written, without a trace of the checksum; what an earlier release wrote has none.
func TestChecksumsAreNotSeen(t *testing.T) {
	under := raft.NewInmemStore()
	log := checkedLog{under}
	mine := &raft.Log{Index: 1, Term: 2, Type: raft.LogCommand, Data: []byte("one")}
	extended := &raft.Log{Index: 2, Term: 2, Data: []byte("two"), Extensions: []byte("more")}
	if err := log.StoreLogs([]*raft.Log{mine, extended}); err != nil {
		t.Fatal(err)
	}
	if mine.Extensions != nil || string(extended.Extensions) != "more" {
		t.Errorf("the entries that were written have become %v and %v", mine, extended)
	}
	if err := under.StoreLog(&raft.Log{Index: 3, Term: 2, Data: []byte("by an earlier release")}); err != nil {
		t.Fatal(err)
	}
	for index, want := range map[uint64]raft.Log{
		1: *mine, 2: *extended, 3: {Index: 3, Term: 2, Data: []byte("by an earlier release")},
	} {
		var got raft.Log
		if err := log.GetLog(index, &got); err != nil || !bytes.Equal(got.Data, want.Data) ||
			!bytes.Equal(got.Extensions, want.Extensions) {
			t.Errorf("entry %d is %+v, %v; want %+v", index, got, err, want)
		}
	}
	stable := checkedStable{under}
	if err := errors.Join(
		stable.SetUint64([]byte(keyTerm), 7), stable.Set([]byte(keyVoteCandidate), []byte("w1:1")),
		under.SetUint64([]byte(keyVoteTerm), 6), under.Set([]byte("old"), []byte("w2:1")),
	); err != nil {
		t.Fatal(err)
	}
	if term, err := stable.GetUint64([]byte(keyTerm)); err != nil || term != 7 {
		t.Errorf("term %d, %v", term, err)
	}
	for key, want := range map[string]string{keyVoteCandidate: "w1:1", "old": "w2:1"} {
		if got, err := stable.Get([]byte(key)); err != nil || string(got) != want {
			t.Errorf("%s is %q, %v", key, got, err)
		}
	}
	if _, err := stable.Get([]byte("none")); err == nil || !absent(err) {
		t.Errorf("a key that is not there: %v", err)
	}
}

func TestChecksumsFindDamage(t *testing.T) {
	under := raft.NewInmemStore()
	log, stable := checkedLog{under}, checkedStable{under}
	entry := func(change func(*raft.Log)) {
		t.Helper()
		if err := log.StoreLog(&raft.Log{Index: 1, Term: 2, Data: []byte("one")}); err != nil {
			t.Fatal(err)
		}
		var e raft.Log
		if err := under.GetLog(1, &e); err != nil {
			t.Fatal(err)
		}
		e.Data, e.Extensions = bytes.Clone(e.Data), bytes.Clone(e.Extensions)
		change(&e)
		if err := under.StoreLog(&e); err != nil {
			t.Fatal(err)
		}
		if err := log.GetLog(1, &e); !errors.Is(err, ErrDamaged) {
			t.Errorf("read %+v, %v", e, err)
		}
	}
	entry(func(e *raft.Log) { e.Data[1] ^= 4 })
	entry(func(e *raft.Log) { e.Data = e.Data[:2] })
	entry(func(e *raft.Log) { e.Term = 3 })
	entry(func(e *raft.Log) { e.Type = raft.LogNoop })
	entry(func(e *raft.Log) { e.Extensions[0] ^= 1 })
	entry(func(e *raft.Log) { e.Extensions[6] ^= 1 })
	entry(func(e *raft.Log) { e.Extensions = e.Extensions[:3] })

	for _, damage := range []func([]byte) []byte{
		func(b []byte) []byte { b[7] ^= 1; return b },
		func(b []byte) []byte { b[8] ^= 1; return b },
		func(b []byte) []byte { b[12] ^= 1; return b },
		func(b []byte) []byte { return b[:10] },
		func([]byte) []byte { return nil },
	} {
		if err := stable.SetUint64([]byte(keyTerm), 7); err != nil {
			t.Fatal(err)
		}
		value, err := under.Get([]byte(keyTerm))
		if err == nil {
			err = under.Set([]byte(keyTerm), damage(bytes.Clone(value)))
		}
		if err != nil {
			t.Fatal(err)
		}
		if term, err := stable.GetUint64([]byte(keyTerm)); !errors.Is(err, ErrDamaged) && (err == nil || !absent(err)) {
			t.Errorf("term %d, %v", term, err)
		}
	}
}

// TestFileCutUnderARunningNode: the page that is read is not there any more. Go would end the process with a
// dump of all goroutines; the node ends with a sentence, by way of its fault.
func TestFileCutUnderARunningNode(t *testing.T) {
	dir, _ := written(t)
	s, err := testStores(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var faults []string
	d := newDisk(time.Minute, func(err error) { faults = append(faults, err.Error()) })
	log := watchedLog{log: s.Log, disk: d}
	last, err := log.LastIndex()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(dir, logFile), 8192); err != nil {
		t.Fatal(err)
	}
	if err := log.GetLog(last, new(raft.Log)); err == nil {
		t.Error("read an entry that is not there")
	}
	if len(faults) != 1 || !strings.Contains(faults[0], "read a log entry: damaged") {
		t.Errorf("faults %q", faults)
	}
}
