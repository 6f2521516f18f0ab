package sqlservertest

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/witnessd/witnessd/agent/engine/sqlserver/sqlservertest/model"
)

// Knobs break an instance on purpose: the model's (links, disks, redo, commands that fail), and those of the side that
// clients see. They are gone after a restart. All are safe for several goroutines.
type Knobs struct {
	*model.Knobs

	groups   *model.Instance
	listener func(open bool) error

	mu         sync.Mutex
	changed    chan struct{} // closed when hung or slow change
	hung       bool
	slow       time.Duration
	noLogin    map[string]bool
	conditions map[string]string
	logs       map[string]int64
	hidden     bool
}

func newKnobs(of *model.Instance, listener func(open bool) error) *Knobs {
	return &Knobs{
		Knobs: of.Knobs(), groups: of, listener: listener, changed: make(chan struct{}), noLogin: map[string]bool{},
		conditions: map[string]string{}, logs: map[string]int64{},
	}
}

func (k *Knobs) change(what func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	what()
	close(k.changed)
	k.changed = make(chan struct{})
}

// Hang stops everything: no client is answered, no partner hears a ping, and no connection is closed. False lets the
// instance go on where it stood.
func (k *Knobs) Hang(hung bool) {
	k.Knobs.Hang(hung)
	k.HangClients(hung)
}

// HangClients answers no client any more, while mirroring goes on.
func (k *Knobs) HangClients(hung bool) { k.change(func() { k.hung = hung }) }

// Slow delays every answer to a client.
func (k *Knobs) Slow(by time.Duration) { k.change(func() { k.slow = by }) }

// Listener closes the port for clients, or opens it again. Connections that are open stay.
func (k *Knobs) Listener(open bool) error { return k.listener(open) }

// RefuseLogin has logins whose database is this one fail with 18456; "master" is that of a login that names none.
func (k *Knobs) RefuseLogin(database string, refuse bool) {
	k.change(func() { k.noLogin[strings.ToLower(database)] = refuse })
}

// Diagnostics sets what sp_server_diagnostics says of a component (system, resource, query_processing, io_subsystem,
// events): clean, warning, error or unknown.
func (k *Knobs) Diagnostics(component, state string) {
	k.change(func() { k.conditions[component] = state })
}

// LogUsed sets how full the log of a database is said to be, in percent. It fills nothing; see Disk.
func (k *Knobs) LogUsed(database string, percent int64) {
	k.change(func() { k.logs[strings.ToLower(database)] = percent })
}

// HideMirrors shows clients what a login sees that is not sysadmin: of a database that is a mirror, NULL.
func (k *Knobs) HideMirrors(hide bool) { k.change(func() { k.hidden = hide }) }

// gate waits as long as the knobs say. It returns at once when ctx has ended.
func (k *Knobs) gate(ctx context.Context) {
	for late := false; ; {
		k.mu.Lock()
		hung, slow, changed := k.hung, k.slow, k.changed
		k.mu.Unlock()
		if !hung && (slow == 0 || late) {
			return
		}
		var after <-chan time.Time
		if !hung {
			after = time.After(slow)
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-after:
			late = true
		}
	}
}

func (k *Knobs) refused(database string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.noLogin[strings.ToLower(database)]
}

func (k *Knobs) component(name string) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	if state, ok := k.conditions[name]; ok {
		return state
	}
	return "clean"
}

func (k *Knobs) logUsed(database string) int64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	if percent, ok := k.logs[strings.ToLower(database)]; ok {
		return percent
	}
	return 7
}

func (k *Knobs) hidesMirrors() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.hidden
}
