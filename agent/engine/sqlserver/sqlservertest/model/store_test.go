package model

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestTornTail cuts the file at every place in the last record: what is whole stays, and the log goes on.
func TestTornTail(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d.log")
	open := func() *database {
		t.Helper()
		d, err := openDatabase(path, "d", 5)
		check(t, err)
		return d
	}
	d := open()
	check(t, d.append(d.next(record{Fork: "a"})))
	check(t, d.append(d.next(record{Table: "t"})))
	two := d.size
	check(t, d.append(d.next(record{Rows: []Row{{"t", "x"}}})))
	three := d.size
	check(t, d.file.Close())
	whole, err := os.ReadFile(path)
	check(t, err)
	for size := two; size <= three; size++ {
		check(t, os.WriteFile(path, whole[:size], 0o600))
		d := open()
		want := 2
		if size == three {
			want = 3
		}
		if len(d.records) != want {
			t.Fatalf("cut at %d: %d records, want %d", size, len(d.records), want)
		}
		check(t, d.append(d.next(record{Rows: []Row{{"t", "y"}}})))
		check(t, d.file.Close())
		if d = open(); len(d.records) != want+1 {
			t.Fatalf("after the cut at %d nothing can be added", size)
		}
		check(t, d.file.Close())
	}
}

// TestCommon compares logs as two partners do.
func TestCommon(t *testing.T) {
	build := func(forks string) *database {
		t.Helper()
		d, err := openDatabase(filepath.Join(t.TempDir(), "d.log"), "d", 5)
		check(t, err)
		t.Cleanup(func() { _ = d.file.Close() })
		for _, fork := range forks {
			check(t, d.append(d.next(record{Fork: string(fork)})))
		}
		return d
	}
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"aaa", "", 0}, {"aaa", "aaa", 3}, {"aaa", "aa", 2}, {"aa", "aaa", 2}, {"aab", "aaa", 2},
		{"aabb", "aabbb", 4}, {"aab", "aac", 2}, {"aabbb", "aaaab", 2}, {"abc", "ab", 2}, {"bbb", "aaa", 0},
	} {
		a, b := build(c.a), build(c.b)
		for _, way := range [][2]*database{{a, b}, {b, a}} {
			got := way[0].common(way[1].forks(), way[1].end())
			n := slices.IndexFunc(way[0].records, func(r record) bool { return r.LSN == got }) + 1
			if n != c.want {
				t.Errorf("%q and %q have %d records in common, got %d", c.a, c.b, c.want, n)
			}
		}
	}
}

// TestTruncate takes records away that redo had applied.
func TestTruncate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d.log")
	d, err := openDatabase(path, "d", 5)
	check(t, err)
	check(t, d.append(d.next(record{Fork: "a", Table: "t"})))
	var lsns []LSN
	for n := range 5 {
		r := d.next(record{Rows: []Row{{"t", fmt.Sprint(n)}}})
		check(t, d.append(r))
		lsns = append(lsns, r.LSN)
	}
	d.redo(0)
	check(t, d.truncate(lsns[2]))
	d.redo(0)
	if got := d.tables["t"]; !slices.Equal(got, []string{"0", "1", "2"}) || d.end() != lsns[2] {
		t.Fatalf("after the cut: %v, end %v", got, d.end())
	}
	check(t, d.file.Close())
	d, err = openDatabase(path, "d", 5)
	check(t, err)
	if len(d.records) != 4 {
		t.Fatalf("in the file: %d records", len(d.records))
	}
	check(t, d.file.Close())
}
