package protocol

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

// TestTextScenarios plays the scenarios of testdata. With -rewrite it writes what happened into them.
func TestTextScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		if !strings.HasSuffix(path, ".txt") {
			return
		}
		s := &script{}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			out, bad := s.block(linesOf(d))
			if bad != nil {
				t.Fatalf("%s: %s\n%s", place(d.Pos, bad.line), bad.what, out)
			}
			return out
		})
	})
}

// linesOf is the text of a block: what datadriven took for a command and its arguments, and its input.
func linesOf(d *datadriven.TestData) []string {
	words := []string{d.Cmd}
	for _, a := range d.CmdArgs {
		words = append(words, a.String())
	}
	lines := []string{strings.Join(words, " ")}
	if d.Input != "" {
		lines = append(lines, strings.Split(d.Input, "\n")...)
	}
	return lines
}

// place is the file and line of a block's line.
func place(pos string, line int) string {
	i := strings.LastIndex(pos, ":")
	first, err := strconv.Atoi(pos[i+1:])
	if err != nil {
		return pos
	}
	return fmt.Sprintf("%s:%d", pos[:i], first+line)
}

// read reads the files of a table's rows; each must be there and say all that such a file says.
func read(t *testing.T, dir string, rows []row, parts []string) []textFile {
	t.Helper()
	var files []textFile
	for _, r := range rows {
		f, err := readText(filepath.Join("testdata", dir, r.file+".txt"))
		if err != nil {
			t.Errorf("the row %q has no scenario: %v", r.event, err)
			files = append(files, textFile{}) // in its place, so that the others keep theirs
			continue
		}
		if missing := f.lacking(parts); f.title == "" || len(missing) > 0 {
			t.Errorf("%s: a title and the paragraphs %q are wanted; missing: %q", f.path, parts, missing)
		}
		played := slices.ContainsFunc(f.blocks, func(b textBlock) bool { return len(b.steps) > 0 && len(b.output) > 2 })
		if !played {
			t.Errorf("%s shows nothing", f.path)
		}
		files = append(files, f)
	}
	return files
}

// TestTextEveryRowOfWhatHappensWhen: a row of the design's table without a scenario, or with one that is about
// something else, fails.
func TestTextEveryRowOfWhatHappensWhen(t *testing.T) {
	rows := whatHappensWhen()
	for i, f := range read(t, "what-happens", rows, whatHappensParts) {
		if f.path != "" && f.about["row"] != rows[i].event {
			t.Errorf("%s is about %q, want %q", f.path, f.about["row"], rows[i].event)
		}
	}
	onlyThese(t, "what-happens", rows)
}

// TestTextEveryRowOfSQLServer is the same for SQL Server's table.
func TestTextEveryRowOfSQLServer(t *testing.T) {
	rows, below := sqlServerRows(), belowTheTable()
	files := read(t, "sql-server", rows, sqlServerParts)
	for i, f := range files {
		if f.path == "" {
			continue
		}
		if f.about["row"] != strconv.Itoa(i+1) || !strings.HasPrefix(f.name(), fmt.Sprintf("%02d-", i+1)) {
			t.Errorf("%s says that it is row %s, want %d", f.path, f.about["row"], i+1)
		}
	}
	files = append(files, read(t, "sql-server", below, belowParts)...)
	for i, f := range files {
		if f.path == "" {
			continue
		}
		if want := append(rows, below...)[i].event; f.about["event"] != want {
			t.Errorf("%s is about %q, want %q", f.path, f.about["event"], want)
		}
		if !slices.Contains(verdicts, f.about["verdict"]) {
			t.Errorf("%s: verdict %q is none of %q", f.path, f.about["verdict"], verdicts)
		}
		if worse := f.about["worse"] != ""; worse != (f.about["verdict"] == "partly worse") {
			t.Errorf("%s: a row that is partly worse says in what, and no other does", f.path)
		}
	}
	onlyThese(t, "sql-server", append(rows, below...))
}

// TestTextFurther holds the other scenarios to be readable as well.
func TestTextFurther(t *testing.T) {
	read(t, "further", further(), furtherParts)
	onlyThese(t, "further", further())
}

// onlyThese fails for a file that no row asks for: it would be read by nobody.
func onlyThese(t *testing.T, dir string, rows []row) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join("testdata", dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range found {
		name := strings.TrimSuffix(filepath.Base(path), ".txt")
		if !slices.ContainsFunc(rows, func(r row) bool { return r.file == name }) {
			t.Errorf("%s belongs to no row", path)
		}
	}
}

// TestTextDocuments: what people read is what the scenarios say.
func TestTextDocuments(t *testing.T) {
	rows := read(t, "sql-server", sqlServerRows(), sqlServerParts)
	below := read(t, "sql-server", belowTheTable(), belowParts)
	if t.Failed() {
		t.FailNow()
	}
	document, err := comparison(rows, below)
	if err != nil {
		t.Fatal(err)
	}
	same(t, filepath.Join("..", "..", "docs", "sql-server-comparison.md"), document)
	same(t, filepath.Join("testdata", "README.md"), language())
}

// same compares a generated file with what is generated, and writes it with -rewrite.
func same(t *testing.T, path, want string) {
	t.Helper()
	if f := flag.Lookup("rewrite"); f != nil && f.Value.String() == "true" {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what the scenarios generate: go test ./test/protocol -run Text -rewrite", path)
	}
}
