package rescue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/witnessd/witnessd/agent/engine"
	"github.com/witnessd/witnessd/agent/engine/sqlserver"
)

const (
	// lookEvery is the pause between two looks.
	lookEvery = time.Second
	// lookPatience bounds a look.
	lookPatience = 3 * time.Second
	// dialEvery and dialPatience are for the witnesses' ports.
	dialEvery    = 2 * time.Second
	dialPatience = 2 * time.Second
	// stepPatience bounds a statement; SQL Server asks all three instances meanwhile.
	stepPatience = 30 * time.Second
	// settlePatience is how long a witness that was set may take to be connected.
	settlePatience = 15 * time.Second
	// settleEvery is the pause between two looks at whether it is.
	settleEvery = 100 * time.Millisecond
)

// Care looks after the witnesses until ctx ends.
func (e *Engine) Care(ctx context.Context, told func(engine.Act)) {
	var dials sync.WaitGroup
	defer dials.Wait()
	dials.Go(func() { e.dialAll(ctx) })
	for {
		acted := e.careOnce(ctx, told)
		if acted && ctx.Err() == nil {
			continue // What comes next may be due already: a spare, after the dead witness was taken out.
		}
		if pause(ctx, lookEvery) != nil {
			return
		}
	}
}

// careOnce looks once and does what is due. It says whether every step that was due succeeded, and there was one.
func (e *Engine) careOnce(ctx context.Context, told func(engine.Act)) bool {
	unit, err := e.look(ctx)
	if err != nil {
		return false // Observe says why.
	}
	steps, saveErr := e.decide(unit, told)
	if saveErr != nil {
		told(engine.Act{What: "remember what is done", Detail: "nothing is done while it cannot be kept", Err: saveErr})
		return false
	}
	for _, one := range steps {
		if ctx.Err() != nil || !e.act(ctx, one, told) {
			return false
		}
	}
	return len(steps) > 0
}

func (e *Engine) look(ctx context.Context) ([]sqlserver.MirroringRow, error) {
	ctx, cancel := context.WithTimeout(ctx, lookPatience)
	defer cancel()
	rows, err := e.client.Mirroring(ctx)
	return e.cfg.Unit(rows), err
}

// decide takes a look in, tells what others did, and returns what is due.
func (e *Engine) decide(unit []sqlserver.MirroringRow, told func(engine.Act)) ([]step, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := clock()
	for _, n := range e.memory.see(unit, now) {
		told(engine.Act{What: "see " + n.database, Detail: n.text})
	}
	steps, wait := decide(unit, e.memory, now)
	if wait != "" && wait != e.wait {
		told(engine.Act{What: "wait", Detail: wait})
	}
	e.wait = wait
	return steps, e.save()
}

// act sends one statement, reads back what came of it, and tells it.
func (e *Engine) act(ctx context.Context, one step, told func(engine.Act)) bool {
	took := stopwatch()
	err := e.intend(one)
	if err == nil {
		err = e.perform(ctx, one)
	}
	if errors.Is(ctx.Err(), context.Canceled) && err != nil {
		return false // The agent stops; what was meant is remembered, and looked at by the next one.
	}
	e.mu.Lock()
	e.memory.done(one, err, clock())
	saveErr := e.save()
	e.mu.Unlock()
	act := engine.Act{What: one.statement().Text(), Detail: one.why, Err: err, Took: took()}
	if err == nil {
		act.Detail += "; read back: " + readBack(one)
	}
	told(act)
	if saveErr != nil {
		e.log.WarnContext(ctx, "the rescue's memory was not saved", "error", saveErr)
	}
	return err == nil
}

func readBack(one step) string {
	if one.want == "" {
		return "no witness"
	}
	return one.want + " connected"
}

// intend remembers on disk what is about to be asked for, so that an agent that ends in the middle does not take its
// own change for a person's.
func (e *Engine) intend(one step) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.memory.sessions[one.guid]
	if s == nil {
		return fmt.Errorf("%s: the session is gone", one.database)
	}
	s.Intent = &one.want
	return e.save()
}

// errNotDone is how SQL Server may say yes and fail later.
var errNotDone = errors.New("was accepted and not done")

// perform sends a statement and waits until what it asks for is so: SQL Server may say yes and fail later.
func (e *Engine) perform(ctx context.Context, one step) error {
	sending, cancel := context.WithTimeout(ctx, stepPatience)
	defer cancel()
	if err := e.client.Exec(sending, one.statement()); err != nil && sqlserver.ClassOf(err) != sqlserver.ClassDone {
		return err
	}
	settling, cancel := context.WithTimeout(ctx, e.settle)
	defer cancel()
	last := "nothing could be read"
	for {
		if rows, err := e.client.Mirroring(settling); err == nil {
			settled := false
			if last, settled = outcome(rows, one); settled {
				return nil
			}
		}
		if pause(settling, settleEvery) != nil {
			return fmt.Errorf("%s %w within %v: %s", one.statement().Text(), errNotDone, e.settle, last)
		}
	}
}

// outcome says what rows show of a step, and whether it is done.
func outcome(rows []sqlserver.MirroringRow, one step) (string, bool) {
	for _, r := range rows {
		switch {
		case r.GUID != one.guid:
			continue
		case r.Witness == "":
			return "it has no witness", one.want == ""
		case !sqlserver.SamePartnerAddress(r.Witness, one.want):
			return "its witness is " + r.Witness, false
		default:
			return "its witness " + r.Witness + " is " + r.WitnessState, r.WitnessState == sqlserver.WitnessConnected
		}
	}
	return "the session is gone", false
}

// dialAll knocks at the witnesses' ports until ctx ends.
func (e *Engine) dialAll(ctx context.Context) {
	for {
		e.mu.Lock()
		addresses := e.memory.addresses()
		e.mu.Unlock()
		var all sync.WaitGroup
		for _, address := range addresses {
			all.Go(func() {
				ok := dial(ctx, address)
				e.mu.Lock()
				defer e.mu.Unlock()
				e.memory.heard(address, ok, clock())
			})
		}
		all.Wait()
		if pause(ctx, dialEvery) != nil {
			return
		}
	}
}

// dial says whether an endpoint takes connections.
func dial(ctx context.Context, endpoint string) bool {
	address, err := sqlserver.DialAddress(endpoint)
	if err != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, dialPatience)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return false
	}
	return conn.Close() == nil
}

// saved is the state file.
type saved struct {
	Sessions map[string]*Session `json:"sessions"` // by mirroring_guid
}

// save writes the memory if it has changed. Its caller holds mu.
func (e *Engine) save() error {
	raw, err := json.Marshal(saved{e.memory.sessions})
	if err != nil {
		return fmt.Errorf("save the rescue's memory: %w", err)
	}
	if string(raw) == e.saved {
		return nil
	}
	if err := sqlserver.SaveState(e.cfg.StateFile, saved{e.memory.sessions}); err != nil {
		return err
	}
	e.saved = string(raw)
	return nil
}

func (e *Engine) load() error {
	var s saved
	found, err := sqlserver.LoadState(e.cfg.StateFile, &s)
	if err != nil || !found {
		return err
	}
	for guid, session := range s.Sessions {
		if session != nil {
			e.memory.sessions[guid] = session
		}
	}
	return nil
}
