package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/witnessd/witnessd/cmd/witnessctl/table"
	"github.com/witnessd/witnessd/cmd/witnessctl/view"
)

// progress tells on stderr that something takes long: on a terminal in one line that is repainted, and
// elsewhere in a line now and then.
type progress struct {
	mu       sync.Mutex
	err      io.Writer
	terminal bool
	width    func() int // of the terminal; 0 is not known
	painted  bool
}

// How soon and how often a wait is told of.
const (
	patience      = 2 * time.Second
	tickTerminal  = time.Second
	tickElsewhere = 10 * time.Second
)

// during tells what is going on until the returned function is called.
func (p *progress) during(what func() string) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var teller sync.WaitGroup
	teller.Go(func() { p.tell(ctx, what) })
	return func() {
		cancel()
		teller.Wait()
	}
}

func (p *progress) tell(ctx context.Context, what func() string) {
	start := time.Now()
	tick := tickElsewhere
	if p.terminal {
		tick = tickTerminal
	}
	for next := patience; ; next = tick {
		select {
		case <-ctx.Done():
			p.mu.Lock()
			defer p.mu.Unlock()
			p.clear()
			return
		case <-time.After(next):
		}
		text := table.Clean(fmt.Sprintf("... %s (%s)", what(), view.Duration(time.Since(start))))
		p.mu.Lock()
		if p.terminal {
			// A line that the terminal would break could not be taken away again.
			p.write("\r\x1b[K" + table.Cut(text, cmp.Or(p.width(), 80)-1))
			p.painted = true
		} else {
			p.write(text + "\n")
		}
		p.mu.Unlock()
	}
}

// clear takes the repainted line away. The lock is held.
func (p *progress) clear() {
	if p.painted {
		p.write("\r\x1b[K")
		p.painted = false
	}
}

// around writes something else, in the place of the repainted line.
func (p *progress) around(write func() error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	return write()
}

// say tells something once.
func (p *progress) say(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	p.write("... " + table.Clean(text) + "\n")
}

// write writes to stderr. Nothing is lost if that cannot be.
func (p *progress) write(text string) {
	_, _ = io.WriteString(p.err, text)
}
