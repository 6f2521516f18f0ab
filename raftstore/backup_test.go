package raftstore_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/witnessd/witnessd/raftstore"
)

// backup returns a backup of a group with these entries, and the term and index it had.
func backup(t *testing.T, entries ...string) (text []byte, was raftstore.Status) {
	t.Helper()
	g := newGroup(t, "a", "b", "c")
	l := g.leader()
	g.propose(l, entries...)
	var w bytes.Buffer
	if err := l.BackupSnapshot(t.Context(), &w); err != nil {
		t.Fatal(err)
	}
	return w.Bytes(), l.Status()
}

// A new group begins with the state of the old one and the entry that tells them apart, counts on above its
// numbers, and grows by empty nodes.
func TestRestore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		entries := numbered(20)
		text, was := backup(t, entries...)
		dir := filepath.Join(t.TempDir(), "new")
		result, err := raftstore.Restore(raftstore.Restoration{
			Dir: dir, Self: server("x"), Backup: bytes.NewReader(text),
			Machine: &notes{}, Entry: []byte("a new generation"),
		})
		if err != nil || result != 21 {
			t.Fatalf("restore: %v, %v", result, err)
		}
		g := newGroup(t)
		x := g.add("x", func(o *raftstore.Options) { o.Dir = dir })
		if l := g.leader(); l.CurrentTerm() <= was.Term || l.Status().Last <= was.Last {
			t.Errorf("the new group is at %+v, the old one was at %+v", l.Status(), was)
		}
		entries = append(entries, "a new generation")
		g.settled(entries, x)
		for _, id := range []string{"y", "z"} {
			g.add(id, nil)
			if err := x.AddServer(t.Context(), server(id)); err != nil {
				t.Fatal(err)
			}
		}
		g.propose(x, "more")
		g.settled(append(entries, "more"), x, g.nodes["y"], g.nodes["z"])
		g.stop("x")
		g.start("x")
		g.settled(append(entries, "more"), x)
		g.noFaults()
	})
}

func TestRestoreRefuses(t *testing.T) {
	bubble(t, func(t *testing.T) {
		text, _ := backup(t, "one", "two")
		damaged := bytes.Replace(slices.Clone(text), []byte("one"), []byte("ONE"), 1)
		full := t.TempDir()
		if err := os.WriteFile(filepath.Join(full, "raft.db"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		tests := []struct {
			name   string
			dir    string
			backup []byte
			want   string
		}{
			{"a directory in use", full, text, "not empty"},
			{"nothing", t.TempDir(), nil, "not a backup"},
			{"another file", t.TempDir(), bytes.Repeat([]byte("x"), 1000), "not a backup"},
			{"half a backup", t.TempDir(), text[:len(text)-10], "ends too early"},
			{"a head", t.TempDir(), text[:20], "head is not whole"},
			{"a backup without its end", t.TempDir(), text[:len(text)-1], "checksum"},
			{"a damaged backup", t.TempDir(), damaged, "checksum"},
		}
		for _, test := range tests {
			_, err := raftstore.Restore(raftstore.Restoration{
				Dir: test.dir, Self: server("x"), Backup: bytes.NewReader(test.backup), Machine: &notes{},
			})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%s: error %v, want one with %q", test.name, err, test.want)
			}
			if left, err := os.ReadDir(test.dir); test.dir != full && (err != nil || len(left) > 0) {
				t.Errorf("%s: left %v, %v", test.name, left, err)
			}
		}
	})
}
