package model

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"
)

// This file is what an instance knows of its groups, and keeps.

// configuration is what the replicas of a group agree on. The primary changes it; a change counts when more than half
// of the replicas that vote have it on disk.
type configuration struct {
	ID, Name, ClusterType string
	DBFailover            bool
	Lease                 bool // created WITH WRITE_LEASE_VALIDITY
	Required              int
	// Sequence is the number of failovers, shifted by 32, and of changes since.
	Sequence  int64
	Primary   string // replica
	Replicas  []replica
	Databases []member
	// Synced are the copies without which nothing is acknowledged, by key; Suspended those that get nothing, and why.
	Synced    map[string]bool
	Suspended map[string]string
}

type replica struct{ ID, Server, Endpoint, Mode string }

type member struct{ ID, Name string }

func (c configuration) clone() configuration {
	c.Replicas, c.Databases = slices.Clone(c.Replicas), slices.Clone(c.Databases)
	c.Synced, c.Suspended = maps.Clone(c.Synced), maps.Clone(c.Suspended)
	if c.Synced == nil {
		c.Synced = map[string]bool{}
	}
	if c.Suspended == nil {
		c.Suspended = map[string]string{}
	}
	return c
}

func (c configuration) epoch() int64 { return c.Sequence >> 32 }

// savedGroup is what an instance remembers of a group.
type savedGroup struct {
	Config configuration
	Self   string // replica
	Role   string
	// Wishes are the databases that were suspended (true) or resumed here and the primary has not confirmed.
	Wishes map[string]bool
}

// group is one group, as this replica has it.
type group struct {
	savedGroup
	i *Instance

	peers    map[string]*groupPeer // by replica
	upstream bool                  // a secondary's primary has accepted it over the present link
	taking   *groupTaking          // becoming primary

	// On a primary.
	settled     configuration // the last that counts
	ready       bool          // one of this primary's own counts
	configuring time.Time     // since when a change has not counted; zero: there is none
	waiting     []groupWaiter

	leaseUntil time.Time
	expired    bool // sessions were ended when the lease ran out
}

// groupPeer is another replica.
type groupPeer struct {
	connected  bool // over the present link
	acked      map[string]LSN
	configured int64 // it has this configuration on disk
}

type groupWaiter struct {
	db   string // group_database_id
	lsn  LSN
	done func(error)
}

// groupTaking is a failover to this replica.
type groupTaking struct {
	forced bool
	begun  time.Time
	until  time.Time // when it becomes primary; zero while the old primary is waited for
}

// groups are an instance's groups. They belong to its loop.
type groups struct {
	i      *Instance
	all    []*group
	offers map[string]configuration // of primaries that name this instance, by name
	slow   time.Duration
	strict bool
}

const groupsFile = "groups.json"

// newGroups reads what was saved. What cannot be read is a broken directory, and the test should see it.
func newGroups(i *Instance) groupHook {
	s := &groups{i: i, offers: map[string]configuration{}}
	data, err := os.ReadFile(i.file(groupsFile))
	if errors.Is(err, os.ErrNotExist) {
		return s
	}
	var saved []savedGroup
	if err == nil {
		err = json.Unmarshal(data, &saved)
	}
	if err != nil {
		panic(fmt.Sprintf("instance %s cannot read its availability groups: %v", i.options.Name, err))
	}
	for _, one := range saved {
		g := s.add(one)
		switch {
		case g.Config.ClusterType == clusterExternal && g.mode() != modeConfigOnly:
			g.Role = groupResolving // nobody serves before the cluster's manager has spoken
		case g.Role == groupPrimary:
			g.settled, g.ready = g.Config.clone(), true
			g.forgetSynced()
		}
	}
	return s
}

func (s *groups) add(one savedGroup) *group {
	one.Config = one.Config.clone()
	g := &group{savedGroup: one, i: s.i, peers: map[string]*groupPeer{}}
	s.all = append(s.all, g)
	return g
}

func (s *groups) save() {
	saved := []savedGroup{}
	for _, g := range s.all {
		saved = append(saved, g.savedGroup)
	}
	if err := s.i.saveFile(groupsFile, saved); err != nil {
		panic(err) // a fake that forgets would prove nothing
	}
}

func (s *groups) named(name string) *group {
	for _, g := range s.all {
		if fold(g.Config.Name) == fold(name) {
			return g
		}
	}
	return nil
}

// of is the group of a database, and the database's identity in it.
func (s *groups) of(db string) (*group, string) {
	for _, g := range s.all {
		for _, m := range g.Config.Databases {
			if fold(m.Name) == fold(db) && g.mode() != modeConfigOnly {
				return g, m.ID
			}
		}
	}
	return nil, ""
}

func (g *group) replica(id string) *replica {
	for n := range g.Config.Replicas {
		if g.Config.Replicas[n].ID == id {
			return &g.Config.Replicas[n]
		}
	}
	return nil
}

// mode is the local replica's.
func (g *group) mode() string {
	if r := g.replica(g.Self); r != nil {
		return r.Mode
	}
	return modeAsync
}

// at is the replica whose endpoint has an address.
func (g *group) at(peer string) *replica {
	for n := range g.Config.Replicas {
		if r := &g.Config.Replicas[n]; r.ID != g.Self && address(r.Endpoint) == peer {
			return r
		}
	}
	return nil
}

func (g *group) peer(id string) *groupPeer {
	p := g.peers[id]
	if p == nil {
		p = &groupPeer{acked: map[string]LSN{}}
		g.peers[id] = p
	}
	return p
}

func (g *group) database(id string) *database {
	for _, m := range g.Config.Databases {
		if m.ID == id {
			return g.i.database(m.Name)
		}
	}
	return nil
}

// forgetSynced says of all other replicas that nobody knows what they have.
func (g *group) forgetSynced() {
	for k := range g.Config.Synced {
		delete(g.Config.Synced, k)
	}
	for _, m := range g.Config.Databases {
		g.Config.Synced[key(g.Self, m.ID)] = true
	}
}

// create makes a group of which this instance is primary.
func (s *groups) create(spec GroupSpec) error {
	if s.named(spec.Name) != nil {
		return fail(41042, "The availability group '%s' already exists.", spec.Name)
	}
	c := configuration{
		ID: newID(), Name: spec.Name, ClusterType: spec.ClusterType, DBFailover: spec.DBFailover, Lease: spec.Lease > 0,
		Required: spec.Required, Sequence: 1<<32 | 1,
	}
	for _, r := range spec.Replicas {
		one := replica{ID: newID(), Server: r.Server, Endpoint: address(r.Endpoint), Mode: r.Mode}
		if serverName(r.Server) == serverName(s.i.options.Name) {
			c.Primary = one.ID
		}
		c.Replicas = append(c.Replicas, one)
	}
	if c.Primary == "" {
		return fail(35237, "None of the specified replicas for availability group '%s' maps to this instance.", spec.Name)
	}
	for _, name := range spec.Databases {
		d := s.i.database(name)
		if d == nil {
			return errNoDatabase(name)
		}
		c.Databases = append(c.Databases, member{ID: newID(), Name: d.name})
	}
	g := s.add(savedGroup{Config: c, Self: c.Primary, Role: groupPrimary})
	g.forgetSynced()
	g.settled, g.ready = g.Config.clone(), true
	g.leaseUntil = now().Add(time.Duration(spec.Lease) * s.i.options.Second)
	s.save()
	g.greetAll()
	return nil
}

// join makes this instance the replica that a primary has offered; false while none has.
func (s *groups) join(name, cluster string) (bool, error) {
	if s.named(name) != nil {
		return true, fail(41106, "Cannot join availability group '%s': the local replica has joined already.", name)
	}
	c, ok := s.offers[fold(name)]
	if !ok {
		return false, nil
	}
	if cluster != "" && cluster != c.ClusterType {
		return true, fail(47106, "Cannot join availability group '%s': its cluster type is %s.", name, c.ClusterType)
	}
	self := ""
	for _, r := range c.Replicas {
		if address(r.Endpoint) == s.i.advertise {
			self = r.ID
		}
	}
	g := s.add(savedGroup{Config: c, Self: self, Role: groupSecondary})
	s.save()
	g.greetAll()
	return true, nil
}
