package model

import (
	"strconv"
	"strings"
	"time"
)

// This file is how a group changes: its configuration, its roles, its commits.

// change changes the configuration on the primary. It counts when more than half of the voters have it.
func (g *group) change(how func(*configuration)) {
	g.Config = g.Config.clone()
	how(&g.Config)
	g.Config.Sequence++
	g.i.ags().save()
	if g.configuring.IsZero() {
		g.configuring = now()
	}
	c := g.Config
	for _, r := range c.Replicas {
		if r.ID != g.Self && g.peer(r.ID).connected {
			g.tell(r.ID, groupMessage{Type: "config", Config: &c})
		}
	}
	g.count()
}

// count sees whether the newest configuration counts.
func (g *group) count() {
	voters, have := 0, 0
	for _, r := range g.Config.Replicas {
		if r.Mode == modeAsync {
			continue
		}
		voters++
		if r.ID == g.Self || g.peer(r.ID).configured >= g.Config.Sequence {
			have++
		}
	}
	need := voters/2 + 1
	if g.Config.ClusterType == clusterNone || voters == 2 && !g.i.ags().strict {
		need = 1
	}
	if have < need {
		return
	}
	g.settled, g.ready, g.configuring = g.Config.clone(), true, time.Time{}
	g.acknowledge()
}

// fallBehind notes that a secondary is gone: once that counts, nothing waits for it but what
// REQUIRED_SYNCHRONIZED_SECONDARIES_TO_COMMIT asks for.
func (g *group) fallBehind(id string) {
	for _, m := range g.Config.Databases {
		if g.Config.Synced[key(id, m.ID)] {
			g.change(func(c *configuration) {
				for _, m := range c.Databases {
					delete(c.Synced, key(id, m.ID))
				}
			})
			return
		}
	}
}

func (s *groups) committed(d *database, lsn LSN, done func(error)) bool {
	g, id := s.of(d.name)
	if g == nil {
		return false
	}
	g.waiting = append(g.waiting, groupWaiter{id, lsn, done})
	records := d.records[len(d.records)-1:]
	var before LSN
	if n := len(d.records); n > 1 {
		before = d.records[n-2].LSN
	}
	for _, r := range g.Config.Replicas {
		if r.ID == g.Self || r.Mode == modeConfigOnly || !g.peer(r.ID).connected ||
			g.Config.Suspended[key(r.ID, id)] != "" || g.Config.Suspended[key(g.Self, id)] != "" {
			continue
		}
		g.tell(r.ID, groupMessage{Type: "feed", Database: id, LSN: before, Records: records})
	}
	g.acknowledge()
	return true
}

// acknowledge ends the waits of commits that may be told of.
func (g *group) acknowledge() {
	if g.Role != groupPrimary || g.lapsed() || !g.ready {
		return
	}
	var still []groupWaiter
	for _, w := range g.waiting {
		if g.enough(w) {
			w.done(nil)
		} else {
			still = append(still, w)
		}
	}
	g.waiting = still
}

// enough says that a commit is on as many disks as it must be. A copy counts as long as the last configuration that
// counts, or the one under way, says that it is synchronized.
func (g *group) enough(w groupWaiter) bool {
	secondaries := 0
	for _, r := range g.Config.Replicas {
		if r.ID == g.Self || r.Mode != modeSync {
			continue
		}
		k := key(r.ID, w.db)
		if !g.Config.Synced[k] && !g.settled.Synced[k] {
			continue
		}
		if g.peer(r.ID).acked[w.db].Compare(w.lsn) < 0 {
			return false
		}
		if g.Config.Synced[k] {
			secondaries++
		}
	}
	return secondaries >= max(g.Config.Required, g.settled.Required)
}

// stop ends a primary's role.
func (g *group) stop(role string) {
	g.Role, g.upstream, g.ready, g.waiting, g.configuring = role, false, false, nil, time.Time{}
	for _, p := range g.peers {
		p.connected = false
	}
	g.endSessions()
	g.i.ags().save()
	g.greetAll() // secondaries hear that there is no primary
}

func (g *group) endSessions() {
	for _, m := range g.Config.Databases {
		if d := g.i.database(m.Name); d != nil {
			d.endSessions()
		}
	}
}

// begin begins a failover to this replica.
func (g *group) begin(forced, external bool) error {
	c := g.Config
	switch {
	case g.taking != nil:
		return errGroup(41113, g, "a failover is already pending.")
	case c.ClusterType == clusterExternal && !external:
		return errGroup(47104, g, "the cluster type is EXTERNAL: failover is up to the external cluster manager.")
	case g.Role == groupPrimary:
		return errGroup(41122, g, "cannot fail over: the local replica is already the primary.")
	case c.ClusterType == clusterNone && !forced:
		return errGroup(47122, g, "only FORCE_FAILOVER_ALLOW_DATA_LOSS is supported with cluster type NONE.")
	case g.mode() == modeConfigOnly:
		return errGroup(41190, g, "a configuration-only replica cannot become primary.")
	}
	for _, m := range c.Databases {
		d := g.i.database(m.Name)
		if !forced && (d == nil || !c.Synced[key(g.Self, m.ID)] || c.Suspended[key(g.Self, m.ID)] != "") {
			return errGroup(41142, g, "the availability replica cannot become the primary replica: one or more databases are "+
				"not synchronized or have not joined the availability group.")
		}
	}
	g.taking = &groupTaking{forced: forced, begun: now()}
	old := g.replica(c.Primary)
	if g.upstream && old != nil && g.i.link(address(old.Endpoint)) != nil {
		g.tell(old.ID, groupMessage{Type: "yield"})
		return nil
	}
	g.take(now())
	return nil
}

// take lets this replica become primary, at once or after a while.
func (g *group) take(at time.Time) {
	g.taking.until = at.Add(g.i.ags().slow)
	g.upstream = false
	if g.i.ags().slow == 0 {
		g.becomePrimary()
	}
}

// yield stops a primary in favour of a secondary.
func (g *group) yield(to string) {
	if g.Role == groupPrimary {
		g.stop(groupSecondary)
	}
	g.tell(to, groupMessage{Type: "yielded"})
}

func (g *group) becomePrimary() {
	forced := g.taking.forced
	g.taking, g.Role, g.ready = nil, groupPrimary, false
	g.Config = g.Config.clone()
	g.Config.Primary, g.Config.Sequence = g.Self, (g.Config.epoch()+1)<<32
	g.forgetSynced()
	for _, m := range g.Config.Databases {
		delete(g.Config.Suspended, key(g.Self, m.ID))
		if d := g.i.database(m.Name); d != nil {
			d.restoring = false
			d.redo(0)
			_ = d.append(d.next(record{Fork: newID()}))
			d.redo(0)
		}
		for _, r := range g.Config.Replicas {
			if forced && r.ID != g.Self && r.Mode != modeConfigOnly {
				g.Config.Suspended[key(r.ID, m.ID)] = byPartner
			}
		}
	}
	for _, p := range g.peers {
		p.connected, p.acked = false, map[string]LSN{}
	}
	g.settled, g.expired = g.Config.clone(), false
	g.change(func(*configuration) {})
	g.greetAll()
}

// alter is ALTER AVAILABILITY GROUP without the failovers.
func (g *group) alter(verb GroupVerb, argument string) error {
	switch verb {
	case GroupOffline:
		switch {
		case g.Config.ClusterType != clusterExternal:
			return errGroup(41190, g, "OFFLINE is not supported with this cluster type.")
		case g.Role != groupPrimary:
			return errGroup(41140, g, "the operation is only valid on the primary replica.")
		}
		g.stop(groupResolving)
		return nil
	case GroupRole:
		if !strings.EqualFold(argument, groupSecondary) {
			return wrongValue(verb, argument)
		}
		if g.taking != nil {
			return errGroup(41104, g, "the failover of the group is under way.")
		}
		if g.Role != groupSecondary {
			g.stop(groupSecondary)
		}
		return nil
	case GroupRequired:
		return g.require(argument)
	case GroupLease:
		return g.lease(argument)
	default:
		return wrongValue(verb, argument)
	}
}

func (g *group) require(argument string) error {
	n, err := strconv.Atoi(argument)
	secondaries := -1
	for _, r := range g.Config.Replicas {
		if r.Mode == modeSync {
			secondaries++
		}
	}
	switch {
	case err != nil || n < 0:
		return wrongValue(GroupRequired, argument)
	case g.Role != groupPrimary:
		return errGroup(41140, g, "the operation is only valid on the primary replica.")
	case n > secondaries:
		return errGroup(47110, g, "there are not as many synchronous secondary replicas.")
	}
	g.change(func(c *configuration) { c.Required = n })
	return nil
}

func (g *group) lease(argument string) error {
	n, err := strconv.Atoi(argument)
	if err != nil || n <= 0 {
		return wrongValue(GroupLease, argument)
	}
	if !g.Config.Lease {
		return errGroup(47116, g, "the write lease cannot be updated, as lease updates are not enabled.")
	}
	until := now().Add(time.Duration(n) * g.i.options.Second)
	if until.Before(g.leaseUntil) {
		return errGroup(47119, g, "the new write lease would expire before the current one.")
	}
	g.leaseUntil, g.expired = until, false
	g.acknowledge()
	return nil
}

// suspend stops or resumes the movement of one database's log: on a primary to all, on a secondary to this one. The
// primary owns the configuration: it hears of a secondary's wish with the next hello.
func (g *group) suspend(db string, suspended bool) error {
	if g.Role == groupResolving {
		return errGroup(41190, g, "the local replica is not in a state that could process the command.")
	}
	if g.Role == groupPrimary {
		g.change(func(c *configuration) { c.halt(g.Self, db, suspended) })
		if !suspended {
			g.greetAll() // secondaries ask anew
		}
		return nil
	}
	if g.Wishes == nil {
		g.Wishes = map[string]bool{}
	}
	g.Wishes[db] = suspended
	g.Config = g.Config.clone()
	g.Config.halt(g.Self, db, suspended)
	g.i.ags().save()
	g.greetAll()
	return nil
}

// halt notes that a copy gets nothing, or does again; the primary's own, that nobody does.
func (c *configuration) halt(replica, db string, suspended bool) {
	k := key(replica, db)
	delete(c.Suspended, k)
	if !suspended {
		return
	}
	c.Suspended[k] = byUser
	for _, r := range c.Replicas {
		if r.ID != c.Primary && (r.ID == replica || replica == c.Primary) {
			delete(c.Synced, key(r.ID, db))
		}
	}
}
