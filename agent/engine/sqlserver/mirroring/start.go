package mirroring

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/witnessd/witnessd/agent/engine/sqlserver"
)

const (
	// startPatience is how long an instance may take until it takes logins: it recovers its system databases first,
	// and may be upgrading them.
	startPatience = 5 * time.Minute
	// gateEvery is how often it is asked what else would start the instance.
	gateEvery = time.Minute
	// gatePatience bounds one such question.
	gatePatience = 10 * time.Second
)

// running returns a look at the instance, started if need be, once it takes logins.
func (e *Engine) running(ctx context.Context) (look, error) {
	e.mu.Lock()
	e.waits++
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		e.waits--
		e.mu.Unlock()
	}()
	begun := now()
	for {
		l, err := e.look(ctx)
		if errors.Is(err, errStopped) {
			if err := e.start(ctx); err != nil {
				return look{}, err
			}
			continue
		}
		switch {
		case err == nil:
			return l, nil
		case ctx.Err() != nil:
			return look{}, context.Cause(ctx)
		case sqlserver.ClassOf(err) != sqlserver.ClassUnreachable || now().Sub(begun) > startPatience:
			return look{}, err
		}
		if err := pause(ctx, lookPause); err != nil {
			return look{}, err
		}
	}
}

// start starts the process. A fence that comes meanwhile waits for this and kills what came of it.
func (e *Engine) start(ctx context.Context) error {
	e.starting <- struct{}{}
	defer func() { <-e.starting }()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := e.process.Start(ctx); err != nil {
		return fmt.Errorf("start SQL Server: %w", err)
	}
	e.log.InfoContext(ctx, "started sql server")
	return nil
}

// Standby starts an instance whose databases were all mirrors when it was last seen: it goes on as one, whoever
// starts it. A former principal would serve, so it stays stopped until it is known whom it follows.
func (e *Engine) Standby(ctx context.Context) error {
	return e.perform(ctx, "stand by", func(ctx context.Context) error {
		p, err := e.process.Look(ctx)
		if err != nil || p.Running {
			return err
		}
		if m := e.memory.read(); m.Principal || m.System == "" {
			return nil
		}
		_, err = e.running(ctx)
		return err
	})
}

// restartGate is what is known of others who would start the instance: a principal that comes up without its agent
// serves.
type restartGate struct {
	wrong  string // what to mend; "" if nothing
	asked  time.Time
	asking bool
}

// considerGate asks every now and then, beside the look that it is called by.
func (e *Engine) considerGate(ctx context.Context) string {
	e.mu.Lock()
	g := &e.gate
	wrong, due := g.wrong, !g.asking && (g.asked.IsZero() || now().Sub(g.asked) > gateEvery)
	if due {
		g.asking, g.asked = true, now()
	}
	e.mu.Unlock()
	if due {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), gatePatience)
		e.spawn(func() {
			defer cancel()
			e.askGate(ctx)
		})
	}
	return wrong
}

func (e *Engine) askGate(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-e.done:
			cancel()
		case <-ctx.Done():
		}
	}()
	wrong, err := e.process.RestartGate(ctx)
	if err != nil {
		wrong = "it is not known whether something else starts SQL Server: " + err.Error()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.gate.wrong, e.gate.asking = wrong, false
}
