package protocol

import (
	"fmt"
	"os"
	"strings"
)

// textFile is a scenario as it is read by people: a title, what it is about, and what happens.
type textFile struct {
	path   string
	title  string
	about  map[string]string // by the words before the colon
	blocks []textBlock
}

// textBlock is some steps and what they led to.
type textBlock struct{ steps, output []string }

// readText reads a scenario file. The comment at its beginning is a title and paragraphs that begin with a word
// or a few and a colon; further lines of a paragraph are indented.
func readText(path string) (textFile, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return textFile{}, err
	}
	f := textFile{path: path, about: map[string]string{}}
	lines := strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
	key := ""
	for len(lines) > 0 && strings.HasPrefix(lines[0], "#") {
		line := strings.TrimPrefix(lines[0], "#")
		name, text, keyed := strings.Cut(line, ": ")
		switch {
		case strings.TrimSpace(line) == "":
		case f.title == "":
			f.title = strings.TrimSpace(line)
		case strings.HasPrefix(line, "  ") && key != "":
			f.about[key] += " " + strings.TrimSpace(line)
		case keyed:
			key = strings.TrimSpace(name)
			f.about[key] = strings.TrimSpace(text)
		default:
			return f, fmt.Errorf("%s: %q is neither \"word: text\" nor indented", path, lines[0])
		}
		lines = lines[1:]
	}
	var block textBlock
	told := false
	flush := func() {
		if len(block.steps) > 0 {
			f.blocks = append(f.blocks, block)
		}
		block, told = textBlock{}, false
	}
	for _, line := range lines {
		switch {
		case line == "":
			flush()
		case line == "----":
			told = true
		case told:
			block.output = append(block.output, line)
		case !strings.HasPrefix(line, "#"):
			block.steps = append(block.steps, line)
		}
	}
	flush()
	return f, nil
}

// lacking lists the paragraphs that the file should have and has not.
func (f textFile) lacking(keys []string) []string {
	var missing []string
	for _, key := range keys {
		if f.about[key] == "" {
			missing = append(missing, key)
		}
	}
	return missing
}

// pauses are the pauses in writes that the scenario saw, in order, for the comparison's table.
func (f textFile) pauses() []string {
	var found []string
	for _, b := range f.blocks {
		for _, line := range b.output {
			text, ok := strings.CutPrefix(line, "writes: ")
			if !ok {
				continue
			}
			text, _, _ = strings.Cut(text, ";")
			text = strings.TrimPrefix(text, "longest pause ")
			if text == "no pause" {
				text = "none"
			}
			found = append(found, text)
		}
	}
	return found
}

// filled is a paragraph with its {1}, {2} replaced by the pauses that the scenario saw, so that no figure in it
// can be older than the code.
func (f textFile) filled(key string) (string, error) {
	text := f.about[key]
	for i, pause := range f.pauses() {
		text = strings.ReplaceAll(text, fmt.Sprintf("{%d}", i+1), pause)
	}
	if strings.Contains(text, "{") {
		return "", fmt.Errorf("%s: %q names a pause that the scenario has no \"writes\" for: %s", f.path, key, text)
	}
	return text, nil
}
