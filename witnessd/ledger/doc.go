// Package ledger keeps what the witness has agreed on: the records of all pairs, their history and the list
// of nodes, the same on every node. It is the machine behind the replicated log: [Ledger.Apply] takes the
// log's entries in order, [Ledger.Snapshot] and [Ledger.Restore] replace a prefix of them.
//
// Any number of goroutines may ask; answers are values and stay as they are. Whoever must not miss a change
// calls [Ledger.Watch]. Nobody can hold up Apply: a watcher that does not keep up is told so and starts over.
//
// The ledger decides nothing, which is the work of package pair, and reads no clock: times in the history
// are those that the leader wrote into its commands.
//
// A [pair.Refusal] is an ordinary result. An entry that this release does not understand ends the process,
// for a node that skipped it would from then on hold another state than its peers.
package ledger
