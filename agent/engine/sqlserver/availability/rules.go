package availability

import (
	"errors"
	"fmt"
	"strings"

	"github.com/witnessd/witnessd/agent/engine"
	"github.com/witnessd/witnessd/agent/engine/sqlserver"
)

// errRefused says that the group is not of a kind with which anything can be promised.
var errRefused = errors.New("this availability group cannot be looked after; nothing was changed")

// usable refuses groups with which nothing can be promised.
func (e *Engine) usable(v view) error {
	if !v.known {
		return fmt.Errorf("%w: the instance has no availability group %s; create it or join it first",
			engine.ErrNoData, e.cfg.Group)
	}
	if why := unusable(v); why != "" {
		return fmt.Errorf("%w: %s", errRefused, why)
	}
	return nil
}

// unusable says why nothing can be promised with a group; "" if it can.
func unusable(v view) string {
	switch v.group.ClusterType {
	case sqlserver.ClusterExternal:
	case sqlserver.ClusterNone:
		return "it was created with CLUSTER_TYPE = NONE: its primary comes back as primary after every restart, whatever " +
			"has happened meanwhile, and its failover is a forced one. Move it by hand, or create it anew with " +
			"CLUSTER_TYPE = EXTERNAL"
	case sqlserver.ClusterWSFC:
		return "Windows Server Failover Clustering decides about it (CLUSTER_TYPE = WSFC), and two judges are one too " +
			"many. Leave it to that, or create it anew with CLUSTER_TYPE = EXTERNAL"
	default:
		return "its CLUSTER_TYPE is " + v.group.ClusterType + ", not EXTERNAL"
	}
	var data, only []string
	for _, r := range v.replicas {
		switch r.Mode {
		case sqlserver.ModeConfigurationOnly:
			only = append(only, r.Server)
		case sqlserver.ModeSynchronous:
			data = append(data, r.Server)
		default:
			return fmt.Sprintf("replica %s has AVAILABILITY_MODE = %s: both data replicas must be SYNCHRONOUS_COMMIT, or "+
				"commits are acknowledged that one of them lacks", r.Server, r.Mode)
		}
	}
	self, ok := v.self()
	switch {
	case len(data) != 2:
		return fmt.Sprintf("it has %s (%s), and must have two: with more, the primary could go on with one while another is "+
			"promoted", counted(len(data), "data replica"), strings.Join(data, ", "))
	case len(only) > 1:
		return fmt.Sprintf("it has %d configuration-only replicas, and may have one", len(only))
	case !ok || self.Mode == sqlserver.ModeConfigurationOnly:
		return "this instance is its configuration-only replica: run the agent on the data replicas"
	}
	return ""
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// unpromotable says why FAILOVER is not expected to succeed on this replica, "" if it is. What counts when the primary
// is gone is what was seen before; SQL Server knows it too, and has the last word.
func unpromotable(v view, m stored) string {
	if !v.known {
		return "the instance does not know the availability group"
	}
	if why := unusable(v); why != "" {
		return why
	}
	if v.primary() {
		return ""
	}
	local := v.local()
	if len(local) == 0 {
		return "no database of the group has joined on this replica"
	}
	heard := v.secondary() && v.group.Connected != disconnected
	for _, d := range local {
		switch {
		case d.State == "REVERTING" || d.State == "INITIALIZING":
			return fmt.Sprintf("%s is %s: it cannot be opened before that has ended", d.Database, d.State)
		case d.Suspended:
			return fmt.Sprintf("%s is suspended (%s)", d.Database, strings.ToLower(d.SuspendReason))
		case sqlserver.DatabaseFault(d.DatabaseState) != "" && d.DatabaseState != sqlserver.DatabaseRecoveryPending:
			return d.Database + " " + sqlserver.DatabaseFault(d.DatabaseState)
		case heard && d.State != notSynchronizing && !complete(d):
			return fmt.Sprintf("%s is %s: it may lack commits", d.Database, d.State)
		case m.Group != v.group.ID || !m.Synchronized[d.GroupID]:
			return fmt.Sprintf("%s was not SYNCHRONIZED when that could last be seen here", d.Database)
		}
	}
	return ""
}

// fromPartner is the suspend_reason of a database whose primary was forced: to resume it discards what it has and the
// new primary has not.
const (
	fromPartner = "SUSPEND_FROM_PARTNER"
	fromUser    = "SUSPEND_FROM_USER"
)

// pinned says why a suspended database is not resumed by the agent; "" if it is.
func pinned(d sqlserver.GroupDatabaseRow) string {
	switch d.SuspendReason {
	case fromPartner:
		return fmt.Sprintf("%s was suspended by a forced failover: RESUME would discard every commit that this copy has and "+
			"the new primary has not. If something is to be saved, make a database snapshot or read this copy first; then "+
			"run ALTER DATABASE [%s] SET HADR RESUME here", d.Database, d.Database)
	case fromUser:
		return fmt.Sprintf("%s was suspended by a person, and stays so: run ALTER DATABASE [%s] SET HADR RESUME here when "+
			"that is over", d.Database, d.Database)
	default:
		return ""
	}
}

// warnings are what an administrator should know or mend.
func warnings(v view) []string {
	if !v.known {
		return nil
	}
	var said []string
	if why := unusable(v); why != "" {
		said = append(said, "only watched: "+why)
	}
	for _, d := range v.databases {
		if d.Suspended && d.Local && !v.primary() {
			if why := pinned(d); why != "" {
				said = append(said, why)
			}
		}
	}
	if v.primary() && v.group.Required == 0 && v.synchronized() {
		said = append(said, "REQUIRED_SYNCHRONIZED_SECONDARIES_TO_COMMIT is 0: a commit may be acknowledged that the mirror "+
			"lacks")
	}
	if other, ok := v.other(); ok && v.primary() && other.Connected != disconnected && !v.paired() {
		said = append(said, "not every database of the group has joined on "+other.Server+
			": seed it, or restore it there WITH NORECOVERY and run ALTER DATABASE ... SET HADR AVAILABILITY GROUP")
	}
	return said
}
