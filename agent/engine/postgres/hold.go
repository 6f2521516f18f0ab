//go:build linux

package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/witnessd/witnessd/agent/engine"
)

// holdProof says that commits were seen to wait, in one run, under the name of one receiver.
type holdProof struct{ run, receiver string }

// commits is how run r treats commits if its setting is now. While a stranger has the receiver's name, a held
// commit may have been acknowledged by it.
func (p holdProof) commits(r *run, now string, stranger bool) engine.Commits {
	switch {
	case now == notHeld:
		return engine.CommitsAlone
	case p.run == r.id && now == heldFor(p.receiver) && !stranger:
		return engine.CommitsHeld
	default:
		return engine.CommitsUnknown
	}
}

// HoldCommits makes the primary hold commits for the peer, and sees that it does.
func (e *Engine) HoldCommits(ctx context.Context, peer engine.Peer) error {
	receiver := e.named(peer)
	return e.call(ctx, "hold commits", func(ctx context.Context) error {
		r, err := e.primary(ctx)
		if err != nil {
			return err
		}
		return e.hold(ctx, r, receiver)
	})
}

// primary is the running server, if it is a primary whose commits the engine can govern.
func (e *Engine) primary(ctx context.Context) (*run, error) {
	r, err := e.server()
	switch {
	case err != nil:
		return nil, err
	case r == nil:
		return nil, errors.New("the server does not run; promote it")
	case !r.governed():
		return nil, errors.New("the server was not started by the agent, so its commits cannot be held or " +
			"released; promote it, which adopts it or restarts it")
	}
	recovering, err := e.inRecovery(ctx, r)
	if err != nil {
		return nil, err
	}
	if recovering {
		return nil, errors.New("the server is a copy; promote it")
	}
	return r, nil
}

// hold takes a primary from whatever it does with commits to holding them for the receiver. If it fails,
// commits are treated as before: clients must not wait for ever because the engine could not finish.
func (e *Engine) hold(ctx context.Context, r *run, receiver string) error {
	if err := e.noStranger(ctx, r, receiver); err != nil {
		return err
	}
	before, err := e.holding(ctx, r)
	if err != nil {
		return err
	}
	e.mu.Lock()
	proof := e.proof
	e.mu.Unlock()
	if proof == (holdProof{r.id, receiver}) && before == heldFor(receiver) {
		return nil
	}
	if err := e.gateForCommits(ctx); err != nil {
		return err
	}
	if err := e.checkDurability(ctx, r); err != nil {
		return err
	}
	if err := e.localSlot(ctx, r, receiver); err != nil {
		return err
	}
	if err := e.proveHold(ctx, r, before, receiver); err != nil {
		if before != heldForNobody && !errors.Is(context.Cause(ctx), engine.ErrFenced) {
			e.restore(ctx, r, before)
		}
		return err
	}
	return nil
}

// restore undoes a change of how commits are treated that did not succeed.
func (e *Engine) restore(ctx context.Context, r *run, before string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if err := e.apply(ctx, r, runSettings{commits: before}); err != nil {
		e.log.ErrorContext(ctx, "commits may be held for nobody; hold or release them again", slog.Any("error", err))
	}
}

// holding is the setting by which the server treats commits.
func (e *Engine) holding(ctx context.Context, r *run) (string, error) {
	rows, err := e.acting.query(ctx, r, "select current_setting('synchronous_standby_names')")
	if err != nil {
		return "", err
	}
	return rows[0].text(0), nil
}

// gateForCommits must have succeeded before any commit can be acknowledged.
func (e *Engine) gateForCommits(ctx context.Context) error {
	if err := e.assureGate(); err != nil {
		return err
	}
	return e.checkRest(ctx)
}

// checkDurability refuses a server whose ordinary commits do not wait for the mirror's disk. A session may
// still lower synchronous_commit for itself; that is its own choice.
func (e *Engine) checkDurability(ctx context.Context, r *run) error {
	trap, err := serverTrap(ctx, e.askActing(r))
	if err == nil && trap != "" {
		err = errors.New(trap)
	}
	return err
}

// askActing asks run r over the connection of the call that holds the turn.
func (e *Engine) askActing(r *run) asker {
	return func(ctx context.Context, sql string, args ...string) ([]values, error) {
		return e.acting.query(ctx, r, sql, args...)
	}
}

// proveHold holds commits for nobody, sees one wait, and then holds them for the receiver. Clients wait for
// as long as this takes, a few milliseconds. From holding for nobody to holding for the receiver there is
// no instant in which a commit is not held.
func (e *Engine) proveHold(ctx context.Context, r *run, before, receiver string) error {
	began := now()
	if before != heldForNobody {
		if err := e.apply(ctx, r, runSettings{commits: heldForNobody}); err != nil {
			return err
		}
	}
	p, err := e.newProbe(ctx, r)
	if err != nil {
		return err
	}
	defer p.close(ctx)
	if err := p.seeWaiting(ctx); err != nil {
		return err
	}
	if err := e.apply(ctx, r, runSettings{commits: heldFor(receiver)}); err != nil {
		return err
	}
	e.mu.Lock()
	e.proof = holdProof{run: r.id, receiver: receiver}
	e.mu.Unlock()
	acknowledged := p.nudge(ctx, receiver)
	e.log.InfoContext(ctx, "commits are held", slog.String("receiver", receiver),
		slog.Bool("mirror_acknowledges", acknowledged), slog.Duration("took", since(began)))
	return nil
}

// ReleaseCommits lets the primary acknowledge commits alone, those that wait included.
func (e *Engine) ReleaseCommits(ctx context.Context) error {
	return e.call(ctx, "release commits", func(ctx context.Context) error {
		r, err := e.primary(ctx)
		if err != nil {
			return err
		}
		if err := e.gateForCommits(ctx); err != nil {
			return err
		}
		return e.release(ctx, r)
	})
}

// release lets commits go in run r, and sees one go.
func (e *Engine) release(ctx context.Context, r *run) error {
	e.mu.Lock()
	e.proof = holdProof{}
	e.mu.Unlock()
	if err := e.apply(ctx, r, runSettings{commits: notHeld}); err != nil {
		return err
	}
	// The checkpointer lets go of those who wait, when it has read the setting. Seeing one commit
	// return is seeing that.
	p, err := e.newProbe(ctx, r)
	if err != nil {
		return err
	}
	defer p.close(ctx)
	select {
	case err := <-p.commit(ctx):
		p.done = nil
		return err
	case <-ctx.Done():
		return fmt.Errorf("wait until the server lets commits go: %w", context.Cause(ctx))
	}
}

// localSlot makes the primary keep its log for the mirror.
func (e *Engine) localSlot(ctx context.Context, r *run, name string) error {
	rows, err := e.acting.query(ctx, r,
		"select restart_lsn from pg_replication_slots where slot_name = $1", name)
	if err != nil {
		return err
	}
	if len(rows) > 0 && rows[0][0] != nil {
		return nil
	}
	if len(rows) > 0 {
		if _, err := e.acting.query(ctx, r, "select pg_drop_replication_slot($1)", name); err != nil {
			return fmt.Errorf("drop the lost slot %s: %w", name, err)
		}
	}
	_, err = e.acting.query(ctx, r, "select pg_create_physical_replication_slot($1, true)", name)
	if err != nil && !hasCode(err, codeDuplicate) {
		return fmt.Errorf("make the slot %s: %w", name, err)
	}
	return nil
}

// probe makes commits of the engine's own, on a connection of its own, to see what becomes of them.
type probe struct {
	engine *Engine
	run    *run
	conn   *pgconn.PgConn
	// done delivers how the commit that was begun last has ended.
	done chan error
}

func (e *Engine) newProbe(ctx context.Context, r *run) (*probe, error) {
	conn, err := e.dialLocal(ctx, r, probeName, map[string]string{"synchronous_commit": "on"})
	if err != nil {
		return nil, err
	}
	return &probe{engine: e, run: r, conn: conn}, nil
}

// emitSQL is a transaction that writes a record which nobody reads. It must write one: PostgreSQL does not
// hold back the commit of a transaction that changed nothing.
const emitSQL = "select pg_logical_emit_message(true, 'witness-agent', 'probe')"

// commit begins a commit.
func (p *probe) commit(ctx context.Context) <-chan error {
	p.done = make(chan error, 1)
	done := p.done
	go func() {
		_, err := query(ctx, p.conn, emitSQL)
		done <- err
	}()
	return done
}

// seeWaiting returns when a commit is seen to wait for a mirror. Until the checkpointer has read the setting,
// commits return at once; then another one is begun.
func (p *probe) seeWaiting(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 3*time.Second, errors.New("commits are not held although "+
		"synchronous_standby_names is set; see whether the checkpointer is stuck"))
	defer cancel()
	pid := strconv.Itoa(int(p.conn.PID()))
	done := p.commit(context.WithoutCancel(ctx)) // It is ended by close.
	for {
		select {
		case err := <-done:
			if err != nil {
				return fmt.Errorf("commit a probe: %w", err)
			}
			done = p.commit(context.WithoutCancel(ctx))
		default:
		}
		rows, err := p.engine.acting.query(ctx, p.run,
			"select 1 from pg_stat_activity where pid = $1 and wait_event = 'SyncRep'", pid)
		if ctx.Err() != nil {
			return fmt.Errorf("see a commit wait: %w", context.Cause(ctx))
		}
		if err != nil {
			return fmt.Errorf("see a commit wait: %w", err)
		}
		if len(rows) == 1 {
			return nil
		}
	}
}

// nudge gives an attached mirror something new to acknowledge: its receiver may have acknowledged the probe
// before its name was in force, and would say so again only with its next regular word, up to a second
// later. All clients that wait are let go together with the probe. It says whether that was seen.
func (p *probe) nudge(ctx context.Context, receiver string) bool {
	ctx, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	for ctx.Err() == nil {
		rows, err := p.engine.acting.query(ctx, p.run,
			"select "+emitSQL[len("select "):]+" from pg_stat_replication"+
				" where application_name = $1 and state = 'streaming' limit 1", receiver)
		if err != nil || len(rows) == 0 {
			return false
		}
		select {
		case err := <-p.done:
			p.done = nil
			return err == nil
		case <-time.After(pollEvery):
		case <-ctx.Done():
		}
	}
	return false
}

// close ends a commit that still waits, and the connection. Cancelling is all that a waiting backend hears;
// the probe's commit then counts as done here, and nobody depends on it.
func (p *probe) close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if p.done != nil && p.run.alive() {
		pid := strconv.Itoa(int(p.conn.PID()))
		if _, err := p.engine.acting.query(ctx, p.run, "select pg_cancel_backend($1)", pid); err != nil {
			p.engine.log.WarnContext(ctx, "probe not cancelled", slog.Any("error", err))
		}
		select {
		case err := <-p.done:
			p.engine.log.DebugContext(ctx, "probe ended", slog.Any("error", err))
		case <-ctx.Done():
			_ = p.conn.Conn().Close() // Whoever hangs there ends with the connection.
			return
		}
	}
	closeConn(ctx, p.conn)
}
