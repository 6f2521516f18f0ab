// Package table lays out text in columns that fit a screen: a column that may be narrowed is narrowed
// first, then columns that may be left out are left out, and the reader is told which.
package table

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Style says how much a text should catch the eye.
type Style int

// The styles, without which every text still says the same.
const (
	Plain Style = iota
	Strong
	Faint
	Good
	Warn
	Bad
)

// Screen is what is written on.
type Screen struct {
	Width int // in characters; 0 is no limit, as for a file
	Color bool
}

// Paint returns the text in a style, if the screen has colors.
func (s Screen) Paint(text string, style Style) string {
	if !s.Color || text == "" {
		return text
	}
	codes := map[Style]string{Strong: "1", Faint: "2", Good: "32", Warn: "33", Bad: "1;31"}
	if code, ok := codes[style]; ok {
		return "\x1b[" + code + "m" + text + "\x1b[0m"
	}
	return text
}

// Cell is one field of a table.
type Cell struct {
	Text  string
	Style Style
}

// Column says how a column may be made to fit.
type Column struct {
	Title string
	Right bool // numbers
	Min   int  // above 0: may be narrowed to this many characters
	Wrap  bool // what a narrowed field does not hold goes on in the next line; otherwise it ends in "…"
	Drop  int  // above 0: may be left out, the highest first
}

// Table is rows of fields below titles. Without any title there is no line of titles.
type Table struct {
	Columns []Column
	Rows    [][]Cell
}

const gap = 2 // spaces between columns

// Render returns the table as lines that fit the screen, if that can be.
func (t Table) Render(s Screen) string {
	t = t.clean()
	hidden := []string(nil)
	widths := t.fit(s.Width)
	for s.Width > 0 && total(widths) > s.Width {
		i := t.dropped()
		if i < 0 {
			break
		}
		hidden = append(hidden, t.Columns[i].Title)
		t = t.without(i)
		widths = t.fit(s.Width)
	}
	var b strings.Builder
	if t.titled() {
		titles := make([]Cell, len(t.Columns))
		for i, c := range t.Columns {
			titles[i] = Cell{Text: c.Title, Style: Strong}
		}
		t.line(&b, s, widths, titles)
	}
	for _, row := range t.Rows {
		t.line(&b, s, widths, row)
	}
	if len(hidden) > 0 {
		b.WriteString(s.Paint("(too narrow for: "+strings.Join(hidden, ", ")+")", Faint) + "\n")
	}
	return b.String()
}

// clean returns a copy whose rows all have every column and no character that a terminal would obey.
func (t Table) clean() Table {
	rows := make([][]Cell, len(t.Rows))
	for i, row := range t.Rows {
		rows[i] = make([]Cell, len(t.Columns))
		for j := range min(len(row), len(t.Columns)) {
			rows[i][j] = Cell{Text: Clean(row[j].Text), Style: row[j].Style}
		}
	}
	return Table{Columns: t.Columns, Rows: rows}
}

func (t Table) titled() bool {
	return slices.ContainsFunc(t.Columns, func(c Column) bool { return c.Title != "" })
}

// dropped is the column to leave out next, -1 if none may be.
func (t Table) dropped() int {
	best := -1
	for i, c := range t.Columns {
		if c.Drop > 0 && (best < 0 || c.Drop > t.Columns[best].Drop) {
			best = i
		}
	}
	return best
}

func (t Table) without(i int) Table {
	n := Table{Columns: slices.Delete(slices.Clone(t.Columns), i, i+1)}
	for _, row := range t.Rows {
		n.Rows = append(n.Rows, slices.Delete(slices.Clone(row), i, i+1))
	}
	return n
}

// fit returns the width of each column, narrowed as far as it may be and must.
func (t Table) fit(limit int) []int {
	widths := make([]int, len(t.Columns))
	for i, c := range t.Columns {
		widths[i] = utf8.RuneCountInString(c.Title)
		for _, row := range t.Rows {
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i].Text))
		}
	}
	if limit <= 0 {
		return widths
	}
	for over := total(widths) - limit; over > 0; over-- {
		widest := -1
		for i, c := range t.Columns {
			if c.Min > 0 && widths[i] > c.Min && (widest < 0 || widths[i] > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			break
		}
		widths[widest]--
	}
	return widths
}

func total(widths []int) int {
	sum := gap * max(0, len(widths)-1)
	for _, w := range widths {
		sum += w
	}
	return sum
}

// line writes one row, on several lines if a field is wrapped.
func (t Table) line(b *strings.Builder, s Screen, widths []int, row []Cell) {
	fields := make([][]string, len(row))
	height := 1
	for i, c := range row {
		if t.Columns[i].Wrap {
			fields[i] = wrap(c.Text, widths[i])
		} else {
			fields[i] = []string{Cut(c.Text, widths[i])}
		}
		height = max(height, len(fields[i]))
	}
	for n := range height {
		line, pending := "", 0
		for i, lines := range fields {
			text := ""
			if n < len(lines) {
				text = lines[n]
			}
			space := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(text))
			switch {
			case text == "":
				pending += widths[i] + gap
				continue
			case t.Columns[i].Right:
				line += strings.Repeat(" ", pending) + space + s.Paint(text, row[i].Style)
				pending = gap
			default:
				line += strings.Repeat(" ", pending) + s.Paint(text, row[i].Style)
				pending = len(space) + gap
			}
		}
		b.WriteString(line + "\n")
	}
}

// Cut shortens a text to a width and shows that it did.
func Cut(text string, width int) string {
	if utf8.RuneCountInString(text) <= width {
		return text
	}
	if width <= 0 {
		return ""
	}
	return string([]rune(text)[:width-1]) + "…"
}

// wrap breaks a text at spaces into lines of a width; a longer word is broken where it must be.
func wrap(text string, width int) []string {
	if utf8.RuneCountInString(text) <= width || width <= 0 {
		return []string{text}
	}
	var lines []string
	line := []rune(nil)
	for word := range strings.FieldsSeq(text) {
		rest := []rune(word)
		if len(line) > 0 && len(line)+1+len(rest) > width {
			lines, line = append(lines, string(line)), nil
		}
		if len(line) > 0 {
			line = append(line, ' ')
		}
		for len(line)+len(rest) > width {
			n := width - len(line)
			lines = append(lines, string(append(line, rest[:n]...)))
			line, rest = nil, rest[n:]
		}
		line = append(line, rest...)
	}
	return append(lines, string(line))
}

// Wrap returns a text in lines of at most a width, 0 for no limit, each but the first after an indent.
func Wrap(text string, width int, indent string) string {
	text = Clean(text)
	if width <= 0 {
		return text
	}
	lines := wrap(text, max(width-utf8.RuneCountInString(indent), 20))
	return strings.Join(lines, "\n"+indent)
}

// Clean replaces every character that a terminal would obey rather than show. What operators and agents
// wrote elsewhere is shown here, and must not be able to move a cursor or to repaint a line.
func Clean(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n', r == '\t':
			return ' '
		case !unicode.IsPrint(r):
			return '?'
		default:
			return r
		}
	}, text)
}
