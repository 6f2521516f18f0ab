package model

import (
	"encoding/json"
	"time"
)

// This file is what replicas say to each other, and how groups take part in an instance. Messages are JSON in the body
// of a message of kind "group":
//
//   - hello: the sender's role, configuration, and how far its databases' logs reach; a secondary asks with it to be
//     accepted, a primary tells that it is one;
//   - accept: a primary has taken a secondary in;
//   - feed: log records after an LSN; what the receiver has beyond that LSN it takes away;
//   - ack: the sender has everything up to an LSN on its disk;
//   - config and configured: a new configuration, and that it is on the sender's disk;
//   - yield and yielded: a secondary that becomes primary asks the primary to stop, and the answer.

type groupMessage struct {
	Type     string
	Group    string // group_id
	From     string // replica
	Role     string
	Config   *configuration  `json:",omitempty"`
	Logs     []groupLog      `json:",omitempty"`
	Wishes   map[string]bool `json:",omitempty"` // of a secondary: databases suspended, or resumed, there
	Database string          // group_database_id
	LSN      LSN
	Records  []record `json:",omitempty"`
	Sequence int64
}

// groupLog is how far a database's log reaches.
type groupLog struct {
	Database string
	End      LSN
	Forks    []forkAt
}

// sessionTimeout is SESSION_TIMEOUT, in seconds.
const sessionTimeout = 10

func (s *groups) access(d *database, write bool) (bool, *Error) {
	g, _ := s.of(d.name)
	if g == nil {
		return false, nil
	}
	switch {
	case g.taking != nil, g.Role == groupResolving, g.Role == groupPrimary && !g.ready:
		return true, fail(983, "Unable to access availability database '%s' because the database replica is not in the "+
			"PRIMARY or SECONDARY role.", d.name)
	case g.Role == groupSecondary:
		return true, fail(976, "The target database, '%s', is participating in an availability group and is currently not "+
			"accessible for queries.", d.name)
	case g.lapsed():
		return true, fail(983, "Unable to access availability database '%s' because the write lease of the availability "+
			"group has expired.", d.name)
	default:
		return true, nil
	}
}

// lapsed says that the write lease has run out.
func (g *group) lapsed() bool {
	return g.Config.Lease && g.Role == groupPrimary && !now().Before(g.leaseUntil)
}

func (s *groups) describe(d *database, row *Database) {
	g, id := s.of(d.name)
	if g == nil {
		return
	}
	row.GroupID = id
	row.State, row.StateCode = g.databaseState(d)
}

func (s *groups) peers() map[string]time.Duration {
	wanted := map[string]time.Duration{}
	for _, g := range s.all {
		for _, r := range g.Config.Replicas {
			if r.ID != g.Self {
				wanted[address(r.Endpoint)] = sessionTimeout * s.i.options.Second
			}
		}
	}
	return wanted
}

func (s *groups) linked(peer string) {
	for _, g := range s.all {
		if g.at(peer) != nil {
			g.greet(peer)
		}
	}
}

func (s *groups) lost(peer string) {
	for _, g := range s.all {
		r := g.at(peer)
		if r == nil {
			continue
		}
		g.peer(r.ID).connected = false
		switch {
		case g.Role == groupPrimary:
			g.fallBehind(r.ID)
		case r.ID == g.Config.Primary:
			g.upstream = false
		}
	}
}

func (s *groups) tick(at time.Time) {
	for _, g := range s.all {
		if g.lapsed() && !g.expired {
			g.expired = true
			g.endSessions()
		}
		if g.taking == nil {
			continue
		}
		switch {
		case g.taking.until.IsZero() && at.Sub(g.taking.begun) > yieldLimit*s.i.options.Second:
			g.take(at) // the old primary does not answer
		case !g.taking.until.IsZero() && !at.Before(g.taking.until):
			g.becomePrimary()
		}
	}
}

// yieldLimit is how many seconds an old primary may take to answer.
const yieldLimit = 5

func (g *group) say(peer string, m groupMessage) {
	m.Group, m.From, m.Role = g.Config.ID, g.Self, g.Role
	if g.taking != nil {
		m.Role = groupResolving
	}
	body, err := json.Marshal(m)
	if err != nil {
		panic(err) // nothing in it can fail
	}
	g.i.send(peer, message{Kind: kindGroup, Body: body})
}

func (g *group) tell(id string, m groupMessage) {
	if r := g.replica(id); r != nil {
		g.say(address(r.Endpoint), m)
	}
}

func (g *group) greetAll() {
	for _, r := range g.Config.Replicas {
		if r.ID != g.Self && g.i.link(address(r.Endpoint)) != nil {
			g.greet(address(r.Endpoint))
		}
	}
}

func (g *group) greet(peer string) {
	c := g.Config
	m := groupMessage{Type: "hello", Config: &c, Wishes: g.Wishes}
	if g.mode() != modeConfigOnly {
		for _, member := range c.Databases {
			log := groupLog{Database: member.ID}
			if d := g.i.database(member.Name); d != nil {
				log.End, log.Forks = d.end(), d.forks()
			}
			m.Logs = append(m.Logs, log)
		}
	}
	g.say(peer, m)
}

func (s *groups) received(peer string, raw message) {
	var m groupMessage
	if err := json.Unmarshal(raw.Body, &m); err != nil {
		return
	}
	for _, g := range s.all {
		if g.Config.ID == m.Group {
			if r := g.at(peer); r != nil && r.ID == m.From {
				g.received(peer, m)
			}
			return
		}
	}
	if m.Type == "hello" && m.Role == groupPrimary && m.Config != nil {
		for _, r := range m.Config.Replicas {
			if address(r.Endpoint) == s.i.advertise {
				s.offers[fold(m.Config.Name)] = m.Config.clone()
			}
		}
	}
}

func (g *group) received(peer string, m groupMessage) {
	switch m.Type {
	case "hello":
		g.hello(peer, m)
	case "accept":
		g.adopt(*m.Config)
		if g.Role == groupSecondary && m.From == g.Config.Primary {
			g.upstream = true
			g.tell(m.From, groupMessage{Type: "configured", Sequence: g.Config.Sequence})
		}
	case "feed":
		g.fed(m)
	case "ack":
		g.acked(m)
	case "config":
		g.adopt(*m.Config)
		if g.mode() != modeAsync {
			g.tell(m.From, groupMessage{Type: "configured", Sequence: g.Config.Sequence})
		}
	case "configured":
		if p := g.peer(m.From); g.Role == groupPrimary && m.Sequence > p.configured {
			p.configured = m.Sequence
			g.count()
		}
	case "yield":
		g.yield(m.From)
	case "yielded":
		if g.taking != nil && g.taking.until.IsZero() {
			g.take(now())
		}
	}
}

// hello hears of another replica's role and configuration.
func (g *group) hello(peer string, m groupMessage) {
	g.adopt(*m.Config)
	if m.From == g.Config.Primary && m.Role != groupPrimary {
		g.upstream = false
	}
	switch {
	case g.Role == groupPrimary && m.Role == groupSecondary:
		g.accept(m)
	case m.Role == groupPrimary && g.Role == groupSecondary && g.Config.Primary == m.From:
		g.greet(peer)
	case g.Config.Sequence > m.Config.Sequence:
		c := g.Config
		g.say(peer, groupMessage{Type: "config", Config: &c})
	}
}

// adopt takes a newer configuration over. A primary that hears of another one stops.
func (g *group) adopt(c configuration) {
	if c.Sequence <= g.Config.Sequence {
		return
	}
	if g.Role == groupPrimary && c.Primary != g.Self {
		g.stop(groupResolving)
	}
	if c.Primary != g.Config.Primary {
		g.upstream = false
	}
	g.Config = c.clone()
	for db, suspended := range g.Wishes {
		if suspended == (g.Config.Suspended[key(g.Self, db)] != "") {
			delete(g.Wishes, db)
		} else {
			g.Config.halt(g.Self, db, suspended)
		}
	}
	g.i.ags().save()
}

// accept takes a secondary in, and sends what it lacks.
func (g *group) accept(m groupMessage) {
	r := g.replica(m.From)
	p := g.peer(m.From)
	p.connected, p.acked = true, map[string]LSN{}
	for db, suspended := range m.Wishes {
		if k := key(m.From, db); suspended != (g.Config.Suspended[k] != "") {
			g.change(func(c *configuration) { c.halt(m.From, db, suspended) })
		}
	}
	c := g.Config
	g.tell(m.From, groupMessage{Type: "accept", Config: &c})
	if r.Mode == modeConfigOnly {
		return
	}
	for _, log := range m.Logs {
		g.feed(m.From, log)
	}
	g.count()
}

// feed sends one database's log from where the other's copy is the same.
func (g *group) feed(id string, log groupLog) {
	d := g.database(log.Database)
	if d == nil || g.Config.Suspended[key(id, log.Database)] != "" || g.Config.Suspended[key(g.Self, log.Database)] != "" {
		return
	}
	from := d.common(log.Forks, log.End)
	g.tell(id, groupMessage{Type: "feed", Database: log.Database, LSN: from, Records: d.after(from)})
}

// fed hardens what the primary sends.
func (g *group) fed(m groupMessage) {
	if g.Role != groupSecondary || m.From != g.Config.Primary || g.Config.Suspended[key(g.Self, m.Database)] != "" {
		return
	}
	d := g.database(m.Database)
	if d == nil {
		for _, member := range g.Config.Databases {
			if member.ID == m.Database {
				d, _ = g.i.newDatabase(member.Name, true)
			}
		}
	}
	if d == nil || d.end().Compare(m.LSN) < 0 {
		return // something is missing between: it comes after the next hello
	}
	if g.i.knobs.disk(d.name).LogBad || d.splice(m.LSN, m.Records) != nil {
		return
	}
	d.restoring = true
	if stopped, _ := g.i.knobs.redoOf(d.name); !stopped {
		d.redo(0)
	}
	g.tell(m.From, groupMessage{Type: "ack", Database: m.Database, LSN: d.end()})
}

// splice makes records all there is after lsn. What is there already is not written again: an end in between would lose
// what was acknowledged.
func (d *database) splice(lsn LSN, records []record) error {
	same := 0
	for _, r := range d.after(lsn) {
		if same == len(records) || records[same].LSN != r.LSN || records[same].Fork != r.Fork {
			break
		}
		lsn = r.LSN
		same++
	}
	if err := d.truncate(lsn); err != nil || same == len(records) {
		return err
	}
	return d.append(records[same:]...)
}

// acked hears how far a secondary is. One that has everything is synchronized from then on: nothing is acknowledged
// without it.
func (g *group) acked(m groupMessage) {
	p, r, d := g.peer(m.From), g.replica(m.From), g.database(m.Database)
	if g.Role != groupPrimary || !p.connected || d == nil {
		return
	}
	p.acked[m.Database] = m.LSN
	k := key(m.From, m.Database)
	may := r.Mode == modeSync && g.mode() == modeSync && g.Config.Suspended[k] == ""
	if may && m.LSN == d.end() && !g.Config.Synced[k] {
		g.change(func(c *configuration) { c.Synced[k] = true })
	}
	g.acknowledge()
}
