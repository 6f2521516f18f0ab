package raftstore

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
)

// newest is the directory of the newest snapshot.
func newest(t *testing.T, dir string) string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(dir, snapshotDir, "*"))
	if err != nil || len(all) != 2 {
		t.Fatalf("snapshots %v, %v", all, err)
	}
	slices.SortFunc(all, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) })
	return all[1]
}

// withoutNewest is what must be there when the newest snapshot was passed over.
func (k kept) withoutNewest() kept {
	k.snapshots = k.snapshots[1:]
	return k
}

// TestDamagedSnapshot flips a bit in every byte of a snapshot. It is taken as it was written or passed over.
func TestDamagedSnapshot(t *testing.T) {
	dir, all := written(t)
	s, err := openSnapshots(dir, newRaftLog(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(3, 3))
	passed := 0
	for _, name := range []string{snapshotMeta, snapshotState, snapshotSum} {
		path := filepath.Join(newest(t, dir), name)
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for at := range whole {
			file := bytes.Clone(whole)
			file[at] ^= 1 << rng.IntN(8)
			if err := os.WriteFile(path, file, 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := readSnapshots(s)
			switch {
			case err != nil:
				t.Errorf("%s: bit flipped in byte %d: %v", name, at, err)
			case slices.Equal(got, all.snapshots):
			case slices.Equal(got, all.withoutNewest().snapshots):
				passed++
			default:
				t.Errorf("%s: bit flipped in byte %d: holds %q", name, at, got)
			}
		}
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if passed < 200 {
		t.Errorf("passed over %d times only", passed)
	}
}

func TestTornSnapshots(t *testing.T) {
	remove := func(path string) error { return os.RemoveAll(path) }
	cut := func(path string) error { return os.Truncate(path, 7) }
	empty := func(path string) error { return os.Truncate(path, 0) }
	tests := map[string]struct {
		damage   func(path string) error
		file     string
		survives bool // nothing is lost
	}{
		"state is missing": {remove, snapshotState, false},
		"state is cut":     {cut, snapshotState, false},
		"state is empty":   {empty, snapshotState, false},
		"meta is missing":  {remove, snapshotMeta, false},
		"meta is cut":      {cut, snapshotMeta, false},
		"meta is empty":    {empty, snapshotMeta, false},
		"sum is missing":   {remove, snapshotSum, true}, // as in one by an earlier release
		"sum is empty":     {empty, snapshotSum, false},
		"all is missing":   {remove, "", false},
		"an empty directory": {func(path string) error {
			return errors.Join(os.RemoveAll(path), os.MkdirAll(path, 0o700))
		}, "", false},
	}
	from, all := written(t)
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			dir := copied(t, from)
			old := filepath.Join(dir, snapshotDir)
			if err := test.damage(filepath.Join(newest(t, dir), test.file)); err != nil {
				t.Fatal(err)
			}
			want := all.withoutNewest()
			if test.survives {
				want = all
			}
			if got, err := readAll(dir); err != nil || !slices.Equal(got.snapshots, want.snapshots) {
				t.Fatalf("holds %q, %v", got.snapshots, err)
			}
			if test.survives {
				return
			}
			// The other one too: then the log has no beginning.
			if err := os.RemoveAll(old); err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(old, 0o700); err != nil {
				t.Fatal(err)
			}
			_, err := readAll(dir)
			if err == nil || !strings.Contains(err.Error(), "no snapshot in it is whole") {
				t.Fatalf("without a snapshot: %v", err)
			}
			if problem := sentence(err, old); problem != "" {
				t.Error(problem)
			}
		})
	}
}

// TestDamagedSnapshotBeyondTheLog: the node got a snapshot from the leader and has little or nothing in its log.
// To go back to an older snapshot, or to none, would be to forget what it has said that it has.
func TestDamagedSnapshotBeyondTheLog(t *testing.T) {
	for name, entries := range map[string]uint64{"a short log": 50, "no log": 0} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s, err := testStores(dir)
			if err != nil {
				t.Fatal(err)
			}
			err = s.Stable.SetUint64([]byte(keyTerm), 3)
			for index := uint64(1); index <= entries; index++ {
				err = errors.Join(err, s.Log.StoreLog(&raft.Log{Index: index, Term: 1}))
			}
			_, network := raft.NewInmemTransport("w1:1")
			for _, index := range []uint64{40, 500} {
				sink, createErr := s.Snapshots.Create(raft.SnapshotVersionMax, index, 2, raft.Configuration{}, 1, network)
				if createErr != nil {
					t.Fatal(createErr)
				}
				_, writeErr := fmt.Fprint(sink, "state")
				err = errors.Join(err, writeErr, sink.Close())
			}
			if err = errors.Join(err, s.Close()); err != nil {
				t.Fatal(err)
			}
			if s, err = testStores(dir); err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(filepath.Join(newest(t, dir), snapshotState), 1); err != nil {
				t.Fatal(err)
			}
			_, err = testStores(dir)
			if err == nil || sentence(err, filepath.Join(dir, snapshotDir)) != "" {
				t.Errorf("opened: %v", err)
			}
		})
	}
}

// TestUnfinishedSnapshots are removed when the node starts again, and at once when they fail: each would take
// as much room as the state, and raft never looks at them again.
func TestUnfinishedSnapshots(t *testing.T) {
	dir, all := written(t)
	left := filepath.Join(dir, snapshotDir, "9-999-1234567890123.tmp")
	if err := os.MkdirAll(left, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(left, snapshotState), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := readAll(dir); err != nil || !slices.Equal(got.snapshots, all.snapshots) {
		t.Fatalf("holds %q, %v", got.snapshots, err)
	}
	if _, err := os.Stat(left); err == nil {
		t.Error("the unfinished snapshot is still there")
	}

	s, err := openSnapshots(dir, newRaftLog(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	_, network := raft.NewInmemTransport("w1:1")
	sink, err := s.Create(raft.SnapshotVersionMax, 1000, 9, raft.Configuration{}, 1, network)
	if err != nil {
		t.Fatal(err)
	}
	// Its place is taken: it cannot be finished, as when there is no room left.
	if err := os.MkdirAll(filepath.Join(dir, snapshotDir, sink.ID(), "taken"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprint(sink, "state"); err != nil {
		t.Fatal(err)
	}
	if err := sink.Close(); err == nil {
		t.Fatal("finished")
	}
	if left, _ := filepath.Glob(filepath.Join(dir, snapshotDir, "*"+unfinished)); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}
