package view

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/witnessd/witnessd/cmd/witnessctl/table"
	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

// Choice picks databases of a pair.
type Choice struct {
	Sets    []string // only databases of these sets; empty: all
	Exclude []string // not these
}

func (c Choice) takes(d Database) bool {
	return !slices.Contains(c.Exclude, d.Name) &&
		(len(c.Sets) == 0 || slices.ContainsFunc(d.Sets, func(s string) bool { return slices.Contains(c.Sets, s) }))
}

// Database is one database of a pair, as both of its hosts see it. Its columns are those of Get-CsDatabaseMirrorState.
type Database struct {
	Name                     string
	Sets                     []string
	StateOnPrimary           string // Principal, Mirror, Primary, Secondary, Resolving
	StateOnMirror            string
	MirroringStatusOnPrimary string // Synchronized, Synchronizing, Suspended, Disconnected, ...
	MirroringStatusOnMirror  string
	Detail                   string
}

// inaccessible is what Get-CsDatabaseMirrorState says of a database that cannot be looked at.
const inaccessible = "DatabaseInaccessibleOrMirroringNotEnabled"

// DatabasesOf puts together what both hosts report, in the order of the recorded primary's host.
func DatabasesOf(p *witnessv1.Pair, c Choice) []Database {
	var list []Database
	add := func(name string, take func(*Database, *witnessv1.DatabaseState)) {
		h := host(p, name)
		for _, d := range h.GetReport().GetEngine().GetDatabases() {
			i := slices.IndexFunc(list, func(l Database) bool { return l.Name == d.GetName() })
			if i < 0 {
				i = len(list)
				list = append(list, Database{Name: d.GetName()})
			}
			take(&list[i], d)
			for _, s := range d.GetSets() {
				if !slices.Contains(list[i].Sets, s) {
					list[i].Sets = append(list[i].Sets, s)
				}
			}
			if d.GetDetail() != "" {
				list[i].Detail = strings.TrimPrefix(list[i].Detail+"; "+name+": "+d.GetDetail(), "; ")
			}
		}
	}
	add(p.GetPrimary(), func(d *Database, s *witnessv1.DatabaseState) {
		d.StateOnPrimary, d.MirroringStatusOnPrimary = s.GetRole(), s.GetStatus()
	})
	add(p.GetMirror(), func(d *Database, s *witnessv1.DatabaseState) {
		d.StateOnMirror, d.MirroringStatusOnMirror = s.GetRole(), s.GetStatus()
	})
	for i := range list {
		d := &list[i]
		for _, text := range []*string{
			&d.StateOnPrimary, &d.StateOnMirror, &d.MirroringStatusOnPrimary, &d.MirroringStatusOnMirror,
		} {
			*text = cmp.Or(*text, inaccessible)
		}
	}
	return slices.DeleteFunc(list, func(d Database) bool { return !c.takes(d) })
}

// Databases shows one row for each database of a pair; empty if its engine has no such thing.
func (v View) Databases(p *witnessv1.Pair, c Choice) string {
	list := DatabasesOf(p, c)
	if len(list) == 0 {
		return ""
	}
	t := table.Table{Columns: []table.Column{{}, {}, {}, {}, {}, {}, {Min: 20, Wrap: true}}}
	var title []table.Cell
	for _, text := range []string{
		"DatabaseName", "Set", "StateOnPrimary", "StateOnMirror", "MirroringStatusOnPrimary", "MirroringStatusOnMirror", "",
	} {
		title = append(title, table.Cell{Text: text, Style: table.Strong})
	}
	t.Rows = append(t.Rows, title)
	stale := !host(p, p.GetPrimary()).GetFresh() || !host(p, p.GetMirror()).GetFresh()
	for _, d := range list {
		row := []table.Cell{{Text: d.Name}, {Text: strings.Join(d.Sets, ",")}}
		for _, text := range []string{
			d.StateOnPrimary, d.StateOnMirror, d.MirroringStatusOnPrimary, d.MirroringStatusOnMirror, d.Detail,
		} {
			cell := table.Cell{Text: text}
			if stale {
				cell.Style = table.Faint
			}
			row = append(row, cell)
		}
		t.Rows = append(t.Rows, row)
	}
	text := t.Render(v.Screen)
	if stale {
		text += "  (a host was not heard for a lease: its columns are as old as its report)\n"
	}
	return text
}

// DatabasesOnly shows the rows of the databases, and how old they are.
func (v View) DatabasesOnly(p *witnessv1.Pair) string {
	text := v.Databases(p, Choice{})
	if text == "" {
		text = "no host of " + table.Clean(p.GetName()) + " reports databases of its own, or none was chosen\n"
	}
	return v.header(p.GetAsOf()) + "\n\n" + text
}

// Moves says what a switchover would move, in which order.
func (v View) Moves(p *witnessv1.Pair) string {
	var names []string
	for _, d := range DatabasesOf(p, Choice{}) {
		names = append(names, d.Name)
	}
	text := fmt.Sprintf("would make %s primary instead of %s", p.GetMirror(), p.GetPrimary())
	if len(names) > 0 {
		text += ", as one, in this order: " + strings.Join(names, ", ")
	}
	return "\n" + table.Wrap(table.Clean(text), v.Screen.Width, "") + "; nothing was changed\n"
}

// lossBound is what a failover without a word of the primary may cost.
func lossBound(_ *witnessv1.Pair, h *witnessv1.HostState) table.Cell {
	e := h.GetReport().GetEngine()
	bound := e.GetLossBound().AsDuration()
	switch {
	case bound <= 0:
		return table.Cell{}
	case e.GetNeedsRelease():
		return table.Cell{Text: "nothing: policy strict, promoted only on the primary's word"}
	default:
		return table.Cell{
			Text:  fmt.Sprintf("commits of at most %s, if the primary ends without a word", Duration(bound)),
			Style: table.Warn,
		}
	}
}

func timeToServe(_ *witnessv1.Pair, h *witnessv1.HostState) table.Cell {
	if d := h.GetReport().GetEngine().GetServeIn().AsDuration(); d > 0 {
		return table.Cell{Text: "about " + Duration(d) + " after a promotion"}
	}
	return table.Cell{}
}
