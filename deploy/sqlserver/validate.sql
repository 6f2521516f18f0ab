-- Every look that witness-agent takes at an instance, one after the other, for somebody who has a real SQL Server:
--
--   sqlcmd -S sql1 -U witness_agent -i validate.sql -v Group=""
--
-- Log in as the agent does: a look that fails for want of a right shows here. It changes nothing. Looks at columns that
-- this version does not have fail with error 207, which the agent expects for the write lease before SQL Server 2019.
-- Compare the words in the columns *_desc with docs/sql-server.md; on a mirror, mirroring_guid must not be missing.

SET NOCOUNT ON;
PRINT '-- who and what';
GO
SELECT @@SERVERNAME, @@VERSION;
GO
SELECT IS_SRVROLEMEMBER('sysadmin');
GO
SELECT sqlserver_start_time FROM sys.dm_os_sys_info;
GO
PRINT '-- databases';
GO
SELECT name, database_id, state_desc, log_reuse_wait_desc FROM sys.databases;
GO
PRINT '-- mirroring';
GO
SELECT d.name, d.database_id, d.state_desc, m.mirroring_guid, m.mirroring_state_desc,
       m.mirroring_role_desc, m.mirroring_role_sequence, m.mirroring_safety_level_desc,
       m.mirroring_safety_sequence, m.mirroring_partner_name, m.mirroring_partner_instance,
       m.mirroring_witness_name, m.mirroring_witness_state_desc, m.mirroring_failover_lsn,
       m.mirroring_end_of_log_lsn, m.mirroring_connection_timeout
  FROM sys.database_mirroring m JOIN sys.databases d ON d.database_id = m.database_id
 WHERE m.mirroring_guid IS NOT NULL;
GO
SELECT name, role_desc, state_desc FROM sys.database_mirroring_endpoints;
GO
PRINT '-- queues and logs';
GO
SELECT instance_name, counter_name, cntr_value FROM sys.dm_os_performance_counters
 WHERE object_name LIKE N'%:Database Mirroring%';
GO
SELECT instance_name, counter_name, cntr_value FROM sys.dm_os_performance_counters
 WHERE object_name LIKE N'%:Databases%' AND counter_name = N'Percent Log Used';
GO
PRINT '-- health';
GO
EXEC sp_server_diagnostics;
GO
PRINT '-- availability group $(Group)';
GO
DECLARE @p1 sysname = N'$(Group)';
SELECT ag.group_id, ag.name, ag.sequence_number, ag.required_synchronized_secondaries_to_commit,
       ag.cluster_type_desc, ag.db_failover, ars.replica_id, ars.role_desc, ars.operational_state_desc,
       ars.recovery_health_desc, ars.connected_state_desc, ars.synchronization_health_desc
  FROM sys.availability_groups ag
  JOIN sys.dm_hadr_availability_replica_states ars ON ars.group_id = ag.group_id AND ars.is_local = 1
 WHERE ag.name = @p1;
GO
DECLARE @p1 sysname = N'$(Group)';
SELECT ars.write_lease_remaining_ticks, ars.current_configuration_commit_start_time_utc
  FROM sys.availability_groups ag
  JOIN sys.dm_hadr_availability_replica_states ars ON ars.group_id = ag.group_id AND ars.is_local = 1
 WHERE ag.name = @p1;
GO
DECLARE @p1 sysname = N'$(Group)';
SELECT ar.replica_id, ar.replica_server_name, ar.endpoint_url, ar.availability_mode_desc,
       ars.is_local, ars.role_desc, ars.connected_state_desc, ars.synchronization_health_desc
  FROM sys.availability_groups ag
  JOIN sys.availability_replicas ar ON ar.group_id = ag.group_id
  LEFT JOIN sys.dm_hadr_availability_replica_states ars ON ars.replica_id = ar.replica_id
 WHERE ag.name = @p1;
GO
DECLARE @p1 sysname = N'$(Group)';
SELECT d.name, drs.group_database_id, drs.replica_id, drs.is_local, drs.is_primary_replica,
       drs.synchronization_state_desc, drs.database_state_desc, drs.is_suspended, drs.suspend_reason_desc,
       drs.last_hardened_lsn, drs.last_commit_lsn, drs.redo_queue_size, drs.redo_rate,
       drs.log_send_queue_size, drs.log_send_rate
  FROM sys.availability_groups ag
  JOIN sys.dm_hadr_database_replica_states drs ON drs.group_id = ag.group_id
  JOIN sys.databases d ON d.database_id = drs.database_id
 WHERE ag.name = @p1;
GO
