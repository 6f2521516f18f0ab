package gate

import (
	"context"
	"sync"
	"time"

	"github.com/witnessd/witnessd/agent/hold"
)

// sayEvery bounds the lines of one kind: whoever can connect could fill the disk with them.
const sayEvery = 10 * time.Second

// limiter lets a line of each kind through every [sayEvery] and counts the others.
type limiter struct {
	clock func() hold.Instant
	mu    sync.Mutex
	last  map[string]*saying // by kind, of which there are few
}

type saying struct {
	at     hold.Instant
	unsaid int
}

// pass says whether a line may be written, and how many of its kind were not since the last one.
func (l *limiter) pass(kind string) (unsaid int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.clock()
	s := l.last[kind]
	if s != nil && now.Sub(s.at) < sayEvery {
		s.unsaid++
		return 0, false
	}
	if s != nil {
		unsaid = s.unsaid
	}
	l.last[kind] = &saying{at: now}
	return unsaid, true
}

// say warns at a bounded rate.
func (g *Gate) say(ctx context.Context, kind, message string, args ...any) {
	unsaid, ok := g.limit.pass(kind)
	if !ok {
		return
	}
	args = append(args, "instance", g.o.Instance)
	if unsaid > 0 {
		args = append(args, "not_said", unsaid)
	}
	g.o.Logger.WarnContext(ctx, message, args...) //nolint:sloglint // the messages of its callers are constants
}
