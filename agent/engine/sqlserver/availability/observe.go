package availability

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/witnessd/witnessd/agent/engine"
	"github.com/witnessd/witnessd/agent/engine/sqlserver"
)

// history is the timeline of all positions: SQL Server's LSNs go on from primary to primary.
const history = 1

// Observe looks at the instance. It returns within the deadline of ctx also when SQL Server hangs.
func (e *Engine) Observe(ctx context.Context) (engine.State, error) {
	l, err := e.look(ctx)
	switch {
	case errors.Is(err, errStopped):
		return e.stopped(), nil
	case err != nil && sqlserver.ClassOf(err) == sqlserver.ClassUnreachable && !e.comingUp():
		// The process runs; so it hangs, or has lost the socket that clients need as much as the agent does.
		return engine.State{}, fmt.Errorf("observe: %w: %w", engine.ErrHung, err)
	case err != nil:
		return engine.State{}, fmt.Errorf("observe: %w", err)
	}
	s := stateOf(l, e.memory.read())
	e.position(l, &s)
	e.judge(ctx, l, &s)
	s.Warning = joined(s.Warning, e.configuring(), e.leaseWarning(l))
	return s, nil
}

// comingUp says that a call of the agent's waits for the instance to take logins.
func (e *Engine) comingUp() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.waits > 0
}

// stopped is what is known of an instance that does not run.
func (e *Engine) stopped() engine.State {
	m := e.memory.read()
	s := engine.State{NotPromotable: "the instance is stopped"}
	if m.Group == "" {
		return s
	}
	s.SystemID, s.Data = sqlserver.GroupID(sqlserver.GroupRow{ID: m.Group}), engine.DataPresent
	// It comes back RESOLVING with what it had, and SQL Server still decides.
	if had := evidenceOfAll(m); had {
		s.Promotable, s.NotPromotable = true, ""
	}
	return s
}

func evidenceOfAll(m stored) bool {
	for _, had := range m.Synchronized {
		if !had {
			return false
		}
	}
	return len(m.Synchronized) > 0
}

// stateOf says in the agent's words what a look shows.
func stateOf(l look, m stored) engine.State {
	s := engine.State{Running: true, Run: l.run}
	if !l.known {
		s.NotPromotable = "the instance does not know the availability group"
		s.Warning = s.NotPromotable + ": see that the name is right, and that the replica has joined"
		return s
	}
	s.SystemID, s.Data = sqlserver.GroupID(l.group), engine.DataPresent
	s.NotPromotable = unpromotable(l.view, m)
	s.Promotable = s.NotPromotable == ""
	if l.primary() {
		s.Role = engine.RolePrimary
		s.Commits = commits(l)
		s.Mirror.Attached = l.attached()
	} else {
		s.Role = engine.RoleMirror
		s.Following = l.secondary() && l.group.Connected != disconnected && all(l.local(), flows)
	}
	s.Warning = joined(warnings(l.view)...)
	return s
}

// commits is how a primary treats commits. RSSTC is read from the catalog, so it does not matter who has set it: while
// it is 1, nothing is acknowledged without the only other data replica, connected or not.
func commits(l look) engine.Commits {
	switch {
	case !l.settled() || unusable(l.view) != "" && l.group.Required > 0:
		return engine.CommitsUnknown
	case l.group.Required == 0:
		return engine.CommitsAlone
	default:
		return engine.CommitsHeld
	}
}

// position gives the look its number, and says which number the mirror has reached. SQL Server counts in blocks of
// the log, which reach the disk as a whole: a commit is on the mirror when the block that it is in is there.
func (e *Engine) position(l look, s *engine.State) {
	e.looking.Lock()
	defer e.looking.Unlock()
	if !l.known {
		return
	}
	s.Position.Timeline = history
	if !l.primary() {
		e.looks.Forget()
		s.Position.Offset = vector(l.local(), hardened).Number()
		s.Replayed = engine.Position{Timeline: history, Offset: vector(l.local(), committed).Number()}
		return
	}
	former := e.at
	e.at = e.looks.At(vector(l.local(), committed))
	s.Position.Offset = e.at
	s.Mirror.Flushed = engine.Position{Timeline: history, Offset: e.looks.Reached(vector(l.remote(), hardened))}
	if l.synchronized() && e.at == former {
		// What a synchronized mirror lacks is at most what nobody was told of, and nothing has come since the look before.
		s.Mirror.Flushed = s.Position
	}
}

func committed(d sqlserver.GroupDatabaseRow) sqlserver.LSN { return d.Committed }
func hardened(d sqlserver.GroupDatabaseRow) sqlserver.LSN  { return d.Hardened }

// vector are the blocks in which these places of the databases' logs lie.
func vector(list []sqlserver.GroupDatabaseRow, of func(sqlserver.GroupDatabaseRow) sqlserver.LSN) sqlserver.Vector {
	v := sqlserver.Vector{}
	for _, d := range list {
		lsn := of(d)
		lsn.Slot = 0
		v[d.GroupID] = lsn
	}
	return v
}

// judge adds what is known of the instance's health.
func (e *Engine) judge(ctx context.Context, l look, s *engine.State) {
	if !l.known {
		return
	}
	rows := l.remote()
	if !l.primary() {
		rows = l.local()
	}
	lags := []sqlserver.Lag{}
	for _, d := range rows {
		lags = append(lags, sqlserver.GroupLag(d))
	}
	seen := sqlserver.Seen{
		Run: l.run, Primary: l.primary(), MirrorReady: l.synchronized(), Databases: l.states, Lags: lags,
		HoldUp: -1, // with RSSTC = 1 a commit waits without end
	}
	if l.resolving() {
		seen.Databases = nil // they are closed, which is as it should be
	}
	v := e.health.Note(ctx, seen)
	s.Stalled, s.ServeIn = v.Stalled, v.ServeIn
	s.Warning = joined(s.Warning, v.Warning())
	for _, d := range l.local() {
		s.Databases = append(s.Databases, e.shown(l, d, v.LagOf(d.Database)))
	}
}

// shown is a database in words.
func (e *Engine) shown(l look, d sqlserver.GroupDatabaseRow, lag sqlserver.Lag) engine.DatabaseState {
	s := engine.DatabaseState{
		Name: d.Database, Sets: e.cfg.SetsOf(d.Database), Role: title(l.group.Role), Status: title(d.State),
	}
	var detail []string
	if l.primary() {
		// A primary's own copy is always in order with itself; what counts is the mirror's.
		s.Status = "Disconnected"
		for _, there := range l.remote() {
			if there.GroupID == d.GroupID {
				s.Status = title(there.State)
				d.Suspended, d.SuspendReason = there.Suspended, there.SuspendReason
			}
		}
	}
	if d.Suspended {
		detail = append(detail, strings.ToLower(d.SuspendReason))
	}
	if d.DatabaseState != "" && d.DatabaseState != sqlserver.DatabaseOnline {
		detail = append(detail, d.DatabaseState)
	}
	if text := lag.Detail(); text != "" {
		detail = append(detail, text)
	}
	s.Detail = strings.Join(detail, "; ")
	return s
}

// title makes a word of SQL Server's views one for people: NOT SYNCHRONIZING becomes NotSynchronizing.
func title(word string) string {
	var text strings.Builder
	for part := range strings.FieldsFuncSeq(word, func(r rune) bool { return r == ' ' || r == '_' }) {
		text.WriteString(part[:1] + strings.ToLower(part[1:]))
	}
	return text.String()
}

// stuckAfter is how long a change of the group's configuration may take before that is worth a word.
const stuckAfter = 5 * time.Second

// configuring says that the group's configuration cannot be changed.
func (e *Engine) configuring() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stuck.IsZero() || now().Sub(e.stuck) < stuckAfter {
		return ""
	}
	return fmt.Sprintf("a change of the group's configuration has not ended for %v: more than half of its replicas must "+
		"be reachable; a configuration-only replica on a third host helps", now().Sub(e.stuck).Round(time.Second))
}

// leaseWarning says that clients cannot write although they should.
func (e *Engine) leaseWarning(l look) string {
	if e.cfg.WriteLease == 0 || !l.known {
		return ""
	}
	e.mu.Lock()
	opened := e.opened
	e.mu.Unlock()
	switch {
	case !l.lease.Known:
		return "write_lease is set, and the group shows no write lease: it was created without WRITE_LEASE_VALIDITY, or " +
			"the server is older than SQL Server 2019"
	case opened && l.primary() && l.lease.Left <= 0:
		return "the write lease has run out: clients cannot write until it is extended"
	}
	return ""
}

func joined(list ...string) string {
	return strings.Join(slices.DeleteFunc(slices.Clone(list), func(s string) bool { return s == "" }), "; ")
}
