// Package witnessd is one node of the witness: it puts the replicated log, the ledger, the arbiter and the
// gRPC edge together and runs them by a configuration file.
//
// [New] opens a node, [Node.Run] runs it until its context ends, [Restore] makes the first node of a new
// witness from a backup. Whatever a test must be able to replace, the network, the clocks and the disk, comes
// in by [Options]; with none of them the node is the program that cmd/witnessd runs.
package witnessd
