package main

import (
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden file anew")

func TestDocument(t *testing.T) {
	day := time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)
	all := results{
		Machine: machine{Cores: 2, FsyncMS: 1.26},
		Runs: []result{
			{Row: "crash", At: day, Outage: 300, Users: 340, Redundancy: 1500},
			{Row: "crash", At: day.AddDate(0, 0, 1), Outage: 200, Users: 240, Redundancy: 1600},
			{Row: "crash", At: day, Outage: 900, Users: 990, Redundancy: 2000, Lost: 2, Broken: []string{"2 rows are missing at b"}},
			{Row: "witness-mirror", At: day, Outage: 2500, Users: 2600, Redundancy: 3000},
			{Row: "link-pm", At: day, Outage: 2400, Users: 2500, Redundancy: -1, Twice: 1, Wrong: []string{"the mirror took over"}},
			{Row: "random", At: day, Outage: 0, Redundancy: 0, Faults: "crash (from 0.0 s for 0.4 s)", Seed: 7, Moves: 1},
			{Row: "random", At: day, Outage: 7000, Redundancy: 9000, Faults: "crash and link-pw", Seed: 7},
			{Row: "soak", At: day, Outage: 70, Redundancy: 0},
		},
	}
	got := document(all)
	golden := filepath.Join("testdata", "failure-matrix.md")
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the document is another than in %s: look at it and run with -update\n%s", golden, got)
	}
}

// TestResultsInPieces: a later call adds to what an earlier one wrote.
func TestResultsInPieces(t *testing.T) {
	path := filepath.Join(t.TempDir(), "results.json")
	first := results{Machine: machine{Cores: 2}, Runs: []result{{Row: "crash", Outage: 1, Wrong: []string{"x"}}}}
	if err := first.write(path); err != nil {
		t.Fatal(err)
	}
	again, err := readResults(path)
	if err != nil {
		t.Fatal(err)
	}
	again.Runs = append(again.Runs, result{Row: "host", Redundancy: -1})
	if err := again.write(path); err != nil {
		t.Fatal(err)
	}
	last, err := readResults(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(last.of("crash")) != 1 || len(last.of("host")) != 1 || last.of("crash")[0].Wrong[0] != "x" ||
		!last.of("host")[0].unarmed() {
		t.Errorf("read %+v", last)
	}
}
