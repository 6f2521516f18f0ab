package raftstore

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/hashicorp/raft"
)

// TestFirstStartOnAFullDisk: what a first start left of its log before it was full has never held anything, and the
// next start, with room, begins it anew.
func TestFirstStartOnAFullDisk(t *testing.T) {
	whole := filepath.Join(t.TempDir(), "whole")
	if err := os.MkdirAll(whole, 0o700); err != nil {
		t.Fatal(err)
	}
	stores, err := openStores(whole, newRaftLog(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	if err := stores.Close(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(whole, logFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, pages := range []int{1, 2, 3} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, logFile), text[:pages*os.Getpagesize()], 0o600); err != nil {
			t.Fatal(err)
		}
		stores, err := openStores(dir, newRaftLog(slog.New(slog.DiscardHandler)))
		if err != nil {
			t.Fatalf("%d pages: %v", pages, err)
		}
		if err := stores.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestMachineIsNotDamage: a machine that cannot open a file says nothing about the file.
func TestMachineIsNotDamage(t *testing.T) {
	if !ofMachine(&os.PathError{Op: "open", Path: "raft.db", Err: syscall.EMFILE}) {
		t.Error("too many open files counts as damage")
	}
	if ofMachine(errors.New("page 3 is neither free nor in use")) {
		t.Error("damage counts as an error of the machine")
	}
}

// TestDirectoryOfAnyName: what looks like a pattern in the path of a directory is not one.
func TestDirectoryOfAnyName(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a[b")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	stores, err := openStores(dir, newRaftLog(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	if err := stores.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestHoleAfterAnOldLeader: before the hole that a snapshot leaves there may be entries of a leader whose term was
// higher than that of what follows it.
func TestHoleAfterAnOldLeader(t *testing.T) {
	entries, promises := raft.NewInmemStore(), raft.NewInmemStore()
	for _, e := range []*raft.Log{{Index: 1, Term: 6}, {Index: 2, Term: 7}, {Index: 51, Term: 6}, {Index: 52, Term: 8}} {
		if err := entries.StoreLog(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := promises.SetUint64([]byte(keyTerm), 8); err != nil {
		t.Fatal(err)
	}
	if err := promises.SetUint64([]byte(keyVoteTerm), 8); err != nil {
		t.Fatal(err)
	}
	if err := promises.Set([]byte(keyVoteCandidate), []byte("w1")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := checkLog(entries, promises, 50); err != nil {
		t.Error(err)
	}
	if _, _, err := checkLog(entries, promises, 2); err == nil || !strings.Contains(err.Error(), "missing") {
		t.Errorf("error %v", err)
	}
}
