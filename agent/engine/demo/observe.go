package demo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/witnessd/witnessd/agent/engine"
	"github.com/witnessd/witnessd/agent/engine/demo/kv"
)

// lookPatience bounds a look whose caller gave no deadline.
const lookPatience = 2 * time.Second

// Observe looks at demodb.
func (e *Engine) Observe(ctx context.Context) (engine.State, error) {
	ctx, cancel := context.WithTimeout(ctx, lookPatience)
	defer cancel()
	p, err := e.attach()
	if err != nil {
		return engine.State{}, fmt.Errorf("observe: %w", err)
	}
	if p == nil {
		return e.stopped()
	}
	st, err := e.status(ctx, p)
	if errors.Is(err, errGone) {
		return e.stopped()
	}
	if err != nil {
		return engine.State{}, fmt.Errorf("observe: %w", err)
	}
	return stateOf(p, st), nil
}

// stateOf says in the agent's words what a running demodb said.
func stateOf(p *process, st kv.Status) engine.State {
	s := engine.State{
		Running: true, Run: p.run, Data: dataOf(st.Data), SystemID: st.System,
		Position: positionOf(st.Position),
	}
	if st.Role == kv.RolePrimary {
		s.Role, s.Promotable = engine.RolePrimary, true
		switch st.Commits {
		case kv.CommitsHeld:
			s.Commits = engine.CommitsHeld
		case kv.CommitsAlone:
			s.Commits = engine.CommitsAlone
		}
		if st.Attached {
			s.Mirror.Attached = true
			s.Mirror.Flushed = engine.Position{
				Timeline: st.Position.Timeline, Offset: uint64(st.MirrorFlushed),
			}
		}
		return s
	}
	s.Role, s.Following = engine.RoleMirror, st.Upstream.Following()
	s.Replayed = s.Position // a copy applies what it has put on disk before it does anything else
	s.Promotable, s.NotPromotable = st.Data == kv.DataPresent, st.Reason
	if st.Stopping {
		s.Promotable, s.NotPromotable = false, "it is stopping"
	}
	s.Step = stepOf(st)
	return s
}

// stepOf is what a long Follow is doing.
func stepOf(st kv.Status) string {
	up := st.Upstream
	if up == nil || up.Step == kv.StepStreaming {
		return ""
	}
	text := string(up.Step)
	if up.Total > 0 {
		text += fmt.Sprintf(" %d %%", 100*up.Done/up.Total)
	}
	if up.Rate > 0 {
		text += fmt.Sprintf(" %d MB/s", up.Rate>>20)
	}
	return text
}

func dataOf(d kv.Data) engine.Data {
	switch d {
	case kv.DataEmpty:
		return engine.DataEmpty
	case kv.DataPresent:
		return engine.DataPresent
	case kv.DataIncomplete, kv.DataDamaged:
		return engine.DataIncomplete
	default:
		return engine.DataUnknown
	}
}

func positionOf(p kv.Position) engine.Position {
	return engine.Position{Timeline: p.Timeline, Offset: uint64(p.Offset)}
}

// stopped looks at the data of a demodb that does not run.
func (e *Engine) stopped() (engine.State, error) {
	info, err := e.seen.look(e.cfg.DataDir)
	if errors.Is(err, kv.ErrForeign) {
		return engine.State{NotPromotable: err.Error()}, nil
	}
	if err != nil {
		return engine.State{}, fmt.Errorf("observe: %w", err)
	}
	s := engine.State{
		Data: dataOf(info.Data), SystemID: info.System, Position: positionOf(info.Position),
		Promotable: info.Data == kv.DataPresent, NotPromotable: info.Reason,
	}
	if info.Data == kv.DataEmpty {
		s.NotPromotable = "there is no data yet"
	}
	return s, nil
}

// inspection remembers what a directory held, since to read the whole log at every look would be too
// much. It looks again when a file there has changed.
type inspection struct {
	mu   sync.Mutex
	key  string // what the files looked like
	info kv.Info
	err  error
}

func (i *inspection) look(dir string) (kv.Info, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	key, err := fingerprint(dir)
	if err != nil {
		return kv.Info{}, err
	}
	if key != i.key {
		i.info, i.err = kv.Inspect(dir)
		i.key = key
		if i.err != nil && !errors.Is(i.err, kv.ErrForeign) {
			i.key = "" // What failed to be read may be readable at the next look.
		}
	}
	return i.info, i.err
}

// fingerprint changes when a file of the directory does.
func fingerprint(dir string) (string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return "nothing", nil
	}
	if err != nil {
		return "", fmt.Errorf("read data directory: %w", err)
	}
	var text strings.Builder
	text.WriteString("files: ") // An empty directory is not the same as none looked at yet.
	for _, entry := range entries {
		if stat, err := entry.Info(); err == nil {
			fmt.Fprintf(&text, "%s:%d:%d ", entry.Name(), stat.Size(), stat.ModTime().UnixNano())
		}
	}
	return text.String(), nil
}
