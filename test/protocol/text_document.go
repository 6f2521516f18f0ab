package protocol

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// The paragraphs that a scenario of each kind has.
var (
	whatHappensParts = []string{"row", "must", "look at"}
	sqlServerParts   = []string{"row", "event", "sql server", "on reconnect", "witnessd", "verdict", "why",
		"clients, sql server", "clients, witnessd", "shown", "look at"}
	furtherParts = []string{"event", "look at"}
	belowParts   = []string{"event", "sql server", "witnessd", "verdict", "why", "shown", "look at"}
)

// verdicts are what may be said of a row as a whole. A row that is partly worse also says in what.
var verdicts = []string{"better", "equal", "partly worse"}

const documentHead = `# SQL Server's failure table and witnessd

<!-- Generated from test/protocol/testdata/sql-server; do not edit. go test ./test/protocol -run Text -rewrite -->

For database administrators who know by heart what database mirroring with a witness does, and want to check what this
product does in the same situation. The left side is SQL Server's database mirroring in high-safety mode with its own
witness, one database, synchronized and fully connected at the beginning unless the row says otherwise. The right side
is an armed pair of witnessd with the default timing: heartbeat 0.5 s, lease 3 s, guard 0.3 s, mirror time-out 2 s.

## How to read this

* **There is no SQL Server engine in witnessd today.** It drives PostgreSQL and a demonstration database. What is
  compared is the rules: who may serve, who takes over, what is lost. Statements about a database's own behaviour on
  the right side are about PostgreSQL.
* The facts on the left are from Microsoft's documentation. No SQL Server was measured for this. Where the
  documentation is silent and we conclude, the text says so. TIMEOUT is PARTNER TIMEOUT, 10 s by default; a fault that
  another component reports (a reset connection, a dead process) is a hard error, noticed at once or as slowly as that
  component is; silence takes TIMEOUT. Principal and synchronized are SQL Server's words; exposed means that the
  principal or primary commits without a mirror.
* Every timeline on the right is the output of a scenario that the tests replay on each change. The code that decides
  is the code that ships (witnessd/pair and agent/hold); network, clocks and databases are simulated. A message takes
  2 ms there, an exchange between the witness's nodes 30 ms, a promotion 150 ms, a rejoin 300 ms. So the order of
  events and every wait is the product's, the work of the database is the model's. What real PostgreSQL servers take
  is in [testing.md](testing.md): after a kill -9 0.19 s, after a lost host 3.12 s (medians).
* A fault comes at one fixed moment between two heartbeats here; [timing.md](timing.md) gives the range: 2.7 to 3.5 s
  where a timeline shows 3.25 s for a lost host.
* a and b are the hosts, w the witness. Each "pair" begins a new world. Times count from the beginning of a block. The
  clients write every 10 ms; "no write is acknowledged" and "acknowledges writes" are what they see.
* "The witness" on the left is one SQL Server instance. On the right it is three nodes (or five). The loss of one,
  also of the one that leads, is one event; the loss of a quorum, two of three, is another. Where a row says "witness
  lost" both are shown. The witness of one SQL Server session is one machine, so its loss compares with the loss of
  one machine here.
* **The agent.** SQL Server stops serving by itself when it loses its quorum; witnessd's agent does it for the
  database. The fence in force today (level engine) works as long as the agent's process runs. If that process is
  killed or frozen while its database lives on, nothing ends service when the right ends, and one primary at a time is
  not promised for that host ([guarantees.md](guarantees.md)). The scenarios say which level they show; level kernel
  is not built yet.

`

// comparison is docs/sql-server-comparison.md.
func comparison(rows, below []textFile) (string, error) {
	var out strings.Builder
	out.WriteString(documentHead)
	if err := shortcomings(&out, slices.Concat(rows, below)); err != nil {
		return "", err
	}
	out.WriteString("## The table\n\n")
	out.WriteString("| # | event | SQL Server with its own witness | witnessd | clients without service | shown by |\n")
	out.WriteString("|---|---|---|---|---|---|\n")
	for _, f := range rows {
		ours, err := f.filled("clients, witnessd")
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&out, "| %s | %s | %s On reconnect: %s | %s **%s.** | SQL Server: %s witnessd: %s | [%s](#%s) |\n",
			f.about["row"], cell(f.about["event"]), cell(f.about["sql server"]), cell(f.about["on reconnect"]),
			cell(f.about["witnessd"]), capital(f.about["verdict"]), cell(f.about["clients, sql server"]), cell(ours),
			f.name(), f.anchor())
	}
	out.WriteString("\n## Row by row\n")
	for _, f := range rows {
		if err := f.section(&out); err != nil {
			return "", err
		}
	}
	out.WriteString("\n## Below the table: sessions without a witness\n")
	for _, f := range below {
		if err := f.section(&out); err != nil {
			return "", err
		}
	}
	return out.String(), nil
}

// shortcomings puts first what a reader would rather not find last.
func shortcomings(out *strings.Builder, files []textFile) error {
	list := func(heading, key, after string) error {
		fmt.Fprintf(out, "## %s\n\n", heading)
		for _, f := range files {
			text, err := f.filled(key)
			if err != nil {
				return err
			}
			if text != "" {
				out.WriteString(wrap(fmt.Sprintf("* [%s](#%s). %s", f.heading(), f.anchor(), text), "  "))
			}
		}
		out.WriteString("\n" + wrap(after, "") + "\n")
		return nil
	}
	if err := list("Where witnessd is not as good today", "worse",
		"Everywhere else it is at least as good by the rules compared here; each row says why."); err != nil {
		return err
	}
	return list("What is not noticed today", "not noticed",
		"A fault that nobody notices is repaired by an operator's switchover, which takes everything to the other host.")
}

func (f textFile) section(out *strings.Builder) error {
	fmt.Fprintf(out, "\n### %s\n\n", f.heading())
	for _, part := range []struct{ label, key string }{
		{"SQL Server", "sql server"}, {"On reconnect", "on reconnect"}, {"witnessd", "witnessd"},
		{capital(f.about["verdict"]), "why"}, {"Worse", "worse"}, {"Not noticed", "not noticed"},
		{"Shown", "shown"}, {"Look at", "look at"},
	} {
		text, err := f.filled(part.key)
		if err != nil {
			return err
		}
		if text != "" {
			out.WriteString(wrap(fmt.Sprintf("* **%s:** %s", part.label, text), "  "))
		}
	}
	out.WriteString("\n```text\n")
	for i, b := range f.blocks {
		if i > 0 {
			out.WriteString("\n")
		}
		for _, step := range b.steps {
			fmt.Fprintf(out, "> %s\n", step)
		}
		for _, line := range b.output {
			fmt.Fprintf(out, "%s\n", line)
		}
	}
	out.WriteString("```\n")
	return nil
}

// wrap breaks a paragraph into lines of at most 120 characters.
func wrap(text, indent string) string {
	var out strings.Builder
	line := ""
	for word := range strings.FieldsSeq(text) {
		switch {
		case line == "":
			line = word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > 120:
			out.WriteString(line + "\n")
			line = indent + word
		default:
			line += " " + word
		}
	}
	return out.String() + line + "\n"
}

func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// name is the file's, without its directory and ending.
func (f textFile) name() string {
	return strings.TrimSuffix(f.path[strings.LastIndexAny(f.path, `/\`)+1:], ".txt")
}

func (f textFile) heading() string {
	if f.about["row"] == "" {
		return f.title
	}
	return "Row " + f.about["row"] + ": " + f.title
}

// anchor is how Markdown viewers name the heading.
func (f textFile) anchor() string {
	var b strings.Builder
	for _, r := range strings.ToLower(f.heading()) {
		switch {
		case r == ' ':
			b.WriteByte('-')
		case r == '-' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z':
			b.WriteRune(r)
		}
	}
	return b.String()
}

// cell makes text fit for a cell of a table.
func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }

const languageHead = `# Text scenarios

One file per row of the design's table *What happens when* (what-happens), and one per row of SQL Server's own failure
table (sql-server); what no table has is in further. They are played by text_test.go in the simulated world of this
package, on the code that ships.

A file begins with a comment: a title, and paragraphs that the tests ask for. After that come blocks: steps, one a
line, a line of four dashes, and what happened, up to the next empty line. "go test ./test/protocol -run Text
-rewrite" writes what happened into the files, and docs/sql-server-comparison.md and this file with them; read the
difference before you keep it.

Times are relative to the beginning of the last block that began with a change; a block that only lets time pass or
asks goes on counting. After each step, G1 (one primary) and G2 (no lost commit) are checked, and a violation fails
the test.

Lines that begin with "witness:" are the history of the witness; lines that begin with a host and a colon are what its
agent reports, both as an operator of the product reads them. The rest is the world's: who lets clients in, and
whether a client that writes every 10 ms is acknowledged.

| step | what |
|---|---|
`

// language is testdata/README.md.
func language() string {
	var out strings.Builder
	out.WriteString(languageHead)
	for _, st := range steps() {
		fmt.Fprintf(&out, "| `%s` | %s |\n", st.words, st.does)
	}
	out.WriteString("\nHOST is a or b; LINK is a-b for both directions or a>b for one, w is the witness; " +
		"TIME is 500ms, 5s, 2m; OP is promote, hold, follow, hand-over or stop.\n")
	return out.String()
}
