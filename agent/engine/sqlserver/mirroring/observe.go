package mirroring

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

// Observe looks at the instance. It returns within the deadline of ctx also when SQL Server hangs.
func (e *Engine) Observe(ctx context.Context) (engine.State, error) {
	gate := e.considerGate(ctx)
	l, err := e.look(ctx)
	switch {
	case errors.Is(err, errStopped):
		return e.stopped(gate), nil
	case err != nil && sqlserver.ClassOf(err) == sqlserver.ClassUnreachable && !e.comingUp():
		// The process runs; so it hangs, or has lost the socket that clients need as much as the agent does.
		return engine.State{}, fmt.Errorf("observe: %w: %w", engine.ErrHung, err)
	case err != nil:
		return engine.State{}, fmt.Errorf("observe: %w", err)
	}
	m := e.memory.read()
	e.mu.Lock()
	f := facts{joining: e.joins, held: e.held == l.run, gate: gate, policy: e.cfg.Policy, bound: e.bound(m)}
	e.mu.Unlock()
	s := stateOf(l, m, f)
	e.position(l, &s)
	e.judge(ctx, l, &s)
	return s, nil
}

// comingUp says that a call of the agent's waits for the instance to take logins.
func (e *Engine) comingUp() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.waits > 0
}

// bound is for how long commits may go to clients alone before service has ended for certain.
func (e *Engine) bound(m stored) time.Duration {
	if m.Lease > 0 {
		return m.Lease + fenceTime
	}
	return unknownLease + fenceTime
}

// position gives the look its number, and says which number the mirror has reached. While every database is
// SYNCHRONIZED with SAFETY FULL, nothing that a client was told of is missing there, and SQL Server says so more
// surely than its LSNs: the one that both partners have is the start of a record, and the end of the log is not.
func (e *Engine) position(l look, s *engine.State) {
	e.looking.Lock()
	defer e.looking.Unlock()
	s.Position.Timeline = l.exchanges()
	if s.Role != engine.RolePrimary {
		e.looks.Forget()
		s.Position.Offset = l.ends().Number()
		s.Replayed = s.Position
		return
	}
	s.Position.Offset = e.looks.At(l.ends())
	s.Mirror.Flushed = engine.Position{Timeline: s.Position.Timeline, Offset: e.looks.Reached(l.common())}
	if l.all(database.safe) && l.all(database.principal) {
		s.Mirror.Flushed = s.Position
	}
}

// judge adds what is known of the instance's health.
func (e *Engine) judge(ctx context.Context, l look, s *engine.State) {
	_, longest := l.timeout()
	v := e.health.Note(ctx, sqlserver.Seen{
		Run: l.run, Primary: s.Role == engine.RolePrimary, MirrorReady: l.all(database.safe), Databases: l.states(),
		HoldUp: longest,
	})
	s.Stalled, s.ServeIn = v.Stalled, v.ServeIn
	s.Warning = joinWarnings(s.Warning, v.Warning())
	for _, d := range l.unit {
		s.Databases = append(s.Databases, e.shown(d, v.LagOf(d.Database)))
	}
}

func joinWarnings(list ...string) string {
	return strings.Join(slices.DeleteFunc(list, func(s string) bool { return s == "" }), "; ")
}

// stopped is what is known of an instance that does not run.
func (e *Engine) stopped(gate string) engine.State {
	m := e.memory.read()
	s := engine.State{
		SystemID: m.System, LossBound: e.bound(m), NeedsRelease: e.cfg.Policy == sqlserver.PolicyStrict, Warning: gate,
	}
	if m.System != "" {
		s.Data = engine.DataPresent
	}
	s.NotPromotable = "the instance is stopped: when it runs again, its databases must first be seen synchronized"
	if m.Principal {
		// The record may name it all the same; then its agent brings it up without asking.
		s.NotPromotable = "the instance is stopped, and was principal: its partner may have gone on without it"
	}
	return s
}

// facts are what the engine knows beside a look and the file.
type facts struct {
	joining bool
	held    bool // HoldCommits has succeeded in this run
	gate    string
	policy  string
	bound   time.Duration
}

// stateOf says in the agent's words what a look shows.
func stateOf(l look, m stored, f facts) engine.State {
	s := engine.State{
		Running: true, Run: l.run, Data: engine.DataPresent, SystemID: systemID(l.unit),
		LossBound: f.bound, NeedsRelease: f.policy == sqlserver.PolicyStrict,
	}
	if s.SystemID == "" {
		s.SystemID = m.System // a session that is gone makes no other pair of the rest
	}
	if s.SystemID == "" {
		s.Data = engine.DataUnknown
	}
	s.Role, s.Step = roleOf(l, m, f.joining)
	s.NotPromotable = notPromotable(l, m, f.joining)
	s.Promotable = s.NotPromotable == ""
	connected := l.all(func(d database) bool { return d.mirrored && d.Connected() })
	if s.Role == engine.RolePrimary {
		s.Mirror.Attached = connected && l.all(database.principal)
		s.Commits = engine.CommitsAlone
		if f.held && l.all(database.principal) && l.all(database.safe) && len(l.these(witnessed)) == 0 {
			s.Commits = engine.CommitsHeld
		}
	} else {
		s.Following = connected && !l.split() && !f.joining
	}
	s.Warning = joinWarnings(warnings(l, m, s.Role, f.bound)...)
	s.Warning = joinWarnings(s.Warning, f.gate)
	return s
}

// witnessed says that a session has a witness of SQL Server's.
func witnessed(d database) bool { return d.Witness != "" }

// warnings are what an administrator should know or mend.
func warnings(l look, m stored, role engine.Role, bound time.Duration) []string {
	var said []string
	if l.split() {
		said = append(said, fmt.Sprintf("split: %s principal here, %s mirror",
			names(l.these(database.principal)), names(l.these(database.mirror))))
	}
	for _, d := range l.unit {
		switch {
		case !d.mirrored:
			said = append(said, d.Database+" is not mirrored")
		case d.State == sqlserver.StateSuspended && d.mirror():
			if why := suspended(d, m.Ended); why != "" {
				said = append(said, why)
			}
		case d.State == sqlserver.StateSuspended:
			said = append(said, d.Database+" is SUSPENDED: its log grows, and the mirror falls behind")
		}
	}
	if with := l.these(witnessed); len(with) > 0 {
		said = append(said, "SQL Server's own witness is set for "+names(with)+
			": SET WITNESS OFF, or use the engine sqlserver-rescue")
	}
	if async := l.these(func(d database) bool { return d.mirrored && d.Safety == sqlserver.SafetyIsOff }); len(async) > 0 {
		said = append(said, "SAFETY is OFF for "+names(async)+": commits do not wait for the mirror")
	}
	if least, _ := l.timeout(); role == engine.RolePrimary && bound >= least && len(l.unit) > 0 {
		said = append(said, fmt.Sprintf("a primary that is cut off is fenced after %v, and PARTNER TIMEOUT is %v: commits "+
			"may go to clients alone before that; SET PARTNER TIMEOUT %d", bound, least, longEnough(bound-fenceTime)))
	}
	if role == engine.RolePrimary && len(l.others) > 0 {
		said = append(said, fmt.Sprintf("a fence of this pair stops %s of the instance that %s not in it: %s",
			count(l.others), isAre(l.others), names(l.others)))
	}
	return said
}

func isAre(list []string) string {
	if len(list) == 1 {
		return "is"
	}
	return "are"
}

// shown is a database in the words of Get-CsDatabaseMirrorState.
func (e *Engine) shown(d database, lag sqlserver.Lag) engine.DatabaseState {
	if d.mirrored {
		return e.cfg.DatabaseState(d.MirroringRow, lag)
	}
	return engine.DatabaseState{
		Name: d.Database, Sets: e.cfg.SetsOf(d.Database), Status: "DatabaseInaccessibleOrMirroringNotEnabled",
		Detail: d.DatabaseState,
	}
}
