// Package tds is the server's side of TDS 7.4, the protocol in which clients speak to SQL Server: login, batches,
// remote procedure calls, transactions of the driver, attention, result sets of the types that catalog views need. It
// knows no T-SQL; a Session runs what is asked.
//
// It takes plain connections, which a client must ask for (encrypt=disable or false), and TDS 8, where TLS comes first
// (encrypt=strict), on the same port.
//
// It is for tests. What it does was learnt from the protocol's documents and from clients, not from SQL Server.
package tds
