// Package view turns what a witness answers into what people read: one word for the state of a pair, the
// recorded and the reported side by side, and the age of everything that was reported. It is a function
// of the messages; it asks nobody and knows no clock but the one in the answers.
package view

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/witnessd/witnessd/cmd/witnessctl/table"
	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

// View is where and how something is shown.
type View struct {
	Screen table.Screen
	Zone   *time.Location
}

// Right names a right.
func Right(r witnessv1.Right) string { return word(r.String(), "RIGHT_") }

// Mode names a mode.
func Mode(m witnessv1.Mode) string { return word(m.String(), "MODE_") }

// Stage names a stage.
func Stage(s witnessv1.Stage) string { return word(s.String(), "STAGE_") }

// Step names a step of a procedure.
func Step(s witnessv1.ProcedureStep) string { return word(s.String(), "PROCEDURE_STEP_") }

// Kind names what a procedure is.
func Kind(k witnessv1.ProcedureKind) string {
	switch k {
	case witnessv1.ProcedureKind_PROCEDURE_KIND_FORCED:
		return "forced failover"
	case witnessv1.ProcedureKind_PROCEDURE_KIND_REINSTATE:
		return "reinstatement"
	case witnessv1.ProcedureKind_PROCEDURE_KIND_REMOVE:
		return "removal"
	default:
		return word(k.String(), "PROCEDURE_KIND_")
	}
}

// deed names what a procedure does, with its target if it has one.
func deed(q *witnessv1.Procedure) string {
	switch q.GetKind() {
	case witnessv1.ProcedureKind_PROCEDURE_KIND_UNSPECIFIED:
		return "procedure"
	case witnessv1.ProcedureKind_PROCEDURE_KIND_REMOVE:
		return Kind(q.GetKind())
	case witnessv1.ProcedureKind_PROCEDURE_KIND_REINSTATE:
		return Kind(q.GetKind()) + " of " + q.GetTarget()
	default:
		return Kind(q.GetKind()) + " to " + q.GetTarget()
	}
}

// word makes a word of an enum's name; a value that is newer than this program stays a number.
func word(name, prefix string) string {
	return strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(name, prefix), "_", " "))
}

// generationShift divides a revision: above it the witness's generation, below it the counter.
const generationShift = 40

// Revision prints generation.counter after a restore of the witness, and the counter alone before the first.
func Revision(r uint64) string {
	counter := r & (1<<generationShift - 1)
	if g := r >> generationShift; g > 0 {
		return fmt.Sprintf("%d.%d", g, counter)
	}
	return strconv.FormatUint(counter, 10)
}

// ParseRevision reads what Revision prints, and the plain number that JSON carries.
func ParseRevision(text string) (uint64, error) {
	generation, counter, dotted := strings.Cut(text, ".")
	if !dotted {
		generation, counter = "0", text
	}
	g, errG := strconv.ParseUint(generation, 10, 64-generationShift)
	c, errC := strconv.ParseUint(counter, 10, 64)
	if errG != nil || errC != nil || dotted && c >= 1<<generationShift {
		return 0, fmt.Errorf("%q is not a revision, like 12 or 1.5", text)
	}
	return g<<generationShift | c, nil
}

// Duration prints a length as short as its reader can use it.
func Duration(d time.Duration) string {
	switch {
	case d < 0:
		return "-" + Duration(-max(d, -math.MaxInt64)) // the least of all has no opposite
	case d < 10*time.Second:
		return fmt.Sprintf("%.1fs", d.Round(100*time.Millisecond).Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
	default:
		return fmt.Sprintf("%dd%02dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
	}
}

// setting prints a length that somebody configured, which must not be rounded.
func setting(d *durationpb.Duration) string {
	if d == nil {
		return "-"
	}
	return d.AsDuration().String()
}

// time prints a moment.
func (v View) time(t *timestamppb.Timestamp) string {
	if t == nil {
		return "-"
	}
	return t.AsTime().In(v.Zone).Format("2006-01-02 15:04:05 MST")
}

// since prints a moment and how long ago it was by the clock of the node that answered, so that the clock
// of the reader's machine does not matter.
func (v View) since(t *timestamppb.Timestamp, now *witnessv1.AsOf) string {
	if t == nil {
		return "-"
	}
	if now.GetAt() == nil {
		return v.time(t)
	}
	ago := max(0, now.GetAt().AsTime().Sub(t.AsTime()))
	return fmt.Sprintf("%s (%s ago)", v.time(t), Duration(ago))
}

// size prints a distance between two positions in the log of an engine.
func size(n uint64, engine string) string {
	if engine != enginePostgres {
		return strconv.FormatUint(n, 10) + " entries"
	}
	units := []string{"B", "kB", "MB", "GB", "TB"}
	f, i := float64(n), 0
	for f >= 1024 && i < len(units)-1 {
		f, i = f/1024, i+1
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", f, units[i])
}

const enginePostgres = "postgres"

// position prints timeline and place in the way the engine's people know.
func position(e *witnessv1.EngineState, engine string) string {
	switch {
	case e.GetTimeline() == 0:
		return "-"
	case engine == enginePostgres:
		return fmt.Sprintf("%d: %X/%X", e.GetTimeline(), e.GetPosition()>>32, uint32(e.GetPosition()))
	default:
		return fmt.Sprintf("%d: %d", e.GetTimeline(), e.GetPosition())
	}
}

// yes or no.
func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// header says who answers and how old the answer is, so that old data is never taken for new.
func (v View) header(a *witnessv1.AsOf) string {
	leader := "no leader is known"
	style := table.Faint
	switch {
	case a.GetLeader() == "":
		style = table.Bad
	case a.GetLeader() == a.GetNode():
		leader = "the leader"
	default:
		leader = "leader " + a.GetLeader()
	}
	text := fmt.Sprintf("answered by %s, %s, term %d, as of ", a.GetNode(), leader, a.GetTerm())
	if !a.GetStale() {
		return v.Screen.Paint(table.Wrap(text+"now", v.Screen.Width, ""), style)
	}
	text += Duration(a.GetAge().AsDuration()) + " ago. STALE: the record as this node knows it; no reports of hosts"
	return v.Screen.Paint(table.Wrap(text, v.Screen.Width, ""), table.Bad)
}

// ParseMode reads a mode's name.
func ParseMode(text string) (witnessv1.Mode, bool) {
	m, ok := witnessv1.Mode_value["MODE_"+strings.ToUpper(text)]
	return witnessv1.Mode(m), ok && m != 0
}
