// Package crash kills nodes of the witness, fills and damages their disks, and restores them from backups
// that were taken meanwhile. What an admin client was told is accepted must be there afterwards, on every
// node; a node that cannot go on must say which file is at fault and what to do, and never hold another state.
//
// The nodes are real processes on loopback, with real files. The tests are short by default; with
// -kills 1000 the loop runs for as long as that takes, and with -seed its kills come in the same order again.
package crash
