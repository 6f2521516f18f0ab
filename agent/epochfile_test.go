package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/witnessd/witnessd/agent/hold"
)

func TestEpochFileRoundTrip(t *testing.T) {
	f := epochFile{path: filepath.Join(t.TempDir(), "main.epoch")}
	if _, known, err := f.load(); known || err != nil {
		t.Fatalf("no file: known %v, error %v", known, err)
	}
	want := hold.File{
		Pair: "id", Name: "payroll", Epoch: 7, Primary: "db1", Mirror: "db2", Revision: 40, Longest: 3 * time.Second,
		Released: 6, ReleasedEverything: true,
		Timing: hold.Timing{Heartbeat: 1, Lease: 2, Guard: 3, MirrorTimeout: 4},
		Peer:   hold.Peer{Host: "db2", Instance: "main", LinkAddress: "db2:1", ServiceAddress: "db2:2", SystemID: "x"},
	}
	for range 2 {
		if err := f.save(want); err != nil {
			t.Fatal(err)
		}
	}
	got, known, err := f.load()
	if err != nil || !known || got != want {
		t.Fatalf("got %+v, known %v, error %v", got, known, err)
	}
	if err := f.remove(); err != nil {
		t.Fatal(err)
	}
	if _, known, _ := f.load(); known {
		t.Error("file is still there")
	}
}

// A damaged file is never taken for a missing one: the agent would forget what it released.
func TestDamagedEpochFile(t *testing.T) {
	for name, damage := range map[string]func([]byte) []byte{
		"empty":     func([]byte) []byte { return nil },
		"cut short": func(b []byte) []byte { return b[:len(b)/2] },
		"changed":   func(b []byte) []byte { return []byte(strings.Replace(string(b), `"epoch":7`, `"epoch":5`, 1)) },
		"newer":     func(b []byte) []byte { return []byte(strings.Replace(string(b), `"format":1`, `"format":2`, 1)) },
	} {
		t.Run(name, func(t *testing.T) {
			f := epochFile{path: filepath.Join(t.TempDir(), "main.epoch")}
			if err := f.save(hold.File{Pair: "id", Epoch: 7}); err != nil {
				t.Fatal(err)
			}
			raw, err := os.ReadFile(f.path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(f.path, damage(raw), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, _, err := f.load(); err == nil {
				t.Error("no error")
			}
		})
	}
}

func TestMarkIsVoidInAnotherBoot(t *testing.T) {
	path := filepath.Join(t.TempDir(), "main.mark")
	m := markFile{path: path, boot: "one"}
	if err := m.write(hold.Renew{Epoch: 3, Until: 9, Endless: false}); err != nil {
		t.Fatal(err)
	}
	if got := m.load(); got != (hold.Mark{Epoch: 3, Until: 9}) {
		t.Errorf("got %+v", got)
	}
	if got := (markFile{path: path, boot: "two"}).load(); got != (hold.Mark{}) {
		t.Errorf("another boot believes %+v", got)
	}
	if got := (markFile{path: path, boot: ""}).load(); got != (hold.Mark{}) {
		t.Errorf("a host without a boot id believes %+v", got)
	}
	if err := m.clear(); err != nil {
		t.Fatal(err)
	}
	if err := m.clear(); err != nil {
		t.Errorf("second clear: %v", err)
	}
}
