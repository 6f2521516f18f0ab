package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/witnessd/witnessd/agent/engine"
	"github.com/witnessd/witnessd/agent/fence"
	"github.com/witnessd/witnessd/agent/gate"
	"github.com/witnessd/witnessd/agent/hold"
	"github.com/witnessd/witnessd/agent/hook"
)

// probeInterval is how often a database is looked at; its end is told by the kernel and does not wait for
// this (DESIGN, "Timing").
const probeInterval = 200 * time.Millisecond

// probeTimeout bounds one look. A database that does not answer within it has simply not been seen.
const probeTimeout = time.Second

// fenceBudget is how long a fence may take: less than the shortest guard a policy may have.
const fenceBudget = 190 * time.Millisecond

// instance is one database instance and the pair it belongs to. Its fields are owned by the loop, but for
// what the comments name otherwise.
type instance struct {
	name   string
	config Instance
	engine engine.Engine
	fence  fence.Fence
	kernel kernelGuard
	gate   *gate.Gate // nil: none; safe for all
	extend *extender  // safe for all
	reach  *reach     // safe for all
	file   epochFile
	mark   markFile
	log    *slog.Logger
	post   func(name string, ev hold.Event) // from any goroutine into the loop

	// closing is set from the moment service is to end until it may begin again, so that no endpoint, gate or
	// partner is told to send clients while a fence works.
	closing atomic.Bool

	state    hold.State
	peer     peerWord
	took     bool       // clients were well served here at the loop's last turn
	hooked   hook.State // what the hooks were told
	endedBy  string     // why service was ended last
	managed  bool       // a pair is known for this instance
	lastSeen hold.Engine
	systemID string   // last one seen, for the announcement
	others   []string // further pair ids that name this instance (R16)

	cameUp    atomic.Int64   // when an operation last brought the database up (hold.Instant); 0: in no start of the agent
	ops       chan operation // the one to begin next; only the loop sends
	ended     sync.WaitGroup
	unmarked  bool // the mark could not be written last time
	cancelOp  context.CancelFunc
	stopSteps func()
	step      stepText
}

// stepText carries what a long operation is doing from its goroutine to the reports.
type stepText struct {
	mu   sync.Mutex
	text string
}

func (s *stepText) set(t string) { s.mu.Lock(); s.text = t; s.mu.Unlock() }
func (s *stepText) get() string  { s.mu.Lock(); defer s.mu.Unlock(); return s.text }

// operation is one call on the engine, begun by a hold.Do.
type operation struct {
	ctx  context.Context
	id   uint64
	op   hold.Op
	peer engine.Peer
}

// openInstance reads the files and starts the instance's goroutines.
func (a *Agent) openInstance(ctx context.Context, c Instance, eng engine.Engine) (*instance, error) {
	name := c.Name
	i := &instance{
		name: name, config: c, engine: eng, log: a.log.With("instance", name), post: a.postEvent,
		file: a.epochFileOf(name), mark: a.markFileOf(name),
		ops: make(chan operation, 1), extend: newExtender(eng, a.clock, a.log.With("instance", name)),
		reach: &reach{dial: a.knock},
	}
	i.kernel.fence = a.kernel
	file, known, err := i.file.load()
	if err != nil {
		return nil, err
	}
	if c.watched() && known && file.Epoch > 0 {
		return nil, fmt.Errorf("the witness decides about pair %s of this instance, and engine %s only watches: remove the "+
			"pair, or choose another engine", file.Name, c.Engine)
	}
	now := a.clock()
	if known {
		mark := i.mark.load()
		i.state, i.managed = hold.New(a.config.Host, file, true, mark, now), true
		i.foundHooks(file, mark, now)
		a.guardKernel(ctx, i)
	}
	i.fence = fence.NewEngine(ctx, fence.Clock(a.clock), fenceBudget, i.stopNow, func(why string, err error) {
		if err != nil {
			i.log.ErrorContext(ctx, "fence could not end service", "error", err)
		}
		i.post(name, hold.Fenced{Why: why})
	})
	ctx, i.stopSteps = context.WithCancel(ctx)
	i.ended.Go(func() { i.probe(ctx, a.clock) })
	i.ended.Go(func() { i.operate(ctx, a.clock) })
	i.ended.Go(func() { i.extend.run(ctx) })
	i.ended.Go(func() { i.reach.run(ctx) })
	if care, ok := eng.(engine.Caretaker); ok {
		i.ended.Go(func() { care.Care(ctx, func(act engine.Act) { a.post(acted{name: name, act: act}) }) })
	}
	return i, nil
}

// close is called when the loop has ended.
func (i *instance) close() {
	i.stopSteps()
	if i.cancelOp != nil {
		i.cancelOp() // an agent that ends because it is unsafe must not wait for a copy that takes hours
	}
	i.ended.Wait()
	i.fence.Close()
	if err := i.engine.Close(); err != nil {
		i.log.Warn("close engine", "error", err)
	}
}

// adopt begins the management for a pair that the witness told of.
func (i *instance) adopt(host, pair, name string, now hold.Instant) {
	i.state = hold.New(host, hold.File{Pair: pair, Name: name}, false, hold.Mark{}, now)
	i.managed = true
}

// remember writes the mark. A file system without room must not end service: without a mark the next start is only
// more careful.
func (i *instance) remember(ctx context.Context, r hold.Renew) error {
	err := i.mark.write(r)
	if err == nil {
		i.unmarked = false
		return nil
	}
	if failed := i.mark.clear(); failed != nil {
		return errors.Join(err, failed)
	}
	if !i.unmarked {
		i.unmarked = true
		i.log.ErrorContext(ctx, "the next start of this agent will have to stop the database", "error", err)
	}
	return nil
}

// observed keeps what is shown and announced also while no pair is known.
func (i *instance) observed(ctx context.Context, e hold.Engine) {
	if e.Warning != i.lastSeen.Warning && e.Warning != "" {
		i.log.WarnContext(ctx, "the database wants attention", "what", e.Warning)
	}
	i.lastSeen = e
	if e.SystemID != "" {
		i.systemID = e.SystemID
	}
}

// exitDelay is how much later than a look the kernel's word of a process's end may come.
const exitDelay = 50 * time.Millisecond

// probe looks at the database again and again, and hears of its end at once.
func (i *instance) probe(ctx context.Context, clock Clock) {
	ticker := time.NewTicker(probeInterval)
	defer ticker.Stop()
	ran := false
	for {
		ran = i.lookOnce(ctx, clock, ran)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case exit := <-i.engine.Exits():
			i.exited(exit, clock)
		}
	}
}

// soonAfter is how soon after it came up the end of a database counts as another try that failed.
const soonAfter = 10 * time.Second

func (i *instance) exited(exit engine.Exit, clock Clock) {
	up := i.cameUp.Load()
	i.post(i.name, hold.EngineExited{Reason: exit.Reason, Soon: up > 0 && clock().Sub(hold.Instant(up)) < soonAfter})
}

// lookOnce says whether the database runs. ran is what the former look said.
func (i *instance) lookOnce(ctx context.Context, clock Clock, ran bool) bool {
	seen, err := i.observe(ctx, clock)
	if err != nil {
		if ctx.Err() == nil {
			i.log.DebugContext(ctx, "look at database", "error", err)
			if errors.Is(err, engine.ErrHung) || errors.Is(err, context.DeadlineExceeded) {
				i.post(i.name, hold.EngineSilent{})
			}
		}
		return ran
	}
	if ran && !seen.Running {
		// A look must not overtake the word of the end: hold would start the database again where it should let
		// the mirror take over.
		delay := time.NewTimer(exitDelay)
		defer delay.Stop()
		select {
		case exit := <-i.engine.Exits():
			i.exited(exit, clock)
		case <-delay.C: // it was stopped by this agent
		case <-ctx.Done():
		}
	}
	i.post(i.name, hold.EngineSeen{Engine: seen})
	return seen.Running
}

func (i *instance) observe(ctx context.Context, clock Clock) (hold.Engine, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	began := clock()
	st, err := i.engine.Observe(ctx)
	if err != nil {
		return hold.Engine{}, err
	}
	if text := i.reach.warning(); text != "" {
		st.Warning = strings.TrimPrefix(st.Warning+"; "+text, "; ")
	}
	return convertState(st, began, i.step.get()), nil
}

// operate carries out operations one after the other.
func (i *instance) operate(ctx context.Context, clock Clock) {
	for {
		select {
		case <-ctx.Done():
			return
		case op := <-i.ops:
			if op.ctx.Err() != nil {
				continue
			}
			i.post(i.name, i.carryOut(op, clock))
		}
	}
}

func (i *instance) carryOut(op operation, clock Clock) hold.EngineDone {
	done := hold.EngineDone{Op: op.op, ID: op.id}
	began := clock()
	var err error
	switch op.op {
	case hold.OpFollow:
		err = i.engine.Follow(op.ctx, op.peer, i.progress)
	case hold.OpPromote:
		err = i.fence.Within(op.ctx, func(ctx context.Context) error { return i.engine.Promote(ctx, op.peer) })
	case hold.OpHold:
		err = i.fence.Within(op.ctx, func(ctx context.Context) error { return i.engine.HoldCommits(ctx, op.peer) })
	case hold.OpReleaseCommits:
		err = i.fence.Within(op.ctx, i.engine.ReleaseCommits)
	case hold.OpHandOver:
		var h engine.Handover
		h, err = i.engine.HandOver(op.ctx, op.peer)
		done.Everything = h.MirrorHasEverything
	case hold.OpStop:
		err = i.engine.Stop(op.ctx)
	case hold.OpLetGo:
		err = i.engine.LetGo(op.ctx)
	case hold.OpNone:
	default:
		panic(fmt.Sprintf("agent: unknown operation %d", op.op))
	}
	i.step.set("")
	if err == nil {
		done.Engine, err = i.observe(op.ctx, clock)
	}
	if err != nil {
		done.Err = oneLine(err.Error())
		done.Foreign = errors.Is(err, engine.ErrForeign)
		done.Cut = errors.Is(err, engine.ErrFenced) || errors.Is(err, fence.ErrEnded)
		i.log.DebugContext(op.ctx, "database operation failed", "op", op.op.String(), "error", done.Err)
		return done
	}
	if op.op == hold.OpPromote || op.op == hold.OpFollow {
		i.cameUp.Store(int64(clock()))
	}
	i.log.InfoContext(op.ctx, "database operation done", "op", op.op.String(),
		"took", clock().Sub(began).Round(time.Millisecond))
	return done
}

// oneLine: drivers put several attempts on several lines; a log line and a table cell are one.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

func (i *instance) progress(p engine.Progress) { i.step.set(p.String()) }

// begin ends the operation that runs, if any, and starts the next.
func (i *instance) begin(ctx context.Context, do hold.Do, pair string) {
	if i.cancelOp != nil {
		i.cancelOp()
		i.cancelOp = nil
	}
	if do.Op == hold.OpNone {
		return
	}
	var opCtx context.Context
	opCtx, i.cancelOp = context.WithCancel(ctx)
	i.log.DebugContext(ctx, "database operation begins", "op", do.Op.String())
	select {
	case <-i.ops: // cancelled above, and not begun; an engine that clings to a call must not hold up the loop
	default:
	}
	i.ops <- operation{ctx: opCtx, id: do.ID, op: do.Op, peer: engine.Peer{
		Pair: pair, Host: do.Peer.Host, Address: do.Peer.ServiceAddress, SystemID: do.Peer.SystemID,
		Lease: max(i.state.File.Longest, i.state.File.Timing.Lease),
	}}
}

// convertState turns an engine's state into the value that hold decides on.
func convertState(st engine.State, began hold.Instant, step string) hold.Engine {
	e := hold.Engine{
		Began: began, Running: st.Running, Run: st.Run, SystemID: st.SystemID,
		Empty: st.Data == engine.DataEmpty, Timeline: st.Position.Timeline, Position: st.Position.Offset,
		MirrorAttached: st.Mirror.Attached, MirrorFlushed: st.Mirror.Flushed.Offset, Following: st.Following,
		Promotable: st.Promotable && st.Data != engine.DataIncomplete, NotPromotable: st.NotPromotable, Step: step,
		Replayed: st.Replayed.Offset, Warning: oneLine(st.Warning), Stalled: st.Stalled,
		LossBound: st.LossBound, NeedsRelease: st.NeedsRelease, ServeIn: st.ServeIn, Watched: st.Watched,
	}
	for _, d := range st.Databases {
		e.Databases = append(e.Databases, hold.Database{
			Name: d.Name, Sets: d.Sets, Role: d.Role, Status: d.Status, Detail: oneLine(d.Detail),
		})
	}
	switch st.Role {
	case engine.RolePrimary:
		e.Role = hold.RolePrimary
	case engine.RoleMirror:
		e.Role = hold.RoleMirror
	case engine.RoleNone:
	}
	switch st.Commits {
	case engine.CommitsHeld:
		e.Commits = hold.CommitsHeld
	case engine.CommitsAlone:
		e.Commits = hold.CommitsAlone
	case engine.CommitsUnknown:
	}
	if step == "" {
		e.Step = st.Step
	}
	return e
}
