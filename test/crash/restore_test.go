package crash

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/witnessd/witnessd/raftstore"
	"github.com/witnessd/witnessd/test/fleet"
	"github.com/witnessd/witnessd/witnessd/ledger"
)

// restored loses all nodes and makes a new witness of three in new directories, as docs/operations.md says, from
// a backup that was taken while clients wrote: every pair is as it once was, on every node. A backup that is
// not whole is refused, and leaves nothing behind.
func (w *witness) restored(ctx context.Context, t *testing.T, backup []byte) {
	then := ledger.New()
	if _, err := raftstore.Restore(raftstore.Restoration{
		Dir: t.TempDir(), Self: raftstore.Server{ID: "x", Address: "x:1"}, Backup: bytes.NewReader(backup), Machine: then,
	}); err != nil {
		t.Fatal(err)
	}
	if len(then.Pairs()) == 0 {
		t.Error("the backup holds no pair")
	}
	for _, n := range w.Nodes {
		n.Kill()
	}
	w.renew(t)
	w.refuseDamaged(ctx, t, backup)
	path := filepath.Join(w.Dir(), "backup")
	if err := os.WriteFile(path, backup, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := w.restore(ctx, w.Nodes[0], path); err != nil || !strings.Contains(out, "generation 1") {
		t.Fatalf("%v: %s", err, out)
	}
	w.gather(ctx, t)
	for i, c := range w.clients {
		if err := c.wants(ctx, then); err != nil {
			t.Errorf("node %s: %v", w.Nodes[i].ID, err)
		}
	}
}

// renew gives the nodes new directories and the configuration of a new witness.
func (w *witness) renew(t *testing.T) {
	t.Helper()
	for _, n := range w.Nodes {
		config := fmt.Sprintf("node: %s-new\ndata_dir: %s\njoin: true\nraft: {listen: %q, advertise: %q}\n"+
			"api: {listen: %q, advertise: %q}\nhttp: {listen: %q}\n",
			n.ID, w.data(n)+"-new", n.Raft, n.Raft, n.API, n.API, n.HTTP)
		if err := os.WriteFile(w.config(n), []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func (w *witness) config(n *fleet.Node) string { return filepath.Join(w.Dir(), n.ID, "witnessd.yaml") }

func (w *witness) restore(ctx context.Context, n *fleet.Node, backup string) (string, error) {
	out, err := exec.CommandContext(ctx, filepath.Join(w.Dir(), "bin", "witnessd"), "restore",
		"--config", w.config(n), "--snapshot", backup).CombinedOutput()
	return string(out), err
}

func (w *witness) refuseDamaged(ctx context.Context, t *testing.T, backup []byte) {
	t.Helper()
	rng := rand.New(rand.NewPCG(5, 5))
	damaged := map[string][]byte{
		"nothing": nil, "half of it": backup[:len(backup)/2], "all but its end": backup[:len(backup)-1],
		"its head": backup[:20],
	}
	for range 3 {
		file := bytes.Clone(backup)
		at := rng.IntN(len(file))
		file[at] ^= 1 << rng.IntN(8)
		damaged[fmt.Sprintf("a bit of byte %d", at)] = file
	}
	path := filepath.Join(w.Dir(), "damaged")
	for name, file := range damaged {
		if err := os.WriteFile(path, file, 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := w.restore(ctx, w.Nodes[0], path)
		if err == nil || !strings.Contains(out, "backup") || !strings.Contains(out, "use another backup") {
			t.Errorf("%s: %v: %s", name, err, out)
		}
		if _, err := os.Stat(w.data(w.Nodes[0]) + "-new"); err == nil {
			t.Errorf("%s: something was left behind", name)
		}
	}
}

// gather starts the new nodes and adds them to the first.
func (w *witness) gather(ctx context.Context, t *testing.T) {
	t.Helper()
	w.terms = map[string]uint64{} // other nodes
	for _, c := range w.clients {
		if err := c.node.Start(); err != nil {
			t.Fatal(err)
		}
		if err := w.opened(ctx, c); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range w.Nodes[1:] {
		var out string
		var err error
		for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
			out, err = w.Ctl(ctx, "node", "add", n.ID+"-new", "--raft", n.Raft, "--api", n.API)
			if err == nil {
				break
			}
		}
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	if _, err := w.alike(ctx); err != nil {
		t.Fatal(err)
	}

}

// wants compares a node with a state of the generation before.
func (c client) wants(ctx context.Context, then *ledger.Ledger) error {
	v, err := c.view(ctx)
	if err != nil {
		return err
	}
	if len(v.pairs) != len(then.Pairs()) {
		return fmt.Errorf("%d pairs, want %d", len(v.pairs), len(then.Pairs()))
	}
	for _, r := range then.Pairs() {
		m := v.pairs[r.Name]
		if m.GetId() != string(r.ID) || contentOf(m) != recorded(r) {
			return fmt.Errorf("pair %s is %v, want %+v", r.Name, m, r)
		}
		if m.GetRevision() <= uint64(r.Revision) {
			return fmt.Errorf("pair %s is at revision %d, and was at %d", r.Name, m.GetRevision(), r.Revision)
		}
	}
	return nil
}
