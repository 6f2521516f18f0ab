package raftstore

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"
)

var flips = flag.Int("flips", 320, "how many bits TestDamagedLog flips, one after the other")

// kept is all that a directory holds, for comparison.
type kept struct {
	entries   map[uint64]raft.Log
	promises  map[string]string
	snapshots []string // newest first
}

func testStores(dir string) (*Stores, error) {
	return openStores(dir, newRaftLog(slog.New(slog.DiscardHandler)))
}

// written makes a directory as a node leaves it that has run for a while: some transactions, deleted entries,
// small and large ones, two snapshots.
func written(t *testing.T) (dir string, all kept) {
	t.Helper()
	dir = t.TempDir()
	s, err := testStores(dir)
	if err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	rng := rand.New(rand.NewPCG(1, 1))
	group := raft.Configuration{Servers: []raft.Server{{ID: "w1", Address: "w1:7400"}, {ID: "w2", Address: "w2:7400"}}}
	_, network := raft.NewInmemTransport("w1:7400")
	for index := uint64(1); index <= 400; {
		term := 1 + index/100
		must(s.Stable.SetUint64([]byte(keyTerm), term))
		must(s.Stable.Set([]byte(keyVoteCandidate), fmt.Appendf(nil, "w%d:7400", term%3)))
		must(s.Stable.SetUint64([]byte(keyVoteTerm), term))
		var batch []*raft.Log
		for range 1 + rng.IntN(20) {
			data := bytes.Repeat([]byte{byte(index)}, 10+rng.IntN(200))
			if rng.IntN(50) == 0 {
				data = bytes.Repeat(data, 60) // goes over several pages
			}
			batch = append(batch, &raft.Log{Index: index, Term: term, Type: raft.LogCommand, Data: data})
			index++
		}
		must(s.Log.StoreLogs(batch))
		if last := index - 1; last > 250 && last < 300 || last > 350 && last < 370 {
			sink, err := s.Snapshots.Create(raft.SnapshotVersionMax, last-10, 1+(last-10)/100, group, 1, network)
			must(err)
			_, err = fmt.Fprintf(sink, "all entries up to %d", last-10)
			must(err)
			must(sink.Close())
			must(s.Log.DeleteRange(1, last-100))
		}
	}
	must(s.Close())
	all, err = readAll(dir)
	must(err)
	if len(all.entries) < 100 || len(all.promises) != 3 || len(all.snapshots) != 2 {
		t.Fatalf("wrote %d entries, %d promises, %d snapshots", len(all.entries), len(all.promises), len(all.snapshots))
	}
	return dir, all
}

// readAll opens the directory as a node would and reads everything.
func readAll(dir string) (k kept, err error) {
	s, err := testStores(dir)
	if err != nil {
		return k, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	k = kept{entries: map[uint64]raft.Log{}, promises: map[string]string{}}
	first, _ := s.Log.FirstIndex()
	last, err := s.Log.LastIndex()
	for index := first; index <= last && err == nil; index++ {
		var e raft.Log
		err = s.Log.GetLog(index, &e)
		k.entries[index] = raft.Log{Index: e.Index, Term: e.Term, Type: e.Type, Data: e.Data, Extensions: e.Extensions}
	}
	for _, key := range []string{keyTerm, keyVoteTerm, keyVoteCandidate} {
		value, getErr := s.Stable.Get([]byte(key))
		err = errors.Join(err, getErr)
		k.promises[key] = string(value)
	}
	var listErr error
	k.snapshots, listErr = readSnapshots(s.Snapshots)
	return k, errors.Join(err, listErr)
}

// readSnapshots reads all that are not passed over.
func readSnapshots(s raft.SnapshotStore) (all []string, err error) {
	metas, err := s.List()
	for _, m := range metas {
		meta, content, openErr := s.Open(m.ID)
		if openErr != nil {
			continue
		}
		text, readErr := io.ReadAll(content)
		err = errors.Join(err, readErr, content.Close())
		all = append(all, fmt.Sprintf("%d %d %v %s", meta.Index, meta.Term, meta.Configuration, text))
	}
	return all, err
}

// copied is a copy of a directory.
func copied(t *testing.T, from string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "data")
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

// sentence says what an error lacks that must name the file and say what to do.
func sentence(err error, file string) string {
	for _, want := range []string{file, "is damaged", "replace this one", "docs/operations.md"} {
		if !strings.Contains(err.Error(), want) {
			return fmt.Sprintf("error %q lacks %q", err, want)
		}
	}
	return ""
}

// afterDamage opens a directory whose log was damaged: it is refused in a sentence, or all is there.
func (k kept) afterDamage(dir string) (refused bool, problem string) {
	got, err := readAll(dir)
	switch {
	case err != nil:
		return true, sentence(err, filepath.Join(dir, logFile))
	case !reflect.DeepEqual(got, k):
		return false, "opened with another content"
	}
	return false, ""
}

// TestDamagedLog flips bits, one at a time: whatever the file holds, a node that opens it has all that was
// written, or refuses.
func TestDamagedLog(t *testing.T) {
	from, all := written(t)
	dir := copied(t, from)
	path := filepath.Join(dir, logFile)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	used := inUse(t, path)
	refused := 0
	rng := rand.New(rand.NewPCG(2, 2))
	for i := range *flips {
		at := used[rng.IntN(len(used))]*4096 + rng.IntN(4096)
		if i < 160 {
			at = i%80 + i/80*4096 // both heads wholly
		}
		file := bytes.Clone(whole)
		file[at] ^= 1 << rng.IntN(8)
		if err := os.WriteFile(path, file, 0o600); err != nil {
			t.Fatal(err)
		}
		no, problem := all.afterDamage(dir)
		if problem != "" {
			t.Errorf("bit flipped in byte %d of page %d: %s", at%4096, at/4096, problem)
		}
		if no {
			refused++
		}
	}
	t.Logf("%d bits flipped in %d bytes: %d refused, the others of no consequence", *flips, len(whole), refused)
}

// inUse returns the pages that are not free.
func inUse(t *testing.T, path string) (pages []int) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	b := &boltFile{from: file}
	if err := b.check(); err != nil {
		t.Fatal(err)
	}
	for id, use := range b.use {
		if use == pageOfTree {
			pages = append(pages, id)
		}
	}
	return pages
}

// TestTornLog cuts the log at many lengths and writes pages of it wrongly.
func TestTornLog(t *testing.T) {
	from, all := written(t)
	dir := copied(t, from)
	path := filepath.Join(dir, logFile)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const page = 4096
	pages := len(whole) / page
	used := inUse(t, path)
	try := func(what string, file []byte, mustRefuse bool) {
		t.Helper()
		if err := os.WriteFile(path, file, 0o600); err != nil {
			t.Fatal(err)
		}
		refused, problem := all.afterDamage(dir)
		if problem != "" {
			t.Errorf("%s: %s", what, problem)
		}
		if mustRefuse && !refused {
			t.Errorf("%s: opened", what)
		}
	}
	for _, length := range []int{0, 1, 79, 80, page - 1, page, 2*page - 1, 2 * page, 2*page + 1, 3 * page} {
		try(fmt.Sprintf("cut to %d bytes", length), whole[:length], true)
	}
	for _, i := range used {
		length := i*page + 2000
		try(fmt.Sprintf("cut to %d bytes", length), whole[:length], true)
		zeroed := bytes.Clone(whole)
		clear(zeroed[i*page : (i+1)*page])
		try(fmt.Sprintf("page %d zeroed", i), zeroed, i < 2)
		clear(zeroed)
		sector := bytes.Clone(whole)
		clear(sector[i*page+1024 : i*page+1536])
		try(fmt.Sprintf("a sector of page %d zeroed", i), sector, false)
		misplaced := bytes.Clone(whole)
		copy(misplaced[i*page:(i+1)*page], whole[(i+1)%pages*page:])
		try(fmt.Sprintf("page %d holds the next", i), misplaced, i < 2)
	}
	try("text", []byte("this is not a log"), true)
}

// TestMissingLog: a log that is gone takes the votes with it. To begin a new one would be to vote twice.
func TestMissingLog(t *testing.T) {
	dir, all := written(t)
	if err := os.Remove(filepath.Join(dir, logFile)); err != nil {
		t.Fatal(err)
	}
	if refused, problem := all.afterDamage(dir); !refused || problem != "" {
		t.Errorf("refused %v; %s", refused, problem)
	}
	if _, err := os.Stat(filepath.Join(dir, logFile)); err == nil {
		t.Error("a new log was begun")
	}
}

// TestFirstStartCutShort: the machine stopped while the log was being made. Nothing was promised yet.
func TestFirstStartCutShort(t *testing.T) {
	empty := func(path string) error { return os.WriteFile(path, nil, 0o600) }
	unused := func(path string) error {
		db, err := bbolt.Open(path, 0o600, nil)
		return errors.Join(err, db.Close())
	}
	for name, begin := range map[string]func(string) error{"an empty file": empty, "a file without buckets": unused} {
		dir := t.TempDir()
		if err := begin(filepath.Join(dir, logFile)); err != nil {
			t.Fatal(err)
		}
		s, err := testStores(dir)
		if err == nil {
			err = s.Close()
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		// The same later is another matter.
		if err := os.Remove(filepath.Join(dir, logFile)); err != nil {
			t.Fatal(err)
		}
		if err := begin(filepath.Join(dir, logFile)); err != nil {
			t.Fatal(err)
		}
		if _, err := testStores(dir); err == nil || sentence(err, logFile) != "" {
			t.Errorf("%s in the place of a log: %v", name, err)
		}
	}
}
