package demo

import (
	"context"
	"errors"
	"fmt"

	"github.com/witnessd/witnessd/agent/engine"
	"github.com/witnessd/witnessd/agent/engine/demo/kv"
)

// Promote makes demodb the primary with commits held for the peer. Nothing need be done for the restart
// gate: demodb forgets with its process that it was promoted.
func (e *Engine) Promote(ctx context.Context, peer engine.Peer) error {
	return e.perform(ctx, "promote", func(ctx context.Context) error {
		if peer.Pair == "" {
			return errors.New("the pair that commits are held for is not known")
		}
		same := sameSystem(peer.SystemID)
		p, st, err := e.ready(ctx, func(info kv.Info) error {
			if info.Data == kv.DataEmpty {
				return fmt.Errorf("%w: %s is empty", engine.ErrNoData, e.cfg.DataDir)
			}
			if info.Data != kv.DataPresent {
				return fmt.Errorf("%w: %s", engine.ErrNoData, info.Reason)
			}
			return same(info)
		})
		if err != nil {
			return err
		}
		if err := e.adminOf(p).Promote(ctx, peer.Pair); err != nil {
			return translate(err)
		}
		e.log.InfoContext(ctx, "promoted demodb", "pid", p.pid, "was", st.Role)
		return nil
	})
}

// HoldCommits makes a primary hold commits for the peer and returns when it was seen to. The package's
// comment says what is seen.
func (e *Engine) HoldCommits(ctx context.Context, peer engine.Peer) error {
	return e.perform(ctx, "hold commits", func(ctx context.Context) error {
		if peer.Pair == "" {
			return errors.New("the pair that commits are held for is not known")
		}
		p, err := e.running()
		if err != nil {
			return err
		}
		return e.adminOf(p).Hold(ctx, peer.Pair)
	})
}

// ReleaseCommits lets a primary acknowledge commits alone. demodb forgets it with its process.
func (e *Engine) ReleaseCommits(ctx context.Context) error {
	return e.perform(ctx, "release commits", func(ctx context.Context) error {
		p, err := e.running()
		if err != nil {
			return err
		}
		return e.adminOf(p).Alone(ctx)
	})
}

// running is the process that must be there already.
func (e *Engine) running() (*process, error) {
	p, err := e.attach()
	if err == nil && p == nil {
		err = fmt.Errorf("demodb does not run on %s", e.cfg.DataDir)
	}
	return p, err
}

// LetGo lets a primary acknowledge commits alone for the rest of this run, and a mirror be. There is nothing else
// to take out, and nothing that would let the next run begin as a primary: demodb always starts as a mirror,
// whoever starts it, and keeps no place in its log for a mirror that is away. Who wants to go on with it after
// a restart promotes it through its socket.
func (e *Engine) LetGo(ctx context.Context) error {
	return e.perform(ctx, "let go", func(ctx context.Context) error {
		p, err := e.attach()
		if err != nil || p == nil {
			return err
		}
		st, err := e.status(ctx, p)
		if errors.Is(err, errGone) {
			return nil
		}
		if err != nil || st.Role != kv.RolePrimary {
			return err
		}
		return e.adminOf(p).Alone(ctx)
	})
}
