// Package model is a model of SQL Server instances: databases with a log, database mirroring sessions with SQL
// Server's own witness, and availability groups. It speaks of what an instance does, not of how a client asks for it;
// package sqlservertest puts TDS and T-SQL in front of it.
//
// It is a model made from documents, not SQL Server. Where the documents are silent the model does what loses nothing:
// a principal in the middle of a manual failover, for example, that loses its partner serves nobody until it hears from
// it again.
//
// The first copy of a database on a mirror comes over the link when SET PARTNER runs on the principal. SQL Server wants
// a backup restored WITH NORECOVERY there instead.
//
// All state of an instance belongs to one goroutine, the instance's loop. What comes from sockets, from the clock and
// from callers is a function that the loop runs.
package model

import (
	"cmp"
	"fmt"
	"net"
	"time"
)

// Error is an error as SQL Server reports it.
type Error struct {
	Number  int32
	Class   uint8 // severity; 16 is a user's error, 20 and above end the session
	State   uint8
	Message string
}

// Error is the message with its number.
func (e *Error) Error() string { return fmt.Sprintf("Msg %d: %s", e.Number, e.Message) }

// LSN is a place in a database's log. As numeric(25,0) it is VLF * 10^15 + Block * 10^5 + Slot.
type LSN struct {
	VLF, Block uint32
	Slot       uint16
}

// Options are what an instance is started with.
type Options struct {
	Name     string // @@SERVERNAME
	Dir      string // everything that survives a crash; made if missing
	Endpoint string // host:port of the mirroring endpoint to listen on; "" for none
	// EndpointRole is PARTNER, WITNESS or ALL.
	EndpointRole string
	// Ping is how often each open connection between instances is pinged; 0: one second, as SQL Server does.
	Ping time.Duration
	// Stopped starts the instance with its endpoint stopped (ALTER ENDPOINT ... STATE = STOPPED is remembered anyway).
	Stopped bool
	// Advertise is host:port by which other instances name this endpoint in SET PARTNER and SET WITNESS; "" for the
	// address that Endpoint got.
	Advertise string
	// Second is how long a second of PARTNER TIMEOUT takes; 0: a second. Tests that wait for it make it short.
	Second time.Duration
	// Quiet is how long after its start the instance opens no link: a principal without witness serves that long
	// before it can learn that its partner has its role.
	Quiet time.Duration
	// Dial and Listen replace those of package net.
	Dial   func(address string, timeout time.Duration) (net.Conn, error)
	Listen func(address string) (net.Listener, error)
}

// Row is one value in a table.
type Row struct{ Table, Value string }

// Compare says whether l is before (-1), at (0) or after (1) o, in one history of one database.
func (l LSN) Compare(o LSN) int {
	return cmp.Or(cmp.Compare(l.VLF, o.VLF), cmp.Compare(l.Block, o.Block), cmp.Compare(l.Slot, o.Slot))
}

// Database is a row of sys.databases.
type Database struct {
	Name      string
	ID        int32
	State     string // ONLINE, RESTORING, RECOVERING, RECOVERY_PENDING, SUSPECT
	StateCode uint8
	GroupID   string // group_database_id, "" if in no group
}

// Mirroring is a row of sys.database_mirroring. Of a database that is not mirrored only Database is set.
type Mirroring struct {
	Database         string
	ID               int32
	GUID             string
	State            int8 // 0 to 6; see Desc
	Desc             string
	Role             int8 // 1 principal, 2 mirror
	RoleDesc         string
	RoleSequence     int32
	Safety           int8 // 1 OFF, 2 FULL
	SafetyDesc       string
	SafetySequence   int32
	Partner          string // TCP://host:port
	PartnerInstance  string
	Witness          string // TCP://host:port, "" if none
	WitnessState     int8
	WitnessStateDesc string
	FailoverLSN      LSN // hardened by both partners for certain
	EndOfLog         LSN // hardened here
	Timeout          int32
	RedoQueueKB      int64 // on a mirror
	SendQueueKB      int64 // on a principal
	RedoRateKB       int64
}

// Witnessed is a row of sys.database_mirroring_witnesses, on a witness.
type Witnessed struct {
	Database, Principal, Mirror string
	RoleSequence                int32
	Safety                      int8
	SafetyDesc                  string
	GUID                        string
	PartnerSyncState            int8
	PartnerSyncStateDesc        string
}

// Verb is what ALTER DATABASE ... SET PARTNER or SET WITNESS asks for.
type Verb string

// The verbs.
const (
	SetPartner   Verb = "PARTNER ="
	PartnerOff   Verb = "PARTNER OFF"
	Failover     Verb = "PARTNER FAILOVER"
	ForceService Verb = "PARTNER FORCE_SERVICE_ALLOW_DATA_LOSS"
	Suspend      Verb = "PARTNER SUSPEND"
	Resume       Verb = "PARTNER RESUME"
	SafetyFull   Verb = "PARTNER SAFETY FULL"
	SafetyOff    Verb = "PARTNER SAFETY OFF"
	Timeout      Verb = "PARTNER TIMEOUT"
	SetWitness   Verb = "WITNESS ="
	WitnessOff   Verb = "WITNESS OFF"
	// Recover is RESTORE DATABASE ... WITH RECOVERY.
	Recover Verb = "RESTORE WITH RECOVERY"
)
