package agent

import (
	"context"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/witnessd/witnessd/agent/engine"
	"github.com/witnessd/witnessd/agent/hold"
)

func TestGuard(t *testing.T) {
	const lease = 2700 * time.Millisecond
	file := hold.File{Pair: "p", Name: "payroll", Epoch: 3, Primary: "a", Mirror: "b", Longest: 3 * time.Second}
	for name, c := range map[string]struct {
		eng     endEngine
		renewed time.Duration // the mark is renewed every 500 ms for so long
		endless bool
		unmark  bool          // the agent takes the mark away then, as it does when it has fenced
		lock    time.Duration // so long an agent holds its lock: a frozen one for ever
		want    time.Duration // -1: never
	}{
		"frozen":                      {renewed: 10 * time.Second, lock: time.Hour, want: 10*time.Second + lease},
		"killed":                      {renewed: 10 * time.Second, lock: 10 * time.Second, want: 10*time.Second + lease},
		"killed, and hangs":           {eng: endEngine{hangs: true}, renewed: time.Second, lock: time.Second, want: time.Second + lease + guardProbe},
		"killed in a sole right":      {renewed: time.Second, endless: true, lock: time.Second, want: -1},
		"frozen over a copy":          {eng: endEngine{role: engine.RoleMirror}, renewed: time.Second, lock: time.Hour, want: -1},
		"fenced by its agent":         {renewed: time.Second, unmark: true, lock: time.Hour, want: -1},
		"fenced, and its agent ended": {renewed: time.Second, unmark: true, lock: 5 * time.Second, want: 5*time.Second + 3*time.Second},
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
				clock := func() hold.Instant { return hold.Instant(time.Hour).Add(time.Since(began)) }
				if err := a.epochFileOf("db").save(file); err != nil {
					t.Fatal(err)
				}
				lock, err := lockDir(dir)
				if err != nil {
					t.Fatal(err)
				}
				time.AfterFunc(c.lock, func() { _ = lock.Close() })
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
				defer cancel()
				done := make(chan error, 1)
				go func() {
					done <- Guard(ctx, config, Options{Clock: clock, Engines: map[string]engine.Engine{"db": &eng}})
				}()
				mark := a.markFileOf("db")
				for at := time.Duration(0); at <= c.renewed; at += 500 * time.Millisecond {
					if err := mark.write(hold.Renew{Epoch: 3, Until: clock().Add(lease), Endless: c.endless}); err != nil {
						t.Fatal(err)
					}
					time.Sleep(500*time.Millisecond - time.Since(began) + at)
				}
				if c.unmark {
					if err := mark.clear(); err != nil {
						t.Fatal(err)
					}
				}
				if err := <-done; err != nil {
					t.Error(err)
				}
				checkGuard(t, began, eng.fenced, c.want) // not before the guard has ended: it goes on fencing
				if took := time.Since(began); c.lock < time.Hour && took > c.lock+guardIdle+2*time.Second {
					t.Errorf("guarded nobody for %v", took-c.lock)
				}
			})
		})
	}
}

func checkGuard(t *testing.T, began time.Time, fenced []time.Time, want time.Duration) {
	t.Helper()
	switch {
	case want < 0 && len(fenced) > 0:
		t.Errorf("fenced after %v, never expected", fenced[0].Sub(began))
	case want >= 0 && len(fenced) == 0:
		t.Errorf("not fenced, want after %v", want)
	case want >= 0:
		if late := fenced[0].Sub(began) - want; late < 0 || late > 2*guardLook+guardLate {
			t.Errorf("fenced %v after the right's end", late)
		}
	}
}

// TestOneGuard: a second one leaves the first alone.
func TestOneGuard(t *testing.T) {
	config := Config{Host: "a", StateDir: t.TempDir(), RunDir: t.TempDir()}
	lock, err := lockFile(guardLock(config))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := Guard(t.Context(), config, Options{}); err != nil {
		t.Error(err)
	}
	a := &Agent{config: config}
	if !a.guarded() {
		t.Error("the guard is not seen")
	}
	if err := os.Remove(guardLock(config)); err != nil {
		t.Fatal(err)
	}
	if a.guarded() {
		t.Error("a guard is seen that is not there")
	}
}
