package view

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/witnessd/witnessd/cmd/witnessctl/table"
	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

// Show tells all that is known of one pair: the record, and beside it what each host reports of itself.
func (v View) Show(p *witnessv1.Pair) string {
	var b strings.Builder
	s := StateOf(p)
	b.WriteString(v.header(p.GetAsOf()) + "\n\n")
	b.WriteString(v.Screen.Paint(table.Clean(p.GetName()), table.Strong) + "  " + v.Screen.Paint(s.Word, s.style()))
	if s.Note != "" {
		b.WriteString(": " + table.Clean(s.Note))
	}
	b.WriteString("\n" + v.record(p) + "\n")
	if len(p.GetHosts()) > 0 {
		b.WriteString(v.hosts(p) + "\n")
	}
	if text := v.Databases(p, Choice{}); text != "" {
		b.WriteString(text + "\n")
	}
	for _, text := range fenceWarnings(p) {
		b.WriteString(v.Screen.Paint(table.Wrap(text, v.Screen.Width, ""), table.Warn) + "\n\n")
	}
	b.WriteString(v.verdict(p) + "\n")
	return b.String()
}

// record is what the witness has decided.
func (v View) record(p *witnessv1.Pair) string {
	now := p.GetAsOf()
	t := table.Table{Columns: []table.Column{{}, {Min: 30, Wrap: true}}}
	row := func(name, text string) {
		t.Rows = append(t.Rows, []table.Cell{{Text: "  " + name, Style: table.Faint}, {Text: text}})
	}
	row("id", fmt.Sprintf("%s, revision %s", p.GetId(), Revision(p.GetRevision())))
	row("primary", half(p, p.GetPrimary()))
	row("mirror", half(p, p.GetMirror()))
	epoch := "none yet"
	if p.GetEpoch() > 0 {
		epoch = fmt.Sprintf("%d since %s", p.GetEpoch(), v.since(p.GetEpochChanged(), now))
	}
	row("epoch", epoch)
	right := Right(p.GetRight())
	switch {
	case p.GetStage() != witnessv1.Stage_STAGE_READY:
	case p.GetRight() == witnessv1.Right_RIGHT_SOLE:
		right += ": " + p.GetPrimary() + " needs no lease, and nobody else can become primary by itself"
	case !now.GetStale():
		right += ": " + p.GetPrimary() + " may hold a lease of the witness for another " +
			Duration(p.GetLeaseLeft().AsDuration())
	}
	row("right", right)
	mode := Mode(p.GetMode())
	if p.GetPause() != nil {
		mode += ": " + pausedBy(p)
	}
	row("mode", mode)
	row("policy", policy(p))
	row("procedure", v.procedure(p.GetProcedure(), now))
	row("last", v.outcome(p.GetLast(), now))
	row("changed", v.since(p.GetChanged(), now))
	return t.Render(v.Screen)
}

// half names a host and its instance.
func half(p *witnessv1.Pair, name string) string {
	m := member(p, name)
	text := name + ", instance " + m.GetInstance()
	if m.GetEngine() != "" {
		text += ", " + m.GetEngine() + " at " + cmp.Or(m.GetServiceAddress(), "an address that was not announced")
	}
	return text
}

// Policy is the timing of a pair, as Show has it.
func (v View) Policy(p *witnessv1.Pair) string {
	const name = "policy  "
	return table.Wrap(name+policy(p), v.Screen.Width, strings.Repeat(" ", len(name)))
}

func policy(p *witnessv1.Pair) string {
	q := p.GetPolicy()
	text := fmt.Sprintf("%s: heartbeat %s, lease %s, guard %s, mirror timeout %s, release timeout %s, promote timeout %s",
		q.GetProfile(), setting(q.GetHeartbeat()), setting(q.GetLease()), setting(q.GetGuard()),
		setting(q.GetMirrorTimeout()), setting(q.GetReleaseTimeout()), setting(q.GetPromoteTimeout()))
	if p.GetLongestLease().AsDuration() > q.GetLease().AsDuration() {
		text += "; leases of up to " + setting(p.GetLongestLease()) + " may still be outstanding"
	}
	return text
}

func (v View) procedure(q *witnessv1.Procedure, now *witnessv1.AsOf) string {
	if q == nil {
		return "none under way"
	}
	return fmt.Sprintf("%s (%s, limit %s), started %s%s", stepText(q), q.GetId(), setting(q.GetTimeout()),
		v.since(q.GetStarted(), now), asked(q.GetBy(), q.GetReason()))
}

func (v View) outcome(o *witnessv1.Outcome, now *witnessv1.AsOf) string {
	if o == nil {
		return "no procedure so far"
	}
	q := o.GetProcedure()
	done := "done"
	if !o.GetDone() {
		done = "NOT done"
		if o.GetReason() != "" {
			done += " (" + o.GetReason() + ")"
		}
	}
	return fmt.Sprintf("%s (%s) %s: %s; ended %s%s", deed(q), q.GetId(), done, o.GetDetail(),
		v.since(o.GetEnded(), now), asked(q.GetBy(), q.GetReason()))
}

func asked(by, reason string) string {
	switch {
	case by == "":
		return ""
	case reason == "":
		return ", asked by " + by
	default:
		return ", asked by " + by + ": " + reason
	}
}

// hosts puts the two hosts side by side.
func (v View) hosts(p *witnessv1.Pair) string {
	t := table.Table{Columns: []table.Column{{}}}
	hosts := p.GetHosts()
	title := []table.Cell{{}}
	for _, h := range hosts {
		t.Columns = append(t.Columns, table.Column{Min: 20, Wrap: true})
		title = append(title, hostTitle(h))
	}
	t.Rows = append(t.Rows, title)
	for _, line := range hostLines() {
		said := !line.rare
		row := []table.Cell{{Text: "  " + line.name, Style: table.Faint}}
		for _, h := range hosts {
			c := table.Cell{Text: "-"}
			if h.GetHeard() || line.always {
				c = line.cell(p, h)
			}
			if c.Text == "" {
				c.Text = "-"
			}
			said = said || c.Text != "-"
			if !h.GetFresh() && !line.always {
				c.Style = table.Faint
			}
			row = append(row, c)
		}
		if said {
			t.Rows = append(t.Rows, row)
		}
	}
	return t.Render(v.Screen)
}

// hostTitle names a host, and says it if what is below is old.
func hostTitle(h *witnessv1.HostState) table.Cell {
	switch {
	case !h.GetHeard():
		return table.Cell{Text: h.GetHost() + " ! nothing known", Style: table.Bad}
	case !h.GetFresh():
		return table.Cell{Text: h.GetHost() + " ! as of " + Duration(h.GetAge().AsDuration()) + " ago", Style: table.Bad}
	default:
		return table.Cell{Text: h.GetHost(), Style: table.Strong}
	}
}

// hostLine is one property of a host.
type hostLine struct {
	name   string
	always bool // known also of a host that was never heard
	rare   bool // most engines have nothing to say here: shown only if one does
	cell   func(*witnessv1.Pair, *witnessv1.HostState) table.Cell
}

func plain(text func(*witnessv1.PairReport) string) func(*witnessv1.Pair, *witnessv1.HostState) table.Cell {
	return func(_ *witnessv1.Pair, h *witnessv1.HostState) table.Cell {
		return table.Cell{Text: text(h.GetReport())}
	}
}

func hostLines() []hostLine {
	return []hostLine{
		{"recorded role", true, false, recordedRole},
		{"reported role", false, false, reportedRole},
		{"serving", false, false, servingCell},
		{"right lasts", false, false, rightLasts},
		{"following", false, false, following},
		{"position", false, false, func(p *witnessv1.Pair, h *witnessv1.HostState) table.Cell {
			return table.Cell{Text: position(h.GetReport().GetEngine(), member(p, h.GetHost()).GetEngine())}
		}},
		{"commits", false, false, commits},
		{"can be promoted", false, false, promotable},
		{"may be lost", false, true, lossBound},
		{"time to serve", false, true, timeToServe},
		{"doing", false, false, plain(func(r *witnessv1.PairReport) string { return r.GetEngine().GetStep() })},
		{"fencing level", false, false, fencing},
		{"why not stronger", false, false, plain((*witnessv1.PairReport).GetFenceNote)},
		{"watchdog", false, false, plain(func(r *witnessv1.PairReport) string { return yes(r.GetWatchdog()) })},
		{"hears partner", false, false, plain(func(r *witnessv1.PairReport) string { return yes(r.GetHearsPartner()) })},
		{"epoch heard", false, false, epochHeard},
		{"age", true, false, age},
		{"complaint", false, false, func(_ *witnessv1.Pair, h *witnessv1.HostState) table.Cell {
			return table.Cell{Text: h.GetReport().GetComplaint(), Style: table.Bad}
		}},
		{"warning", false, false, func(_ *witnessv1.Pair, h *witnessv1.HostState) table.Cell {
			return table.Cell{Text: h.GetReport().GetEngine().GetWarning(), Style: table.Warn}
		}},
		{"agent", true, false, agent},
	}
}

func recordedRole(p *witnessv1.Pair, h *witnessv1.HostState) table.Cell {
	if h.GetHost() == p.GetPrimary() {
		return table.Cell{Text: "primary"}
	}
	return table.Cell{Text: "mirror"}
}

func reportedRole(p *witnessv1.Pair, h *witnessv1.HostState) table.Cell {
	e := h.GetReport().GetEngine()
	c := table.Cell{Text: cmp.Or(e.GetRole(), "none")}
	if !e.GetRunning() {
		c.Text += ", not running"
	}
	if c.Text != recordedRole(p, h).Text {
		c.Style = table.Warn
	}
	return c
}

func servingCell(p *witnessv1.Pair, h *witnessv1.HostState) table.Cell {
	is := h.GetReport().GetServing()
	c := table.Cell{Text: yes(is)}
	if is {
		c.Text = fmt.Sprintf("yes, epoch %d", h.GetReport().GetEpoch())
	}
	if is != (h.GetHost() == p.GetPrimary()) {
		c.Style = table.Warn
	}
	return c
}

// rightLasts is the primary's own word on its right, and the mirror's on its promise, as of when they said it.
func rightLasts(p *witnessv1.Pair, h *witnessv1.HostState) table.Cell {
	r := h.GetReport()
	left := r.GetServesFor().AsDuration()
	said := ", said " + Duration(h.GetAge().AsDuration()) + " ago"
	switch {
	case r.GetServing() && left < 0:
		return table.Cell{Text: "no end (sole)" + said}
	case r.GetServing():
		return table.Cell{Text: Duration(left) + said}
	case h.GetHost() != p.GetPrimary() && r.GetPromise().AsDuration() > 0:
		return table.Cell{Text: "none, promised for " + Duration(r.GetPromise().AsDuration()) + said}
	default:
		return table.Cell{Text: "none" + said}
	}
}

func following(p *witnessv1.Pair, h *witnessv1.HostState) table.Cell {
	if h.GetHost() == p.GetPrimary() && !h.GetReport().GetEngine().GetFollowing() {
		return table.Cell{}
	}
	c := table.Cell{Text: yes(h.GetReport().GetEngine().GetFollowing())}
	if c.Text == "no" {
		c.Style = table.Warn
	}
	return c
}

func commits(p *witnessv1.Pair, h *witnessv1.HostState) table.Cell {
	e := h.GetReport().GetEngine()
	switch {
	case h.GetHost() != p.GetPrimary():
		return table.Cell{}
	case e.GetCommits() == commitsHeld:
		return table.Cell{Text: "held for the mirror"}
	case e.GetMirrorAttached():
		return table.Cell{Text: e.GetCommits() + ", mirror " + Lag(p), Style: table.Warn}
	default:
		return table.Cell{Text: e.GetCommits() + ", no mirror attached", Style: table.Warn}
	}
}

func promotable(p *witnessv1.Pair, h *witnessv1.HostState) table.Cell {
	e := h.GetReport().GetEngine()
	switch {
	case h.GetHost() == p.GetPrimary():
		return table.Cell{}
	case e.GetPromotable():
		return table.Cell{Text: "yes"}
	default:
		return table.Cell{Text: "no: " + cmp.Or(e.GetNotPromotable(), "its database is not running"), Style: table.Warn}
	}
}

const (
	fenceNone   = ""
	fenceEngine = "engine"
)

// needsAgent says whether a host is fenced by its agent alone: whatever ends the agent then ends the fence too.
func needsAgent(r *witnessv1.PairReport) bool {
	level := r.GetFenceLevel()
	return (level == fenceNone || level == fenceEngine) && !r.GetWatchdog()
}

func fencing(_ *witnessv1.Pair, h *witnessv1.HostState) table.Cell {
	level := cmp.Or(h.GetReport().GetFenceLevel(), "none")
	if needsAgent(h.GetReport()) {
		return table.Cell{Text: level + " (see below)", Style: table.Warn}
	}
	return table.Cell{Text: level}
}

// fenceWarnings: only a fence that does not need the agent ends a right by itself. A level is told once.
func fenceWarnings(p *witnessv1.Pair) []string {
	hosts := map[string][]string{}
	for _, h := range p.GetHosts() {
		if level := h.GetReport().GetFenceLevel(); h.GetHeard() && needsAgent(h.GetReport()) {
			hosts[level] = append(hosts[level], h.GetHost())
		}
	}
	var texts []string
	if on := hosts[fenceEngine]; len(on) > 0 {
		verb, where := "fences", "this host"
		if len(on) > 1 {
			verb, where = "fence", "either host"
		}
		texts = append(texts, strings.Join(on, " and ")+" "+verb+` at level "engine" without a watchdog: a killed or `+
			"frozen agent does not fence, so one primary at a time (G1) is not promised if that happens on "+where)
	}
	if on := hosts[fenceNone]; len(on) > 0 {
		verb, whose := "reports", "its agent"
		if len(on) > 1 {
			verb, whose = "report", "either agent"
		}
		texts = append(texts, strings.Join(on, " and ")+" "+verb+
			" no fence: one primary at a time (G1) is not promised if "+whose+" fails")
	}
	return texts
}

func epochHeard(p *witnessv1.Pair, h *witnessv1.HostState) table.Cell {
	r := h.GetReport()
	if !r.GetFileKnown() {
		return table.Cell{Text: "none: no epoch file", Style: table.Warn}
	}
	c := table.Cell{Text: fmt.Sprintf("%d of %s", r.GetEpoch(), r.GetEpochPrimary())}
	if r.GetReleased() == r.GetEpoch() && r.GetReleased() > 0 {
		c.Text += ", released"
	}
	if r.GetEpoch() != p.GetEpoch() {
		c.Style = table.Warn
	}
	return c
}

func age(_ *witnessv1.Pair, h *witnessv1.HostState) table.Cell {
	switch {
	case !h.GetHeard():
		return table.Cell{Text: "not heard by this leader", Style: table.Bad}
	case !h.GetFresh():
		return table.Cell{Text: Duration(h.GetAge().AsDuration()) + ", older than a lease", Style: table.Bad}
	default:
		return table.Cell{Text: Duration(h.GetAge().AsDuration())}
	}
}

func agent(_ *witnessv1.Pair, h *witnessv1.HostState) table.Cell {
	a := h.GetAgent()
	if a == nil {
		return table.Cell{Text: "no session", Style: table.Warn}
	}
	text := cmp.Or(a.GetVersion(), "version not said")
	if a.GetHttpAddress() != "" {
		text += ", http " + a.GetHttpAddress()
	}
	return table.Cell{Text: text}
}

// verdict answers the question that everybody has.
func (v View) verdict(p *witnessv1.Pair) string {
	const question = "would fail over if the primary were lost now: "
	switch {
	case p.GetAsOf().GetStale():
		return question + v.Screen.Paint("not known", table.Warn) + ": this answer is stale"
	case p.GetFailoverReady():
		return question + v.Screen.Paint("yes", table.Good)
	default:
		return table.Wrap(question, 0, "") + v.Screen.Paint("no", table.Bad) +
			", because " + table.Clean(blocked(p)) + v.code(p.GetFailoverBlocked().GetReason())
	}
}

func (v View) code(reason string) string {
	if reason == "" {
		return ""
	}
	return v.Screen.Paint(" ("+table.Clean(reason)+")", table.Faint)
}

// Elapsed prints how long something has taken, in a column.
func Elapsed(d time.Duration) string { return fmt.Sprintf("%7s", Duration(d)) }
