package crash

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
	"github.com/witnessd/witnessd/test/fleet"
)

// stopped is how a node's process ended.
type stopped struct {
	code   int
	output string
}

// run starts a node that is expected to end by itself.
func (w *witness) run(ctx context.Context, n *fleet.Node) <-chan stopped {
	ended := make(chan stopped, 1)
	ctx, cancel := context.WithTimeout(ctx, patience)
	cmd := exec.CommandContext(ctx, filepath.Join(w.Dir(), "bin", "witnessd"), "run", "--config",
		filepath.Join(w.Dir(), n.ID, "witnessd.yaml"))
	go func() {
		defer cancel()
		out, err := cmd.CombinedOutput()
		s := stopped{output: string(out)}
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			s.code = exit.ExitCode()
		} else if err != nil {
			s = stopped{-1, err.Error()}
		}
		ended <- s
	}()
	return ended
}

// want complains unless the node ended with one of the codes, and with a last line that has all the words.
func (s stopped) want(t *testing.T, codes []int, words ...string) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(s.output), "\n")
	last := lines[len(lines)-1]
	right := false
	for _, code := range codes {
		right = right || s.code == code
	}
	for _, word := range words {
		right = right && strings.Contains(last, word)
	}
	if !right || strings.Contains(s.output, "goroutine ") {
		t.Errorf("exit code %d, want %v and a last line with %q:\n%s", s.code, codes, words, s.output)
	}
}

// contents are all files below a directory.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(filepath.Join(dir, name))
		all[name] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestDisks gives one of three nodes a disk that was damaged, that is full, that cannot be written to. The node
// ends, or refuses to start, in a sentence; the others go on; and when its disk is well the node holds the same
// as they.
func TestDisks(t *testing.T) {
	if !withPrivateMounts(t) {
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	w := startWitness(ctx, t)
	l := startLoad(ctx, t, w, 1)
	victim := w.clients[2]
	data := w.data(victim.node)
	if !l.goesOn() {
		t.Fatal("the nodes accept nothing")
	}
	// A backup leaves a snapshot with the node that leads.
	if err := w.lead(ctx, l, victim); err != nil {
		t.Fatal(err)
	}
	if _, err := victim.backup(ctx); err != nil {
		t.Fatal(err)
	}
	victim.node.Kill()

	t.Run("damaged", func(t *testing.T) { w.damaged(ctx, t, victim) })
	disk, err := mountOver(data, 64<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := errors.Join(disk.empty(), disk.unmount()); err != nil {
			t.Error(err)
		}
	}()
	t.Run("read-only", func(t *testing.T) {
		if err := disk.readOnly(true); err != nil {
			t.Fatal(err)
		}
		(<-w.run(ctx, victim.node)).want(t, []int{1}, data, "read-only file system", "start it again")
		if err := disk.readOnly(false); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("full", func(t *testing.T) { w.full(ctx, t, victim, disk, l) })
	l.stop()
	t.Run("full for a snapshot", func(t *testing.T) { w.noRoomForSnapshot(ctx, t, victim, disk, l) })
	for _, problem := range w.settle(ctx, l) {
		t.Error(problem)
	}
}

// lead makes a node the leader.
func (w *witness) lead(ctx context.Context, l *load, leader client) error {
	return l.persist(ctx, rand.New(rand.NewPCG(2, 2)), func(ctx context.Context, c client) error {
		r, err := c.witness.GetStatus(ctx, &witnessv1.GetStatusRequest{})
		if err != nil || r.GetLeader() == leader.node.ID {
			return err
		}
		_, err = c.witness.TransferLeadership(ctx, &witnessv1.TransferLeadershipRequest{To: leader.node.ID})
		return err
	})
}

// damaged starts the node on its files, damaged in many ways, and then on what they were.
func (w *witness) damaged(ctx context.Context, t *testing.T, victim client) {
	data := w.data(victim.node)
	whole := contents(t, data)
	log := filepath.Join(data, "raft.db")
	overwrite := func(path string, change func([]byte) []byte) {
		t.Helper()
		text, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(path, change(text), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	refused := map[string]func([]byte) []byte{
		"log cut in the middle": func(b []byte) []byte { return b[:len(b)/3] },
		"log cut to nothing":    func([]byte) []byte { return nil },
		"log cut to its heads":  func(b []byte) []byte { return b[:8192] },
		"head of log zeroed":    func(b []byte) []byte { clear(b[4096:4200]); return b },
		"bit flipped in a head": func(b []byte) []byte { b[40] ^= 1; return b },
		// Also in pages that are free by now: nobody reads those.
		"entries changed": func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("reason "), []byte("season ")) },
	}
	for name, change := range refused {
		t.Run(name, func(t *testing.T) {
			overwrite(log, change)
			before := contents(t, data)
			ended := <-w.run(ctx, victim.node)
			ended.want(t, []int{1}, log, "is damaged", "replace this one", "docs/operations.md")
			if !maps.Equal(before, contents(t, data)) {
				t.Error("the node has changed its files")
			}
			overwrite(log, func([]byte) []byte { return []byte(whole["raft.db"]) })
		})
	}
	t.Run("log gone", func(t *testing.T) {
		if err := os.Rename(log, log+".away"); err != nil {
			t.Fatal(err)
		}
		(<-w.run(ctx, victim.node)).want(t, []int{1}, log, "is missing", "docs/operations.md")
		if err := os.Rename(log+".away", log); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("snapshot", func(t *testing.T) {
		states, err := filepath.Glob(filepath.Join(data, "snapshots", "*", "state.bin"))
		if err != nil || len(states) == 0 {
			t.Fatalf("no snapshot: %v", err)
		}
		for _, path := range states {
			overwrite(path, func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
		}
		// The log reaches back to the beginning.
		if err := victim.node.Start(); err != nil {
			t.Fatal(err)
		}
		if err := w.opened(ctx, victim); err != nil {
			t.Error(err)
		}
		victim.node.Kill()
	})
}

// full lets the disk run full while clients write.
func (w *witness) full(ctx context.Context, t *testing.T, victim client, disk *smallDisk, l *load) {
	if err := disk.fill(64 << 10); err != nil {
		t.Fatal(err)
	}
	(<-w.run(ctx, victim.node)).want(t, []int{1, 75}, "no space left on device", "make room")
	(<-w.run(ctx, victim.node)).want(t, []int{1, 75}, "no space left on device", "make room")
	if !l.goesOn() {
		t.Error("the other nodes do not go on")
	}
	if err := disk.empty(); err != nil {
		t.Fatal(err)
	}
	if err := victim.node.Start(); err != nil {
		t.Fatal(err)
	}
	if err := w.opened(ctx, victim); err != nil {
		t.Fatal(err)
	}
}

// noRoomForSnapshot: the backup fails, the node goes on, and nothing is left of the attempt. Nobody writes
// entries meanwhile; if the nodes vote, the node may end over that, and the attempt says nothing.
func (w *witness) noRoomForSnapshot(ctx context.Context, t *testing.T, victim client, disk *smallDisk, l *load) {
	for range 5 {
		if err := w.lead(ctx, l, victim); err != nil {
			t.Fatal(err)
		}
		if err := disk.fill(0); err != nil {
			t.Fatal(err)
		}
		_, failed := victim.backup(ctx)
		err := w.opened(ctx, victim)
		left, _ := filepath.Glob(filepath.Join(disk.dir, "snapshots", "*.tmp"))
		if emptied := disk.empty(); emptied != nil {
			t.Fatal(emptied)
		}
		if err != nil {
			if err := victim.node.Start(); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if failed == nil || !strings.Contains(failed.Error(), "no space left on device") {
			t.Errorf("backup on a full disk: %v", failed)
		}
		if len(left) > 0 {
			t.Errorf("left %v", left)
		}
		if _, err := victim.backup(ctx); err != nil {
			t.Errorf("backup with room again: %v", err)
		}
		return
	}
	t.Error("the nodes do nothing but vote")
}
