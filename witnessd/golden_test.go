package witnessd_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/witnessd/witnessd/raftstore"
	"github.com/witnessd/witnessd/raftstore/raftstoretest"
	"github.com/witnessd/witnessd/witnessd"
	"github.com/witnessd/witnessd/witnessd/ledger"
	"github.com/witnessd/witnessd/witnessd/pair"
)

var add = flag.String("add", "", "write golden files of this release into testdata/NAME, which must not be there yet")

// Each directory of testdata holds what a release left on a node's disk, and what is in it:
//
//	directory.bin  a data directory (tar, gzip): a log with the end of an older one behind a snapshot, two terms
//	backup.bin     a backup of the same moment
//	records.bin    the ledger's snapshot of that moment
//
// Every later release must come from the first two to the third, for they are what is on the disks of those who
// upgrade. A directory is added when raftstore writes anything in another way, and then never changed or removed:
//
//	go test ./witnessd -run TestGoldenDirectories -add v2
const (
	goldenDirectory = "directory.bin"
	goldenBackup    = "backup.bin"
	goldenRecords   = "records.bin"
)

func TestGoldenDirectories(t *testing.T) {
	if *add != "" {
		bubble(t, func(t *testing.T) { writeGolden(t, filepath.Join("testdata", *add)) })
	}
	all, err := filepath.Glob(filepath.Join("testdata", "v*"))
	if err != nil || len(all) == 0 {
		t.Fatalf("no golden files (%v)", err)
	}
	for _, dir := range all {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			bubble(t, func(t *testing.T) { openGolden(t, dir) })
			restoreGolden(t, dir)
		})
	}
}

// openGolden starts a node on the directory, twice: the second time it finds what this release wrote behind it.
func openGolden(t *testing.T, dir string) {
	t.Helper()
	data := t.TempDir()
	unpack(t, filepath.Join(dir, goldenDirectory), data)
	want := readState(t, filepath.Join(dir, goldenRecords))
	for range 2 {
		n := newGolden(t, data)
		if err := n.store.WaitApplied(t.Context(), want.AppliedIndex()); err != nil {
			t.Fatal(err)
		}
		compareStates(t, n.ledger, want)
		n.close()
	}
}

// restoreGolden restores the backup, as the program does it and without the new generation that this brings.
func restoreGolden(t *testing.T, dir string) {
	t.Helper()
	backup, err := os.ReadFile(filepath.Join(dir, goldenBackup))
	if err != nil {
		t.Fatal(err)
	}
	want := readState(t, filepath.Join(dir, goldenRecords))
	got := ledger.New()
	_, err = raftstore.Restore(raftstore.Restoration{
		Dir: t.TempDir(), Self: goldenServer(), Backup: bytes.NewReader(backup), Machine: got,
	})
	if err != nil {
		t.Fatal(err)
	}
	compareStates(t, got, want)

	config := witnessd.Config{Node: "w1", DataDir: t.TempDir()}
	config.Raft.Advertise = "w1:1"
	r, err := witnessd.Restore(config, bytes.NewReader(backup), nil)
	if err != nil || r.Generation != want.Generation()+1 || r.Pairs != len(want.Pairs()) {
		t.Errorf("restored %+v, %v; want generation %d with %d pairs", r, err, want.Generation()+1, len(want.Pairs()))
	}
}

func compareStates(t *testing.T, got, want *ledger.Ledger) {
	t.Helper()
	if !bytes.Equal(image(t, got), image(t, want)) {
		t.Errorf("came to index %d and\n%+v\nwant index %d and\n%+v",
			got.AppliedIndex(), got.Pairs(), want.AppliedIndex(), want.Pairs())
	}
}

func image(t *testing.T, l *ledger.Ledger) []byte {
	t.Helper()
	write, err := l.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := write(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func readState(t *testing.T, path string) *ledger.Ledger {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	l := ledger.New()
	if err := l.Restore(file); err != nil {
		t.Fatal(err)
	}
	return l
}

// golden is a node alone in its group, with files.
type golden struct {
	t      *testing.T
	store  *raftstore.Store
	ledger *ledger.Ledger
}

func goldenServer() raftstore.Server { return raftstore.Server{ID: "w1", Address: "w1:1"} }

func newGolden(t *testing.T, dir string) *golden {
	t.Helper()
	stream, err := raftstoretest.NewNetwork().Host("w1").Stream(1)
	if err != nil {
		t.Fatal(err)
	}
	n := &golden{t: t, ledger: ledger.New()}
	n.store, err = raftstore.Open(raftstore.Options{
		ID: "w1", Dir: dir, Stream: stream, Machine: n.ledger, TrailingLogs: 5,
		Bootstrap: []raftstore.Server{goldenServer()},
	})
	if err != nil {
		t.Fatal(err)
	}
	for n.store.Read(t.Context()) != nil {
		time.Sleep(10 * time.Millisecond)
	}
	return n
}

func (n *golden) close() {
	n.t.Helper()
	if err := n.store.Close(); err != nil {
		n.t.Error(err)
	}
}

// must proposes bodies for one pair, all of which must be accepted.
func (n *golden) must(id pair.ID, bodies ...pair.Body) {
	n.t.Helper()
	for _, body := range bodies {
		r, known := n.ledger.Pair(id)
		if !known {
			r.Revision = n.ledger.FirstRevision()
		}
		n.put(ledger.EncodeCommand(pair.Command{
			Pair: id, Revision: r.Revision, Term: pair.Term(n.store.CurrentTerm()), At: 1_700_000_000_000, Body: body,
		}))
	}
}

func (n *golden) put(entry []byte) {
	n.t.Helper()
	result, err := n.store.Propose(n.t.Context(), entry)
	if err != nil {
		n.t.Fatal(err)
	}
	if r, ok := result.(ledger.Result); !ok || r.Refusal != nil {
		n.t.Fatalf("refused: %+v", result)
	}
}

func writeGolden(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(fmt.Errorf("golden files are only ever added: %w", err))
	}
	data := t.TempDir()
	n := newGolden(t, data)
	n.past()
	if err := n.store.Snapshot(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.close()
	n = newGolden(t, data)
	n.present()
	n.close()
	var directory, backup bytes.Buffer
	pack(t, data, &directory)
	n = newGolden(t, data)
	if err := n.store.BackupSnapshot(t.Context(), &backup); err != nil {
		t.Fatal(err)
	}
	records := image(t, n.ledger)
	n.close()
	for name, content := range map[string][]byte{
		goldenDirectory: directory.Bytes(), goldenBackup: backup.Bytes(), goldenRecords: records,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func spec(name string) pair.Create {
	return pair.Create{
		Name: name, Primary: "alpha", Mode: pair.ModeAutomatic, Policy: pair.DefaultPolicy(), By: "ann",
		Members: [2]pair.Member{{Host: "alpha", Instance: "main"}, {Host: "beta", Instance: "main"}},
	}
}

// past is what the snapshot holds.
func (n *golden) past() {
	n.t.Helper()
	n.put(ledger.EncodeSetNode(ledger.Node{ID: "w1", RaftAddress: "w1:1", APIAddress: "w1:2"}))
	n.put(ledger.EncodeSetNode(ledger.Node{ID: "w2", RaftAddress: "w2:1", APIAddress: "w2:2"}))
	n.must("id-sales", spec("sales"), pair.Begin{}, pair.Announce{Member: pair.Member{
		Host: "beta", Instance: "main", LinkAddress: "beta:7401", ServiceAddress: "beta:5432", Engine: "postgres",
		SystemID: "7301",
	}}, pair.Arm{Host: "alpha"}, pair.Promote{To: "beta", Procedure: "p1", Cause: "alpha is silent"},
		pair.Expose{Host: "beta", Cause: "alpha is lost"}, pair.EndProcedure{ID: "p1", Done: true})
	n.must("id-old", spec("old"), pair.Remove{Cause: "never used"})
	patient, _ := pair.ProfilePolicy("patient")
	n.must("id-stock", spec("stock"), pair.Begin{}, pair.SetPolicy{Policy: patient, By: "ann"})
	for range 20 { // more than is kept behind the snapshot
		n.must("id-stock", pair.Note{Kind: pair.FactWouldFailOver, Cause: "alpha is silent"})
	}
}

// present is what only the log holds.
func (n *golden) present() {
	n.t.Helper()
	n.must("id-stock",
		pair.SetPolicy{Policy: pair.DefaultPolicy(), By: "ann"}, pair.LowerLongest{To: pair.DefaultPolicy().Lease},
		pair.SetMode{Mode: pair.ModeManual, Pause: pair.Pause{By: "ann", Reason: "patching"}},
		pair.StartProcedure{Procedure: pair.Procedure{
			ID: "p2", Kind: pair.KindSwitchover, Step: pair.StepRelease, Epoch: 1, Target: "beta",
			Timeout: 30 * time.Second, By: "ann", Reason: "patching", Started: 1_700_000_000_500,
		}},
		pair.StepProcedure{ID: "p2", Step: pair.StepPromote, Timeout: time.Minute, Cause: "released"},
		pair.Reinstate{Cause: "beta would not start"},
		pair.EndProcedure{ID: "p2", Reason: pair.ReasonAborted, Detail: "beta would not start"})
	n.must("id-sales", pair.ReplaceMirror{Member: pair.Member{Host: "gamma", Instance: "main"}, By: "bob"})
	n.put(ledger.EncodeRestore(1, 1_700_000_900_000))
	n.must("id-sales", pair.Adopt{Epoch: 9, Primary: "gamma", Cause: "both agents reported"})
	n.must("id-new", spec("old"))
	n.put(ledger.EncodeRemoveNode("w2"))
}

// pack writes the files below dir, in the order of their names and without anything of this machine.
func pack(t *testing.T, dir string, to io.Writer) {
	t.Helper()
	zipped := gzip.NewWriter(to)
	out := tar.NewWriter(zipped)
	var paths []string
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			paths = append(paths, path)
		}
		return err
	})
	slices.Sort(paths)
	for _, path := range paths {
		content, readErr := os.ReadFile(path)
		name, relErr := filepath.Rel(dir, path)
		headErr := out.WriteHeader(&tar.Header{Name: filepath.ToSlash(name), Mode: 0o600, Size: int64(len(content))})
		_, writeErr := out.Write(content)
		err = errors.Join(err, readErr, relErr, headErr, writeErr)
	}
	if err := errors.Join(err, out.Close(), zipped.Close()); err != nil {
		t.Fatal(err)
	}
}

func unpack(t *testing.T, path, dir string) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	zipped, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	for in := tar.NewReader(zipped); ; {
		head, err := in.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(dir, filepath.FromSlash(head.Name))
		content, err := io.ReadAll(in)
		if err = errors.Join(err, os.MkdirAll(filepath.Dir(to), 0o700)); err == nil {
			err = os.WriteFile(to, content, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
