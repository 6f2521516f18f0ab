package model

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// This file is what a client can ask of availability groups: the views and the statements.

// Roles, modes and states as the views name them.
const (
	groupPrimary   = "PRIMARY"
	groupSecondary = "SECONDARY"
	groupResolving = "RESOLVING"

	clusterExternal = "EXTERNAL"
	clusterNone     = "NONE"

	modeSync       = "SYNCHRONOUS_COMMIT"
	modeAsync      = "ASYNCHRONOUS_COMMIT"
	modeConfigOnly = "CONFIGURATION_ONLY"

	groupSynchronized     = "SYNCHRONIZED"
	groupSynchronizing    = "SYNCHRONIZING"
	groupNotSynchronizing = "NOT SYNCHRONIZING"

	byUser    = "SUSPEND_FROM_USER"
	byPartner = "SUSPEND_FROM_PARTNER"
)

// GroupVerb is what ALTER AVAILABILITY GROUP, or ALTER DATABASE ... SET HADR, asks for. Knobs.FailNext takes one, as a
// Verb, with the group's or the database's name.
type GroupVerb string

// The verbs. Those in parentheses take an argument: SECONDARY, a number, a number of seconds, the CLUSTER_TYPE.
const (
	GroupFailover GroupVerb = "FAILOVER"
	GroupForce    GroupVerb = "FORCE_FAILOVER_ALLOW_DATA_LOSS"
	GroupOffline  GroupVerb = "OFFLINE"
	GroupRole     GroupVerb = "ROLE"
	GroupRequired GroupVerb = "REQUIRED_SYNCHRONIZED_SECONDARIES_TO_COMMIT"
	GroupLease    GroupVerb = "WRITE_LEASE_VALIDITY"
	GroupJoin     GroupVerb = "JOIN"
	GroupGrant    GroupVerb = "GRANT"

	HadrSuspend GroupVerb = "HADR SUSPEND"
	HadrResume  GroupVerb = "HADR RESUME"
)

// GroupSpec is CREATE AVAILABILITY GROUP, on the instance that becomes primary.
type GroupSpec struct {
	Name        string
	ClusterType string // EXTERNAL or NONE
	DBFailover  bool
	Required    int
	Lease       int // WRITE_LEASE_VALIDITY in seconds; 0: none
	Databases   []string
	Replicas    []ReplicaSpec
}

// ReplicaSpec is one REPLICA ON of it.
type ReplicaSpec struct {
	Server, Endpoint string // @@SERVERNAME, TCP://host:port
	Mode             string // SYNCHRONOUS_COMMIT, ASYNCHRONOUS_COMMIT, CONFIGURATION_ONLY
}

// Group is a row of sys.availability_groups with the local replica's row of sys.dm_hadr_availability_replica_states.
type Group struct {
	ID, Name, ClusterType string
	Sequence              int64
	Required              int32
	DBFailover            bool
	Local                 Replica
	// LeaseTicks is write_lease_remaining_ticks, of 100 ns; negative: NULL.
	LeaseTicks int64
	// Configuring is current_configuration_commit_start_time_utc; zero: NULL.
	Configuring time.Time
}

// Replica is a row of sys.availability_replicas with its row of sys.dm_hadr_availability_replica_states; of a replica
// that is not known here the states are empty, which stands for NULL.
type Replica struct {
	GroupID, Group, ID, Server, Endpoint string
	ModeCode                             uint8 // 0 async, 1 sync, 4 configuration only
	Mode                                 string
	IsLocal                              bool
	RoleCode                             uint8 // 0 RESOLVING, 1 PRIMARY, 2 SECONDARY
	Role                                 string
	Operational                          string // only of the local one
	Recovery                             string // only of the local one
	Connected                            string
	Health                               string
}

// GroupDatabase is a row of sys.dm_hadr_database_replica_states.
type GroupDatabase struct {
	GroupID, Group, ReplicaID, Database, ID string
	DatabaseID                              int32
	IsLocal, IsPrimary                      bool
	StateCode                               uint8 // 0 NOT SYNCHRONIZING, 1 SYNCHRONIZING, 2 SYNCHRONIZED
	State                                   string
	DatabaseState                           string // only of the local one
	Suspended                               bool
	SuspendReason                           string
	Hardened, Committed                     LSN // zero: NULL
	RedoQueueKB, RedoRateKB                 int64
	SendQueueKB, SendRateKB                 int64
}

// Groups are the groups of this instance.
func (i *Instance) Groups() []Group {
	var rows []Group
	i.run(func() {
		for _, g := range i.ags().all {
			rows = append(rows, g.row())
		}
	})
	return rows
}

// Replicas are those of all groups.
func (i *Instance) Replicas() []Replica {
	var rows []Replica
	i.run(func() {
		for _, g := range i.ags().all {
			for _, r := range g.Config.Replicas {
				rows = append(rows, g.replicaRow(r))
			}
		}
	})
	return rows
}

// GroupDatabases are the databases of all groups, on each replica that is known here.
func (i *Instance) GroupDatabases() []GroupDatabase {
	var rows []GroupDatabase
	i.run(func() {
		for _, g := range i.ags().all {
			for _, r := range g.Config.Replicas {
				if r.ID == g.Self || g.Role == groupPrimary && r.Mode != modeConfigOnly {
					rows = append(rows, g.databaseRows(r)...)
				}
			}
		}
	})
	return rows
}

// CreateGroup is CREATE AVAILABILITY GROUP. The other replicas have the databases copied to them when they JOIN
// (SEEDING_MODE = AUTOMATIC).
func (i *Instance) CreateGroup(_ context.Context, spec GroupSpec) error {
	return i.do(func() error { return i.ags().create(spec) })
}

// AlterGroup is ALTER AVAILABILITY GROUP. external says that external_cluster is set in the session.
func (i *Instance) AlterGroup(ctx context.Context, name string, verb GroupVerb, argument string, external bool) error {
	if p, ok := i.knobs.plan(name, Verb(verb)); ok {
		if p.error != nil {
			return p.error
		}
		return nil
	}
	if verb == GroupJoin {
		return i.await(ctx, joinLimit, fail(41106, "Cannot join availability group '%s': no primary has offered it.", name),
			func() (bool, error) { return i.ags().join(name, argument) })
	}
	if verb == GroupGrant {
		return nil
	}
	// What is begun is begun once; the rounds after that wait for its end.
	begun := false
	run := func(g *group) (bool, error) {
		if begun {
			return g.done(verb), nil
		}
		begun = true
		var err error
		if verb == GroupFailover || verb == GroupForce {
			err = g.begin(verb == GroupForce, external)
		} else {
			err = g.alter(verb, argument)
		}
		return err != nil || g.done(verb), err
	}
	// Without a majority of replicas a change of the configuration waits for one, for as long as the client does.
	return i.await(ctx, alterLimit, fail(41131, "The operation on availability group '%s' timed out.", name),
		func() (bool, error) {
			g := i.ags().named(name)
			if g == nil {
				return true, fail(15151, "Cannot alter the availability group '%s', because it does not exist.", name)
			}
			return run(g)
		})
}

// done says that a statement that was begun may be answered.
func (g *group) done(verb GroupVerb) bool {
	if verb == GroupRequired {
		return g.configuring.IsZero()
	}
	return g.taking == nil || !g.taking.until.IsZero()
}

const (
	joinLimit  = 10 * time.Second
	alterLimit = time.Hour
)

// AlterHadr is ALTER DATABASE ... SET HADR SUSPEND or RESUME.
func (i *Instance) AlterHadr(_ context.Context, db string, verb GroupVerb) error {
	if p, ok := i.knobs.plan(db, Verb(verb)); ok {
		if p.error != nil {
			return p.error
		}
		return nil
	}
	return i.do(func() error {
		g, d := i.ags().of(db)
		if g == nil {
			return fail(35220, "Database '%s' is not in an availability group.", db)
		}
		return g.suspend(d, verb == HadrSuspend)
	})
}

// SlowGroups makes each change of a group's role take that long after the statement has returned.
func (i *Instance) SlowGroups(by time.Duration) { i.run(func() { i.ags().slow = by }) }

// StrictPairs says what the documents leave open: whether a group of two replicas needs both of them for a change of
// its configuration. false: as before SQL Server 2017 CU1.
func (i *Instance) StrictPairs(strict bool) { i.run(func() { i.ags().strict = strict }) }

func (i *Instance) ags() *groups { return i.groups.(*groups) }

func (g *group) row() Group {
	c := g.Config
	row := Group{
		ID: c.ID, Name: c.Name, ClusterType: c.ClusterType, Sequence: c.Sequence, Required: int32(c.Required),
		DBFailover: c.DBFailover, Configuring: g.configuring, LeaseTicks: -1,
	}
	if r := g.replica(g.Self); r != nil {
		row.Local = g.replicaRow(*r)
	}
	if c.Lease {
		row.LeaseTicks = max(0, int64(g.leaseUntil.Sub(now())/(100*time.Nanosecond)))
	}
	return row
}

func (g *group) replicaRow(r replica) Replica {
	row := Replica{
		GroupID: g.Config.ID, Group: g.Config.Name, ID: r.ID, Server: r.Server, Endpoint: url(r.Endpoint), Mode: r.Mode,
		IsLocal: r.ID == g.Self,
	}
	switch r.Mode {
	case modeSync:
		row.ModeCode = 1
	case modeConfigOnly:
		row.ModeCode = 4
	}
	if !row.IsLocal && g.Role != groupPrimary {
		return row
	}
	row.Role, row.Connected, row.Health = groupSecondary, "DISCONNECTED", "NOT_HEALTHY"
	if row.IsLocal {
		row.Role, row.Operational, row.Recovery = g.Role, "ONLINE", "ONLINE"
		switch {
		case g.taking != nil:
			row.Role, row.Operational = groupResolving, "PENDING_FAILOVER"
		case g.Role == groupResolving:
			row.Operational = "OFFLINE"
		}
	}
	switch {
	case row.IsLocal && g.Role == groupPrimary, row.IsLocal && g.upstream, !row.IsLocal && g.peer(r.ID).connected:
		row.Connected = "CONNECTED"
	}
	row.RoleCode = map[string]uint8{groupPrimary: 1, groupSecondary: 2}[row.Role]
	if all := g.databaseRows(r); len(all) > 0 {
		row.Health = "HEALTHY"
		for _, d := range all {
			if d.State != groupSynchronized {
				row.Health = "NOT_HEALTHY"
			}
		}
	}
	return row
}

// databaseRows are a replica's databases as this one knows them.
func (g *group) databaseRows(r replica) []GroupDatabase {
	var rows []GroupDatabase
	for _, member := range g.Config.Databases {
		d := g.i.database(member.Name)
		if d == nil || r.Mode == modeConfigOnly {
			continue
		}
		row := GroupDatabase{
			GroupID: g.Config.ID, Group: g.Config.Name, ReplicaID: r.ID, Database: d.name, ID: member.ID, DatabaseID: d.id,
			IsLocal: r.ID == g.Self, State: g.state(r, member.ID), SuspendReason: g.Config.Suspended[key(r.ID, member.ID)],
		}
		row.IsPrimary = row.IsLocal == (g.Role == groupPrimary) && g.Role != groupResolving && row.IsLocal
		row.Suspended = row.SuspendReason != ""
		row.StateCode = map[string]uint8{groupSynchronizing: 1, groupSynchronized: 2}[row.State]
		if row.IsLocal {
			row.DatabaseState, _ = g.databaseState(d)
			row.Committed, row.Hardened = d.end(), block(d.end())
			row.RedoQueueKB, row.RedoRateKB = d.redoQueue()/1024, redoRate
			if g.Role == groupPrimary {
				row.Hardened = LSN{} // the least of the secondaries', or NULL; the fake shows NULL
			}
		} else {
			acked := g.peer(r.ID).acked[member.ID]
			row.Committed, row.Hardened = acked, block(acked)
			for _, lacking := range d.after(acked) {
				row.SendQueueKB += lacking.size()
			}
			row.SendQueueKB, row.SendRateKB = row.SendQueueKB/1024, sendRate
		}
		rows = append(rows, row)
	}
	return rows
}

const redoRate, sendRate = 10_000, 10_000 // KB in a second, as the views show them

// block is the beginning of the log block that an LSN lies in.
func block(lsn LSN) LSN {
	if lsn == (LSN{}) {
		return lsn
	}
	lsn.Slot = 1
	return lsn
}

// state is how far a replica's copy is known to be in step. A replica without a primary knows nothing: it shows NOT
// SYNCHRONIZING whatever it has.
func (g *group) state(r replica, db string) string {
	k := key(r.ID, db)
	local := r.ID == g.Self
	switch {
	case g.taking != nil, g.Role == groupResolving, g.Config.Suspended[k] != "":
		return groupNotSynchronizing
	case local && g.Role == groupPrimary && r.Mode == modeSync:
		return groupSynchronized
	case local && g.Role == groupPrimary:
		return groupSynchronizing
	case local && !g.upstream, !local && !g.peer(r.ID).connected:
		return groupNotSynchronizing
	case g.Config.Synced[k]:
		return groupSynchronized
	default:
		return groupSynchronizing
	}
}

// databaseState is a local database's state as the views name it.
func (g *group) databaseState(d *database) (string, uint8) {
	switch {
	case d.suspect:
		return "SUSPECT", 4
	case g.Role == groupResolving, g.taking != nil, g.Role == groupPrimary && !g.ready:
		return "RECOVERING", 2
	default:
		return "ONLINE", 0
	}
}

func key(replica, db string) string { return replica + "/" + db }

// serverName is how names of servers are compared.
func serverName(name string) string { return strings.ToUpper(strings.TrimSpace(name)) }

func errGroup(number int32, g *group, text string) *Error {
	return fail(number, "Availability group '%s': %s", g.Config.Name, text)
}

func wrongValue(verb GroupVerb, argument string) *Error {
	return fail(102, "%s", fmt.Sprintf("Incorrect syntax near '%s = %s'.", verb, argument))
}
