// Package availability drives one SQL Server availability group with CLUSTER_TYPE = EXTERNAL and two data replicas,
// perhaps with a configuration-only one besides.
//
// # What keeps a commit
//
// While REQUIRED_SYNCHRONIZED_SECONDARIES_TO_COMMIT (RSSTC) is 1, SQL Server acknowledges no commit that the only
// other data replica has not on its disk. So whatever the agents, their clocks and their fences do, promoting that
// replica loses no acknowledged commit. The engine's part is to prove RSSTC and the mirror's state before it says that
// commits are held, to lower RSSTC only when it is told to, which the agent does only after the record allows it, and
// never to force a failover: FAILOVER is refused by SQL Server itself (41142) on a replica that may lack commits, and
// that refusal is the last word.
//
// With a third data replica RSSTC = 1 would not be enough, since the primary could go on with that one; such groups
// are refused.
//
// # Who may let a client write
//
// SQL Server brings a replica of such a group back as RESOLVING, which serves nobody, whoever starts the instance: the
// restart gate is its own. To end service the group is taken OFFLINE, and read back; if that takes too long, the
// process is killed, and with it everything else on the instance. A group that was created with a write lease ends
// service by itself when the agent no longer extends it.
//
// Groups are told apart by their GUID, replicas by theirs, and never by names of hosts.
//
// It is made from SQL Server's documentation and tested against a model of SQL Server (package sqlservertest), not
// against SQL Server.
package availability
