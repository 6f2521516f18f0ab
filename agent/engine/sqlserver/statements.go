package sqlserver

import (
	"fmt"
	"strings"
	"time"
)

// This file holds every statement that the agent sends to a SQL Server. Nothing outside of it can make one: a
// Statement has no exported field, and the client takes nothing else. Names are quoted here, once.

// Mode is a way to work with SQL Server, or several.
type Mode uint8

// The modes.
const (
	ModeRescue       Mode = 1 << iota // SQL Server's own witness decides; the agent looks after that witness
	ModeMirroring                     // mirroring without SQL Server's witness
	ModeAvailability                  // availability group with CLUSTER_TYPE = EXTERNAL
)

const (
	modesMirrored = ModeRescue | ModeMirroring
	modesAll      = ModeRescue | ModeMirroring | ModeAvailability
)

// Right is what the login needs for a statement.
type Right uint8

// The rights, as deploy/sqlserver/create-login.sql grants them.
const (
	RightNone Right = iota // any login
	// RightServerState is VIEW SERVER STATE (SQL Server 2022: VIEW SERVER PERFORMANCE STATE does as well).
	RightServerState
	// RightDefinition is VIEW ANY DEFINITION.
	RightDefinition
	// RightMirroring is membership in sysadmin: sys.database_mirroring shows NULL to others for a database that is a
	// mirror, and nobody but sysadmin can be resolved in a database that cannot be opened.
	RightMirroring
	// RightEndpoint is ALTER ANY ENDPOINT.
	RightEndpoint
	// RightDatabase is ALTER ANY DATABASE.
	RightDatabase
	// RightGroup is ALTER ANY AVAILABILITY GROUP.
	RightGroup
	// RightProbe is UPDATE on the table witness_agent.probe of the database that is probed.
	RightProbe
)

// Statement is a text that may be sent.
type Statement struct {
	text  string
	modes Mode
	right Right
}

// Text is what is sent.
func (s Statement) Text() string { return s.text }

// Modes are those that send it.
func (s Statement) Modes() Mode { return s.modes }

// Right is what it needs.
func (s Statement) Right() Right { return s.right }

// name quotes an identifier.
func name(identifier string) string { return "[" + strings.ReplaceAll(identifier, "]", "]]") + "]" }

// literal quotes a string.
func literal(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

// What is looked at.

// lookServer asks for the instance's name. It is shown, and never identifies anything.
func lookServer() Statement {
	return Statement{"SELECT @@SERVERNAME, @@VERSION", modesAll, RightNone}
}

// lookStarted asks when the instance started: it differs after every start.
func lookStarted() Statement {
	return Statement{"SELECT sqlserver_start_time FROM sys.dm_os_sys_info", modesAll, RightServerState}
}

// lookSysadmin asks whether the login is a member of sysadmin.
func lookSysadmin() Statement {
	return Statement{"SELECT IS_SRVROLEMEMBER('sysadmin')", modesAll, RightNone}
}

// lookDatabases asks for the state of every database.
func lookDatabases() Statement {
	return Statement{
		"SELECT name, database_id, state_desc, log_reuse_wait_desc FROM sys.databases", modesAll, RightDefinition,
	}
}

// lookMirroring asks for every mirroring session of the instance. States are read by their text only: of the numbers
// 5 and 6 the documents say opposite things.
func lookMirroring() Statement {
	return Statement{`SELECT d.name, d.database_id, d.state_desc, m.mirroring_guid, m.mirroring_state_desc,
       m.mirroring_role_desc, m.mirroring_role_sequence, m.mirroring_safety_level_desc,
       m.mirroring_safety_sequence, m.mirroring_partner_name, m.mirroring_partner_instance,
       m.mirroring_witness_name, m.mirroring_witness_state_desc, m.mirroring_failover_lsn,
       m.mirroring_end_of_log_lsn, m.mirroring_connection_timeout
  FROM sys.database_mirroring m JOIN sys.databases d ON d.database_id = m.database_id
 WHERE m.mirroring_guid IS NOT NULL`, modesMirrored, RightMirroring}
}

// lookEndpoint asks for the mirroring endpoint: one per instance.
func lookEndpoint() Statement {
	return Statement{
		"SELECT name, role_desc, state_desc FROM sys.database_mirroring_endpoints", modesAll, RightDefinition,
	}
}

// lookCounters asks for the queues of the mirroring sessions. Redo Bytes/sec and Log Bytes Sent/sec count up; the
// rate is what they grow by.
func lookCounters() Statement {
	return Statement{`SELECT instance_name, counter_name, cntr_value FROM sys.dm_os_performance_counters
 WHERE object_name LIKE N'%:Database Mirroring%'`, modesMirrored, RightServerState}
}

// lookLogs asks how full the logs are, in percent.
func lookLogs() Statement {
	return Statement{`SELECT instance_name, counter_name, cntr_value FROM sys.dm_os_performance_counters
 WHERE object_name LIKE N'%:Databases%' AND counter_name = N'Percent Log Used'`, modesAll, RightServerState}
}

// lookDiagnostics asks the instance for its own opinion of its health. It can take five seconds.
func lookDiagnostics() Statement {
	return Statement{"EXEC sp_server_diagnostics", modesAll, RightServerState}
}

// lookGroup asks for a group and this instance's part in it; @p1 is the group's name.
func lookGroup() Statement {
	return Statement{`SELECT ag.group_id, ag.name, ag.sequence_number, ag.required_synchronized_secondaries_to_commit,
       ag.cluster_type_desc, ag.db_failover, ars.replica_id, ars.role_desc, ars.operational_state_desc,
       ars.recovery_health_desc, ars.connected_state_desc, ars.synchronization_health_desc
  FROM sys.availability_groups ag
  JOIN sys.dm_hadr_availability_replica_states ars ON ars.group_id = ag.group_id AND ars.is_local = 1
 WHERE ag.name = @p1`, ModeAvailability, RightServerState}
}

// lookLease asks for the write lease that is left and for a configuration change that does not end. The columns
// exist from SQL Server 2019 on; @p1 is the group's name.
func lookLease() Statement {
	return Statement{`SELECT ars.write_lease_remaining_ticks, ars.current_configuration_commit_start_time_utc
  FROM sys.availability_groups ag
  JOIN sys.dm_hadr_availability_replica_states ars ON ars.group_id = ag.group_id AND ars.is_local = 1
 WHERE ag.name = @p1`, ModeAvailability, RightServerState}
}

// lookReplicas asks for the replicas of a group; what is not local is known to the primary only. @p1 is the group's
// name.
func lookReplicas() Statement {
	return Statement{`SELECT ar.replica_id, ar.replica_server_name, ar.endpoint_url, ar.availability_mode_desc,
       ars.is_local, ars.role_desc, ars.connected_state_desc, ars.synchronization_health_desc
  FROM sys.availability_groups ag
  JOIN sys.availability_replicas ar ON ar.group_id = ag.group_id
  LEFT JOIN sys.dm_hadr_availability_replica_states ars ON ars.replica_id = ar.replica_id
 WHERE ag.name = @p1`, ModeAvailability, RightServerState}
}

// lookGroupDatabases asks for the databases of a group on each replica that is known here; @p1 is the group's name.
func lookGroupDatabases() Statement {
	return Statement{`SELECT d.name, drs.group_database_id, drs.replica_id, drs.is_local, drs.is_primary_replica,
       drs.synchronization_state_desc, drs.database_state_desc, drs.is_suspended, drs.suspend_reason_desc,
       drs.last_hardened_lsn, drs.last_commit_lsn, drs.redo_queue_size, drs.redo_rate,
       drs.log_send_queue_size, drs.log_send_rate
  FROM sys.availability_groups ag
  JOIN sys.dm_hadr_database_replica_states drs ON drs.group_id = ag.group_id
  JOIN sys.databases d ON d.database_id = drs.database_id
 WHERE ag.name = @p1`, ModeAvailability, RightServerState}
}

// What is done to mirrored databases. All run in the context of master.

// PartnerFailover exchanges the roles of a synchronized pair; on the principal. Nothing is lost.
func PartnerFailover(database string) Statement {
	return alterDatabase(database, "SET PARTNER FAILOVER", ModeMirroring)
}

// ForceService makes a mirror the principal although the principal is gone; on the mirror. What it had not received
// is lost.
func ForceService(database string) Statement {
	return alterDatabase(database, "SET PARTNER FORCE_SERVICE_ALLOW_DATA_LOSS", ModeMirroring)
}

// PartnerResume lets a suspended session go on; on the principal. A mirror that was principal before a forced
// service discards what the new principal does not have.
func PartnerResume(database string) Statement {
	return alterDatabase(database, "SET PARTNER RESUME", ModeMirroring)
}

// SafetyFull makes commits wait for the mirror's disk; on the principal.
func SafetyFull(database string) Statement {
	return alterDatabase(database, "SET PARTNER SAFETY FULL", ModeMirroring)
}

// WitnessOff takes SQL Server's witness out of a session; on the principal.
func WitnessOff(database string) Statement {
	return alterDatabase(database, "SET WITNESS OFF", ModeRescue)
}

// WitnessSet gives a session a witness of SQL Server's; on the principal, while all three are connected.
func WitnessSet(database, address string) Statement {
	return alterDatabase(database, "SET WITNESS = "+literal(address), ModeRescue)
}

func alterDatabase(database, what string, mode Mode) Statement {
	return Statement{"ALTER DATABASE " + name(database) + " " + what, mode, RightDatabase}
}

// EndpointStop closes the mirroring endpoint to everybody, for good until EndpointStart.
func EndpointStop(endpoint string) Statement {
	return Statement{"ALTER ENDPOINT " + name(endpoint) + " STATE = STOPPED", ModeMirroring, RightEndpoint}
}

// EndpointStart opens the mirroring endpoint.
func EndpointStart(endpoint string) Statement {
	return Statement{"ALTER ENDPOINT " + name(endpoint) + " STATE = STARTED", ModeMirroring, RightEndpoint}
}

// What is done to an availability group.

// GroupFailover makes this replica the primary; on the secondary. SQL Server refuses it (41142) unless every
// database is known to have all acknowledged commits. It may return before the role has changed. The word
// "external_cluster" counts in the same session only, so it is one batch.
func GroupFailover(group string) Statement {
	return Statement{
		"EXEC sp_set_session_context @key = N'external_cluster', @value = N'yes'; " +
			"ALTER AVAILABILITY GROUP " + name(group) + " FAILOVER", ModeAvailability, RightGroup,
	}
}

// GroupOffline ends the primary's role; it becomes RESOLVING and serves nobody.
func GroupOffline(group string) Statement { return alterGroup(group, "OFFLINE") }

// GroupSecondary makes a RESOLVING replica follow.
func GroupSecondary(group string) Statement { return alterGroup(group, "SET (ROLE = SECONDARY)") }

// GroupRequire sets how many synchronized secondaries must have a commit before it is acknowledged; on the primary.
func GroupRequire(group string, secondaries int) Statement {
	return alterGroup(group, fmt.Sprintf("SET (REQUIRED_SYNCHRONIZED_SECONDARIES_TO_COMMIT = %d)", secondaries))
}

// GroupLease lets clients write for that long from now on, in whole seconds; on the primary.
func GroupLease(group string, left time.Duration) Statement {
	return alterGroup(group, fmt.Sprintf("SET (WRITE_LEASE_VALIDITY = %d)", left/time.Second))
}

func alterGroup(group, what string) Statement {
	return Statement{"ALTER AVAILABILITY GROUP " + name(group) + " " + what, ModeAvailability, RightGroup}
}

// HadrResume lets a suspended database of a group go on.
func HadrResume(database string) Statement {
	return Statement{"ALTER DATABASE " + name(database) + " SET HADR RESUME", ModeAvailability, RightDatabase}
}

// WriteProbe writes one row of the probe's table, which never grows. Its commit waits for the database's log disk
// and, as every commit does, for the mirror.
func WriteProbe(database string) Statement {
	return Statement{"UPDATE " + name(database) + ".[witness_agent].[probe] SET [beat] = [beat] + 1", modesAll, RightProbe}
}

// Statements lists one of each, with names made up, for those who want to see them all.
func Statements() []Statement {
	const database, group, endpoint = "rtcxds", "lync", "Mirroring"
	return []Statement{
		lookServer(), lookStarted(), lookSysadmin(), lookDatabases(), lookMirroring(), lookEndpoint(), lookCounters(),
		lookLogs(), lookDiagnostics(), lookGroup(), lookLease(), lookReplicas(), lookGroupDatabases(),
		PartnerFailover(database), ForceService(database), PartnerResume(database), SafetyFull(database),
		WitnessOff(database), WitnessSet(database, "TCP://witness.example:7022"),
		EndpointStop(endpoint), EndpointStart(endpoint),
		GroupFailover(group), GroupOffline(group), GroupSecondary(group), GroupRequire(group, 1),
		GroupLease(group, 10*time.Second), HadrResume(database), WriteProbe(database),
	}
}
