// Package tds is the server's side of TDS 7.4, the protocol in which clients speak to SQL Server: login, batches,
// remote procedure calls, transactions of the driver, attention, result sets of the types that catalog views need. It
// knows no T-SQL; a Session runs what is asked.
//
// On one port it takes plain connections, connections that are encrypted after TDS has agreed on it (encrypt=true), and
// TDS 8, where TLS comes first (encrypt=strict). It does not know the mode in which only the login is encrypted
// (encrypt=false): such a client gets a plain connection.
//
// It is for tests. What it does was learnt from the protocol's documents and from clients, not from SQL Server.
package tds
