package availability

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/witnessd/witnessd/agent/engine"
	"github.com/witnessd/witnessd/agent/engine/sqlserver"
)

const (
	// lookPatience bounds a look whose caller gave no deadline, and each of the looks that wait for something.
	lookPatience = 2 * time.Second
	// lookPause is between two looks at something that is expected to change.
	lookPause = 50 * time.Millisecond
)

// errStopped says that there is no process to look at.
var errStopped = errors.New("the SQL Server process does not run")

// look is what was read of the instance at one time.
type look struct {
	began time.Time // nothing in it is older
	run   string    // of the process
	view
	states []sqlserver.DatabaseRow // of the group's databases
	lease  sqlserver.Lease
}

// settled says that no change of the group's configuration is under way, as far as the server shows it.
func (l look) settled() bool { return l.lease.Configuring.IsZero() }

// view is the group as one instance shows it.
type view struct {
	known     bool // the instance has the group
	group     sqlserver.GroupRow
	replicas  []sqlserver.ReplicaRow
	databases []sqlserver.GroupDatabaseRow
}

func (v view) primary() bool   { return v.known && v.group.Role == sqlserver.GroupRolePrimary }
func (v view) secondary() bool { return v.known && v.group.Role == sqlserver.GroupRoleSecondary }
func (v view) resolving() bool { return v.known && !v.primary() && !v.secondary() }

// local are the databases of the group as this replica has them.
func (v view) local() []sqlserver.GroupDatabaseRow { return v.side(true) }

// remote are those of the other data replica, as a primary sees them.
func (v view) remote() []sqlserver.GroupDatabaseRow { return v.side(false) }

func (v view) side(local bool) []sqlserver.GroupDatabaseRow {
	return slices.DeleteFunc(slices.Clone(v.databases), func(d sqlserver.GroupDatabaseRow) bool {
		return d.Local != local
	})
}

// self is the local replica; false if it is not listed.
func (v view) self() (sqlserver.ReplicaRow, bool) {
	i := slices.IndexFunc(v.replicas, func(r sqlserver.ReplicaRow) bool {
		return r.Local || r.ID != "" && r.ID == v.group.ReplicaID
	})
	if i < 0 {
		return sqlserver.ReplicaRow{}, false
	}
	return v.replicas[i], true
}

// other is the second data replica; false if there is none, or several.
func (v view) other() (sqlserver.ReplicaRow, bool) {
	self, ok := v.self()
	var others []sqlserver.ReplicaRow
	for _, r := range v.replicas {
		if r.ID != self.ID && r.Mode != sqlserver.ModeConfigurationOnly {
			others = append(others, r)
		}
	}
	if !ok || len(others) != 1 {
		return sqlserver.ReplicaRow{}, false
	}
	return others[0], true
}

// flows says that a database's changes arrive.
func flows(d sqlserver.GroupDatabaseRow) bool {
	return !d.Suspended && (d.State == sqlserver.StateSynchronized || d.State == sqlserver.StateSynchronizing)
}

// complete says that a database has everything that was acknowledged, as long as commits are held.
func complete(d sqlserver.GroupDatabaseRow) bool {
	return !d.Suspended && d.State == sqlserver.StateSynchronized
}

// all says that there are databases and that each is as asked.
func all(list []sqlserver.GroupDatabaseRow, is func(sqlserver.GroupDatabaseRow) bool) bool {
	return len(list) > 0 && !slices.ContainsFunc(list, func(d sqlserver.GroupDatabaseRow) bool { return !is(d) })
}

// without are the names of the databases that are not as asked, with their states.
func without(list []sqlserver.GroupDatabaseRow, is func(sqlserver.GroupDatabaseRow) bool) string {
	var said []string
	for _, d := range list {
		if is(d) {
			continue
		}
		text := d.Database + " " + d.State
		if d.Suspended {
			text += " suspended"
		}
		said = append(said, text)
	}
	if len(list) == 0 {
		return "no database"
	}
	return strings.Join(said, ", ")
}

// attached says, of a primary, that the other data replica receives every database.
func (v view) attached() bool {
	other, ok := v.other()
	return ok && v.primary() && other.Connected != disconnected && v.paired() && all(v.remote(), flows)
}

// synchronized says, of a primary, that the other data replica has everything that was acknowledged.
func (v view) synchronized() bool { return v.attached() && all(v.remote(), complete) }

// paired says, of a primary, that the other replica has joined with each of the group's databases.
func (v view) paired() bool {
	there := v.remote()
	return !slices.ContainsFunc(v.local(), func(d sqlserver.GroupDatabaseRow) bool {
		return !slices.ContainsFunc(there, func(o sqlserver.GroupDatabaseRow) bool { return o.GroupID == d.GroupID })
	})
}

// disconnected is the word of connected_state_desc.
const disconnected = "DISCONNECTED"

// look reads the instance and keeps what must be remembered of it.
func (e *Engine) look(ctx context.Context) (look, error) {
	ctx, cancel := context.WithTimeout(ctx, lookPatience)
	defer cancel()
	l := look{began: now()}
	p, err := e.process.Look(ctx)
	if err != nil {
		return look{}, fmt.Errorf("look for the SQL Server process: %w", err)
	}
	if !p.Running {
		return look{}, errStopped
	}
	l.run = p.Run
	if l.view, err = e.view(ctx, e.client); err != nil {
		return look{}, err
	}
	every, err := e.client.Databases(ctx)
	if err != nil {
		return look{}, err
	}
	own := l.local()
	l.states = slices.DeleteFunc(every, func(r sqlserver.DatabaseRow) bool {
		return !slices.ContainsFunc(own, func(d sqlserver.GroupDatabaseRow) bool {
			return strings.EqualFold(d.Database, r.Name)
		})
	})
	if l.known {
		if l.lease, err = e.client.Lease(ctx, e.cfg.Group); err != nil {
			return look{}, err
		}
	}
	e.keep(l)
	return l, nil
}

// view reads the group as an instance shows it.
func (e *Engine) view(ctx context.Context, client *sqlserver.Client) (v view, err error) {
	if v.group, v.known, err = client.Group(ctx, e.cfg.Group); err != nil || !v.known {
		return v, err
	}
	if v.replicas, err = client.Replicas(ctx, e.cfg.Group); err != nil {
		return v, err
	}
	v.databases, err = client.GroupDatabases(ctx, e.cfg.Group)
	return v, err
}

// keep remembers what a look says for certain. What a later look has said already is left alone. The disk is not
// waited for: a look has to end in time whatever the disk does.
func (e *Engine) keep(l look) {
	e.looking.Lock()
	defer e.looking.Unlock()
	e.mu.Lock()
	newest := !l.began.Before(e.last.began)
	if newest {
		e.last = l
		switch {
		case l.lease.Configuring.IsZero():
			e.stuck = time.Time{}
		case e.stuck.IsZero():
			e.stuck = l.began
		}
	}
	e.mu.Unlock()
	if !newest || !l.known {
		return
	}
	m := e.memory.read()
	seen := evidence(l.view, m)
	if l.group.ID == m.Group && maps.Equal(seen, m.Synchronized) {
		return
	}
	e.memory.set(func(m *stored) { m.Group, m.Synchronized = l.group.ID, seen })
	e.spawn(func() {
		if err := e.memory.save(); err != nil {
			e.log.Error("what a look has proved is not on disk; an agent that starts now would not know it", "error", err)
		}
	})
}

// evidence is what is known, after a look, of the databases that had everything when that could last be seen. Only a
// secondary that hears its primary can see it; a primary has everything itself.
func evidence(v view, m stored) map[string]bool {
	known := m.Synchronized
	if m.Group != v.group.ID {
		known = nil // of another group by the same name
	}
	seen := map[string]bool{}
	for _, d := range v.local() {
		switch {
		case v.primary():
			seen[d.GroupID] = true
		case v.secondary() && v.group.Connected != disconnected && d.State != notSynchronizing:
			seen[d.GroupID] = complete(d)
		default:
			if had, ok := known[d.GroupID]; ok {
				seen[d.GroupID] = had && !d.Suspended
			}
		}
	}
	if len(seen) == 0 {
		return known // nothing can be seen while the instance recovers
	}
	return seen
}

// notSynchronizing is the state of a database whose replica has no primary, and of one that is suspended.
const notSynchronizing = "NOT SYNCHRONIZING"

// same refuses to touch another group: one by the same name, made anew or elsewhere, has another GUID.
func (e *Engine) same(l look, peer engine.Peer) error {
	own := e.memory.read().Group
	if l.known {
		own = l.group.ID
	}
	id := sqlserver.GroupID(sqlserver.GroupRow{ID: own})
	if own == "" || peer.SystemID == "" || id == peer.SystemID {
		return nil
	}
	return fmt.Errorf("%w: the availability group %s is %s here and %s on the partner; nothing was changed. See that "+
		"both instances are replicas of one group", engine.ErrForeign, e.cfg.Group, id, peer.SystemID)
}

// until looks again and again until done says so or patience has passed.
func (e *Engine) until(ctx context.Context, patience time.Duration, done func(look) bool) (look, bool, error) {
	begun := now()
	var last error
	for {
		l, err := e.look(ctx)
		if err == nil && done(l) {
			return l, true, nil
		}
		if ctx.Err() != nil {
			return l, false, context.Cause(ctx)
		}
		last = err
		if now().Sub(begun) > patience {
			return l, false, last
		}
		if err := pause(ctx, lookPause); err != nil {
			return l, false, err
		}
	}
}
