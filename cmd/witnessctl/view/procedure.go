package view

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/witnessd/witnessd/cmd/witnessctl/table"
	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

// Procedure shows a procedure that is under way, or how it ended.
func (v View) Procedure(s *witnessv1.ProcedureState) string {
	q := ProcedureOf(s)
	var b strings.Builder
	b.WriteString(v.header(s.GetAsOf()) + "\n\n")
	t := table.Table{Columns: []table.Column{{}, {Min: 30, Wrap: true}}}
	row := func(name, text string) {
		if text != "" {
			t.Rows = append(t.Rows, []table.Cell{{Text: name, Style: table.Faint}, {Text: text}})
		}
	}
	row("procedure", q.GetId())
	row("pair", cmp.Or(s.GetPairName(), s.GetPair()))
	if q.GetKind() != witnessv1.ProcedureKind_PROCEDURE_KIND_UNSPECIFIED {
		row("what", fmt.Sprintf("%s, ends epoch %d", deed(q), q.GetEpoch()))
	}
	if q.GetStarted() != nil {
		row("started", v.since(q.GetStarted(), s.GetAsOf()))
	}
	row("asked by", strings.TrimSuffix(q.GetBy()+": "+q.GetReason(), ": "))
	if o := s.GetOutcome(); o != nil {
		row("ended", v.since(o.GetEnded(), s.GetAsOf()))
		row("outcome", OutcomeText(o))
	} else {
		row("step", StepLine(s))
	}
	b.WriteString(t.Render(v.Screen))
	return b.String()
}

// ProcedureOf is the procedure in a state, under way or ended.
func ProcedureOf(s *witnessv1.ProcedureState) *witnessv1.Procedure {
	if q := s.GetOutcome().GetProcedure(); s.GetProcedure() == nil && q != nil {
		return q
	}
	return s.GetProcedure()
}

// StepLine tells what a procedure does now.
func StepLine(s *witnessv1.ProcedureState) string {
	q := s.GetProcedure()
	text := Step(q.GetStep()) + ": " + cmp.Or(s.GetWaitsFor(), stepMeaning(s))
	if q.GetTimeout() != nil {
		text += " (limit " + setting(q.GetTimeout()) + ")"
	}
	return table.Clean(text)
}

// stepMeaning says what a step waits for, if the witness does not.
func stepMeaning(s *witnessv1.ProcedureState) string {
	q := s.GetProcedure()
	switch q.GetStep() {
	case witnessv1.ProcedureStep_PROCEDURE_STEP_RELEASE:
		return fmt.Sprintf("the primary stops and releases epoch %d", q.GetEpoch())
	case witnessv1.ProcedureStep_PROCEDURE_STEP_WITHHOLD:
		return "the primary's leases run out"
	case witnessv1.ProcedureStep_PROCEDURE_STEP_FENCE:
		return "the fencing command cuts the old primary off"
	case witnessv1.ProcedureStep_PROCEDURE_STEP_PROMOTE:
		return q.GetTarget() + " becomes primary and serves"
	case witnessv1.ProcedureStep_PROCEDURE_STEP_UNMANAGE:
		return q.GetTarget() + " lets go of its instance"
	default:
		return "a step that this version of witnessctl does not know"
	}
}

// OutcomeText tells how a procedure ended.
func OutcomeText(o *witnessv1.Outcome) string {
	word := "done"
	if !o.GetDone() {
		word = "NOT done"
	}
	text := word + ": " + cmp.Or(o.GetDetail(), "no detail is known")
	if !o.GetDone() && o.GetReason() != "" {
		text += " (" + o.GetReason() + ")"
	}
	return table.Clean(text)
}

// Age is how long ago a procedure started when its state was read, by the leader's clock.
func Age(s *witnessv1.ProcedureState) time.Duration {
	started, at := ProcedureOf(s).GetStarted(), s.GetAsOf().GetAt()
	if started == nil || at == nil {
		return 0
	}
	return max(0, at.AsTime().Sub(started.AsTime()))
}
