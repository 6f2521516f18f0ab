package sqlserver

import (
	"strings"
	"time"
)

// The words of SQL Server's views that the engines decide on.
const (
	RolePrincipal = "PRINCIPAL"
	RoleMirror    = "MIRROR"

	StateSynchronized    = "SYNCHRONIZED"
	StateSynchronizing   = "SYNCHRONIZING"
	StateSuspended       = "SUSPENDED"
	StateDisconnected    = "DISCONNECTED"
	StatePendingFailover = "PENDING_FAILOVER"

	SafetyIsFull = "FULL"
	SafetyIsOff  = "OFF"

	WitnessConnected    = "CONNECTED"
	WitnessDisconnected = "DISCONNECTED"

	DatabaseOnline          = "ONLINE"
	DatabaseRestoring       = "RESTORING"
	DatabaseRecovering      = "RECOVERING"
	DatabaseRecoveryPending = "RECOVERY_PENDING"
	DatabaseSuspect         = "SUSPECT"

	EndpointStarted = "STARTED"
	EndpointStopped = "STOPPED"

	GroupRolePrimary   = "PRIMARY"
	GroupRoleSecondary = "SECONDARY"
	GroupRoleResolving = "RESOLVING"

	ClusterExternal = "EXTERNAL"
	ClusterNone     = "NONE"
	ClusterWSFC     = "WSFC"

	ModeSynchronous       = "SYNCHRONOUS_COMMIT"
	ModeAsynchronous      = "ASYNCHRONOUS_COMMIT"
	ModeConfigurationOnly = "CONFIGURATION_ONLY"
)

// Server is what an instance says of itself.
type Server struct {
	Name, Version string // @@SERVERNAME, @@VERSION; shown, and never used as an identity
}

// MirroringRow is one database's mirroring session, as one partner sees it.
type MirroringRow struct {
	Database      string
	ID            int32
	DatabaseState string // ONLINE, RESTORING, ...
	GUID          string // upper case; the session's identity
	State         string // SYNCHRONIZED, ...
	Role          string // PRINCIPAL or MIRROR
	RoleSequence  int32  // rises with every exchange of the roles, by whomever
	Safety        string // FULL or OFF
	SafetySeq     int32
	Partner       string // TCP://host:port
	PartnerName   string // @@SERVERNAME there
	Witness       string // TCP://host:port, "" if there is none
	WitnessState  string // CONNECTED, DISCONNECTED, UNKNOWN
	FailoverLSN   LSN    // both partners are known to have this on disk
	EndOfLog      LSN    // this one has this on disk
	Timeout       time.Duration
}

// Connected says that the partners of this session hear each other.
func (r MirroringRow) Connected() bool {
	return r.State == StateSynchronized || r.State == StateSynchronizing || r.State == StatePendingFailover
}

// SamePartnerAddress compares addresses of endpoints as SQL Server does, without regard to case.
func SamePartnerAddress(a, b string) bool {
	return strings.EqualFold(strings.TrimSpace(a), strings.TrimSpace(b))
}

// DatabaseRow is one database.
type DatabaseRow struct {
	Name    string
	ID      int32
	State   string // ONLINE, ...
	LogWait string // why its log cannot be reused: NOTHING, LOG_BACKUP, DATABASE_MIRRORING, ...
}

// EndpointRow is the mirroring endpoint.
type EndpointRow struct {
	Name  string
	Role  string // PARTNER, WITNESS, ALL
	State string // STARTED, STOPPED, DISABLED
}

// CounterRow is one performance counter of one database.
type CounterRow struct {
	Database, Counter string
	Value             int64
}

// DiagnosticRow is one component's state, as sp_server_diagnostics tells it.
type DiagnosticRow struct {
	Component string // system, resource, query_processing, io_subsystem, events
	State     string // clean, warning, error, unknown
}

// GroupRow is an availability group and the local instance's part in it.
type GroupRow struct {
	ID, Name          string // ID in upper case; the group's identity
	Sequence          int64  // configuration changes, counted
	Required          int32  // REQUIRED_SYNCHRONIZED_SECONDARIES_TO_COMMIT
	ClusterType       string // EXTERNAL, NONE, WSFC
	DatabaseFailover  bool
	ReplicaID         string
	Role              string // PRIMARY, SECONDARY, RESOLVING
	OperationalState  string // ONLINE, PENDING_FAILOVER, ...; "" when not known
	RecoveryHealth    string
	Connected         string // CONNECTED, DISCONNECTED
	SynchronizeHealth string // HEALTHY, PARTIALLY_HEALTHY, NOT_HEALTHY
}

// ReplicaRow is one replica of a group.
type ReplicaRow struct {
	ID, Server, Endpoint string
	Mode                 string // SYNCHRONOUS_COMMIT, ASYNCHRONOUS_COMMIT, CONFIGURATION_ONLY
	Local                bool
	Role                 string // "" when not known here
	Connected            string
	SynchronizeHealth    string
}

// GroupDatabaseRow is one database of a group on one replica.
type GroupDatabaseRow struct {
	Database      string
	GroupID       string // group_database_id
	ReplicaID     string
	Local         bool
	Primary       bool
	State         string // SYNCHRONIZED, SYNCHRONIZING, NOT SYNCHRONIZING, REVERTING, INITIALIZING
	DatabaseState string // ONLINE, ...; "" of a replica that is not local
	Suspended     bool
	SuspendReason string
	Hardened      LSN
	Committed     LSN
	RedoQueueKB   int64
	RedoRateKB    int64 // in a second
	SendQueueKB   int64
	SendRateKB    int64 // in a second
}

// Lease is what SQL Server says of a group's write lease.
type Lease struct {
	Left        time.Duration
	Known       bool      // the group has a write lease, and the server shows it
	Configuring time.Time // since when, by the server's clock, a change of configuration has not ended; zero: none
}
