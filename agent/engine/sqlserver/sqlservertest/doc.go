// Package sqlservertest is a fake SQL Server for tests: the wire (package tds) and a part of T-SQL in front of a model
// (package model) of databases, database mirroring and availability groups. Clients use it through Microsoft's Go
// driver, or any other that speaks TDS 7.4 or TDS 8.
//
// It is a model made from documents, not SQL Server: a test that passes here shows that a program does what the
// documents ask for.
//
// What it understands of T-SQL is every statement of package sqlserver, and what people need in tests: databases,
// tables of a few types, INSERT, UPDATE, DELETE, SELECT with JOIN, WHERE, ORDER BY and COUNT, transactions. What it
// does not understand is error 102 with the text; a name that is not known is error 207 or 208. Constraints are not
// enforced, and nobody sees a transaction before it is committed except the session itself. A batch ends at its first
// error.
package sqlservertest
