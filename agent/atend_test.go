package agent

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/witnessd/witnessd/agent/engine"
	"github.com/witnessd/witnessd/agent/hold"
)

// endEngine is a database that only counts how it is ended.
type endEngine struct {
	engine.Engine
	role   engine.Role
	hangs  bool // Observe does not answer
	fails  int  // so often Fence does
	fenced []time.Time
}

func (e *endEngine) Observe(ctx context.Context) (engine.State, error) {
	if e.hangs {
		<-ctx.Done()
		return engine.State{}, ctx.Err()
	}
	return engine.State{Running: true, Role: e.role}, nil
}

func (e *endEngine) Fence(context.Context) error {
	if e.fails > 0 {
		e.fails--
		return errors.New("disk does not answer")
	}
	e.fenced = append(e.fenced, time.Now())
	return nil
}

func (e *endEngine) Close() error { return nil }

func TestAtEnd(t *testing.T) {
	const until = 2700 * time.Millisecond
	file := hold.File{Pair: "p", Name: "payroll", Epoch: 3, Primary: "a", Mirror: "b", Longest: 3 * time.Second}
	other := file
	other.Primary = "b"
	forming := file
	forming.Epoch, forming.Primary = 0, ""
	mark := func(epoch hold.Epoch, until time.Duration) *hold.Renew {
		return &hold.Renew{Epoch: epoch, Until: hold.Instant(until)}
	}
	for name, c := range map[string]struct {
		file *hold.File
		mark *hold.Renew // Until counts from the test's start
		eng  endEngine
		// After a second an agent takes the lock, and writes a mark.
		agent bool
		renew *hold.Renew
		want  time.Duration // -1: never
	}{
		"the right runs out":          {file: &file, mark: mark(3, until), want: until},
		"it is over already":          {file: &file, mark: mark(3, 1), want: 0},
		"a sole right has no end":     {file: &file, mark: &hold.Renew{Epoch: 3, Endless: true}, want: -1},
		"no mark: one longest lease":  {file: &file, want: 3 * time.Second},
		"a mark of another epoch":     {file: &file, mark: &hold.Renew{Epoch: 2, Endless: true}, want: 3 * time.Second},
		"the partner is primary":      {file: &other, mark: mark(3, 1), want: -1},
		"the pair forms":              {file: &forming, want: -1},
		"in no pair":                  {want: -1},
		"a copy lets no client write": {file: &file, eng: endEngine{role: engine.RoleMirror}, want: -1},
		"a new agent renewed the right": {
			file: &file, mark: mark(3, until), agent: true, renew: mark(3, 2*until), want: -1,
		},
		"a new agent hangs in its start": {file: &file, mark: mark(3, until), agent: true, want: until},
		"a later agent died as well":     {file: &file, mark: mark(3, until), renew: mark(3, 2*until), want: 2 * until},
		"the database does not answer": {
			file: &file, mark: mark(3, until), eng: endEngine{hangs: true}, want: until + atEndProbe,
		},
		"the fence fails twice": {
			file: &file, mark: mark(3, until), eng: endEngine{fails: 2}, want: until + 2*atEndAgain,
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				eng := c.eng
				eng.role = max(eng.role, engine.RolePrimary)
				config := Config{
					Host: "a", StateDir: dir, RunDir: dir, Instances: []Instance{{Name: "db", Engine: "demo"}},
				}
				a := Agent{config: config, boot: bootID()}
				start := hold.Instant(time.Hour)
				write := func(r *hold.Renew) {
					if r != nil {
						at := *r
						at.Until += start
						if err := a.markFileOf("db").write(at); err != nil {
							t.Fatal(err)
						}
					}
				}
				if c.file != nil {
					if err := a.epochFileOf("db").save(*c.file); err != nil {
						t.Fatal(err)
					}
				}
				write(c.mark)
				time.AfterFunc(time.Second, func() { write(c.renew) })
				if c.agent {
					time.AfterFunc(time.Second, func() {
						lock, err := lockDir(dir)
						if err != nil {
							t.Error(err)
						}
						t.Cleanup(func() { _ = lock.Close() })
					})
				}
				err := AtEnd(t.Context(), config, Options{
					Clock:   func() hold.Instant { return start.Add(time.Since(began)) },
					Engines: map[string]engine.Engine{"db": &eng},
				})
				if err != nil {
					t.Error(err)
				}
				time.Sleep(time.Minute)
				checkEnd(t, began, eng.fenced, c.want)
			})
		})
	}
}

func checkEnd(t *testing.T, began time.Time, fenced []time.Time, want time.Duration) {
	t.Helper()
	switch {
	case want < 0 && len(fenced) > 0:
		t.Errorf("fenced after %v, never expected", fenced[0].Sub(began))
	case want >= 0 && len(fenced) != 1:
		t.Errorf("fenced %d times, want once after %v", len(fenced), want)
	case want >= 0:
		if late := fenced[0].Sub(began) - want; late < 0 || late > 2*atEndLook {
			t.Errorf("fenced %v after the right's end", late)
		}
	}
}
