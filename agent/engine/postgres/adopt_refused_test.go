//go:build linux

package postgres

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/witnessd/witnessd/agent/engine"
)

// gated is what of the restart gate is in the data directory, with its contents.
func (h *host) gated() map[string]string {
	h.t.Helper()
	found := map[string]string{}
	for _, name := range []string{"postgresql.conf", "postmaster.opts", standbySignal, restFile, adoptedFile} {
		text, err := os.ReadFile(h.path(name))
		if err == nil {
			found[name] = "there: " + string(text)
		}
	}
	return found
}

// goesOn sees that a primary runs on as it was, also after somebody else's reload, and acknowledges commits.
func (h *host) goesOn(first engine.State, reload func()) {
	h.t.Helper()
	if got := h.see(); got.Run != first.Run || got.Role != engine.RolePrimary {
		h.t.Fatalf("not left as it was: %+v", got)
	}
	reload()
	time.Sleep(100 * time.Millisecond) // A reload has no end that a client could see if it changes nothing.
	c := h.client()
	if got := c.one("show synchronous_standby_names"); got != notHeld {
		h.t.Errorf("commits are held for %q", got)
	}
	if err := c.exec("create table went_on (n int)", 2*time.Second); err != nil {
		h.t.Errorf("a commit after a reload: %v", err)
	}
}

// TestAdoptRefused: a primary that the agent does not take over is left as it is for good: with no trace of the
// gate, which at the next reload would hold all commits, and at the next start make a copy of it.
func TestAdoptRefused(t *testing.T) {
	overridden := "synchronous_standby_names = ''"
	for name, way := range map[string]struct {
		gated bool   // has the agent's include line from an earlier time
		later string // added by the administrator while it runs
		unfit bool   // to be adopted as it runs
		says  string
	}{
		"cannot be started":    {later: "data_directory = '/nowhere'", unfit: true, says: "make them the same"},
		"overridden":           {gated: true, later: overridden, says: "is set last in"},
		"overridden and unfit": {gated: true, later: overridden, unfit: true, says: "restart gate is open"},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := newHosts(t)
			first := a.startedByHand()
			if way.gated {
				check(t, a.assureGate())
				check(t, os.Remove(a.path(standbySignal)))
			}
			check(t, appendText(a.path("postgresql.conf"), way.later+"\n"))
			if way.unfit {
				a.Engine.cfg.Listen = "127.0.0.1:1"
			}
			before := a.gated()
			err := a.Promote(within(t, ample), b.peer())
			if err == nil || !strings.Contains(err.Error(), way.says) {
				t.Errorf("%v", err)
			}
			sameFiles(t, before, a.gated())
			a.goesOn(first, func() { a.byHand("reload") })
		})
	}
}

// TestAdoptCrashSetting: a server that would restart within its own postmaster cannot be governed.
func TestAdoptCrashSetting(t *testing.T) {
	a, b := newHosts(t)
	first := a.startedByHand()
	check(t, a.assureGate())
	check(t, os.Remove(a.path(standbySignal)))
	check(t, appendText(a.path("postgresql.conf"), "restart_after_crash = on\n"))
	err := a.Promote(within(t, ample), b.peer())
	if !errors.Is(err, errGateOpen) || !strings.Contains(err.Error(), "restart_after_crash") {
		t.Errorf("%v", err)
	}
	if got := a.see(); got.Run != first.Run {
		t.Errorf("it was restarted: %+v", got)
	}
}

// TestAdoptCut: the call that adopts is ended after the gate is in place and before the server is told: then
// nothing is left of it, in Debian's layout too.
func TestAdoptCut(t *testing.T) {
	a := newDebian(t, newBase(t), "a", "")
	first, before, gate := a.see(), files(t, a.etc), a.gated()
	r, err := a.server()
	check(t, err)
	check(t, a.keepSettings(within(t, ample), r)) // What the call asks before.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.adoptFiles(ctx, r, notHeld); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	sameFiles(t, before, files(t, a.etc))
	sameFiles(t, gate, a.gated())
	if r.governed() || exists(a.path(agentDir)) {
		t.Error("it counts as adopted, or something is left in the data directory")
	}
	a.goesOn(first, func() { a.ctl(t, "reload") })
}

// TestAdoptBusy: a server that does not get to read its settings in time is neither restarted nor made to hold
// its commits when it does; the next call goes on.
func TestAdoptBusy(t *testing.T) {
	a, b := newHosts(t)
	first := a.startedByHand()
	r, err := a.server()
	check(t, err)
	_, err = a.inRecovery(within(t, ample), r) // A stopped postmaster makes no new connections.
	check(t, err)
	a.postmaster(unix.SIGSTOP)
	err = a.Promote(within(t, ample), b.peer())
	a.postmaster(unix.SIGCONT)
	if !errors.Is(err, errNotTaken) {
		t.Errorf("%v", err)
	}
	a.goesOn(first, func() { a.byHand("reload") })
	a.serve(b)
	if got := a.see(); got.Run != first.Run || got.Commits != engine.CommitsHeld {
		t.Errorf("the next call: %+v", got)
	}
	if got := a.client().one("show restart_after_crash"); got != "off" {
		t.Errorf("restart_after_crash is %s", got)
	}
}

// TestAdoptFencedUndo: a server that is fenced keeps its gate, although the call that put it there has failed.
func TestAdoptFencedUndo(t *testing.T) {
	a, _ := newHosts(t)
	a.startedByHand()
	r, err := a.server()
	check(t, err)
	err = a.tryGate(t.Context(), r, func() error {
		check(t, a.assureGate())
		a.fence()
		return engine.ErrFenced
	})
	if !errors.Is(err, engine.ErrFenced) {
		t.Errorf("%v", err)
	}
	if got := a.gateFiles(); got != wholeGate && got != standbySignal+" "+restFile+" include" {
		t.Errorf("fenced, and gated by %q", got)
	}
}

// TestAdoptLockOrder: what an ended run has left is removed while LetGo holds the gate, which itself asks for the
// server: neither waits for the other for ever. What was adopted meanwhile stays.
func TestAdoptLockOrder(t *testing.T) {
	a, b := newHosts(t)
	a.startedByHand()
	a.serve(b)
	a.forgetAdopted()
	if !exists(a.path(adoptedFile)) {
		t.Error("the settings of the adopted run were removed")
	}
	a.gating.Lock() // As removeGate does.
	a.byHand("-w", "-m", "fast", "-o", a.handOptions(), "restart")
	looked := make(chan struct{})
	go func() {
		defer close(looked)
		_, _ = a.Observe(within(t, ample))
	}()
	time.Sleep(300 * time.Millisecond) // Until it waits.
	asked := make(chan error, 1)
	go func() {
		files, err := openStore(a.Engine.cfg.DataDir, a.user)
		if err != nil {
			asked <- err
			return
		}
		defer files.close()
		steps := a.ungate(files, nil, "")
		asked <- steps[len(steps)-1]()
	}()
	select {
	case err := <-asked:
		if err == nil || !strings.Contains(err.Error(), "started or ended meanwhile") {
			t.Errorf("%v", err)
		}
	case <-time.After(5 * time.Second):
		t.Error("deadlock: the server is asked for, and who finds it waits for the gate")
	}
	a.gating.Unlock()
	<-looked
}
