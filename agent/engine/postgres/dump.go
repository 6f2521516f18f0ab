//go:build linux

package postgres

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/witnessd/witnessd/agent/engine"
)

// transaction is what a stretch of log says of one.
type transaction struct {
	XID uint64 `json:"xid"`
	// Outcome is committed, prepared, rolled back or unfinished.
	Outcome string `json:"outcome"`
	Time    string `json:"time,omitempty"` // of its end, by the clock of the host that ran it
	Records int    `json:"records"`
	Bytes   int    `json:"bytes"`

	probes int // of the records, those of the engine's own commits
}

// isProbe says whether a transaction is the engine's own: it has changed nothing, and nobody misses it.
func (t *transaction) isProbe() bool { return t.probes > 0 && t.Records <= t.probes+1 }

// Outcomes of a transaction.
const (
	outcomeCommitted  = "committed"
	outcomePrepared   = "prepared"
	outcomeRolledBack = "rolled back"
	outcomeUnfinished = "unfinished"
)

// relationsListed bounds the list of changed files.
const relationsListed = 1000

// dump gathers what pg_waldump prints of a stretch of log.
type dump struct {
	records      int
	transactions map[uint64]*transaction
	relations    map[string]bool
}

func newDump() *dump {
	return &dump{transactions: map[uint64]*transaction{}, relations: map[string]bool{}}
}

func (d *dump) of(xid uint64) *transaction {
	t := d.transactions[xid]
	if t == nil {
		t = &transaction{XID: xid, Outcome: outcomeUnfinished}
		d.transactions[xid] = t
	}
	return t
}

// line takes one record: "rmgr: Transaction len (rec/tot): 34/ 34, tx: 735, lsn: 0/0152E5A8, prev 0/0152E570,
// desc: COMMIT 2026-11-23 22:12:01.123456 UTC". Anything else is passed over.
func (d *dump) line(text string) {
	rest, ok := strings.CutPrefix(text, "rmgr: ")
	if !ok {
		return
	}
	d.records++
	manager, _, _ := strings.Cut(rest, " ")
	desc := after(rest, "desc: ")
	for place := range strings.SplitSeq(desc, "rel ") {
		name, _, _ := strings.Cut(place, " ")
		if strings.Count(name, "/") == 2 && len(d.relations) < relationsListed {
			d.relations[strings.TrimRight(name, ",;")] = true
		}
	}
	xid, _ := strconv.ParseUint(number64(after(rest, "tx:")), 10, 64)
	if manager == "Transaction" {
		xid = prepared(desc, xid)
	}
	if xid == 0 {
		return
	}
	t := d.of(xid)
	t.Records++
	if total, err := strconv.Atoi(number64(after(after(rest, "(rec/tot):"), "/"))); err == nil {
		t.Bytes += total
	}
	switch {
	case manager == "Transaction":
		d.end(t, desc)
	case manager == "LogicalMessage" && strings.Contains(desc, `prefix "`+agentName+`"`):
		t.probes++
	}
}

// prepared is the transaction that a record is about: the end of a prepared one is written by another
// ("COMMIT_PREPARED 735: 2026-...").
func prepared(desc string, writer uint64) uint64 {
	verb, rest, _ := strings.Cut(desc, " ")
	if strings.HasSuffix(verb, "_PREPARED") {
		if xid, err := strconv.ParseUint(number64(rest), 10, 64); err == nil {
			return xid
		}
	}
	return writer
}

// end takes in the record by which a transaction ends.
func (d *dump) end(t *transaction, desc string) {
	verb, rest, _ := strings.Cut(desc, " ")
	if strings.HasSuffix(verb, "_PREPARED") {
		_, rest, _ = strings.Cut(rest, ": ")
	}
	switch strings.TrimSuffix(verb, "_PREPARED") {
	case "COMMIT":
		t.Outcome = outcomeCommitted
	case "ABORT":
		t.Outcome = outcomeRolledBack
	case "PREPARE":
		t.Outcome = outcomePrepared
		return
	default:
		return
	}
	when, more, _ := strings.Cut(rest, ";")
	t.Time = strings.TrimSpace(when)
	// Subtransactions have numbers of their own and end with the whole.
	for name := range strings.FieldsSeq(before(after(more, "subxacts:"), ";")) {
		xid, err := strconv.ParseUint(name, 10, 64)
		if err != nil {
			break
		}
		if part := d.transactions[xid]; part != nil && part != t {
			t.Records, t.Bytes = t.Records+part.Records, t.Bytes+part.Bytes
			delete(d.transactions, xid)
		}
	}
}

// fill puts what was gathered into a summary.
func (d *dump) fill(s *summary) {
	s.Records = d.records
	maps.DeleteFunc(d.transactions, func(_ uint64, t *transaction) bool { return t.isProbe() })
	for _, xid := range slices.Sorted(maps.Keys(d.transactions)) {
		t := d.transactions[xid]
		switch t.Outcome {
		case outcomeCommitted:
			s.Committed++
		case outcomeUnfinished, outcomePrepared:
			s.Unfinished++
		}
		if len(s.Transactions) < tailListed {
			s.Transactions = append(s.Transactions, *t)
		}
	}
	if n := len(d.transactions); n > tailListed {
		s.incomplete("%d transactions are counted and not listed", n-tailListed)
	}
	s.Relations = slices.Sorted(maps.Keys(d.relations))
}

// after is what follows a mark in a text, without spaces in front.
func after(text, mark string) string {
	_, rest, _ := strings.Cut(text, mark)
	return strings.TrimLeft(rest, " ")
}

// before is what stands in front of a mark, or all.
func before(text, mark string) string {
	first, _, _ := strings.Cut(text, mark)
	return first
}

// number64 is the number at the start of a text.
func number64(text string) string {
	return text[:len(text)-len(strings.TrimLeft(text, "0123456789"))]
}

// sentence tells of a discarded tail in one line.
func (s discarded) sentence() string {
	text := fmt.Sprintf("%d committed transactions (%s of log) that %s does not have were discarded", s.Committed,
		engine.Bytes(int64(s.Bytes)), s.Primary)
	if s.Committed == 1 {
		text = strings.Replace(text, "1 committed transactions", "1 committed transaction", 1)
	}
	if s.Directory != "" {
		text += ", kept in " + s.Directory
	}
	return text
}

// How what was kept is looked at.
const (
	tailText = `What is here: pg_wal has the segments of this host's log from where it parted from
the primary's. See the records with all that they changed by (one timeline at a time):

    pg_waldump --path=pg_wal --timeline=N --start=FROM --end=TO

Rows cannot be selected from it; which tables were changed is in summary.json, by tablespace/database/filenode
(select pg_filenode_relation(tablespace, filenode), where the default tablespace counts as 0).
`
	wholeText = `What is here: the whole data directory as it was. To look at its rows, copy it to a
machine from which clients are shut out, delete postmaster.pid, standby.signal and the
agent's include line at the end of postgresql.conf in the copy, and start the copy on
another port. Never start it in place of the pair's database.
`
)

// text is a summary for people.
func (s summary) text(how string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "On %s this host followed %s, which lacked the end of this host's log:\n"+
		"from %s to %s of timeline %d, %s in %d records, with %d committed and %d unfinished transactions.\n\n",
		s.Time, s.Primary, s.From, s.To,
		s.Timeline, engine.Bytes(int64(s.Bytes)), s.Records, s.Committed, s.Unfinished)
	if s.Incomplete != "" {
		fmt.Fprintf(&b, "This is not all: %s.\n\n", s.Incomplete)
	}
	b.WriteString("A committed transaction here was acknowledged to its client only if commits went alone then, or the\n" +
		"session did not wait for the mirror, or the wait was cancelled. The clients' own records tell.\n\n")
	b.WriteString(how)
	b.WriteString("\nrejoin.keep_diverged says how many such directories stay; move it away to keep it longer.\n\n")
	for i, t := range s.Transactions {
		if i == tailShown {
			fmt.Fprintf(&b, "... and %d more in %s\n", len(s.Transactions)-i, summaryFile)
			break
		}
		fmt.Fprintf(&b, "transaction %d: %s %s, %d records, %s\n", t.XID, t.Outcome, t.Time, t.Records,
			engine.Bytes(int64(t.Bytes)))
	}
	return b.String()
}
