package table_test

import (
	"strings"
	"testing"

	"github.com/witnessd/witnessd/cmd/witnessctl/table"
)

func sample() table.Table {
	return table.Table{
		Columns: []table.Column{
			{Title: "NAME"}, {Title: "N", Right: true, Drop: 1}, {Title: "MODE", Drop: 2}, {Title: "NOTE", Min: 10},
		},
		Rows: [][]table.Cell{
			{{Text: "sales"}, {Text: "7"}, {Text: "automatic"}, {Text: "nothing of note at all"}},
			{{Text: "hr"}, {Text: "12"}},
		},
	}
}

func TestRender(t *testing.T) {
	wrapped := sample()
	wrapped.Columns[3].Wrap = true
	tests := []struct {
		name  string
		table table.Table
		width int
		want  string
	}{
		{"no limit", sample(), 0, `
NAME    N  MODE       NOTE
sales   7  automatic  nothing of note at all
hr     12
`},
		{"a note is cut", sample(), 36, `
NAME    N  MODE       NOTE
sales   7  automatic  nothing of no…
hr     12
`},
		{"a note is wrapped", wrapped, 36, `
NAME    N  MODE       NOTE
sales   7  automatic  nothing of
                      note at all
hr     12
`},
		{"a column is left out", sample(), 24, `
NAME    N  NOTE
sales   7  nothing of n…
hr     12
(too narrow for: MODE)
`},
		{"nothing more can be left out", sample(), 10, `
NAME   NOTE
sales  nothing o…
hr
(too narrow for: MODE, N)
`},
		{"no titles", table.Table{Columns: make([]table.Column, 2), Rows: [][]table.Cell{{{Text: "a"}, {Text: "b"}}}}, 0, `
a  b
`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := "\n" + tt.table.Render(table.Screen{Width: tt.width}); got != tt.want {
				t.Errorf("got%s\nwant%s", got, tt.want)
			}
		})
	}
}

// TestColor: colors change neither the width of a column nor what is said.
func TestColor(t *testing.T) {
	s := sample()
	s.Rows[0][0].Style = table.Bad
	got := s.Render(table.Screen{Color: true})
	if !strings.Contains(got, "\x1b[1;31msales\x1b[0m   7  automatic") {
		t.Errorf("got %q", got)
	}
}

func TestWrap(t *testing.T) {
	tests := []struct {
		text string
		want string
	}{
		{"short", "short"},
		{"one two three four five six", "one two three four\n  five six"},
		{"abcdefghijklmnopqrstuvwxyz", "abcdefghijklmnopqrst\n  uvwxyz"},
		{"two\nlines", "two lines"},
	}
	for _, tt := range tests {
		if got := table.Wrap(tt.text, 22, "  "); got != tt.want {
			t.Errorf("Wrap(%q) = %q, want %q", tt.text, got, tt.want)
		}
	}
}

// TestClean: a reason that an operator typed must not repaint another operator's screen.
func TestClean(t *testing.T) {
	if got, want := table.Clean("a\x1b[2Jb\nc\u202ed é…"), "a?[2Jb c?d é…"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
