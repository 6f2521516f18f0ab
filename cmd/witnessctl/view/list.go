package view

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/witnessd/witnessd/cmd/witnessctl/table"
	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

// List shows a fleet on one screen: what wants a person comes first, and the last line counts.
func (v View) List(pairs []*witnessv1.Pair, asOf *witnessv1.AsOf) string {
	return v.ListOf(pairs, asOf, 0)
}

// Date says for each pair of a list where it comes from, which a list says only once.
func Date(pairs []*witnessv1.Pair, asOf *witnessv1.AsOf) {
	for _, p := range pairs {
		if p.GetAsOf() == nil {
			p.AsOf = asOf
		}
	}
}

// ListOf is List cut to a number of lines; 0 is no limit.
func (v View) ListOf(pairs []*witnessv1.Pair, asOf *witnessv1.AsOf, height int) string {
	Date(pairs, asOf)
	shown := sorted(pairs)
	head, tail := v.header(asOf)+"\n", table.Wrap(Summary(pairs), v.Screen.Width, "")+"\n"
	text := head + v.rows(shown) + tail
	if over := strings.Count(text, "\n") - height; height > 0 && over > 0 && len(shown) > 1 {
		fit := max(1, len(shown)-over-1)
		text = head + v.rows(shown[:fit]) +
			v.Screen.Paint(fmt.Sprintf("and %d more", len(shown)-fit), table.Faint) + "\n" + tail
	}
	return text
}

// noteWidth is where a note ends if no terminal says: a list is a line for each pair, and pair show has all of
// the note.
const noteWidth = 100

func (v View) rows(pairs []*witnessv1.Pair) string {
	if len(pairs) == 0 {
		return ""
	}
	t := table.Table{Columns: []table.Column{
		{}, {Title: "NAME", Min: 12}, {Title: "STATE"}, {Title: "PRIMARY", Min: 8}, {Title: "MIRROR", Min: 8},
		{Title: "EPOCH", Right: true, Drop: 1}, {Title: "RIGHT", Drop: 3}, {Title: "MODE", Drop: 4},
		{Title: "LAG", Right: true}, {Title: "AGE", Right: true, Drop: 2}, {Title: "NOTE", Min: 16},
	}}
	for _, p := range sorted(pairs) {
		s := StateOf(p)
		if v.Screen.Width <= 0 {
			s.Note = table.Cut(s.Note, noteWidth)
		}
		t.Rows = append(t.Rows, []table.Cell{
			{Text: mark(p, s), Style: s.style()}, {Text: p.GetName()}, {Text: s.Word, Style: s.style()},
			v.hostCell(p, p.GetPrimary()), v.hostCell(p, p.GetMirror()),
			{Text: strconv.FormatUint(p.GetEpoch(), 10)}, {Text: Right(p.GetRight())}, {Text: Mode(p.GetMode())},
			{Text: Lag(p)}, {Text: oldest(p)}, {Text: s.Note},
		})
	}
	return t.Render(v.Screen)
}

// sorted returns the worst first, and then by name.
func sorted(pairs []*witnessv1.Pair) []*witnessv1.Pair {
	pairs = slices.Clone(pairs)
	slices.SortStableFunc(pairs, func(a, b *witnessv1.Pair) int {
		return cmp.Or(cmp.Compare(StateOf(a).Level, StateOf(b).Level), cmp.Compare(a.GetName(), b.GetName()))
	})
	return pairs
}

// mark: "!" wants a person, "?" is not known to be so any more.
func mark(p *witnessv1.Pair, s State) string {
	switch {
	case p.GetAsOf().GetStale():
		return "?"
	case s.Level <= Problem:
		return "!"
	default:
		return ""
	}
}

// hostCell names a host, with "!" if it is not heard.
func (v View) hostCell(p *witnessv1.Pair, name string) table.Cell {
	if p.GetAsOf().GetStale() || host(p, name).GetFresh() {
		return table.Cell{Text: name}
	}
	return table.Cell{Text: name + " !", Style: table.Bad}
}

// oldest is the age of the older report: what is shown is at least as new as this.
func oldest(p *witnessv1.Pair) string {
	if len(p.GetHosts()) == 0 {
		return "-"
	}
	var age time.Duration
	for _, h := range p.GetHosts() {
		if !h.GetHeard() {
			return "never"
		}
		age = max(age, h.GetAge().AsDuration())
	}
	return Duration(age)
}

// Summary counts the pairs by state, the worst first.
func Summary(pairs []*witnessv1.Pair) string {
	if len(pairs) == 0 {
		return "no pairs; make one with: witnessctl pair create"
	}
	count := map[string]int{}
	level := map[string]Level{}
	var words []string
	for _, p := range pairs {
		s := StateOf(p)
		if count[s.Word] == 0 {
			words = append(words, s.Word)
			level[s.Word] = s.Level
		}
		level[s.Word] = min(level[s.Word], s.Level)
		count[s.Word]++
	}
	slices.SortFunc(words, func(a, b string) int {
		return cmp.Or(cmp.Compare(level[a], level[b]), cmp.Compare(count[b], count[a]), cmp.Compare(a, b))
	})
	for i, w := range words {
		words[i] = fmt.Sprintf("%d %s", count[w], w)
	}
	return counted(len(pairs)) + ": " + strings.Join(words, ", ")
}

func counted(pairs int) string {
	if pairs == 1 {
		return "1 pair"
	}
	return fmt.Sprintf("%d pairs", pairs)
}

// Line tells a pair in one line, for a log rather than a screen.
func Line(p *witnessv1.Pair) string {
	s := StateOf(p)
	text := fmt.Sprintf("%s: %s, primary %s, mirror %s, epoch %d, right %s, mode %s", p.GetName(), s.Word,
		p.GetPrimary(), p.GetMirror(), p.GetEpoch(), Right(p.GetRight()), Mode(p.GetMode()))
	if s.Note != "" {
		text += ": " + s.Note
	}
	return table.Clean(text)
}

// Aftermath is Line just after a procedure. When a primary was changed the other host begins to follow only
// then; what it complains of in these moments is how that goes, and a person has nothing to do.
func Aftermath(p *witnessv1.Pair, o *witnessv1.Outcome) string {
	if !attaching(p, o) {
		return Line(p)
	}
	return table.Clean(fmt.Sprintf("%s: primary %s serves, epoch %d; the new mirror %s is being attached, "+
		"the pair arms by itself in a few seconds", p.GetName(), p.GetPrimary(), p.GetEpoch(), p.GetMirror()))
}

// settling is how long a new mirror or a new pair may take before it is worth a word that it has not got far.
const settling = 10 * time.Second

// attaching says whether all that a pair lacks after its primary was changed is time.
func attaching(p *witnessv1.Pair, o *witnessv1.Outcome) bool {
	switch o.GetProcedure().GetKind() {
	case witnessv1.ProcedureKind_PROCEDURE_KIND_SWITCHOVER, witnessv1.ProcedureKind_PROCEDURE_KIND_FAILOVER,
		witnessv1.ProcedureKind_PROCEDURE_KIND_FORCED:
	default:
		return false
	}
	// A slow promotion takes its time in the new epoch.
	young := recent(p.GetEpochChanged(), p.GetAsOf()) || recent(o.GetEnded(), p.GetAsOf())
	if !o.GetDone() || !young || o.GetProcedure().GetTarget() != p.GetPrimary() ||
		p.GetStage() != witnessv1.Stage_STAGE_READY || p.GetMode() != witnessv1.Mode_MODE_AUTOMATIC ||
		p.GetProcedure() != nil || p.GetFailoverReady() || !host(p, p.GetMirror()).GetFresh() {
		return false
	}
	_, bad := serving(p)
	return !bad
}

// recent says whether a moment was just before an answer, by the clock of the node that gave it.
func recent(t *timestamppb.Timestamp, now *witnessv1.AsOf) bool {
	return t != nil && now.GetAt() != nil && now.GetAt().AsTime().Sub(t.AsTime()) < settling
}

// Change is what of a pair's line counts as a change: not the note, whose ages and distances always change, but the
// steps of a rejoin that it tells of.
func Change(p *witnessv1.Pair) string {
	return fmt.Sprint(StateOf(p).Word, p.GetPrimary(), p.GetMirror(), p.GetEpoch(), p.GetRight(), p.GetMode(),
		p.GetProcedure().GetStep(), stride(host(p, p.GetMirror()).GetReport().GetEngine().GetStep()))
}

// stride is what of a step is worth a line: its name, and each tenth of the way ("clone 45 % (1.2 of 2.6 GB, ...)"
// is in the fifth).
func stride(step string) string {
	name, rest, _ := strings.Cut(step, " ")
	percent, _, found := strings.Cut(rest, " %")
	if n, err := strconv.Atoi(percent); err == nil && found {
		return fmt.Sprintf("%s %d", name, n/10)
	}
	return name
}

// Stamp is the time at which an answer was true, by the clock of the node that gave it.
func (v View) Stamp(a *witnessv1.AsOf) string { return v.time(a.GetAt()) }
