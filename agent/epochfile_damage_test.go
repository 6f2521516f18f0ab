package agent

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestEpochFileDamagedAnywhere cuts a file at every length and flips bits in every byte: it is read as it was
// written, or not at all, and never taken for a missing one.
func TestEpochFileDamagedAnywhere(t *testing.T) {
	want := goldenFiles()["released.epoch"]
	f := epochFile{path: filepath.Join(t.TempDir(), "main.epoch")}
	if err := f.save(want); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(f.path)
	if err != nil {
		t.Fatal(err)
	}
	try := func(content []byte) {
		t.Helper()
		if err := os.WriteFile(f.path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		got, known, err := f.load()
		switch {
		case err == nil && (!known || got != want):
			t.Errorf("%q is read as %+v (known: %v)", content, got, known)
		case err != nil && !strings.Contains(err.Error(), f.path):
			t.Errorf("the error does not name the file: %v", err)
		case err != nil && !strings.Contains(err.Error(), "move it away only if") &&
			!strings.Contains(err.Error(), "upgrade the agent"):
			t.Errorf("the error does not say what to do: %v", err)
		}
	}
	for i := range whole {
		try(whole[:i])
		for _, bit := range []byte{1 << (i % 8), 'a' ^ 'A'} { // names in JSON are read in either case
			flipped := bytes.Clone(whole)
			flipped[i] ^= bit
			try(flipped)
		}
	}
	try(append(bytes.Clone(whole), whole...))
	zeroed := bytes.Clone(whole)
	clear(zeroed[len(zeroed)/2:])
	try(zeroed)
}
