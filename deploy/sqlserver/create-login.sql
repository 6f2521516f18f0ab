-- Creates the login with which witness-agent works, with the rights that its mode needs and no others.
--
-- Run it as sysadmin on BOTH hosts, with sqlcmd or in SQLCMD mode of Management Studio. Running it again changes
-- nothing but the password.
--
--   sqlcmd -S sql1 -E -b -i create-login.sql -v Mode=mirroring Login=witness_agent Password="..." Sid="" Probe="" SeeMirrors=0
--
--   Mode        rescue        the engine sqlserver-rescue: SQL Server's own witness decides
--               mirroring     the engine sqlserver-mirroring
--               availability  the engine sqlserver-ag
--   Login       the login's name
--   Password    its password; give it to the agent by password_file or password_env. It is nowhere else: neither in
--               the witness nor in a log.
--   Sid         empty on the first host. On the second host the SID that the first run printed: a database moves with
--               its users, which know their logins by SID.
--   Probe       the databases that the agent's configuration names under probe, with a comma between; empty for none.
--               Only on the host that is principal or primary: it creates one table of one row in each,
--               witness_agent.probe, which the mirror gets by itself.
--   SeeMirrors  rescue only: 1 adds sysadmin, so that the agent also sees the sessions of which this host is the mirror.
--
-- Why these rights
--
--   VIEW SERVER STATE    sys.dm_os_sys_info (when the instance started), sys.dm_os_performance_counters (queues),
--                        sp_server_diagnostics (health), sys.dm_hadr_* (availability groups).
--   VIEW ANY DEFINITION  sys.databases, sys.database_mirroring_endpoints, sys.availability_groups and replicas.
--   ALTER ANY DATABASE   rescue: ALTER DATABASE ... SET WITNESS; sys.database_mirroring of a principal.
--                        availability: ALTER DATABASE ... SET HADR RESUME.
--   ALTER ANY AVAILABILITY GROUP
--                        availability: FAILOVER, OFFLINE, SET (ROLE = SECONDARY) and the two settings.
--   sysadmin             mirroring: sys.database_mirroring shows NULL to everybody else for a database that is a mirror,
--                        and the agent decides on those columns; ALTER DATABASE ... SET PARTNER on a mirror needs ALTER
--                        in a database that cannot be opened, where nobody but sysadmin can be resolved; and ALTER
--                        ENDPOINT stops the mirroring endpoint before service is forced. Microsoft's documents name
--                        nothing smaller for the first of these. The agent sends only the statements in
--                        agent/engine/sqlserver/statements.go.
--
-- What is written here follows SQL Server's documentation. That these rights suffice has to be validated on a real
-- server: validate.sh does it (step rights).

:on error exit
SET NOCOUNT ON;
USE [master];

IF N'$(Mode)' NOT IN (N'rescue', N'mirroring', N'availability')
BEGIN
    RAISERROR (N'Mode must be rescue, mirroring or availability', 16, 1);
    SET NOEXEC ON;
END;
IF N'$(Password)' = N''
BEGIN
    RAISERROR (N'Password must not be empty', 16, 1);
    SET NOEXEC ON;
END;

-- The login.
DECLARE @name sysname = N'$(Login)', @password nvarchar(128) = N'$(Password)', @sid nvarchar(100) = N'$(Sid)';
DECLARE @sql nvarchar(max);
IF SUSER_ID(@name) IS NULL
    SET @sql = N'CREATE LOGIN ' + QUOTENAME(@name) + N' WITH PASSWORD = ' + QUOTENAME(@password, '''')
        + CASE WHEN @sid = N'' THEN N'' ELSE N', SID = ' + @sid END
        + N', DEFAULT_DATABASE = [master], CHECK_POLICY = ON, CHECK_EXPIRATION = OFF';
ELSE
    SET @sql = N'ALTER LOGIN ' + QUOTENAME(@name) + N' WITH PASSWORD = ' + QUOTENAME(@password, '''');
EXEC (@sql);

-- For every mode.
GRANT VIEW SERVER STATE TO [$(Login)];
GRANT VIEW ANY DEFINITION TO [$(Login)];

IF N'$(Mode)' = N'rescue'
BEGIN
    GRANT ALTER ANY DATABASE TO [$(Login)];
    IF N'$(SeeMirrors)' = N'1' ALTER SERVER ROLE [sysadmin] ADD MEMBER [$(Login)];
END;

IF N'$(Mode)' = N'mirroring'
BEGIN
    ALTER SERVER ROLE [sysadmin] ADD MEMBER [$(Login)];
END;

IF N'$(Mode)' = N'availability'
BEGIN
    GRANT ALTER ANY DATABASE TO [$(Login)];
    GRANT ALTER ANY AVAILABILITY GROUP TO [$(Login)];
END;

-- The probe's table: one row, whose number goes up. UPDATE reads what it adds to, so it needs SELECT as well.
DECLARE @database sysname, @rest nvarchar(max) = N'$(Probe)', @in nvarchar(max), @comma int;
WHILE LEN(@rest) > 0
BEGIN
    SET @comma = CHARINDEX(N',', @rest + N',');
    SET @database = LTRIM(RTRIM(LEFT(@rest, @comma - 1)));
    SET @rest = SUBSTRING(@rest, @comma + 1, LEN(@rest));
    IF @database = N'' CONTINUE;
    -- Each in a batch of its own, in the context of the database.
    SET @in = QUOTENAME(@database) + N'.sys.sp_executesql';
    IF IS_SRVROLEMEMBER('sysadmin', @name) = 0
    BEGIN
        SET @sql = N'IF USER_ID(@n) IS NULL BEGIN DECLARE @s nvarchar(max) = N''CREATE USER '' + QUOTENAME(@n)
            + N'' FOR LOGIN '' + QUOTENAME(@n); EXEC (@s); END';
        EXEC @in @sql, N'@n sysname', @n = @name;
    END;
    EXEC @in N'IF SCHEMA_ID(N''witness_agent'') IS NULL EXEC (N''CREATE SCHEMA [witness_agent]'')';
    EXEC @in N'IF OBJECT_ID(N''[witness_agent].[probe]'') IS NULL
        CREATE TABLE [witness_agent].[probe] ([id] tinyint NOT NULL PRIMARY KEY, [beat] bigint NOT NULL)';
    EXEC @in N'IF NOT EXISTS (SELECT * FROM [witness_agent].[probe])
        INSERT INTO [witness_agent].[probe] ([id], [beat]) VALUES (1, 0)';
    IF IS_SRVROLEMEMBER('sysadmin', @name) = 0
    BEGIN
        SET @sql = N'GRANT SELECT, UPDATE ON [witness_agent].[probe] TO ' + QUOTENAME(@name);
        EXEC @in @sql;
    END;
END;

SELECT N'login' AS [what], @name AS [name], CONVERT(nvarchar(100), SUSER_SID(@name), 1) AS [Sid for the other host],
    N'$(Mode)' AS [mode], IS_SRVROLEMEMBER('sysadmin', @name) AS [sysadmin];
SET NOEXEC OFF;
