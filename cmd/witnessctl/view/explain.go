package view

import (
	"strings"

	"github.com/witnessd/witnessd/cmd/witnessctl/table"
	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

// Explain shows every question about a pair with its answer, and every precondition with the values that
// decide it.
func (v View) Explain(e *witnessv1.ExplainPairResponse) string {
	p := e.GetPair()
	s := StateOf(p)
	var b strings.Builder
	b.WriteString(v.header(p.GetAsOf()) + "\n\n")
	b.WriteString(v.Screen.Paint(table.Clean(p.GetName()), table.Strong) + "  " + v.Screen.Paint(s.Word, s.style()) + "\n")
	for _, verdict := range e.GetVerdicts() {
		b.WriteString("\n" + v.question(verdict))
	}
	if len(e.GetVerdicts()) == 0 {
		b.WriteString("\nnothing is to be decided about a pair that is " + s.Word + "\n")
	}
	return b.String()
}

func (v View) question(q *witnessv1.Verdict) string {
	answer := v.Screen.Paint("no", table.Bad)
	switch {
	case q.GetOk():
		answer = v.Screen.Paint("yes", table.Good)
	case q.GetReady():
		answer = v.Screen.Paint("no; yes if the primary were lost", table.Good)
	}
	t := table.Table{Columns: []table.Column{{}, {}, {Min: 30, Wrap: true}}}
	for _, c := range q.GetPreconditions() {
		mark := table.Cell{Text: "  pass", Style: table.Good}
		detail := c.GetDetail()
		switch {
		case c.GetOk():
		case c.GetPrimaryLoss():
			mark = table.Cell{Text: "  wait", Style: table.Faint}
			detail += "; the loss of the primary makes it hold (" + c.GetReason() + ")"
		default:
			mark = table.Cell{Text: "  FAIL", Style: table.Bad}
			detail += " (" + c.GetReason() + ")"
		}
		t.Rows = append(t.Rows, []table.Cell{mark, {Text: c.GetName()}, {Text: detail}})
	}
	return table.Clean(q.GetQuestion()) + " " + answer + "\n" + t.Render(v.Screen)
}
