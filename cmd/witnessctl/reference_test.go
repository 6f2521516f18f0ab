package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/witnessd/witnessd/cmd/witnessctl/nodetest"
)

const reference = "../../docs/witnessctl.md"

// tree is the command tree as it is when a command runs, with what cobra adds.
func tree() *cobra.Command {
	root := (&run{progress: &progress{}}).root()
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	return root
}

// each calls f for every command that people can use.
func each(cmd *cobra.Command, f func(*cobra.Command)) {
	f(cmd)
	for _, sub := range cmd.Commands() {
		if !sub.Hidden && sub.Name() != "help" {
			each(sub, f)
		}
	}
}

// TestReference: the parts of docs/witnessctl.md that the commands write are as they write them now.
func TestReference(t *testing.T) {
	raw, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	now := string(raw)
	now = replaced(t, now, "exit codes", exitCodeTable())
	now = replaced(t, now, "commands", commandReference())
	if now == string(raw) {
		return
	}
	if !nodetest.Updating() {
		t.Fatalf("%s is not what the commands say: run go test ./cmd/witnessctl -run TestReference -update",
			filepath.Base(reference))
	}
	if err := os.WriteFile(reference, []byte(now), 0o644); err != nil {
		t.Fatal(err)
	}
}

// replaced puts a text between the marks of a part.
func replaced(t *testing.T, doc, part, text string) string {
	t.Helper()
	begin := "<!-- " + part + ": written by `go test ./cmd/witnessctl -run TestReference -update` -->\n"
	end := "<!-- end of " + part + " -->\n"
	before, rest, ok := strings.Cut(doc, begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no marks for %s", reference, part)
	}
	return before + begin + text + end + after
}

func exitCodeTable() string {
	var b strings.Builder
	b.WriteString("| code | | meaning |\n|---:|---|---|\n")
	for _, c := range exitCodes() {
		fmt.Fprintf(&b, "| %d | %s | %s |\n", c.code, c.word, c.meaning)
	}
	return b.String()
}

func commandReference() string {
	var b strings.Builder
	root := tree()
	b.WriteString("Flags of every command:\n\n" + flagTable(root.PersistentFlags()) + "\n")
	each(root, func(cmd *cobra.Command) {
		if cmd == root || cmd.Parent().Name() == "completion" {
			return
		}
		if cmd.HasAvailableSubCommands() && cmd.Name() != "completion" {
			fmt.Fprintf(&b, "### %s\n\n%s:\n\n", cmd.CommandPath(), strings.TrimSuffix(firstUpper(cmd.Short), "."))
			for _, sub := range cmd.Commands() {
				fmt.Fprintf(&b, "- `%s`: %s\n", sub.CommandPath(), sub.Short)
			}
			b.WriteString("\n")
			return
		}
		fmt.Fprintf(&b, "### %s\n\n", cmd.CommandPath())
		if cmd.Name() == "completion" {
			b.WriteString("`witnessctl completion bash|zsh|fish|powershell` prints a completion script.\n\n")
			return
		}
		fmt.Fprintf(&b, "`%s`\n\n%s\n", strings.TrimSuffix(cmd.UseLine(), " [flags]"), longText(cmd))
		if cmd.Example != "" {
			fmt.Fprintf(&b, "\n```sh\n%s\n```\n", unindent(cmd.Example))
		}
		if cmd.LocalNonPersistentFlags().HasAvailableFlags() {
			b.WriteString("\n" + flagTable(cmd.LocalNonPersistentFlags()))
		}
		b.WriteString("\n")
	})
	return strings.TrimSuffix(b.String(), "\n")
}

// longText is the help of a command; what is indented in it is a list to be kept as it is.
func longText(cmd *cobra.Command) string {
	text := cmd.Long
	if text == "" {
		text = firstUpper(cmd.Short) + "."
	}
	var b strings.Builder
	listing := false
	for line := range strings.Lines(text + "\n") {
		indented := strings.HasPrefix(line, "  ")
		if indented != listing {
			if indented && !strings.HasSuffix(b.String(), "\n\n") {
				b.WriteString("\n")
			}
			b.WriteString("```\n")
			if listing && line != "\n" {
				b.WriteString("\n")
			}
			listing = indented
		}
		b.WriteString(line)
	}
	if listing {
		b.WriteString("```\n")
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func unindent(text string) string {
	return regexp.MustCompile(`(?m)^  `).ReplaceAllString(text, "")
}

func firstUpper(text string) string { return strings.ToUpper(text[:1]) + text[1:] }

func flagTable(flags *pflag.FlagSet) string {
	var b strings.Builder
	b.WriteString("| flag | |\n|---|---|\n")
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		value, usage := pflag.UnquoteUsage(f)
		name := "`--" + f.Name
		if f.Shorthand != "" {
			name = "`-" + f.Shorthand + "`, " + name
		}
		if value != "" {
			name += " " + value
		}
		switch f.DefValue {
		case "", "false", "0", "0s", "[]":
		default:
			usage += " (default " + f.DefValue + ")"
		}
		fmt.Fprintf(&b, "| %s` | %s |\n", name, strings.ReplaceAll(usage, "|", `\|`))
	})
	return b.String()
}

// TestEveryCommand: each has a help that says what it does, and takes no file for a name.
func TestEveryCommand(t *testing.T) {
	doc, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	each(tree(), func(cmd *cobra.Command) {
		if cmd.Short == "" {
			t.Errorf("%s: no short help", cmd.CommandPath())
		}
		if cmd.Name() == "completion" || cmd.HasParent() && cmd.Parent().Name() == "completion" {
			return
		}
		if strings.HasSuffix(cmd.Short, ".") || strings.ToLower(cmd.Short[:1]) != cmd.Short[:1] {
			t.Errorf("%s: %q is to be a phrase", cmd.CommandPath(), cmd.Short)
		}
		if !strings.Contains(string(doc), cmd.CommandPath()) {
			t.Errorf("%s is not in %s", cmd.CommandPath(), reference)
		}
		if !cmd.HasSubCommands() && cmd.ValidArgsFunction == nil && cmd.Name() != "snapshot" && cmd.Name() != "create" {
			t.Errorf("%s: its arguments are completed with the names of files", cmd.CommandPath())
		}
	})
}

// TestCommandsNamed: what we tell people to type exists.
func TestCommandsNamed(t *testing.T) {
	var texts strings.Builder
	doc, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	texts.Write(doc)
	for _, pattern := range []string{"*.go", "view/*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if strings.HasSuffix(f, "_test.go") {
				continue
			}
			source, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			texts.Write(source)
		}
	}
	root := tree()
	known := map[string]bool{}
	each(root, func(cmd *cobra.Command) { known[cmd.CommandPath()] = true })
	named := regexp.MustCompile(`witnessctl (pair|procedure|node|events|status|snapshot|version|completion)( [a-z-]+)?`)
	for _, m := range named.FindAllStringSubmatch(texts.String(), -1) {
		command := "witnessctl " + m[1]
		if sub := command + m[2]; m[1] == "pair" || m[1] == "procedure" || m[1] == "node" {
			command = sub
		}
		if !known[strings.TrimSpace(command)] {
			t.Errorf("%q is not a command", command)
		}
	}
}

// TestExitCodes: no code and no word stands for two things.
func TestExitCodes(t *testing.T) {
	codes, words := map[int]bool{}, map[string]bool{}
	for _, c := range exitCodes() {
		if codes[c.code] || words[c.word] {
			t.Errorf("%d %s is there twice", c.code, c.word)
		}
		codes[c.code], words[c.word] = true, true
	}
}
