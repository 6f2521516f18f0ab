package agent

import (
	flags "flag" // the package has a function of that name
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/witnessd/witnessd/agent/hold"
)

var add = flags.String("add", "", "write golden epoch files of this release into testdata/NAME, which must not be there yet")

// goldenFiles are what the epoch files in testdata hold. Every later release must read those of all directories
// there as this, for they are what is on the hosts of those who upgrade, and an agent that took one for another
// would forget a promise. They are only ever added, never changed or removed:
//
//	go test ./agent -run TestGoldenEpochFiles -add v2
func goldenFiles() map[string]hold.File {
	primary := hold.File{
		Pair: "2f0c1a52-6c1b-4d4e-9c55-0c8f3a7f1b11", Name: "payroll", Epoch: 7, Primary: "db1", Mirror: "db2",
		Revision: 1<<40 + 41, Longest: 12 * time.Second,
		Timing: hold.Timing{
			Heartbeat: 500 * time.Millisecond, Lease: 3 * time.Second, Guard: 300 * time.Millisecond,
			MirrorTimeout: 2 * time.Second,
		},
		Peer: hold.Peer{
			Host: "db2", Instance: "main", LinkAddress: "db2:7401", ServiceAddress: "db2:5432", SystemID: "7301",
		},
	}
	released := primary
	released.Released, released.ReleasedEverything = 7, true
	behind := primary
	behind.Released = 5
	return map[string]hold.File{
		"primary.epoch": primary, "released.epoch": released, "behind.epoch": behind,
		"forming.epoch": {Pair: "id", Name: "new", Revision: 1, Longest: 3 * time.Second},
	}
}

func TestGoldenEpochFiles(t *testing.T) {
	if *add != "" {
		dir := filepath.Join("testdata", *add)
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatalf("golden files are only ever added: %v", err)
		}
		for name, file := range goldenFiles() {
			if err := (epochFile{path: filepath.Join(dir, name)}).save(file); err != nil {
				t.Fatal(err)
			}
		}
	}
	all, err := filepath.Glob("testdata/v*/*.epoch")
	if err != nil || len(all) == 0 {
		t.Fatalf("no golden files (%v)", err)
	}
	for name, want := range goldenFiles() {
		if !slices.ContainsFunc(all, func(path string) bool { return filepath.Base(path) == name }) {
			t.Errorf("no golden file %s", name)
		}
		for _, path := range all {
			if filepath.Base(path) != name {
				continue
			}
			got, known, err := (epochFile{path: path}).load()
			if err != nil || !known || got != want {
				t.Errorf("%s holds %+v (known %v, error %v), want %+v", path, got, known, err, want)
			}
		}
	}
}
