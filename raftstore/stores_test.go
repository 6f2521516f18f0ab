package raftstore_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/witnessd/witnessd/raftstore"
	"github.com/witnessd/witnessd/raftstore/raftstoretest"
)

// onFiles is a node alone, with its state in a directory.
func onFiles(t *testing.T, dir string, change func(*raftstore.Options)) (*group, *node) {
	t.Helper()
	g := newGroup(t)
	n := g.add("a", func(o *raftstore.Options) {
		o.Dir = dir
		o.Bootstrap = []raftstore.Server{server("a")}
		if change != nil {
			change(o)
		}
	})
	return g, n
}

func TestFilesSurvive(t *testing.T) {
	bubble(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "raft")
		g, n := onFiles(t, dir, func(o *raftstore.Options) { o.TrailingLogs = 5 })
		entries := numbered(60)
		g.propose(g.leader(), entries[:40]...)
		if err := n.Snapshot(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)                    // snapshots are named by their time
		if err := n.Snapshot(t.Context()); err != nil { // nothing new
			t.Fatal(err)
		}
		g.propose(n, entries[40:50]...)
		g.stop("a")
		g.start("a")
		g.propose(g.leader(), entries[50:]...)
		g.settled(entries, n)
		g.stop("a")
		g.start("a")
		g.leader()
		g.settled(entries, n)
		g.noFaults()
	})
}

// Everything is in the snapshot, and no entry comes after it: the node knows that its state is complete.
func TestReadAfterSnapshot(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, n := onFiles(t, t.TempDir(), nil)
		g.propose(g.leader(), numbered(10)...)
		if err := n.Snapshot(t.Context()); err != nil {
			t.Fatal(err)
		}
		want := n.Status().Applied
		g.stop("a")
		g.start("a")
		if got := n.Status().Applied; got != want {
			t.Errorf("applied up to %d, want %d", got, want)
		}
		if got := len(g.leader().machine.read()); got != 10 {
			t.Errorf("read %d entries, want 10", got)
		}
	})
}

// A snapshot by a newer program: the machine says what to do, and its word must reach people.
func TestSnapshotThatTheMachineRefuses(t *testing.T) {
	bubble(t, func(t *testing.T) {
		for _, trailing := range []uint64{0, 5} { // the log reaches back, and it does not
			dir := t.TempDir()
			g, n := onFiles(t, dir, func(o *raftstore.Options) { o.TrailingLogs = trailing })
			for range 2 {
				g.propose(g.leader(), numbered(40)...)
				if err := n.Snapshot(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			o := n.options
			g.stop("a")
			stream, err := g.network.Host("b").Stream(1)
			if err != nil {
				t.Fatal(err)
			}
			o.Stream, o.Machine, o.Bootstrap = stream, older{&notes{}}, nil
			if _, err := raftstore.Open(o); err == nil || !strings.Contains(err.Error(), "upgrade this node") {
				t.Errorf("opened: %v", err)
			}
			g.start("a")
			if got := len(g.leader().machine.read()); got != 80 {
				t.Errorf("read %d entries, want 80", got)
			}
			g.stop("a")
			delete(g.nodes, "a")
		}
	})
}

// older is a machine of an earlier release.
type older struct{ *notes }

func (older) Restore(io.Reader) error { return errors.New("upgrade this node") }

func TestDirectoryInUse(t *testing.T) {
	bubble(t, func(t *testing.T) {
		dir := t.TempDir()
		g, n := onFiles(t, dir, nil)
		_, err := tryOpen(t, g, n.options)
		if err == nil || !strings.Contains(err.Error(), "in use by another process") {
			t.Fatalf("opened twice: %v", err)
		}
		g.propose(g.leader(), "x") // the first does not notice
	})
}

// tryOpen opens a store on another host and closes it again.
func tryOpen(t *testing.T, g *group, o raftstore.Options) (*raftstore.Store, error) {
	t.Helper()
	stream, err := g.network.Host("z").Stream(1)
	if err != nil {
		t.Fatal(err)
	}
	o.Stream, o.Machine, o.Bootstrap = stream, &notes{}, nil
	s, err := raftstore.Open(o)
	if err == nil {
		err = s.Close()
	}
	return s, err
}

func TestFormat(t *testing.T) {
	tests := map[string]struct {
		files map[string]string
		want  string // in the error; empty: opens
	}{
		"an empty directory":      {},
		"ours":                    {files: map[string]string{"format": "witnessd-raft 1\n"}},
		"a file system's root":    {files: map[string]string{"lost+found/x": ""}},
		"a start that was cut":    {files: map[string]string{"format.tmp": "witness"}},
		"a newer format":          {files: map[string]string{"format": "witnessd-raft 2\n"}, want: "upgrade"},
		"another program's":       {files: map[string]string{"format": "postgres 17"}, want: "not a format"},
		"an empty format":         {files: map[string]string{"format": ""}, want: "not a format"},
		"no format":               {files: map[string]string{"raft.db": ""}, want: "has no file"},
		"somebody's home":         {files: map[string]string{".bashrc": ""}, want: "has no file"},
		"a log that is not a log": {files: map[string]string{"format": "witnessd-raft 1", "raft.db": "x"}, want: "raft.db"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				dir := t.TempDir()
				for file, text := range test.files {
					path := filepath.Join(dir, file)
					if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				_, err := tryOpen(t, newGroup(t), raftstore.Options{ID: "z", Dir: dir})
				switch {
				case test.want == "" && err != nil:
					t.Fatal(err)
				case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
					t.Fatalf("error %v, want one with %q", err, test.want)
				}
				if test.want != "" {
					return
				}
				if text, err := os.ReadFile(filepath.Join(dir, "format")); string(text) != "witnessd-raft 1\n" {
					t.Fatalf("format %q, %v", text, err)
				}
			})
		})
	}
}

// Every node may be started with the list of the first members, always; it counts once.
func TestBootstrapCountsOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, "a", "b", "c")
		l := g.leader()
		g.add("d", nil)
		if err := l.AddServer(t.Context(), server("d")); err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{"a", "b", "c", "d"} {
			g.stop(id)
		}
		for _, id := range []string{"a", "b", "c", "d"} {
			g.start(id)
		}
		if got := len(g.leader().Servers()); got != 4 {
			t.Fatalf("%d members, want 4", got)
		}
	})
}

func TestOpenRefuses(t *testing.T) {
	members := func(m ...raftstore.Server) func(*raftstore.Options) {
		return func(o *raftstore.Options) { o.Bootstrap = m }
	}
	tests := map[string]struct {
		change func(*raftstore.Options)
		want   string
	}{
		"no name":      {func(o *raftstore.Options) { o.ID = "" }, "needs a name"},
		"no machine":   {func(o *raftstore.Options) { o.Machine = nil }, "needs a machine"},
		"no directory": {func(o *raftstore.Options) { o.Stores = nil }, "needs a data directory"},
		"not a member": {members(server("a")), "not among the first members"},
		"other address": {
			members(raftstore.Server{ID: "z", Address: "y:1"}), "advertises z:1, and is y:1",
		},
		"two nodes of one name": {members(server("z"), server("b"), server("b")), "duplicate"},
		"lease above heartbeat": {func(o *raftstore.Options) {
			o.Timing = raftstore.DefaultTiming()
			o.Timing.LeaderLease = time.Second
		}, "must not be longer than the heartbeat"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				host := raftstoretest.NewNetwork().Host("z")
				stream, err := host.Stream(1)
				if err != nil {
					t.Fatal(err)
				}
				o := raftstore.Options{
					ID: "z", Stream: stream, Machine: &notes{}, Stores: raftstoretest.NewDisk().Stores(),
				}
				test.change(&o)
				if _, err = raftstore.Open(o); err == nil || !strings.Contains(err.Error(), test.want) {
					t.Fatalf("error %v, want one with %q", err, test.want)
				}
				synctest.Wait()
				if _, err := host.Stream(1); err != nil {
					t.Fatalf("the port was not closed: %v", err)
				}
			})
		})
	}
}
