package kv

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// writeLog makes a directory whose log has the given keys, set to 1.
func writeLog(t *testing.T, keys ...string) (dir string, end int64) {
	t.Helper()
	dir = newDir(t)
	j, _, err := openJournal(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer j.close()
	for _, key := range keys {
		k, body := change{key: key, value: "1"}.encode()
		if err := j.append(appendRecord(nil, j.end, k, body)); err != nil {
			t.Fatal(err)
		}
	}
	return dir, j.end
}

// A write that a crash cut short, at whatever byte, is cut off, and the log goes on from there.
func TestTornTailIsCutOff(t *testing.T) {
	k, body := change{key: "torn", value: "never acknowledged"}.encode()
	for length := range len(appendRecord(nil, 0, k, body)) {
		dir, end := writeLog(t, "a", "b")
		torn := appendRecord(nil, end, k, body)[:length]
		appendTo(t, filepath.Join(dir, logFile), torn)
		j, img, err := openJournal(dir)
		if err != nil {
			t.Fatal(err)
		}
		if j.end != end || j.torn != int64(length) || j.damaged != "" {
			t.Fatalf("end %d torn %d damaged %q, want %d %d", j.end, j.torn, j.damaged, end, length)
		}
		if img.count("") != 2 {
			t.Fatalf("%d keys, want 2", img.count(""))
		}
		if err := j.append(appendRecord(nil, j.end, k, body)); err != nil {
			t.Fatal(err)
		}
		if err := j.close(); err != nil {
			t.Fatal(err)
		}
		if info, err := Inspect(dir); err != nil || info.Position.Offset <= end {
			t.Fatalf("after going on: %+v %v", info, err)
		}
	}
}

// A record that was on disk and cannot be read is no torn tail: what follows it may have been
// acknowledged, so nothing is cut off and the copy is not promoted.
func TestDamageIsNotATornTail(t *testing.T) {
	dir, end := writeLog(t, "a", "b", "c")
	spoil(t, dir, end-1)
	info, err := Inspect(dir)
	if err != nil || info.Data != DataDamaged {
		t.Fatalf("inspect: %+v %v", info, err)
	}
	s := start(t, dir)
	if err := s.Promote(testContext(t), "pair"); code(err) != CodeNoData {
		t.Fatalf("promote: %v", err)
	}
	s.Kill()
	if stat, err := os.Stat(filepath.Join(dir, logFile)); err != nil || stat.Size() != end {
		t.Fatalf("log: %v %v, want %d bytes", stat, err, end)
	}
}

// spoil changes one byte of the log.
func spoil(t *testing.T, dir string, at int64) {
	t.Helper()
	file, err := os.OpenFile(filepath.Join(dir, logFile), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	b := make([]byte, 1)
	if _, err := file.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0xff
	if _, err := file.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}

// A directory of somebody else is left alone, also one that happens to have a file of our name.
func TestForeignDirectory(t *testing.T) {
	for name, content := range map[string]string{"thesis.txt": "x", logFile: "something else"} {
		dir := t.TempDir()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Inspect(dir); !errors.Is(err, ErrForeign) {
			t.Errorf("inspect %s: %v", name, err)
		}
		if _, err := Init(dir); !errors.Is(err, ErrForeign) {
			t.Errorf("init %s: %v", name, err)
		}
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) != 1 {
			t.Errorf("%s: %v %v", name, entries, err)
		}
	}
}

func TestInitRefusesDatabase(t *testing.T) {
	dir := newDir(t)
	if _, err := Init(dir); err == nil || !strings.Contains(err.Error(), "already") {
		t.Fatalf("init: %v", err)
	}
}

func TestReadAtReturnsWholeRecords(t *testing.T) {
	dir, end := writeLog(t, strings.Repeat("k", 300), "b", "c")
	j, _, err := openJournal(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer j.close()
	var got int64
	for got < end {
		b, err := j.readAt(got, end, 1)
		if err != nil {
			t.Fatal(err)
		}
		if recs, err := parseRecords(b, got); err != nil || len(recs) != 1 {
			t.Fatalf("at %d: %d records, %v", got, len(recs), err)
		}
		got += int64(len(b))
	}
	all, err := j.readAt(0, end, chunk)
	if err != nil || int64(len(all)) != end {
		t.Fatalf("%d bytes, %v; want %d", len(all), err, end)
	}
}

func TestFork(t *testing.T) {
	one := Timeline{Number: 1, Start: 10, ID: 7}
	two := Timeline{Number: 2, Start: 100, ID: 8}
	other := Timeline{Number: 2, Start: 100, ID: 9}
	for _, c := range []struct {
		what          string
		a, b          History
		aEnd, bEnd    int64
		want          int64
		wantNoRelated bool
	}{
		{what: "mirror behind on one timeline", a: History{one}, aEnd: 90, b: History{one}, bEnd: 50, want: 50},
		{what: "mirror ahead on one timeline", a: History{one}, aEnd: 50, b: History{one}, bEnd: 90, want: 50},
		{what: "promoted after the mirror's end", a: History{one, two}, aEnd: 120,
			b: History{one}, bEnd: 100, want: 100},
		{what: "mirror went on after the promotion", a: History{one, two}, aEnd: 120,
			b: History{one}, bEnd: 110, want: 100},
		{what: "both promoted from one place", a: History{one, two}, aEnd: 120,
			b: History{one, other}, bEnd: 120, want: 100},
		{what: "mirror promoted and forgotten", a: History{one}, aEnd: 200,
			b: History{one, two}, bEnd: 120, want: 100},
		{what: "nothing in common", a: History{one}, aEnd: 20, b: History{other}, bEnd: 120,
			wantNoRelated: true},
		{what: "empty mirror", a: History{one}, aEnd: 20, wantNoRelated: true},
	} {
		got, ok := fork(c.a, c.aEnd, c.b, c.bEnd)
		if got != c.want || ok == c.wantNoRelated {
			t.Errorf("%s: %d %v, want %d", c.what, got, ok, c.want)
		}
		again, err := parseHistory(c.a.String())
		if err != nil || again.String() != c.a.String() {
			t.Errorf("%s: history %s read as %s, %v", c.what, c.a, again, err)
		}
	}
}
