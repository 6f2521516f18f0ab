package crash

import (
	"bytes"
	"context"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/witnessd/witnessd/raftstore"
	"github.com/witnessd/witnessd/witnessd/ledger"
)

// keptBackups bounds what a long run holds in memory.
const keptBackups = 200

// backups takes a backup now and then, from any node.
type backups struct {
	load   *load
	cancel context.CancelFunc
	ended  sync.WaitGroup
	taken  [][]byte
}

func startBackups(ctx context.Context, w *witness, l *load) *backups {
	ctx, cancel := context.WithCancel(ctx)
	b := &backups{load: l, cancel: cancel}
	b.ended.Go(func() {
		rng := rand.New(rand.NewPCG(1, 1))
		for ctx.Err() == nil {
			wait(ctx, rng, 600)
			_ = w.call(ctx, rng, func(ctx context.Context, c client) error {
				file, err := c.backup(ctx)
				if err == nil && len(b.taken) < keptBackups {
					b.taken = append(b.taken, file)
				}
				return err
			})
		}
	})
	return b
}

func (b *backups) stop() {
	b.cancel()
	b.ended.Wait()
}

// check restores every backup: each pair in it must be as it once was.
func (b *backups) check(t *testing.T) (problems []string) {
	t.Helper()
	for i, file := range b.taken {
		state := ledger.New()
		_, err := raftstore.Restore(raftstore.Restoration{
			Dir: filepath.Join(t.TempDir(), "restored"), Self: raftstore.Server{ID: "r", Address: "127.0.0.1:1"},
			Backup: bytes.NewReader(file), Machine: state,
		})
		if err != nil {
			problems = append(problems, err.Error())
			continue
		}
		problems = append(problems, b.load.existed(state)...)
		if i > 0 && i == len(b.taken)-1 && len(state.Pairs()) == 0 {
			problems = append(problems, "the last backup holds no pair")
		}
	}
	return problems
}

// existed compares all pairs of a state with what they have ever been.
func (l *load) existed(state *ledger.Ledger) (problems []string) {
	known := map[string]*tracked{}
	for _, p := range l.all() {
		known[p.name] = p
	}
	for _, r := range state.Pairs() {
		if strings.HasPrefix(r.Name, "live-") {
			continue
		}
		if p := known[r.Name]; p == nil {
			problems = append(problems, "a backup holds pair "+r.Name+", which was never created")
		} else if err := p.existed(r); err != nil {
			problems = append(problems, err.Error())
		}
	}
	return problems
}
