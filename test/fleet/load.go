package fleet

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

const (
	// benchScale is pgbench's scale for a pair that names none: 1,000,000 accounts, 150 MB.
	benchScale = 10
	// benchStuck is how long a pgbench may have no transaction before it is ended, as an application's own limit
	// would. It is more than any commit is held that goes on in the end.
	benchStuck = 6 * time.Second
	// benchKeepalive has libpq see that a host is gone which says nothing any more.
	benchKeepalive = "&keepalives_idle=1&keepalives_interval=1&keepalives_count=3&tcp_user_timeout=3000"
)

// bench is one load, over as many runs of pgbench as it takes.
type bench struct {
	pair    *Pair
	clients int
	began   time.Time
	ended   sync.WaitGroup
	cancel  context.CancelFunc

	mu    sync.Mutex
	made  float64 // transactions, as far as pgbench has told
	words string  // why the last run ended
}

// Pgbench runs pgbench's usual load ("TPC-B (sort of)") with that many sessions from outside, against whichever host
// takes writes, until stop: that says how many transactions it made each second on average, outages included. The first
// call makes pgbench's tables. A run ends when the primary goes, and is begun again.
func (p *Pair) Pgbench(ctx context.Context, clients int) (stop func() (tps float64, err error), err error) {
	if err := p.benchTables(ctx); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	b := &bench{pair: p, clients: clients, began: time.Now(), cancel: cancel}
	b.ended.Go(func() {
		for ctx.Err() == nil {
			b.run(ctx)
			pause(ctx, retryPause)
		}
	})
	return b.stop, nil
}

func (b *bench) stop() (float64, error) {
	took := time.Since(b.began)
	b.cancel()
	b.ended.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.made == 0 {
		return 0, fmt.Errorf("pgbench made no transaction; its last words: %s", b.words)
	}
	return b.made / took.Seconds(), nil
}

// benchTables makes pgbench's tables unless this was done before.
func (p *Pair) benchTables(ctx context.Context) error {
	p.benching.Lock()
	defer p.benching.Unlock()
	if p.benched {
		return nil
	}
	scale := p.Scale
	if scale == 0 {
		scale = benchScale
	}
	cmd, err := p.pgbench(ctx, "--initialize", "--init-steps=dtGvp", fmt.Sprintf("--scale=%d", scale))
	if err != nil {
		return fmt.Errorf("make pgbench's tables: %w", err)
	}
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := p.Hosts[0].fleet.outside.inside(cmd.Start); err != nil {
		return fmt.Errorf("make pgbench's tables: %w", err)
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("make pgbench's tables: %w: %s", err, said.String())
	}
	p.benched = true
	return nil
}

// pgbench is the command, to be started.
func (p *Pair) pgbench(ctx context.Context, args ...string) (*exec.Cmd, error) {
	kit, ok := p.Hosts[0].engine.(*postgresKit)
	if !ok {
		return nil, errors.New("pgbench needs engine postgres")
	}
	addresses := []string{p.Hosts[0].Database, p.Hosts[1].Database}
	args = append(args, libpqURL(addresses, benchKeepalive))
	cmd := exec.CommandContext(ctx, filepath.Join(kit.bin, "pgbench"), args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	return cmd, nil
}

// run is one run of pgbench.
func (b *bench) run(ctx context.Context) {
	cmd, err := b.pair.pgbench(ctx, "--no-vacuum", "--progress=1", "--time=86400",
		fmt.Sprintf("--client=%d", b.clients), "--jobs=1")
	if err != nil {
		b.said(err.Error())
		return
	}
	words, err := cmd.StderrPipe()
	if err == nil {
		err = b.pair.Hosts[0].fleet.outside.inside(cmd.Start)
	}
	if err != nil {
		b.said(err.Error())
		return
	}
	stuck := time.AfterFunc(benchStuck, func() { _ = cmd.Process.Kill() })
	defer stuck.Stop()
	before, lines := 0.0, bufio.NewScanner(words)
	for lines.Scan() {
		var at, tps float64
		if n, _ := fmt.Sscanf(lines.Text(), "progress: %f s, %f tps", &at, &tps); n < 2 {
			b.said(lines.Text())
			continue
		}
		b.mu.Lock()
		b.made += tps * (at - before)
		b.mu.Unlock()
		before = at
		if tps > 0 {
			stuck.Reset(benchStuck)
		}
	}
	_ = cmd.Wait() // how it ended does not matter: it is begun again
}

func (b *bench) said(words string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.words = words
}

// busyLoop keeps a processor busy for as long as the program lives that started it.
const busyLoop = `while kill -0 $PPID 2>/dev/null; do i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; done`

// Starve keeps that many processors busy with work of normal priority until ctx or the fleet ends.
func (f *Fleet) Starve(ctx context.Context, cores int) error {
	for range cores {
		p, err := start(program{log: os.DevNull, path: "sh", args: []string{"-c", busyLoop}})
		if err != nil {
			return fmt.Errorf("keep a processor busy: %w", err)
		}
		f.beside(p)
		context.AfterFunc(ctx, func() { p.kill() })
	}
	return nil
}

// beside has a process end with the fleet.
func (f *Fleet) beside(p *process) {
	f.aside.Lock()
	defer f.aside.Unlock()
	f.others = append(f.others, p)
}
