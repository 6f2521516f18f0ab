package view

import (
	"fmt"

	"github.com/witnessd/witnessd/cmd/witnessctl/table"
	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

// Event tells one line of the history. The columns do not depend on other events, so that a history that
// goes on keeps its shape.
func (v View) Event(e *witnessv1.Event) string {
	cause := e.GetCause()
	if e.GetBy() != "" {
		cause += " (asked by " + e.GetBy() + ")"
	}
	line := fmt.Sprintf("%s  #%-6d %-16s epoch %-5d %-22s %s", v.time(e.GetAt()), e.GetSequence(),
		e.GetPairName(), e.GetEpoch(), e.GetKind(), cause)
	return v.Screen.Paint(table.Clean(line), eventStyle(e.GetKind()))
}

// eventStyle makes a change of primary and a failure stand out.
func eventStyle(kind string) table.Style {
	switch kind {
	case "PROMOTED", "REINSTATED", "ADOPTED":
		return table.Strong
	case "EXPOSED", "WOULD_FAIL_OVER", "MODE_CHANGED":
		return table.Warn
	case "PROCEDURE_FAILED", "DECISIONS_SUSPENDED", "RESTORED", "HOOK_FAILED":
		return table.Bad
	default:
		return table.Plain
	}
}
