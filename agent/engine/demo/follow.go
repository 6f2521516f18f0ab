package demo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/witnessd/witnessd/agent/engine"
	"github.com/witnessd/witnessd/agent/engine/demo/kv"
)

// followPause is the wait between two looks at a mirror that is being made to follow: short beside the
// time a person notices, long beside the time a look takes.
const followPause = 10 * time.Millisecond

// Follow makes demodb a mirror of its peer and returns when changes stream in and nothing is missing
// that a clone or a rewind had to bring.
func (e *Engine) Follow(ctx context.Context, peer engine.Peer, progress func(engine.Progress)) error {
	return e.perform(ctx, "follow "+peer.Host, func(ctx context.Context) error {
		if peer.Pair == "" || peer.Address == "" {
			return errors.New("the peer's pair or address is not known")
		}
		p, st, err := e.asMirror(ctx, sameSystem(peer.SystemID))
		if err != nil {
			return err
		}
		if !follows(st, peer) {
			err := e.adminOf(p).Follow(ctx, kv.Upstream{
				Address: peer.Address, Name: peer.Pair, System: peer.SystemID,
				AllowCopy: e.cfg.Rejoin.AllowClone, KeepDiverged: e.cfg.Rejoin.KeepDiverged,
			})
			if err != nil {
				return translate(err)
			}
		}
		return e.untilFollowing(ctx, p, progress)
	})
}

// follows says that changes from this peer come in already.
func follows(st kv.Status, peer engine.Peer) bool {
	up := st.Upstream
	return up.Following() && up.Address == peer.Address && up.Name == peer.Pair
}

// untilFollowing tells the progress of the receiver until it streams or has ended.
func (e *Engine) untilFollowing(ctx context.Context, p *process, tell func(engine.Progress)) error {
	var told engine.Progress
	for {
		st, err := e.status(ctx, p)
		if err != nil {
			return err
		}
		up := st.Upstream
		if up == nil {
			return errors.New("somebody else made demodb stop following")
		}
		if now := progressOf(up); tell != nil && now != told {
			told = now
			tell(now)
		}
		switch {
		case up.Step == kv.StepForeign:
			return fmt.Errorf("%w: %s; nothing was changed", engine.ErrForeign, up.Error)
		case up.Step == kv.StepNeedsCopy:
			return fmt.Errorf("%w: %s; set rejoin.allow_clone", engine.ErrNeedsClone, up.Error)
		case up.Step == kv.StepStreaming && st.Data == kv.DataPresent:
			e.log.InfoContext(ctx, "following", "upstream", up.Address, "offset", st.Position.Offset,
				"detail", up.Detail)
			return nil
		}
		select {
		case <-time.After(followPause):
		case <-p.gone:
			return errGone
		case <-ctx.Done():
			if up.Error != "" {
				return fmt.Errorf("%s: %w (%s)", up.Step, context.Cause(ctx), up.Error)
			}
			return fmt.Errorf("%s: %w", up.Step, context.Cause(ctx))
		}
	}
}

// progressOf says in the agent's words what the receiver does.
func progressOf(up *kv.UpstreamStatus) engine.Progress {
	step := string(up.Step)
	if up.Step == kv.StepStreaming {
		step = string(kv.StepCatchUp)
	}
	detail := up.Detail
	if detail == "" {
		detail = up.Error
	}
	return engine.Progress{Step: step, Done: up.Done, Total: up.Total, Detail: detail}
}

// Standby makes demodb run as a mirror of nobody.
func (e *Engine) Standby(ctx context.Context) error {
	return e.perform(ctx, "stand by", func(ctx context.Context) error {
		_, _, err := e.asMirror(ctx, func(info kv.Info) error {
			if info.Data == kv.DataEmpty {
				return errNothing
			}
			return nil
		})
		if errors.Is(err, errNothing) {
			return nil // Without data there is nothing to stand by with.
		}
		return err
	})
}

// errNothing stops Standby in an empty directory.
var errNothing = errors.New("there is no data")
