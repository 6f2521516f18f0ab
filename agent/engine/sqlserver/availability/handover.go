package availability

import (
	"context"
	"errors"
	"fmt"

	"github.com/witnessd/witnessd/agent/engine"
)

// HandOver takes the group offline here, so that the other replica can be promoted. It begins only while commits are
// held and the other replica has everything: then nothing can be acknowledged, until the end, that is not there. SQL
// Server ends the clients' sessions and rolls back what they had open. A call after one that was cut short goes on
// where that was, but cannot prove any more what the mirror has.
func (e *Engine) HandOver(ctx context.Context, peer engine.Peer) (engine.Handover, error) {
	var h engine.Handover
	err := e.perform(ctx, "hand over to "+peer.Host, func(ctx context.Context) error {
		l, err := e.look(ctx)
		if err != nil {
			return err
		}
		if err := e.same(l, peer); err != nil {
			return err
		}
		if err := e.usable(l.view); err != nil {
			return err
		}
		if l.primary() {
			if l.group.Required < 1 {
				return errors.New("commits are not held (REQUIRED_SYNCHRONIZED_SECONDARIES_TO_COMMIT is 0), so the mirror may " +
					"lack some; nothing was changed")
			}
			if why := behind(l); why != "" {
				return fmt.Errorf("the mirror does not have everything: %s; nothing was changed", why)
			}
			h.MirrorHasEverything = true
		}
		h.Final = engine.Position{Timeline: history, Offset: vector(l.local(), committed).Number()}
		after, err := e.achieve(ctx, e.goOffline())
		if err != nil {
			h.MirrorHasEverything = false
			return err
		}
		e.shut()
		if after.run != l.run || after.group.Required < 1 {
			h.MirrorHasEverything = false
		}
		e.log.InfoContext(ctx, "handed over: the group is offline here", "group", e.cfg.Group)
		return nil
	})
	return h, err
}

// shut notes that clients are not let in any more.
func (e *Engine) shut() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.allowed, e.opened = false, false
}
