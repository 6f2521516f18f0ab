// Package sqlserver is what the engines for SQL Server share: the configuration, the connection, every statement
// that is ever sent, what its errors mean, positions made of many databases' LSNs, and health deeper than a ping.
//
// The engines themselves lie below it: mirroring (mode 1, database mirroring without SQL Server's witness),
// availability (mode 2, availability groups with CLUSTER_TYPE = EXTERNAL) and rescue (mode 0, pairs that keep SQL
// Server's own witness). They send nothing but what statements.go makes, so that an administrator can read in one
// file what the agent does to a server, and so that the script that grants rights can be tested against it.
//
// It was built from SQL Server's documentation and tested against a model of SQL Server (package sqlservertest), not
// against SQL Server. docs/sql-server.md says what has to be validated on a real one.
package sqlserver
