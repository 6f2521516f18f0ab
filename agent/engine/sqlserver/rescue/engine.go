package rescue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/witnessd/witnessd/agent/engine"
	"github.com/witnessd/witnessd/agent/engine/sqlserver"
)

// Engine watches one instance.
type Engine struct {
	cfg    sqlserver.Config
	log    *slog.Logger
	client *sqlserver.Client
	health *sqlserver.Health
	exits  chan engine.Exit // nothing is ever delivered: the process is not the agent's
	settle time.Duration    // settlePatience

	mu     sync.Mutex // Observe, Care and LetGo
	memory *memory
	saved  string // what the state file holds
	wait   string // why nothing is done although something is due
	looks  sqlserver.Looks
}

var (
	_ engine.Engine    = (*Engine)(nil)
	_ engine.Caretaker = (*Engine)(nil)
)

// errWatched refuses what would change an instance that somebody else decides about.
var errWatched = errors.New("this instance is only watched (engine sqlserver-rescue): SQL Server and its own witness " +
	"decide who serves; use sqlserver-mirroring to have this witness decide")

// New makes an engine of a configuration. It does not connect yet.
func New(cfg sqlserver.Config, log *slog.Logger) (*Engine, error) {
	if err := cfg.Validate(sqlserver.ModeRescue); err != nil {
		return nil, err
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	client := sqlserver.NewClient(cfg, cfg.ConnectAddress())
	e := &Engine{
		cfg: cfg, log: log, client: client, health: sqlserver.NewHealth(cfg, client),
		exits: make(chan engine.Exit), memory: newMemory(cfg.Rescue), settle: settlePatience,
	}
	return e, e.load()
}

// Kind names the engine.
func (e *Engine) Kind() string { return "sqlserver-rescue" }

// Address is where clients reach the instance.
func (e *Engine) Address() string { return e.cfg.Address() }

// Exits never delivers: the agent does not look after the process.
func (e *Engine) Exits() <-chan engine.Exit { return e.exits }

// Observe looks at the instance.
func (e *Engine) Observe(ctx context.Context) (engine.State, error) {
	rows, err := e.client.Mirroring(ctx)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return engine.State{Watched: true}, nil
	}
	if err != nil {
		return engine.State{}, fmt.Errorf("observe: %w", err)
	}
	started, err := e.client.Started(ctx)
	if err != nil {
		return engine.State{}, fmt.Errorf("observe: %w", err)
	}
	unit := e.cfg.Unit(rows)
	verdict := e.health.Note(ctx, seenOf(unit, started))
	e.mu.Lock()
	defer e.mu.Unlock()
	state := stateOf(unit)
	state.Run, state.Stalled, state.ServeIn = started, verdict.Stalled, verdict.ServeIn
	e.positions(&state, unit)
	for _, r := range unit {
		state.Databases = append(state.Databases, e.cfg.DatabaseState(r, verdict.LagOf(r.Database)))
	}
	state.Warning = strings.Join(append(e.warnings(unit), verdict.Warnings...), "; ")
	return state, nil
}

// seenOf is a look as Health wants it.
func seenOf(unit []sqlserver.MirroringRow, run string) sqlserver.Seen {
	seen := sqlserver.Seen{Run: run, Primary: len(unit) > 0, MirrorReady: len(unit) > 0}
	for _, r := range unit {
		seen.Primary = seen.Primary && r.Role == sqlserver.RolePrincipal
		seen.MirrorReady = seen.MirrorReady && r.State == sqlserver.StateSynchronized
		seen.HoldUp = max(seen.HoldUp, r.Timeout)
		seen.Databases = append(seen.Databases, sqlserver.DatabaseRow{Name: r.Database, ID: r.ID, State: r.DatabaseState})
	}
	return seen
}

// stateOf says in the agent's words what a running instance is.
func stateOf(unit []sqlserver.MirroringRow) engine.State {
	state := engine.State{
		Running: true, Watched: true, Data: engine.DataPresent, SystemID: sqlserver.MirroringID(unit),
		NotPromotable: "SQL Server's own witness decides",
	}
	if len(unit) == 0 {
		state.Data = engine.DataUnknown
		return state
	}
	connected := !slices.ContainsFunc(unit, func(r sqlserver.MirroringRow) bool { return !r.Connected() })
	principals := 0
	held := true
	for _, r := range unit {
		if r.Role == sqlserver.RolePrincipal {
			principals++
			held = held && r.State == sqlserver.StateSynchronized && r.Safety == sqlserver.SafetyIsFull
		}
	}
	if principals == 0 {
		state.Role, state.Following = engine.RoleMirror, connected
		return state
	}
	state.Role, state.Commits = engine.RolePrimary, engine.CommitsAlone
	if held {
		state.Commits = engine.CommitsHeld
	}
	state.Mirror.Attached = connected && principals == len(unit)
	return state
}

// positions fills in how far the copies are. Its caller holds mu.
func (e *Engine) positions(state *engine.State, unit []sqlserver.MirroringRow) {
	ends, both := sqlserver.Vector{}, sqlserver.Vector{}
	var timeline uint64
	for _, r := range unit {
		ends[r.Database], both[r.Database] = r.EndOfLog, r.FailoverLSN
		timeline += uint64(r.RoleSequence)
	}
	if len(unit) == 0 {
		return
	}
	state.Position = engine.Position{Timeline: timeline, Offset: e.looks.At(ends)}
	if state.Role == engine.RolePrimary {
		state.Mirror.Flushed = engine.Position{Timeline: timeline, Offset: e.looks.Reached(both)}
	}
}

// warnings says what an operator should know about the witnesses. Its caller holds mu.
func (e *Engine) warnings(unit []sqlserver.MirroringRow) []string {
	var said []string
	principals := 0
	for _, r := range unit {
		if r.Role == sqlserver.RolePrincipal {
			principals++
		}
	}
	if principals > 0 && principals < len(unit) {
		said = append(said, fmt.Sprintf("split: %d of %d databases are principal here, the others at the partner",
			principals, len(unit)))
	}
	by := map[Stand][]string{}
	for _, r := range unit {
		if s := e.memory.sessions[r.GUID]; s != nil && s.Stand != StandHome {
			by[s.Stand] = append(by[s.Stand], r.Database)
		}
	}
	for stand, text := range map[Stand]string{
		StandOff:   "no witness, because it was gone; there is no automatic failover until one is back",
		StandSpare: "the spare witness",
		StandHand:  "a witness, or none, that was set by hand; it is left alone",
	} {
		if names := by[stand]; len(names) > 0 {
			said = append(said, strings.Join(names, ", ")+": "+text)
		}
	}
	slices.Sort(said)
	if e.wait != "" {
		said = append(said, "rescue waits: "+e.wait)
	}
	return said
}

// Follow refuses.
func (e *Engine) Follow(context.Context, engine.Peer, func(engine.Progress)) error { return errWatched }

// Standby refuses.
func (e *Engine) Standby(context.Context) error { return errWatched }

// Promote refuses.
func (e *Engine) Promote(context.Context, engine.Peer) error { return errWatched }

// HoldCommits refuses.
func (e *Engine) HoldCommits(context.Context, engine.Peer) error { return errWatched }

// ReleaseCommits does nothing: nothing was held.
func (e *Engine) ReleaseCommits(context.Context) error { return nil }

// HandOver refuses.
func (e *Engine) HandOver(context.Context, engine.Peer) (engine.Handover, error) {
	return engine.Handover{}, errWatched
}

// Stop does nothing: SQL Server serves with its own witness's word, not with the agent's.
func (e *Engine) Stop(context.Context) error { return nil }

// Fence does nothing: the agent lets nobody in here, so it has nobody to keep out.
func (e *Engine) Fence(context.Context) error { return nil }

// LetGo forgets what was remembered. The witnesses stay as they are.
func (e *Engine) LetGo(context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.memory, e.saved = newMemory(e.cfg.Rescue), ""
	return sqlserver.ForgetState(e.cfg.StateFile)
}

// Close closes the connections.
func (e *Engine) Close() error {
	e.health.Close()
	return e.client.Close()
}
